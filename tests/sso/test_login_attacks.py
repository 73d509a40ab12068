"""Attacks on a login in the browser, each named after the attack."""

import secrets
from urllib.parse import urlsplit

import pytest

from tests.sso.calls import query_of, with_query
from tests.sso.house import House, Visitor, claims, refusal
from tests.sso.odd_issuer import PERSON, OddIssuer

OPEN_REDIRECTS = (
    "https://evil.example/callback",
    "http://evil.example:8000/callback",
    "//evil.example/callback",
    "/callback",
    "javascript:alert(1)",
    "http://localhost:8000/callback",
    "http://127.0.0.1.evil.example:8000/callback",
    "http://127.0.0.1@evil.example:8000/callback",
    "http://127.0.0.1:8000@evil.example/callback",
    "http://evil.example:8000/callback#@127.0.0.1:8000/callback",
    "http://evil.example\\@127.0.0.1:8000/callback",
    "http://127.0.0.1:8000\\@evil.example/callback",
    "http://127.0.0.1:8000/callback/../evil",
    "http://127.0.0.1:8000/callback/",
    "http://127.0.0.1:8000/other",
    "http://127.0.0.1:8000/callback?code=mine",
    "http://127.0.0.1:8000/callback#fragment",
    "http://127.0.0.1:8000/callback\r\nSet-Cookie: a=b",
    " http://127.0.0.1:8000/callback",
    "http://127.0.0.1/callback",
    "http://127.0.0.1:0/callback",
    "http://127.0.0.1:99999/callback",
    "http://127.0.0.1:+80/callback",
    "http://127.1:8000/callback",
    "http://2130706433:8000/callback",
    "http://127.0.0.2:8000/callback",
    "http://0.0.0.0:8000/callback",
    "http://[::ffff:127.0.0.1]:8000/callback",
    "http://[::1%25lo]:8000/callback",
    "https://127.0.0.1:8000/callback",
    "ftp://127.0.0.1:8000/callback",
    "",
)


@pytest.mark.parametrize("address", OPEN_REDIRECTS)
def test_an_open_redirect_to(address: str, house: House, odd: OddIssuer) -> None:
    answer = house.visitor().start("odd", redirect_uri=address)
    assert 400 <= answer.status < 500, (answer.status, answer.headers["Location"])
    assert answer.headers["Location"] is None
    assert not odd.asked["/token"]


def test_the_loopback_of_ipv6_is_no_open_redirect(house: House, odd: OddIssuer) -> None:
    address = "http://[::1]:8000/callback"
    assert house.visitor().start("odd", redirect_uri=address).status == 303


@pytest.mark.parametrize(
    "changes",
    [
        {"code_challenge_method": "plain"},
        {"code_challenge_method": ""},
        {"code_challenge": ""},
        {"code_challenge": "short"},
        {"code_challenge": "ä" * 43},
        {"code_challenge": "x" * 5000},
        {"state": ""},
        {"state": "x" * 10_000},
        {"state": "a\r\nSet-Cookie: a=b"},
    ],
    ids=repr,
)
def test_a_login_without_its_protection(changes: dict[str, str], house: House) -> None:
    answer = house.visitor().start("odd", **changes)
    assert 400 <= answer.status < 500
    assert answer.headers["Location"] is None
    assert answer.headers["Set-Cookie"] is None


@pytest.mark.parametrize("name", ["nobody", "", "odd/../other", "<script>alert(1)</script>"])
def test_an_issuer_that_is_not_configured(name: str, house: House) -> None:
    answer = house.visitor().start(name)
    assert 400 <= answer.status < 500
    assert answer.headers["Location"] is None
    assert "<script>" not in answer.text


def test_parameters_that_are_there_twice(house: House, odd: OddIssuer) -> None:
    """Two readers could take one each."""
    visitor = house.visitor()
    good = with_query(
        "/auth/sso/start",
        issuer="odd",
        redirect_uri=visitor.redirect_uri,
        state=visitor.state,
        code_challenge="x" * 43,
        code_challenge_method="S256",
    )
    assert visitor.get(good).status == 303
    for name, value in (("redirect_uri", "http://127.0.0.1:9/callback"), ("issuer", "other")):
        answer = visitor.get(with_query(good, **{name: value}))
        assert answer.status == 400
        assert answer.headers["Location"] is None


