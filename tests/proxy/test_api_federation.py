"""Jobs let in by tokens of their own, over the real API server and database; and who is not."""

import base64
import datetime
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from mk8s_proxy.authz.attributes import Attributes
from mk8s_proxy.db import federation, logins, roles
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import Conflict, NotFound
from mk8s_proxy.db.federation import WantedRule
from mk8s_proxy.identity.identity import Unauthenticated
from mk8s_proxy.identity.request_rate import RequestRate
from mk8s_proxy.settings.login import FederationSettings, LoginSettings
from tests.support.management_api import KEY, NOW, PUBLIC_URL, Answer, Central
from tests.support.seeded import DEVELOPER

GITHUB = "https://token.actions.example.com"
CLUSTER = "https://kubernetes.default.svc"
KID = "k1"
JOB_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SUBJECT = "repo:acme/shop:ref:refs/heads/main"
USER = f"federated:github:{SUBJECT}"
RULE = {"issuer": "github", "claims": {"repository": ["acme/*"], "ref": ["refs/heads/main"]},
        "roles": ["developer"]}  # fmt: skip
GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT = "urn:ietf:params:oauth:token-type:jwt"
POD = Attributes("get", "", "pods", "", "shop", "web")


def jwks(key: rsa.RSAPrivateKey = JOB_KEY) -> str:
    public = json.loads(RSAAlgorithm.to_jwk(key.public_key()))
    return json.dumps({"keys": [public | {"kid": KID, "alg": "RS256", "use": "sig"}]})


@pytest.fixture
async def central(sqlite_database: Database, tmp_path: Path) -> AsyncIterator[Central]:
    keys = tmp_path / "jwks.json"
    keys.write_text(jwks())
    login = LoginSettings(
        federation=(
            FederationSettings("github", GITHUB, "mk8s", jwks_file=keys),
            FederationSettings("cluster", CLUSTER, "mk8s", jwks_file=keys),
            FederationSettings("again", GITHUB, "other", jwks_file=keys),
            FederationSettings("down", "https://down.example", "mk8s", jwks_file=tmp_path / "no"),
            FederationSettings("own", PUBLIC_URL, "mk8s", jwks_file=keys),
        )
    )
    central = await Central.start(sqlite_database, tmp_path, login=login)
    await central.add_cluster("dev-1")
    yield central
    await central.close()


def claims(**changes: Any) -> dict[str, Any]:
    good = {
        "iss": GITHUB, "aud": "mk8s", "sub": SUBJECT, "iat": int(NOW) - 5, "nbf": int(NOW) - 5,
        "exp": int(NOW) + 600, "repository": "acme/shop", "ref": "refs/heads/main",
    } | changes  # fmt: skip
    return {name: value for name, value in good.items() if value is not ...}


def token(key: Any = JOB_KEY, algorithm: str = "RS256", kid: Any = KID, **changes: Any) -> str:
    body = json.dumps(claims(**changes)).encode()  # as PyJWT would refuse to write some of it
    return jwt.api_jws.PyJWS().encode(body, key, algorithm, headers={"kid": kid})


async def exchange(central: Central, shown: str, **changes: Any) -> Answer:
    form = {"grant_type": GRANT, "subject_token": shown, "subject_token_type": JWT} | changes
    sent = urlencode({name: value for name, value in form.items() if value is not ...})
    return await post(central, sent)


async def post(central: Central, form: str, source: str = "192.0.2.1") -> Answer:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return await central.call("POST", "/auth/token", headers=headers, data=form, source=source)


async def put(central: Central, name: str = "deploy", **changes: Any) -> Answer:
    return await central.call(
        "PUT", f"/federation/rules/{name}", RULE | changes, token=await central.admin()
    )


async def logged_in(central: Central) -> str:
    assert (await put(central)).status == 200
    answer = await exchange(central, token())
    assert answer.status == 200, answer.raw
    return str(answer.json["access_token"])


def reason(central: Central, access: str) -> str:
    try:
        central.authenticator.authenticate(f"Bearer {access}".encode())
    except Unauthenticated as error:
        return error.reason
    return ""


# -- the way that works ----------------------------------------------------------------------------


