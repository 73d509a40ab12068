"""ETag, If-Match and If-None-Match: nobody changes what has become something else meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mk8s_proxy.db import clusters, roles, users
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import Stale
from mk8s_proxy.db.rbac import WantedUser, apply_rbac, read_rbac
from mk8s_proxy.db.revisions import Condition
from mk8s_proxy.identity.access_token import mint
from tests.support.management_api import PASSWORD_HASH, PUBLIC_URL, Answer, Central, FakeTunnel
from tests.support.seeded import DEVELOPER

DEV = "/users/dev@example.com"


@pytest.fixture
async def central(database: Database, tmp_path: Path) -> AsyncIterator[Central]:
    central = await Central.start(database, tmp_path)
    await clusters.create_cluster(database, "dev-1")
    await central.feed.refresh()
    yield central
    await central.close()


async def ask(central: Central, method: str, path: str, body: Any = None, **headers: str) -> Answer:
    user = await users.get_by_email(central.database, "admin@example.com")
    token, _ = mint(
        central.keys, user=user, cluster=None, issuer=PUBLIC_URL, lifetime=60, now=central.now
    )
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await central.call(method, path, body, token=token, headers=named)


async def etag(central: Central, path: str) -> str:
    answer = await ask(central, "GET", path)
    assert answer.status == 200, answer.raw
    return answer.headers["ETag"]


CHANGES: list[tuple[str, str, str, Any]] = [
    (DEV, "PUT", f"{DEV}/disabled", {"disabled": True}),
    (DEV, "PUT", f"{DEV}/disabled", {"disabled": False}),
    (DEV, "PUT", f"{DEV}/password", {"password": "another password 1"}),
    (DEV, "PUT", f"{DEV}/roles", {"roles": []}),
    ("/clusters/dev-1", "PUT", "/clusters/dev-1/labels", {"labels": {"a": "b"}}),
    ("/roles/developer", "PUT", "/roles/developer", {"clusters": [{**DEVELOPER[0], "name": "x"}]}),
    ("/rbac", "POST", "/rbac", {"users": [{"email": "new@example.com", "roles": []}]}),
    (DEV, "DELETE", DEV, None),
    ("/clusters/dev-1", "DELETE", "/clusters/dev-1", None),
    ("/roles/developer", "DELETE", "/roles/developer", None),
]


async def test_a_change_of_what_was_seen_is_made_and_then_the_tag_is_stale(
    central: Central,
) -> None:
    for seen, method, path, body in CHANGES:
        tag = await etag(central, seen)
        refused = await ask(central, method, path, body, If_Match='"other"')
        assert (refused.status, refused.json["reason"]) == (412, "PreconditionFailed"), path
        assert await etag(central, seen) == tag
        made = await ask(central, method, path, body, If_Match=f'"x", {tag}')
        assert made.status in {200, 204}, made.raw
        if method != "DELETE":
            assert await etag(central, seen) != tag
        again = await ask(central, method, path, body, If_Match=tag)
        assert again.status == (404 if path in (DEV, "/clusters/dev-1") else again.status)
        assert again.status in {404, 412}, path


async def test_without_a_condition_everything_works_as_before(central: Central) -> None:
    for _, method, path, body in CHANGES:
        assert (await ask(central, method, path, body)).status in {200, 204}, path


async def test_the_answer_to_a_change_has_the_tag_for_the_next_one(central: Central) -> None:
    tag = await etag(central, DEV)
    for names in ([], ["admin"], ["developer"]):
        answer = await ask(central, "PUT", f"{DEV}/roles", {"roles": names}, If_Match=tag)
        assert answer.status == 200
        tag = answer.headers["ETag"]
    assert tag == await etag(central, DEV)


async def test_what_a_client_has_is_not_sent_again(central: Central) -> None:
    for path in ("/users", "/clusters", DEV, "/roles/developer", "/rbac", "/auth/whoami"):
        tag = await etag(central, path)
        for known in (tag, f'W/{tag}, "x"', "*"):
            answer = await ask(central, "GET", path, If_None_Match=known)
            assert (answer.status, answer.raw) == (304, b""), path
            assert answer.headers["ETag"] == tag
        assert (await ask(central, "GET", path, If_None_Match='"x"')).status == 200


async def test_a_heartbeat_makes_a_new_answer_but_refuses_no_change(central: Central) -> None:
    tag = await etag(central, "/clusters/dev-1")
    cluster = await clusters.get_by_name(central.database, "dev-1")
    central.tunnels.by_cluster[cluster.id] = FakeTunnel(connected=True)
    answer = await ask(central, "GET", "/clusters/dev-1", If_None_Match=tag)
    assert (answer.status, answer.json["status"]) == (200, "connected")
    labels = {"labels": {"env": "dev"}}
    answer = await ask(central, "PUT", "/clusters/dev-1/labels", labels, If_Match=tag)
    assert answer.status == 200


async def test_a_role_is_made_only_if_there_is_none(central: Central) -> None:
    body = {"clusters": DEVELOPER}
    made = await ask(central, "PUT", "/roles/fresh", body, If_None_Match="*")
    again = await ask(central, "PUT", "/roles/fresh", body, If_None_Match="*")
    absent = await ask(central, "PUT", "/roles/none", body, If_Match="*")
    assert (made.status, again.status, absent.status) == (200, 412, 412)
    assert (await ask(central, "PUT", "/roles/fresh", body, If_Match="*")).status == 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("If_Match", "abc"),
        ("If_Match", '"a" "b"'),
        ("If_Match", ""),
        ("If_Match", '*, "a"'),
        ("If_None_Match", '"a"'),
    ],
)
async def test_conditions_that_cannot_be_read_are_not_taken_for_none(
    central: Central, name: str, value: str
) -> None:
    answer = await ask(central, "PUT", f"{DEV}/roles", {"roles": []}, **{name: value})
    assert (answer.status, answer.field) == (400, name.replace("_", "-"))
    assert (await users.get_by_email(central.database, "dev@example.com")).roles


async def test_attack_a_weak_tag_is_no_condition_that_holds(central: Central) -> None:
    tag = await etag(central, DEV)
    answer = await ask(central, "PUT", f"{DEV}/roles", {"roles": []}, If_Match=f"W/{tag}")
    assert answer.status == 412


async def test_the_policy_document_can_be_sent_back(central: Central) -> None:
    await roles.put_role(central.database, "small", DEVELOPER, {"streams": 50})
    answer = await ask(central, "GET", "/rbac")
    names = [role["name"] for role in answer.json["roles"]]
    assert names == ["developer", "small"]
    back = await ask(central, "POST", "/rbac", answer.json, If_Match=answer.headers["ETag"])
    assert back.status == 200, back.raw
    assert {change["action"] for change in back.json["changes"]} == {"unchanged"}


async def outcomes(*changes: Any) -> list[bool]:
    """Which of changes at the same time were made."""
    results = await asyncio.gather(*changes, return_exceptions=True)
    assert all(not isinstance(it, BaseException) or isinstance(it, Stale) for it in results)
    return [not isinstance(it, BaseException) for it in results]


async def test_attack_two_writers_at_once_with_the_same_tag(database: Database) -> None:
    """Of those who have seen the same, one changes it; nobody's change is lost unseen."""
    await roles.ensure_admin_role(database)
    for name in "abcdefghijkl":
        await roles.put_role(database, name, DEVELOPER)
    dev = await users.create_user(database, "dev@example.com", "", PASSWORD_HASH)
    cluster = await clusters.create_cluster(database, "dev-1")
    for names in ("abcd", "efgh", "ijkl"):
        seen = Condition(frozenset({(await users.get_by_id(database, dev.id)).revision}))
        made = await outcomes(*(users.set_roles(database, dev.id, [it], seen) for it in names))
        assert sum(made) == 1
        now = (await users.get_by_id(database, dev.id)).roles
        assert now == (names[made.index(True)],)
        found = await clusters.get_by_id(database, cluster.id)
        seen = Condition(frozenset({found.revision}))
        labels = [{"n": f"{found.labels.get('n', '')}{it}"} for it in "abcd"]
        made = await outcomes(
            *(clusters.set_labels(database, cluster.id, it, seen) for it in labels)
        )
        assert sum(made) == 1
        now_labels = (await clusters.get_by_id(database, cluster.id)).labels
        assert now_labels == labels[made.index(True)]
    role = await roles.get_role(database, "a")
    seen = Condition(frozenset({role.revision}))
    rules = [[{**DEVELOPER[0], "name": f"x{it}"}] for it in range(4)]
    made = await outcomes(*(roles.put_role(database, "a", it, condition=seen) for it in rules))
    assert sum(made) == 1
    made = await outcomes(
        *(roles.put_role(database, "z", it, condition=Condition(absent=True)) for it in rules)
    )
    assert sum(made) == 1
    seen = Condition(frozenset({(await read_rbac(database)).revision}))
    wanted = [[WantedUser(f"new{it}@example.com", ())] for it in range(4)]
    made = await outcomes(*(apply_rbac(database, [], it, condition=seen) for it in wanted))
    assert sum(made) == 1