def begun(house: House, odd: OddIssuer) -> tuple[Visitor, str]:
    """Somebody who has signed in at the issuer; where the issuer sends the browser."""
    visitor = house.visitor()
    return visitor, odd.approve(visitor.start("odd").location)


def with_other(url: str, **changes: str | None) -> str:
    """The address with other parameters; None takes one away."""
    told = {name: value for name, value in (query_of(url) | changes).items() if value is not None}
    return with_query(urlsplit(url)._replace(query="").geturl(), **told)


@pytest.mark.parametrize(
    "issuer",
    [None, "", "https://evil.example", "{odd}/", "{other}", "{odd}\x00"],
    ids=repr,
)
def test_mixed_up_issuers(
    issuer: str | None, house: House, odd: OddIssuer, other: OddIssuer
) -> None:
    """RFC 9207: a code goes to nobody but the issuer that gave it, and by its own word only."""
    visitor, back = begun(house, odd)
    said = issuer if issuer is None else issuer.format(odd=odd.url, other=other.url)
    assert "issuer" in refusal(visitor.get(with_other(back, iss=said)))
    assert not odd.asked["/token"]
    assert not other.asked["/token"]


def test_an_issuer_that_fishes_for_codes_of_another(
    house: House, odd: OddIssuer, other: OddIssuer
) -> None:
    """The attacker's issuer sends the browser on to the honest one, to be given its code."""
    visitor = house.visitor()
    attackers = query_of(visitor.start("other").location)
    honest = with_query(f"{odd.url}/authorize", **attackers)
    refusal(visitor.get(odd.approve(honest)))
    assert not other.asked["/token"]


def test_a_callback_that_is_replayed(house: House, odd: OddIssuer) -> None:
    visitor, back = begun(house, odd)
    assert "code" in visitor.listened(visitor.get(back))
    refusal(visitor.get(back))
    assert odd.asked["/token"] == 1


def test_a_code_of_the_issuer_in_another_login(house: House, odd: OddIssuer) -> None:
    """A stolen code, injected into the attacker's own login: PKCE and nonce bind it."""
    _, stolen = begun(house, odd)
    attacker, own = begun(house, odd)
    refusal(attacker.get(with_other(own, code=query_of(stolen)["code"])))


def test_a_code_of_the_issuer_in_another_login_where_it_forgets_pkce(
    house: House, odd: OddIssuer
) -> None:
    odd.behaviour.forgets_pkce = True
    _, stolen = begun(house, odd)
    attacker, own = begun(house, odd)
    said = refusal(attacker.get(with_other(own, code=query_of(stolen)["code"])))
    assert "(nonce)" in said


def test_a_code_that_the_issuer_takes_no_more(house: House, odd: OddIssuer) -> None:
    """It has expired, or was used before."""
    visitor, back = begun(house, odd)
    odd.behaviour.answers["/token"] = (400, b'{"error": "invalid_grant"}')
    assert "code" in refusal(visitor.get(back))


def test_a_victim_who_is_sent_the_attackers_callback(house: House, odd: OddIssuer) -> None:
    """Login CSRF: the victim would work as the attacker."""
    _, attackers = begun(house, odd)
    refusal(house.visitor().get(attackers))
    victim, _ = begun(house, odd)
    refusal(victim.get(attackers))
    assert not odd.asked["/token"]


def test_an_attacker_who_has_read_the_victims_callback(house: House, odd: OddIssuer) -> None:
    """From a log or a Referer: without the victim's cookie it is worth nothing."""
    victim, back = begun(house, odd)
    refusal(house.visitor().get(back))
    assert not odd.asked["/token"]
    assert "code" in victim.listened(victim.get(back))


@pytest.mark.parametrize("state", [None, "", "made-up", "x" * 10_000, "'; DROP TABLE logins"])
def test_a_state_that_central_has_not_made(state: str | None, house: House, odd: OddIssuer) -> None:
    visitor, back = begun(house, odd)
    refusal(visitor.get(with_other(back, state=state)))
    assert not odd.asked["/token"]


def test_two_logins_in_one_browser(house: House, odd: OddIssuer) -> None:
    """Two windows are no attack: each ends well."""
    visitor = house.visitor()
    first = odd.approve(visitor.start("odd").location)
    second = odd.approve(visitor.start("odd").location)
    for back in (first, second):
        told = visitor.listened(visitor.get(back))
        assert visitor.redeem(told["code"]).status == 200


