"""Logging in and out over the real server and database."""

import asyncio
import datetime
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from sqlalchemy import text

from mk8s_proxy.db import tokens, users
from mk8s_proxy.db.engine import Database, DatabaseUnavailable
from mk8s_proxy.identity.identity import Unauthenticated
from mk8s_proxy.identity.throttle import PER_PAIR
from tests.support.management_api import KEY, NOW, PASSWORD, PUBLIC_URL, Central


@pytest.fixture
async def central(sqlite_database: Database, tmp_path: Path) -> AsyncIterator[Central]:
    central = await Central.start(sqlite_database, tmp_path)
    yield central
    await central.close()


async def wrong_login(central: Central, email: str, **options: Any) -> Any:
    body = {"email": email, "password": "wrong password"}
    return await central.call("POST", "/auth/login", body, **options)


async def refresh(central: Central, token: str, **more: Any) -> Any:
    return await central.call("POST", "/auth/refresh", {"refresh_token": token} | more)


async def test_a_login_gives_tokens_that_central_accepts(central: Central) -> None:
    login = await central.login("  DEV@Example.com ")
    assert login["token_type"] == "Bearer"
    assert login["expires_in"] == 900
    assert login["refresh_expires_in"] == 12 * 3600
    expires_at = datetime.datetime.fromisoformat(login["expires_at"])
    assert expires_at.timestamp() == NOW + 900
    assert login["user"]["email"] == "dev@example.com"
    assert login["user"]["roles"] == ["developer"]
    identity = central.authenticator.authenticate(f"Bearer {login['access_token']}".encode())
    assert (identity.user, identity.cluster) == ("dev@example.com", "")


async def test_whoami(central: Central) -> None:
    await central.add_cluster("dev-1")
    await central.add_cluster("prod")
    mine = await central.call("GET", "/auth/whoami", token=await central.token())
    assert mine.status == 200
    assert mine.json["user"]["name"] == "Dev"
    assert mine.json["clusters"] == ["dev-1"]
    assert mine.json["admin"] is False
    admin = await central.call("GET", "/auth/whoami", token=await central.admin())
    assert admin.json["clusters"] == ["dev-1", "prod"]
    assert admin.json["admin"] is True


async def test_user_enumeration_by_the_answer(central: Central) -> None:
    """Unknown, wrong password, disabled, and without a password: the same bytes and headers."""
    nobody = await users.create_user(central.database, "sso@example.com", "", None)
    off = await users.create_user(central.database, "off@example.com", "", nobody.password_hash)
    await users.set_disabled(central.database, off.id, True)
    answers = [
        await wrong_login(central, name)
        for name in ("dev@example.com", "nobody@example.com", "sso@example.com", "off@example.com")
    ]
    for answer in answers:
        request_id = answer.headers.pop("x-request-id").encode()
        answer.raw = answer.raw.replace(request_id, b"(id)")
        answer.headers.pop("Date")
    assert answers[0].status == 401
    assert answers[0].message == "wrong email or password"
    assert all(answer == answers[0] for answer in answers)