async def test_a_job_gets_in_by_its_own_token(central: Central) -> None:
    await put(central)
    answer = await exchange(central, token())
    assert answer.status == 200
    access = answer.json["access_token"]
    assert {key: answer.json[key] for key in answer.json if key != "access_token"} == {
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "token_type": "Bearer",
        "expires_in": 600,
        "expires_at": "2027-01-15T08:10:00Z",
        "user": USER,
        "rules": ["deploy"],
        "roles": ["developer"],
    }
    assert answer.headers["Cache-Control"] == "no-store"
    row = central.last_row()
    assert (row["user"]["username"], row["objectRef"]["resource"]) == (USER, "logins")
    assert row["objectRef"]["name"] == "deploy"
    shown = central.journal_path.read_text()
    assert access not in shown
    assert token() not in shown
    identity = central.authenticator.authenticate(f"Bearer {access}".encode())
    assert (identity.user, identity.groups) == (USER, ("mk8s:users", "federated:deploy"))
    assert central.feed.current.decide(USER, identity.groups, "dev-1", POD).allowed
    assert not central.feed.current.decide(USER, (), "dev-1", POD).allowed


async def test_what_a_job_may_do_here(central: Central) -> None:
    access = await logged_in(central)
    told = (await central.call("GET", "/auth/whoami", token=access)).json
    assert (told["user"]["email"], told["roles"], told["clusters"]) == (
        USER, ["developer"], ["dev-1"],
    )  # fmt: skip
    assert (told["groups"], told["admin"]) == (["federated:deploy"], False)
    assert (told["login"]["source"], told["login"]["ends_at"]) == (
        "federation", "2027-01-15T08:10:00Z",
    )  # fmt: skip
    bound = await central.call("POST", "/auth/token", {"cluster": "dev-1"}, token=access)
    assert (bound.status, bound.json["expires_in"]) == (200, 600)
    assert (await central.call("GET", "/users", token=access)).status == 403
    listed = await central.call("GET", "/logins?all=true", token=await central.admin())
    (found,) = [it for it in listed.json["logins"] if it["source"] == "federation"]
    assert (found["user"], found["issuer"], found["address"]) == (USER, "github", "192.0.2.1")
    own = await central.call("GET", "/logins", token=access)
    assert [it["id"] for it in own.json["logins"]] == [found["id"]]


async def test_roles_of_all_rules_that_match_and_the_shortest_time(central: Central) -> None:
    await roles.put_role(central.database, "more", DEVELOPER)
    await put(central)
    await put(central, "more", roles=["more"], claims={"sub": [SUBJECT]}, seconds=60)
    await put(central, "none", claims={"repository": ["other/x"]})
    await put(central, "elsewhere", issuer="cluster")
    answer = (await exchange(central, token())).json
    assert (answer["rules"], answer["roles"]) == (["deploy", "more"], ["developer", "more"])
    assert answer["expires_in"] == 60


async def test_an_hour_at_most(central: Central) -> None:
    await put(central)
    assert (await exchange(central, token(exp=int(NOW) + 86400))).json["expires_in"] == 3600


async def test_a_token_of_a_serviceaccount(central: Central) -> None:
    await put(central, issuer="cluster", claims={"kubernetes.io/namespace": ["ci"]})
    pod: Any = {"namespace": "ci", "serviceaccount": {"name": "deploy", "uid": "1"}}
    subject = "system:serviceaccount:ci:deploy"
    pods: dict[str, Any] = {"kubernetes.io": pod}
    shown = token(iss=CLUSTER, sub=subject, aud=["mk8s"], **pods)
    answer = await exchange(central, shown)
    assert answer.json["user"] == f"federated:cluster:{subject}"
    pods = {"kubernetes.io": pod | {"namespace": "ci2"}}
    refused = token(iss=CLUSTER, sub=subject, **pods)
    assert (await exchange(central, refused)).status == 403


async def test_an_issuer_that_is_there_for_two_audiences(central: Central) -> None:
    await put(central, issuer="again")
    assert (await exchange(central, token())).status == 403, "the rule is of the other one"
    answer = await exchange(central, token(aud="other"))
    assert answer.json["user"] == f"federated:again:{SUBJECT}"


# -- attacks on the exchange -----------------------------------------------------------------------


def public_pem() -> bytes:
    return JOB_KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def by_hmac(secret: bytes) -> str:
    return jwt.api_jws.PyJWS().encode(
        json.dumps(claims()).encode(), base64.b64encode(secret), "HS256", headers={"kid": KID}
    )


def unsigned() -> str:
    parts = ({"alg": "none", "kid": KID}, claims())
    head, body = (
        base64.urlsafe_b64encode(json.dumps(it).encode()).rstrip(b"=").decode() for it in parts
    )
    return f"{head}.{body}."