def test_the_issuers_refusal_tells_the_person_and_nothing_else(
    house: House, odd: OddIssuer
) -> None:
    visitor, back = begun(house, odd)
    text = "<script>alert(1)</script>\r\nSet-Cookie: a=b"
    changed = with_other(back, code=None, error="access_denied", error_description=text)
    answer = visitor.get(changed)
    assert "\n" not in refusal(answer)
    assert answer.headers["Set-Cookie"] is None or "a=b" not in answer.headers["Set-Cookie"]
    assert not odd.asked["/token"]


def redeemable(house: House, odd: OddIssuer) -> tuple[Visitor, str]:
    """Somebody whose listener got central's code."""
    visitor, back = begun(house, odd)
    return visitor, visitor.listened(visitor.get(back))["code"]


def test_a_code_of_central_that_is_replayed(house: House, odd: OddIssuer) -> None:
    visitor, code = redeemable(house, odd)
    assert visitor.redeem(code).status == 200
    refusal(visitor.redeem(code))


@pytest.mark.parametrize(
    "changes",
    [
        {"code_verifier": "x" * 64},
        {"code_verifier": ""},
        {"redirect_uri": "http://127.0.0.1:9/callback"},
        {"redirect_uri": ""},
    ],
    ids=repr,
)
def test_a_code_of_central_in_the_hands_of_another_program(
    changes: dict[str, str], house: House, odd: OddIssuer
) -> None:
    """It listened on the port, or read the browser's history: it lacks the verifier."""
    visitor, code = redeemable(house, odd)
    refusal(visitor.redeem(code, **changes))


def test_a_loopback_listener_that_gets_a_foreign_code(house: House, odd: OddIssuer) -> None:
    """The attacker's code at the victim's listener: the victim's verifier does not fit."""
    _, attackers = redeemable(house, odd)
    victim = house.visitor()
    refusal(victim.redeem(attackers))


@pytest.mark.parametrize("code", ["", "made-up", "x" * 100_000, "\x00", "../../x"])
def test_a_code_that_central_has_not_made(code: str, house: House) -> None:
    refusal(house.visitor().redeem(code))


def test_what_a_login_leaves_in_the_browser(house: House, odd: OddIssuer) -> None:
    """No page of it is kept, framed, or named to others, and its cookie is central's alone."""
    visitor = house.visitor()
    start = visitor.start("odd")
    cookie = start.headers["Set-Cookie"]
    for word in ("HttpOnly", "Secure", "SameSite=Lax"):
        assert word in cookie
    back = visitor.get(odd.approve(start.location))
    for answer in (start, back, visitor.get(odd.approve(start.location))):
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Referrer-Policy"] in ("no-referrer", "same-origin")


def test_a_person_who_was_removed_at_the_issuer(house: House, odd: OddIssuer) -> None:
    """They are out at the next refresh."""
    visitor = house.visitor()
    tokens = visitor.log_in("odd", odd.approve)
    again = visitor.call("POST", "/auth/refresh", {"refresh_token": tokens["refresh_token"]})
    assert again.status == 200, again.text
    odd.behaviour.gone = True
    refresh = {"refresh_token": again.json()["refresh_token"]}
    assert visitor.call("POST", "/auth/refresh", refresh).status == 401
    odd.behaviour.gone = False
    assert visitor.call("POST", "/auth/refresh", refresh).status == 401


def test_a_refresh_for_which_the_issuer_names_somebody_else(house: House, odd: OddIssuer) -> None:
    visitor = house.visitor()
    tokens = visitor.log_in("odd", odd.approve)
    odd.behaviour.claims = {"sub": secrets.token_hex(8), "email": PERSON["email"]}
    refresh = {"refresh_token": tokens["refresh_token"]}
    assert visitor.call("POST", "/auth/refresh", refresh).status == 401


def test_a_person_who_lost_a_group_at_the_issuer(house: House, odd: OddIssuer) -> None:
    """The next access token is without it."""
    visitor = house.visitor()
    odd.behaviour.claims = {"groups": ["devs", "admins"]}
    tokens = visitor.log_in("odd", odd.approve)
    assert claims(tokens)["groups"] == ["odd:admins", "odd:devs"]
    odd.behaviour.claims = {"groups": ["devs"]}
    refresh = {"refresh_token": tokens["refresh_token"]}
    again = visitor.call("POST", "/auth/refresh", refresh)
    assert claims(again.json())["groups"] == ["odd:devs"]