async def test_user_enumeration_by_the_work(
    central: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[bool] = []
    original = central.context.passwords.check

    async def counted(password: str, stored: str | None) -> bool:
        checked.append(stored is not None)
        return await original(password, stored)

    monkeypatch.setattr(central.context.passwords, "check", counted)
    await wrong_login(central, "dev@example.com")
    await wrong_login(central, "nobody@example.com")
    assert checked == [True, False], "a password is compared in both cases"


async def test_the_journal_knows_why_a_login_failed(central: Central) -> None:
    await wrong_login(central, "nobody@example.com", source="198.51.100.9")
    row = central.last_row()
    assert row["stage"] == "ResponseComplete"
    assert row["user"]["username"] == "nobody@example.com"
    assert row["annotations"]["authorization.k8s.io/decision"] == "forbid"
    assert row["annotations"]["mk8s.io/refusal"] == "UNKNOWN_USER"
    assert row["sourceIPs"] == ["198.51.100.9"]
    assert row["responseStatus"]["code"] == 401


async def test_the_right_password_of_a_disabled_user(central: Central) -> None:
    dev = await users.get_by_email(central.database, "dev@example.com")
    await users.set_disabled(central.database, dev.id, True)
    body = {"email": "dev@example.com", "password": PASSWORD}
    answer = await central.call("POST", "/auth/login", body)
    assert (answer.status, answer.message) == (401, "wrong email or password")
    assert central.last_row()["annotations"]["mk8s.io/refusal"] == "USER_DISABLED"


async def test_brute_force_is_slowed_and_told_so(central: Central) -> None:
    answers = [await wrong_login(central, "dev@example.com") for _ in range(PER_PAIR.free + 3)]
    assert [answer.status for answer in answers[: PER_PAIR.free]] == [401] * PER_PAIR.free
    assert {answer.status for answer in answers[PER_PAIR.free :]} == {429}
    assert answers[-1].headers["Retry-After"] == "1"
    right = {"email": "dev@example.com", "password": PASSWORD}
    assert (await central.call("POST", "/auth/login", right)).status == 429
    central.ticks += 1
    assert (await central.call("POST", "/auth/login", right)).status == 200


async def test_brute_force_of_unknown_users_is_slowed_alike(central: Central) -> None:
    known = [await wrong_login(central, "dev@example.com", source="192.0.2.1") for _ in range(8)]
    unknown = [await wrong_login(central, "x@example.com", source="192.0.2.2") for _ in range(8)]
    assert [answer.status for answer in known] == [answer.status for answer in unknown]


async def test_a_source_claimed_by_the_client_in_other_headers_counts_nothing(
    central: Central,
) -> None:
    answers = [
        await wrong_login(
            central, "dev@example.com", headers={"X-Forwarded-For": f"203.0.113.{number}"}
        )
        for number in range(PER_PAIR.free + 1)
    ]
    assert answers[-1].status == 429


async def test_too_many_logins_at_once_do_not_count_as_guesses(
    central: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(central.context.passwords, "_free", 0)
        for _ in range(PER_PAIR.free + 2):
            answer = await wrong_login(central, "dev@example.com")
            assert (answer.status, answer.headers["Retry-After"]) == (429, "2")
    await central.login()


async def right_login(central: Central, source: str) -> int:
    body = {"email": "dev@example.com", "password": PASSWORD}
    return (await central.call("POST", "/auth/login", body, source=source)).status


async def test_attack_sixty_addresses_keep_nobody_out_where_he_logged_in_before(
    central: Central, sqlite_database: Database, tmp_path: Path
) -> None:
    """A stranger takes each attempt that the account's delay lets through."""
    home, elsewhere = "198.51.100.7", "203.0.113.9"
    assert await right_login(central, home) == 200
    for number in range(60):
        await wrong_login(central, "dev@example.com", source=f"192.0.2.{number}")
    assert await right_login(central, elsewhere) == 429
    assert await right_login(central, home) == 200
    again = await Central.start_again(sqlite_database, tmp_path / "restarted")
    for number in range(60):
        await wrong_login(again, "dev@example.com", source=f"192.0.2.{number}")
    assert await right_login(again, elsewhere) == 429
    assert await right_login(again, home) == 200
    await again.close()


async def test_attack_a_known_source_may_not_guess_on_and_on(central: Central) -> None:
    assert await right_login(central, "192.0.2.1") == 200
    answers = [await wrong_login(central, "dev@example.com") for _ in range(PER_PAIR.free + 1)]
    assert answers[-1].status == 429


async def test_right_passwords_in_parallel_are_all_right(central: Central) -> None:
    """A CI matrix: forty jobs of one account behind one address."""
    statuses = await asyncio.gather(*(right_login(central, "192.0.2.1") for _ in range(40)))
    assert set(statuses) == {200}


async def test_attack_wrong_passwords_in_parallel_are_no_more_than_one_after_another(
    central: Central,
) -> None:
    answers = await asyncio.gather(
        *(wrong_login(central, "dev@example.com") for _ in range(PER_PAIR.free * 4))
    )
    statuses = sorted(answer.status for answer in answers)
    assert statuses == [401] * PER_PAIR.free + [429] * (PER_PAIR.free * 3)


async def test_an_outage_of_the_database_is_no_guess(
    central: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_args: object) -> None:
        raise DatabaseUnavailable("the database does not answer in time")

    with monkeypatch.context() as patched:
        patched.setattr(users, "get_by_email", fail)
        for _ in range(PER_PAIR.free + 2):
            assert await right_login(central, "192.0.2.1") == 503
    assert await right_login(central, "192.0.2.1") == 200


async def test_refresh_rotates(central: Central) -> None:
    first = await central.login()
    central.now += 600
    second = await refresh(central, first["refresh_token"])
    assert second.status == 200
    assert second.json["refresh_token"] != first["refresh_token"]
    assert second.json["access_token"] != first["access_token"]
    assert second.json["refresh_expires_in"] == 12 * 3600 - 600, "a login is not prolonged"
    third = await refresh(central, second.json["refresh_token"])
    assert third.status == 200


async def test_stolen_refresh_token_used_after_its_owner(central: Central) -> None:
    first = (await central.login())["refresh_token"]
    second = (await refresh(central, first)).json["refresh_token"]
    stolen = await refresh(central, first)
    assert stolen.status == 401
    assert "used from two places: log in on each machine" in stolen.message
    assert central.last_row()["annotations"]["mk8s.io/refusal"] == "REFRESH_REUSED"
    assert central.last_row()["user"]["uid"], "whose login it was"
    owner = await refresh(central, second)
    assert owner.status == 401, "the family is gone, whoever was first"


async def test_refresh_whose_answer_was_lost_is_repeated(central: Central) -> None:
    first = (await central.login())["refresh_token"]
    lost = await refresh(central, first, attempt="a" * 43)
    central.now += 600
    again = await refresh(central, first, attempt="a" * 43)
    assert (lost.status, again.status) == (200, 200)
    assert again.json["refresh_token"] == lost.json["refresh_token"]
    assert again.json["access_token"] != lost.json["access_token"]


@pytest.mark.parametrize("attempt", ["", "a" * 42, "a" * 44, "a" * 42 + "\n", 7])
async def test_attempt_of_another_shape_is_refused(central: Central, attempt: Any) -> None:
    token = (await central.login())["refresh_token"]
    assert (await refresh(central, token, attempt=attempt)).status == 422
    assert (await refresh(central, token)).status == 200, "and the login is not used up by it"


async def test_reuse_ends_one_login_only(central: Central) -> None:
    laptop, phone = await central.login(), await central.login()
    await refresh(central, laptop["refresh_token"])
    await refresh(central, laptop["refresh_token"])
    assert (await refresh(central, phone["refresh_token"])).status == 200


async def test_race_for_one_refresh_token(central: Central) -> None:
    """Of all that come at once one wins, and the others' reuse ends what the winner got."""
    token = (await central.login())["refresh_token"]
    answers = await asyncio.gather(*(refresh(central, token) for _ in range(6)))
    won = [answer for answer in answers if answer.status == 200]
    assert len(won) <= 1
    assert all(answer.status in (200, 401) for answer in answers)
    for answer in won:
        assert (await refresh(central, answer.json["refresh_token"])).status == 401


async def test_refresh_after_the_login_ended(central: Central) -> None:
    token = (await central.login())["refresh_token"]
    central.now += 12 * 3600
    answer = await refresh(central, token)
    assert answer.status == 401
    assert central.last_row()["annotations"]["mk8s.io/refusal"] == "REFRESH_EXPIRED"


@pytest.mark.parametrize(
    "token", ["", "x", "mk8s_rt_" + "A" * 43, "mk8s_jt_" + "A" * 43, "' OR 1=1 --", "\x00"]
)
async def test_refresh_token_never_issued(central: Central, token: str) -> None:
    assert (await refresh(central, token)).status == 401
    assert (await refresh(central, token, cluster="dev-1")).status == 401


async def test_refresh_of_a_user_disabled_since(central: Central) -> None:
    token = (await central.login())["refresh_token"]
    dev = await users.get_by_email(central.database, "dev@example.com")
    await users.set_disabled(central.database, dev.id, True)
    assert (await refresh(central, token)).status == 401
    assert (await refresh(central, token, cluster="dev-1")).status == 401


async def test_refresh_between_disabling_and_its_revocation(
    central: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user who vanishes after the token was used up gets nothing, and the login ends."""
    token = (await central.login())["refresh_token"]
    original = tokens.use_refresh

    async def slow_use(*arguments: Any) -> Any:
        record = await original(*arguments)
        async with central.database.transaction() as session:
            # Not by the store, which would revoke the family in the same transaction.
            await session.execute(text("UPDATE users SET disabled = 1"))
        return record

    monkeypatch.setattr(tokens, "use_refresh", slow_use)
    assert (await refresh(central, token)).status == 401
    assert central.last_row()["annotations"]["mk8s.io/refusal"] == "USER_DISABLED"


async def test_refresh_with_a_cluster_gives_a_bound_token(central: Central) -> None:
    await central.add_cluster("dev-1")
    token = (await central.login())["refresh_token"]
    answer = await refresh(central, token, cluster="dev-1")
    assert answer.json["cluster"] == "dev-1"
    claims = jwt.decode(
        answer.json["access_token"],
        KEY.private_key.public_key(),
        algorithms=["RS256"],
        audience="mk8s",
        options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
    )
    assert (claims["cluster"], claims["iss"]) == ("dev-1", PUBLIC_URL)


async def test_a_cluster_name_that_is_not_mine_does_not_cost_the_login(central: Central) -> None:
    await central.add_cluster("prod")
    token = (await central.login())["refresh_token"]
    hidden, absent = (
        await refresh(central, token, cluster="prod"),
        await refresh(central, token, cluster="nope"),
    )
    assert (hidden.status, hidden.message) == (404, 'cluster "prod" does not exist')
    assert (absent.status, absent.message) == (404, 'cluster "nope" does not exist')
    assert (await refresh(central, token)).status == 200


async def test_cluster_token(central: Central) -> None:
    await central.add_cluster("dev-1")
    token = await central.token()
    answer = await central.call("POST", "/auth/token", {"cluster": "dev-1"}, token=token)
    assert answer.status == 200
    bound = answer.json["access_token"]
    assert central.authenticator.authenticate(f"Bearer {bound}".encode()).cluster == "dev-1"
    assert answer.json["expires_in"] == 900


async def test_cluster_token_never_outlives_the_token_it_was_made_from(central: Central) -> None:
    await central.add_cluster("dev-1")
    token = await central.token()
    central.now += 800
    answer = await central.call("POST", "/auth/token", {"cluster": "dev-1"}, token=token)
    assert answer.json["expires_in"] == 100


async def test_cluster_token_cannot_be_exchanged_or_manage_anything(central: Central) -> None:
    await central.add_cluster("dev-1")
    admin = await central.admin()
    answer = await central.call("POST", "/auth/token", {"cluster": "dev-1"}, token=admin)
    bound = answer.json["access_token"]
    for method, path, body in (
        ("POST", "/auth/token", {"cluster": "dev-1"}),
        ("GET", "/users", None),
        ("GET", "/clusters", None),
        ("GET", "/auth/whoami", None),
    ):
        refused = await central.call(method, path, body, token=bound)
        assert refused.status == 401
        assert "cluster's requests only" in refused.message


async def test_cluster_token_for_a_cluster_that_is_not_mine_or_not_there(central: Central) -> None:
    await central.add_cluster("prod")
    token = await central.token()
    for name in ("prod", "nope"):
        answer = await central.call("POST", "/auth/token", {"cluster": name}, token=token)
        assert (answer.status, answer.message) == (404, f'cluster "{name}" does not exist')


async def test_logout_ends_the_login(central: Central) -> None:
    first = (await central.login())["refresh_token"]
    second = (await refresh(central, first)).json["refresh_token"]
    answer = await central.call("POST", "/auth/logout", {"refresh_token": second})
    assert (answer.status, answer.raw) == (204, b"")
    assert (await refresh(central, second)).status == 401
    again = await central.call("POST", "/auth/logout", {"refresh_token": second})
    assert again.status == 204, "it can be repeated"
    assert central.last_row()["user"]["username"] == "dev@example.com"


async def test_logout_with_an_access_token_ends_that_too(central: Central) -> None:
    login = await central.login()
    token = login["access_token"]
    body = {"refresh_token": login["refresh_token"]}
    assert (await central.call("POST", "/auth/logout", body, token=token)).status == 204
    assert (await central.call("GET", "/auth/whoami", token=token)).status == 401


async def test_logout_ends_copied_access_tokens(central: Central) -> None:
    await central.add_cluster("dev-1")
    login, other = await central.login(), await central.login()
    first = login["access_token"]
    asked = {"cluster": "dev-1"}
    bound = (await central.call("POST", "/auth/token", asked, token=first)).json["access_token"]
    renewed = (await refresh(central, login["refresh_token"])).json
    await central.call("POST", "/auth/logout", {"refresh_token": renewed["refresh_token"]})
    for token in (first, bound, renewed["access_token"]):
        with pytest.raises(Unauthenticated, match="logged out"):
            central.authenticator.authenticate(f"Bearer {token}".encode())
    assert (await central.call("GET", "/auth/whoami", token=other["access_token"])).status == 200


async def test_a_stolen_refresh_token_used_twice_ends_the_access_tokens(central: Central) -> None:
    login = await central.login()
    thief = (await refresh(central, login["refresh_token"])).json
    assert (await refresh(central, login["refresh_token"])).status == 401
    for token in (login["access_token"], thief["access_token"]):
        assert (await central.call("GET", "/auth/whoami", token=token)).status == 401


async def test_logout_with_a_token_never_issued(central: Central) -> None:
    body = {"refresh_token": "mk8s_rt_" + "A" * 43}
    assert (await central.call("POST", "/auth/logout", body)).status == 204


async def test_the_key_set_verifies_tokens(central: Central) -> None:
    answer = await central.call("GET", "/.well-known/jwks.json")
    (jwk,) = jwt.PyJWKSet.from_dict(answer.json).keys
    options: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
    token = await central.token()
    claims = jwt.decode(token, jwk.key, algorithms=["RS256"], audience="mk8s", options=options)
    assert claims["email"] == "dev@example.com"
    assert "max-age" in answer.headers["Cache-Control"]


async def test_a_user_made_elsewhere_can_use_the_first_token_at_once(central: Central) -> None:
    stored = (await users.get_by_email(central.database, "dev@example.com")).password_hash
    await users.create_user(central.database, "new@example.com", "", stored)
    token = await central.token("new@example.com")
    assert central.authenticator.authenticate(f"Bearer {token}".encode())