BAD = [
    unsigned(),
    unsigned() + "AAAA",
    by_hmac(public_pem()),
    by_hmac(jwks().encode()),
    token(OTHER_KEY),
    token(aud="somebody-else"),
    token(aud=["a", "b"]),
    token(aud=...),
    token(iss="https://evil.example"),
    token(iss=f"{GITHUB}/"),
    token(iss=...),
    token(iss=["https://x"]),
    token(exp=int(NOW) - 61),
    token(exp=int(NOW) - 30),
    token(exp=...),
    token(exp="never"),
    token(nbf=int(NOW) + 120),
    token(iat=int(NOW) + 120),
    token(kid="k2"),
    token(kid="../../etc/passwd"),
    token(kid="x" * 600),
    token(sub=...),
    token(sub=""),
    token(sub="a\nb"),
    token(sub="a\x00b"),
    token(sub="x" * 300),
    token(sub=7),
    token(padding="x" * 20000),
    "a.b",
    "a.b.c",
    "a.W10.c",
    "a.b.c.d",
    "ä.b.c",
    "x",
]


@pytest.mark.parametrize("shown", BAD, ids=map(str, range(len(BAD))))
async def test_attack_tokens_that_are_not_good(central: Central, shown: str) -> None:
    await put(central)
    refused = await exchange(central, shown)
    assert refused.status == 400, refused.raw
    assert refused.json["code"] == refused.json["error"] == "invalid_request"
    assert shown not in refused.message
    row = central.last_row()
    assert row["responseStatus"]["code"] == 400
    assert row["user"]["username"] in ("(a job)", USER)
    assert len(shown) < 10 or shown not in central.journal_path.read_text()


async def test_attack_headers_that_bring_their_own_key(central: Central) -> None:
    await put(central)
    public = json.loads(RSAAlgorithm.to_jwk(OTHER_KEY.public_key()))
    for field in ({"jwk": public}, {"jku": "https://evil.example/jwks"}, {"x5u": "https://e"}):
        headers = {"kid": KID, **field}
        shown = jwt.encode(claims(), OTHER_KEY, algorithm="RS256", headers=headers)
        assert (await exchange(central, shown)).status == 400


async def test_attack_the_output_of_an_exchange_as_the_input_of_another(central: Central) -> None:
    access = await logged_in(central)
    for shown in (access, await central.token()):
        refused = await exchange(central, shown)
        assert (refused.status, refused.json["code"]) == (400, "invalid_request")
    forged = token(KEY.private_key, iss=PUBLIC_URL, kid=KEY.kid)
    assert (await exchange(central, forged)).status == 400


async def test_attack_our_own_url_as_an_issuer_of_jobs(central: Central) -> None:
    """Whatever the settings trust by mistake."""
    await put(central, issuer="own")
    assert (await exchange(central, token(iss=PUBLIC_URL))).status == 400


async def test_attack_a_job_of_somebody_else(central: Central) -> None:
    await put(central)
    for changes in (
        {"repository": "evil/shop", "sub": "repo:evil/shop:ref:refs/heads/main"},
        {"repository": "acme/shop", "ref": "refs/heads/evil"},
        {"repository": ...},
        {"repository": {"x": "acme/shop"}},
    ):
        refused = await exchange(central, token(**changes))
        assert (refused.status, refused.json["error"]) == (403, "invalid_grant")
        assert "federated:github:" in refused.message
        assert central.last_row()["user"]["username"].startswith("federated:github:")


@pytest.mark.parametrize(
    "changes",
    [
        {"grant_type": "password"},
        {"grant_type": ...},
        {"subject_token": ...},
        {"subject_token": ""},
        {"subject_token_type": "urn:ietf:params:oauth:token-type:access_token"},
        {"requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token"},
        {"actor_token": "x"},
        {"extra": "x"},
    ],
)
async def test_attack_forms_that_ask_for_something_else(
    central: Central, changes: dict[str, Any]
) -> None:
    await put(central)
    refused = await exchange(central, token(), **changes)
    is_grant = changes == {"grant_type": "password"}
    word = "unsupported_grant_type" if is_grant else "invalid_request"
    assert (refused.status, refused.json["error"]) == (400, word)
    assert refused.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ("", 400),
        ("x", 400),
        ("grant_type=a&grant_type=b", 400),
        ("&".join(f"f{number}=1" for number in range(40)), 400),
        ("subject_token=%FF", 400),
        ("grant_type=ä", 400),
        ("subject_token=" + "x" * (65 << 10), 413),
    ],
)
async def test_attack_bodies_that_are_no_form(central: Central, form: str, status: int) -> None:
    refused = await post(central, form)
    assert (refused.status, refused.json["error"]) == (status, "invalid_request")


