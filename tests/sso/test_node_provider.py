"""Through oidc-provider, a certified implementation that is not Keycloak."""

from tests.sso.calls import query_of
from tests.sso.house import House, Visitor, claims, refusal
from tests.sso.node_provider import PERSON, NodeProvider


def log_in(house: House, node: NodeProvider) -> tuple[Visitor, dict[str, str]]:
    visitor = house.visitor()
    return visitor, visitor.log_in("node", lambda url: node.sign_in(url, visitor.caller))


def refused(house: House, node: NodeProvider) -> str:
    visitor = house.visitor()
    return visitor.refused("node", lambda url: node.sign_in(url, visitor.caller))


def test_a_login_and_what_follows(house: House, node: NodeProvider) -> None:
    visitor, tokens = log_in(house, node)
    assert claims(tokens)["groups"] == ["node:devs"]
    node.order(accounts={"nora": PERSON | {"groups": ["devs", "ops"]}})
    for _ in range(2):
        refresh = {"refresh_token": tokens["refresh_token"]}
        answer = visitor.call("POST", "/auth/refresh", refresh)
        assert answer.status == 200, answer.text
        tokens = answer.json()
    assert claims(tokens)["groups"] == ["node:devs", "node:ops"]
    node.order(accounts={})
    refresh = {"refresh_token": tokens["refresh_token"]}
    assert visitor.call("POST", "/auth/refresh", refresh).status == 401


def test_a_signature_over_an_elliptic_curve(house: House, node: NodeProvider) -> None:
    node.order(algorithm="ES256")
    log_in(house, node)


def test_a_signature_by_the_client_secret(house: House, node: NodeProvider) -> None:
    """HS256 as a real provider makes it: whoever knows the secret could make it, too."""
    node.order(algorithm="HS256")
    assert "algorithm" in refused(house, node)


def test_a_person_who_does_not_consent(house: House, node: NodeProvider) -> None:
    node.order(deny=True)
    before = node.asked("/token")
    refused(house, node)
    assert node.asked("/token") == before


def test_a_code_in_another_login(house: House, node: NodeProvider) -> None:
    """The provider itself checks PKCE; the code is spent by the attempt."""
    victim, attacker = house.visitor(), house.visitor()
    stolen = query_of(node.sign_in(victim.start("node").location, victim.caller))["code"]
    own = query_of(node.sign_in(attacker.start("node").location, attacker.caller))
    answer = attacker.get("/auth/sso/callback/node", **(own | {"code": stolen}))
    assert "code" in refusal(answer)


def test_a_login_with_the_wrong_secret(house: House, node: NodeProvider) -> None:
    """The operator's mistake is told to nobody but the log."""
    node.order(clientChanges={"client_secret": "another secret of thirty-two bytes"})
    said = refused(house, node)
    assert "secret of mk8s" not in said


def test_garbage_in_place_of_tokens(house: House, node: NodeProvider) -> None:
    node.order(garbage=["/token"])
    assert "issuer" in refused(house, node)


def test_garbage_in_place_of_keys(house: House, node: NodeProvider) -> None:
    """Those that are known serve on."""
    log_in(house, node)
    node.order(garbage=["/jwks"])
    log_in(house, node)


def test_a_provider_that_answers_errors(house: House, node: NodeProvider) -> None:
    node.order(broken={"/token": 503})
    assert "does not work for now" in refused(house, node)


def test_a_refresh_while_the_provider_stalls(house: House, node: NodeProvider) -> None:
    """The login is kept: nothing says that the person has gone."""
    visitor, tokens = log_in(house, node)
    node.order(stall=["/token"])
    refresh = {"refresh_token": tokens["refresh_token"]}
    answer = visitor.call("POST", "/auth/refresh", refresh)
    assert answer.status == 200, answer.text
    assert claims(answer.json())["groups"] == ["node:devs"]


def test_a_provider_that_gives_no_refresh_token(house: House, node: NodeProvider) -> None:
    """As those do which want `prompt=consent` for one; the person can still log in."""
    node.order(refreshes=False)
    _, tokens = log_in(house, node)
    assert claims(tokens)["groups"] == ["node:devs"]
