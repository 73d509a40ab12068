"""What single sign-on keeps, on both databases: steps used once, subjects, issuers' tokens."""

import asyncio
import datetime
from typing import Any

import pytest

from mk8s_proxy.db import logins, pending_logins, tokens, upstream_tokens, user_identities, users
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import Conflict, NotFound
from mk8s_proxy.db.pending_logins import CODE, DEVICE, Pending
from mk8s_proxy.db.user_identities import Newcomer, UserTaken

NOW = datetime.datetime(2027, 1, 15, 8, tzinfo=datetime.UTC)
LATER = NOW + datetime.timedelta(seconds=60)
ANN = Newcomer("acme", "u-1", "Ann@example.com", "Ann")


def pending(name: str = "a", kind: str = CODE, user_code: str | None = None) -> Pending:
    return Pending(name, kind, LATER, {"n": 0}, user_code)


async def test_of_many_uses_at_once_one_is_the_first(database: Database) -> None:
    await pending_logins.begin(database, pending(), NOW)
    asked = [pending_logins.use(database, CODE, "a", NOW) for _ in range(8)]
    before = [it.used_at for it in await asyncio.gather(*asked)]
    assert before.count(None) == 1
    assert before.count(NOW) == 7


async def test_a_step_is_of_one_kind_and_has_an_end(database: Database) -> None:
    await pending_logins.begin(database, pending(), NOW)
    for kind, name, now in ((DEVICE, "a", NOW), (CODE, "b", NOW), (CODE, "a", LATER)):
        with pytest.raises(NotFound):
            await pending_logins.use(database, kind, name, now)
        with pytest.raises(NotFound):
            await pending_logins.find(database, kind, name, now)
    assert (await pending_logins.find(database, CODE, "a", NOW)).state == {"n": 0}


async def test_changes_at_once_do_not_lose_each_other(database: Database) -> None:
    await pending_logins.begin(database, pending(kind=DEVICE, user_code="BCDF"), NOW)

    def count(state: dict[str, Any]) -> dict[str, Any]:
        return {"n": state["n"] + 1}

    changes = [pending_logins.change(database, DEVICE, "a", NOW, count) for _ in range(8)]
    before = [it["n"] for it in await asyncio.gather(*changes) if it is not None]
    assert sorted(before) == list(range(8))
    found = await pending_logins.find_by_user_code(database, "BCDF", NOW)
    assert found.state == {"n": 8}
    assert await pending_logins.change(database, DEVICE, "a", NOW, lambda _: None) is None
    await pending_logins.use(database, DEVICE, "a", NOW)
    with pytest.raises(NotFound):
        await pending_logins.change(database, DEVICE, "a", NOW, count)
    with pytest.raises(NotFound):
        await pending_logins.find_by_user_code(database, "OTHER", NOW)


async def test_a_user_code_is_given_once_until_it_is_over(database: Database) -> None:
    await pending_logins.begin(database, pending("a", DEVICE, "BCDF"), NOW)
    with pytest.raises(Conflict):
        await pending_logins.begin(database, pending("b", DEVICE, "BCDF"), NOW)
    over = LATER + datetime.timedelta(seconds=1)
    later = Pending("c", DEVICE, over + datetime.timedelta(seconds=60), {}, "BCDF")
    await pending_logins.begin(database, later, over)


async def test_first_logins_at_once_make_one_user(database: Database) -> None:
    asked = [user_identities.admit(database, ANN, NOW) for _ in range(4)]
    assert len(set(await asyncio.gather(*asked))) == 1
    assert len(await users.list_users(database)) == 1


async def test_a_name_that_is_taken(database: Database) -> None:
    user = await users.create_user(database, "ann@example.com", "", None)
    with pytest.raises(UserTaken):
        await user_identities.admit(database, ANN, NOW)
    await user_identities.link(database, "acme", user.id, "", NOW)
    assert await user_identities.admit(database, ANN, NOW) == user.id
    other = Newcomer("acme", "u-2", "ann@example.com", "")
    with pytest.raises(UserTaken):  # the link was for one
        await user_identities.admit(database, other, NOW)
    await users.delete_user(database, user.id)
    assert await user_identities.identities_of(database, user.id) == []


async def test_of_two_who_prove_a_linked_address_at_once_one_is_the_user(
    database: Database,
) -> None:
    user = await users.create_user(database, "ann@example.com", "", None)
    await user_identities.link(database, "acme", user.id, "", NOW)
    both = [Newcomer("acme", f"u-{n}", "ann@example.com", "") for n in range(2)]
    asked = [user_identities.admit(database, it, NOW) for it in both]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert sorted(type(it).__name__ for it in outcomes) == ["UserTaken", "str"]
    assert len(await user_identities.identities_of(database, user.id)) == 1


async def test_the_tokens_of_an_issuer_are_taken_by_one(database: Database) -> None:
    user = await users.create_user(database, "ann@example.com", "", None)
    new = logins.NewLogin("l-1", user.id, LATER, source=logins.OIDC)
    await tokens.open_login(database, new, "hash", NOW)
    await upstream_tokens.keep(database, "l-1", "t-1")
    asked = [upstream_tokens.take(database, "l-1", NOW) for _ in range(4)]
    assert sorted(await asyncio.gather(*asked)) == ["", "", "", "t-1"]
    await upstream_tokens.renew(database, "l-1", "t-2", ["acme:devs"])
    assert await upstream_tokens.take(database, "l-1", NOW) == "t-2"
    assert (await logins.get_login(database, "l-1")).groups == ("acme:devs",)