async def test_attack_a_huge_form_without_a_length(central: Central) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(70):
            yield b"x" * 1024

    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await central.call("POST", "/auth/token", headers=headers, data=pieces())
    assert answer.status == 413


async def test_a_stranger_who_tries_again_and_again_waits(central: Central) -> None:
    await put(central)
    statuses = [(await exchange(central, "a.b.c")).status for _ in range(31)]
    assert statuses == [400] * 30 + [429]
    waits = await exchange(central, token())
    assert (waits.status, waits.json["error"]) == (429, "temporarily_unavailable")
    elsewhere = urlencode(
        {"grant_type": GRANT, "subject_token": token(), "subject_token_type": JWT}
    )
    assert (await post(central, elsewhere, "192.0.2.9")).status == 200


async def test_jobs_that_get_in_do_not_wait(central: Central) -> None:
    await put(central)
    assert {(await exchange(central, token())).status for _ in range(40)} == {200}


async def test_attack_a_job_that_logs_in_without_end(
    central: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each login is a row that is kept for days; others of the same address go on."""
    monkeypatch.setattr(central.context, "job_logins", RequestRate(3, lambda: central.ticks))
    await put(central)
    answers = [await exchange(central, token()) for _ in range(4)]
    assert [it.status for it in answers] == [200, 200, 200, 429]
    refused = answers[-1]
    assert (refused.json["error"], refused.headers["Retry-After"]) == (
        "temporarily_unavailable",
        "20",
    )
    other = await exchange(central, token(sub="repo:acme/other:ref:refs/heads/main"))
    assert other.status == 200
    central.ticks += 20
    assert (await exchange(central, token())).status == 200


async def test_an_issuer_that_is_down(central: Central) -> None:
    await put(central, issuer="down")
    for _ in range(35):
        answer = await exchange(central, token(iss="https://down.example"))
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        assert answer.json["error"] == "temporarily_unavailable"


async def test_more_rules_than_a_login_can_have(central: Central) -> None:
    await put(central)
    now = central.context.now()
    for number in range(45):
        name = f"rule-{number:03}-{'x' * 54}"
        wanted = WantedRule(name, "github", RULE["claims"], ("developer",), 600)  # type: ignore[arg-type]
        await federation.put_rule(central.database, wanted, now)
    refused = await exchange(central, token())
    assert (refused.status, "46 federation rules" in refused.message) == (403, True)


# -- out again -------------------------------------------------------------------------------------


async def test_a_rule_that_is_removed_takes_its_logins_along(central: Central) -> None:
    access = await logged_in(central)
    gone = await central.call("DELETE", "/federation/rules/deploy", token=await central.admin())
    assert gone.status == 204
    assert reason(central, access) == "TOKEN_REVOKED"
    assert (await central.call("GET", "/auth/whoami", token=access)).status == 401
    again = await central.call("DELETE", "/federation/rules/deploy", token=await central.admin())
    assert again.status == 404


async def test_a_rule_that_is_removed_on_another_replica(central: Central) -> None:
    """It is known as soon as the policy is looked at, for open streams, too."""
    access = await logged_in(central)
    identity = central.authenticator.authenticate(f"Bearer {access}".encode())
    stamp = central.authenticator.stamp
    await federation.delete_rule(central.database, "deploy", central.context.now())
    assert reason(central, access) == ""
    await central.feed.refresh()
    assert central.authenticator.stamp != stamp, "open streams are looked at"
    with pytest.raises(Unauthenticated):
        central.authenticator.recheck(identity)
    assert reason(central, access) == "TOKEN_REVOKED"
    assert not central.feed.current.decide(USER, identity.groups, "dev-1", POD).allowed


async def test_an_issuer_that_is_no_longer_in_the_settings(
    central: Central, sqlite_database: Database, tmp_path: Path
) -> None:
    access = await logged_in(central)
    restarted = await Central.start_again(sqlite_database, tmp_path / "again")
    assert reason(restarted, access) == "FEDERATION_GONE"
    await restarted.close()


async def test_a_rule_that_asks_for_something_else_ends_its_logins(central: Central) -> None:
    access = await logged_in(central)
    await roles.put_role(central.database, "more", DEVELOPER)
    await put(central, roles=["more"], seconds=600)
    assert reason(central, access) == "", "roles change by themselves"
    assert (await central.call("GET", "/auth/whoami", token=access)).json["roles"] == ["more"]
    await put(central, claims={"repository": ["acme/other"]})
    assert reason(central, access) == "TOKEN_REVOKED"


async def test_an_administrator_ends_a_login_of_a_job(central: Central) -> None:
    access = await logged_in(central)
    login = central.authenticator.authenticate(f"Bearer {access}".encode()).login
    ended = await central.call("DELETE", f"/logins/{login}", token=await central.admin())
    assert ended.status == 204
    assert reason(central, access) == "TOKEN_REVOKED"


async def test_the_end_of_the_jobs_token(central: Central) -> None:
    access = await logged_in(central)
    central.now += 631
    assert reason(central, access) == "TOKEN_EXPIRED"
    assert (await exchange(central, token())).status == 400


# -- rules -----------------------------------------------------------------------------------------


async def test_rules_are_listed_as_they_were_written(central: Central) -> None:
    made = await put(central, seconds=600)
    created = {"created_at": made.json["created_at"]}
    assert made.json == {"name": "deploy", **RULE, "seconds": 600, **created}
    listed = await central.call("GET", "/federation/rules", token=await central.admin())
    assert [it["name"] for it in listed.json["rules"]] == ["deploy"]
    version = central.feed.current.version
    await put(central, seconds=600)
    assert central.feed.current.version == version
    row = central.last_row()
    assert (row["objectRef"]["resource"], row["objectRef"]["name"]) == (
        "federationrules", "deploy",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "changes", "field"),
    [
        ("deploy", {"claims": {"aud": ["mk8s"]}}, "claims"),
        ("deploy", {"claims": {"repository": ["*"]}}, "claims"),
        ("deploy", {"claims": {}}, "claims"),
        ("deploy", {"issuer": "gitlab"}, "issuer"),
        ("deploy", {"roles": ["ghost"]}, "roles"),
        ("deploy", {"roles": []}, "roles"),
        ("deploy", {"seconds": 59}, "seconds"),
        ("deploy", {"seconds": 3601}, "seconds"),
        ("a:b", {}, "name"),
        ("a%20b", {}, "name"),
    ],
)
async def test_rules_that_are_refused(
    central: Central, name: str, changes: dict[str, Any], field: str
) -> None:
    refused = await put(central, name, **changes)
    assert (refused.status, refused.field) == (422, field), refused.raw
    assert await federation.list_rules(central.database) == []


async def test_only_admins_may(central: Central) -> None:
    dev = await central.token()
    for method, path, body in (
        ("GET", "/federation/rules", None),
        ("PUT", "/federation/rules/x", RULE),
        ("DELETE", "/federation/rules/x", None),
    ):
        assert (await central.call(method, path, body, token=dev)).status == 403


async def test_changes_on_conditions(central: Central) -> None:
    made = await put(central)
    token_of_admin = await central.admin()
    path, stale = "/federation/rules/deploy", {"If-Match": made.headers["ETag"]}
    changed = await central.call(
        "PUT", path, RULE | {"seconds": 60}, token=token_of_admin, headers=stale
    )
    assert changed.status == 200
    refused = await central.call("PUT", path, RULE, token=token_of_admin, headers=stale)
    assert refused.status == 412
    gone = await central.call("DELETE", path, token=token_of_admin, headers=stale)
    assert gone.status == 412


async def test_a_role_in_use_stays(central: Central) -> None:
    await roles.put_role(central.database, "jobs", DEVELOPER)
    await put(central, roles=["jobs"])
    refused = await central.call("DELETE", "/roles/jobs", token=await central.admin())
    assert (refused.status, "the federation rule deploy" in refused.message) == (409, True)


async def test_the_store(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """On both databases."""
    now = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
    await roles.put_role(database, "r", DEVELOPER)
    wanted = WantedRule("a", "github", {"sub": ["x"]}, ("r",), 60)
    made, ended = await federation.put_rule(database, wanted, now)
    assert (made.roles, ended) == (("r",), [])
    groups = ("federated:a",)
    for number, brought in enumerate((groups, ("federated:b",))):
        new = logins.NewLogin(
            str(number), "s", now + datetime.timedelta(hours=1), logins.FEDERATION, groups=brought
        )
        await federation.open_login(database, new, now)
    monkeypatch.setattr(federation, "MOST", 1)
    with pytest.raises(Conflict, match="1 federation rules already"):
        await federation.put_rule(database, WantedRule("b", "x", {}, (), 60), now)
    other = WantedRule("a", "github", {"sub": ["x"]}, ("ghost",), 60)
    with pytest.raises(NotFound):
        await federation.put_rule(database, other, now)
    assert await federation.list_rules(database) == [made]
    assert await federation.rules_of_issuers(database, ["gitlab"]) == []
    assert await federation.delete_rule(database, "a", now) == ["0"]
    with pytest.raises(NotFound):
        await federation.delete_rule(database, "a", now)
