"""Access tokens that must open nothing, and rights that are not there: on the wire and in kubectl.

Each is answered by one Status that says what to do, leaves one row, reaches no cluster and
disturbs nobody else.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cast import Rules, enrol
from tests.support.kubectl import Kubectl
from tests.support.minting import foreign_keys, minted, signed_anew, signing_keys
from tests.support.processes import private_environment
from tests.support.wire import Answer, authority_of, send, token_of
from tests.support.world import Person, World

pytestmark = [pytest.mark.kube, pytest.mark.usefixtures("undisturbed")]

DEV = "dev@example.com"
DOMAIN = "k8s.example.com"


def expired(world: World) -> str:
    return minted(world, DEV, "prod", ahead=-1000)


def premature(world: World) -> str:
    return minted(world, DEV, "prod", ahead=600)


def of_another_central(world: World) -> str:
    return minted(world, DEV, "prod", issuer="https://central.example.org")


def signed_with_another_key_of_the_same_name(world: World) -> str:
    kid = signing_keys(world).signing(time.time()).kid
    return minted(world, DEV, "prod", signer=foreign_keys(kid))


def signed_with_an_unknown_key(world: World) -> str:
    return minted(world, DEV, "prod", signer=foreign_keys("somebody"))


def unsigned(world: World) -> str:
    return signed_anew(minted(world, DEV, "prod"), None, "none")


def unsigned_beside_a_signature(world: World) -> str:
    signature = minted(world, DEV, "prod").split(".")[2]
    return unsigned(world) + signature


def signed_with_the_public_key_as_a_secret(world: World) -> str:
    modulus = signing_keys(world).jwks()["keys"][0]["n"]
    return signed_anew(minted(world, DEV, "prod"), modulus.encode(), "HS256")


def bringing_its_own_key(world: World) -> str:
    own = foreign_keys("own")
    token = minted(world, DEV, "prod", signer=own)
    return signed_anew(
        token, own.signing(time.time()).private_key, "RS256", jwk=own.jwks()["keys"][0]
    )


def with_a_changed_claim(world: World) -> str:
    head, _, signature = minted(world, "viewer@example.com", "prod").split(".")
    claims = minted(world, "admin@example.com", "prod").split(".")[1]
    return f"{head}.{claims}.{signature}"


BAD_TOKENS: list[tuple[Callable[[World], str], str, str]] = [
    (expired, "TOKEN_EXPIRED", "has expired: run mk8s login"),
    (premature, "TOKEN_EARLY", "set the clocks"),
    (of_another_central, "TOKEN_ISSUER", "another central"),
    (signed_with_another_key_of_the_same_name, "TOKEN_SIGNATURE", "run mk8s login"),
    (signed_with_an_unknown_key, "TOKEN_KEY", "run mk8s login"),
    (unsigned, "TOKEN_MALFORMED", "run mk8s login"),
    (unsigned_beside_a_signature, "TOKEN_ALGORITHM", "run mk8s login"),
    (signed_with_the_public_key_as_a_secret, "TOKEN_ALGORITHM", "run mk8s login"),
    (bringing_its_own_key, "TOKEN_HEADER", "run mk8s login"),
    (with_a_changed_claim, "TOKEN_SIGNATURE", "run mk8s login"),
]


def rule(resource: str) -> Rules:
    """To get this on prod, and nothing else."""
    return [{"name": "prod", "namespaces": ["*"], "verbs": ["get"], "resources": [resource]}]


def traced(world: World, prefix: str = "") -> str:
    """A target that no other test asks for."""
    return f"{prefix}/api/v1/namespaces/shop/configmaps/{world.fresh_name('sought')}"


def the_row(world: World, target: str) -> tuple[str, str]:
    """Decision and reason code of the one row that a refused target left."""
    (row,) = [it for it in world.audit() if it["requestURI"] and target.endswith(it["requestURI"])]
    notes = row["annotations"]
    return notes["authorization.k8s.io/decision"], notes.get("mk8s.io/refusal", "")


def never_arrived(world: World, target: str) -> bool:
    name = target.rpartition("/")[2]
    return not any(name in row["requestURI"] for row in world.upstream_audit())


def is_unauthorized(answer: Answer) -> bool:
    return (
        answer.code == 401
        and answer.status["reason"] == "Unauthorized"
        and answer.headers["www-authenticate"].startswith("Bearer")
    )


def is_unknown(answer: Answer) -> bool:
    """The answer of a cluster without a role there: nobody learns which names exist."""
    message = answer.status["message"]
    forbidden = answer.code == 403 and answer.status["reason"] == "Forbidden"
    return forbidden and 'cluster "absent": no role' in message


@pytest.mark.parametrize(
    ("make", "reason", "advice"), BAD_TOKENS, ids=[make.__name__ for make, _, _ in BAD_TOKENS]
)
def test_token(world: World, make: Callable[[World], str], reason: str, advice: str) -> None:
    token = make(world)
    target = traced(world, "/k8s/prod")
    answer = send(world, target, token=token)
    assert is_unauthorized(answer), answer
    assert advice in answer.status["message"]
    assert the_row(world, target) == ("forbid", reason)
    assert never_arrived(world, target)
    assert token not in str(world.audit())
    assert token not in world.output()


def test_the_same_claims_from_central_itself_are_good(world: World) -> None:
    """The tests above refuse what they say, not something else of the same tokens."""
    answer = send(world, traced(world, "/k8s/prod"), token=minted(world, DEV, "prod"))
    assert answer.code == 404
    assert answer.status["reason"] == "NotFound"


def test_kubectl_with_an_expired_token(world: World, binary: Path, tmp_path: Path) -> None:
    authority = tmp_path / "authority.pem"
    authority.write_text(authority_of(world.people["dev"]))
    kubectl = Kubectl(binary, private_environment(tmp_path))
    options = ("--server", f"{world.url}/k8s/prod", "--certificate-authority", str(authority))
    refused = kubectl(*options, "--token", expired(world), "-n", "shop", "get", "pods", code=1)
    assert "Unauthorized" in refused.stderr or "You must be logged in" in refused.stderr
    assert refused.stdout == ""


def test_token_of_a_user_who_was_removed(world: World) -> None:
    name = world.fresh_name("leaver")
    person = enrol(world, name, rule("*"))
    token = token_of(person, world, "prod")
    assert send(world, traced(world, "/k8s/prod"), token=token).code == 404
    world.people["admin"].mk8s("admin", "users", "remove", person.email, "--yes")
    target = traced(world, "/k8s/prod")
    answer = send(world, target, token=token)
    assert is_unauthorized(answer)
    assert the_row(world, target) == ("forbid", "USER_DISABLED")
    refused = person.mk8s("status", code=1).stderr
    assert len(refused.splitlines()) == 1
    assert "the login has ended" in refused  # with the account all its logins are forgotten


def test_token_that_was_copied_before_a_logout(world: World) -> None:
    person = world.log_in(DEV)
    token = token_of(person, world, "prod")
    assert send(world, traced(world, "/k8s/prod"), token=token).code == 404
    person.mk8s("logout")
    target = traced(world, "/k8s/prod")
    answer = send(world, target, token=token)
    assert is_unauthorized(answer)
    assert "logged out" in answer.status["message"]
    assert the_row(world, target) == ("forbid", "TOKEN_REVOKED")
    assert never_arrived(world, target)


def test_role_without_the_right(world: World) -> None:
    name = world.fresh_name("reader")
    person = enrol(world, name, rule("pods"))
    target = traced(world, "/k8s/prod")
    answer = send(world, target, token=token_of(person, world, "prod"))
    assert answer.code == 403
    assert answer.status["reason"] == "Forbidden"
    message = answer.status["message"]
    for fact in (person.email, "get", "configmaps", '"shop"', '"prod"', name):
        assert fact in message
    assert the_row(world, target)[0] == "forbid"
    assert never_arrived(world, target)


def test_role_without_any_right_on_this_cluster(world: World, viewer: Person) -> None:
    target = traced(world, "/k8s/staging")
    answer = send(world, target, token=minted(world, viewer.email, "staging"))
    assert answer.code == 403
    assert "staging" in answer.status["message"]
    assert the_row(world, target)[0] == "forbid"
    refused = viewer.mk8s("get-token", "--cluster", "staging", "--central", world.url, code=1)
    assert refused.stdout == ""
    assert len(refused.stderr.splitlines()) == 1
    assert "staging" in refused.stderr


@pytest.mark.parametrize("email", [DEV, "admin@example.com"])
def test_unknown_cluster_in_the_path(world: World, email: str) -> None:
    target = traced(world, "/k8s/absent")
    answer = send(world, target, token=minted(world, email, None))
    assert is_unknown(answer)
    assert the_row(world, target)[0] == "forbid"


@pytest.mark.parametrize("email", [DEV, "admin@example.com"])
def test_unknown_cluster_in_the_token(world: World, email: str) -> None:
    target = traced(world)
    answer = send(world, target, token=minted(world, email, "absent"))
    assert is_unknown(answer)
    assert the_row(world, target)[0] == "forbid"


def test_no_cluster_at_all(world: World) -> None:
    target = traced(world)
    answer = send(world, target, token=minted(world, DEV, None))
    assert answer.code == 404
    assert answer.status["reason"] == "NotFound"
    assert "no cluster is addressed" in answer.status["message"]
    assert the_row(world, target)[0] == "forbid"


@pytest.fixture(scope="module")
def by_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A central that also knows clusters by host name; it has none."""
    made = World(tmp_path_factory.mktemp("hosts"), {}, MK8S_DOMAIN=DOMAIN)
    try:
        made.initialise()
        made.start_central()
        made.people["admin"] = made.log_in("admin@example.com")
        yield made
    finally:
        made.close()


def test_unknown_cluster_in_the_host_name(by_host: World) -> None:
    target = traced(by_host)
    host = {"Host": f"absent.{DOMAIN}"}
    answer = send(by_host, target, token=minted(by_host, DEV, None), headers=host)
    assert is_unknown(answer)
    assert the_row(by_host, target)[0] == "forbid"


def test_host_name_and_token_of_different_clusters(by_host: World) -> None:
    target = traced(by_host)
    host = {"Host": f"prod.{DOMAIN}"}
    answer = send(by_host, target, token=minted(by_host, DEV, "staging"), headers=host)
    assert is_unauthorized(answer)
    assert the_row(by_host, target)[0] == "forbid"


def test_host_name_outside_of_the_domain_addresses_no_cluster(by_host: World) -> None:
    target = traced(by_host)
    host = {"Host": f"prod.evil{DOMAIN}"}
    answer = send(by_host, target, token=minted(by_host, DEV, None), headers=host)
    assert answer.code == 404
    assert "no cluster is addressed" in answer.status["message"]
