"""Users, roles, clusters, keys and the RBAC transaction, on both databases."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mk8s_proxy.db import clusters, keys, policy, roles, tokens, users
from mk8s_proxy.db.clusters import Sighting
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import Conflict, LastAdmin, NotFound, RefreshReused
from mk8s_proxy.db.logins import NewLogin
from mk8s_proxy.db.policy import load_policy, policy_version
from mk8s_proxy.db.rbac import WantedRole, WantedUser, apply_rbac

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RULES = [{"name": "*", "namespaces": ["*"], "verbs": ["get"], "resources": ["pods"]}]


@pytest.fixture
async def admin(database: Database) -> users.UserRecord:
    await roles.ensure_admin_role(database)
    return await users.create_user(database, "root@example.com", "Root", "hash", ["admin"])


async def test_users_are_found_in_any_spelling_of_their_email(database: Database) -> None:
    await roles.put_role(database, "viewer", RULES)
    made = await users.create_user(database, " Dev@Example.COM", "Dev", None, ["viewer", "viewer"])

    assert made.email == "dev@example.com"
    assert made.roles == ("viewer",)
    assert await users.get_by_email(database, "DEV@example.com") == made
    assert await users.get_by_id(database, made.id) == made
    assert await users.list_users(database) == [made]
    with pytest.raises(Conflict, match=r'"dev@example[.]com" is taken'):
        await users.create_user(database, "DEV@EXAMPLE.COM", "Other", None)


async def test_unknown_users_and_roles_are_named(database: Database) -> None:
    with pytest.raises(NotFound, match='user "x@y" does not exist'):
        await users.get_by_email(database, "x@y")
    with pytest.raises(NotFound, match="user"):
        await users.get_by_id(database, "none")
    with pytest.raises(NotFound, match='role "ghost" does not exist'):
        await users.create_user(database, "x@y", "", None, ["ghost"])
    assert await users.list_users(database) == []


async def test_roles_of_a_user_are_replaced(database: Database) -> None:
    for name in ("a", "b", "c"):
        await roles.put_role(database, name, RULES)
    user = await users.create_user(database, "x@y", "", None, ["a", "b"])

    changed = await users.set_roles(database, user.id, ["c", "b"])

    assert changed.roles == ("b", "c")
    assert (await users.get_by_id(database, user.id)).roles == ("b", "c")
    assert (await users.list_users(database))[0].roles == ("b", "c")


async def logged_in(database: Database, user_id: str) -> None:
    new = NewLogin("f", user_id, NOW + timedelta(hours=1))
    await tokens.open_login(database, new, "r", NOW)


@pytest.mark.parametrize("act", ["password", "disable"])
async def test_shutting_out_ends_every_login(database: Database, act: str) -> None:
    user = await users.create_user(database, "x@y", "", "old")
    await logged_in(database, user.id)

    if act == "password":
        await users.set_password(database, user.id, "new")
    else:
        await users.set_disabled(database, user.id, True)

    after = await users.get_by_id(database, user.id)
    assert after.token_epoch == 1
    assert after.disabled == (act == "disable")
    assert after.password_hash == ("new" if act == "password" else "old")
    with pytest.raises(RefreshReused):
        await tokens.use_refresh(database, "r", NOW)


async def test_letting_in_again_ends_nothing(database: Database) -> None:
    user = await users.create_user(database, "x@y", "", "hash")
    await users.set_disabled(database, user.id, False)

    assert (await users.get_by_id(database, user.id)).token_epoch == 0


async def test_deleted_user_loses_tokens(database: Database) -> None:
    user = await users.create_user(database, "x@y", "", "hash")
    await logged_in(database, user.id)

    await users.delete_user(database, user.id)

    with pytest.raises(NotFound):
        await tokens.use_refresh(database, "r", NOW)
    with pytest.raises(NotFound):
        await users.delete_user(database, user.id)


async def test_the_last_admin_stays(database: Database, admin: users.UserRecord) -> None:
    await roles.put_role(database, "viewer", RULES)
    with pytest.raises(LastAdmin, match="last account that can log in as administrator"):
        await users.set_roles(database, admin.id, ["viewer"])
    with pytest.raises(LastAdmin):
        await users.set_disabled(database, admin.id, True)
    with pytest.raises(LastAdmin):
        await users.delete_user(database, admin.id)
    assert await users.get_by_id(database, admin.id) == admin

    second = await users.create_user(database, "second@example.com", "", "hash", ["admin"])
    await users.set_roles(database, admin.id, [])
    with pytest.raises(LastAdmin):
        await users.set_password(database, second.id, None)


async def test_an_admin_who_cannot_log_in_does_not_count(
    database: Database, admin: users.UserRecord
) -> None:
    """Neither one without a password nor a disabled one could undo the lock-out."""
    await users.create_user(database, "bare@example.com", "", None, ["admin"])
    locked = await users.create_user(database, "locked@example.com", "", "hash", ["admin"])
    await users.set_disabled(database, locked.id, True)
    for change in (
        users.set_roles(database, admin.id, []),
        users.set_disabled(database, admin.id, True),
        users.set_password(database, admin.id, None),
        users.delete_user(database, admin.id),
        apply_rbac(database, [], [WantedUser(admin.email, ())]),
    ):
        with pytest.raises(LastAdmin):
            await change
    assert await users.get_by_id(database, admin.id) == admin


async def test_where_no_admin_can_log_in_everything_may_be_mended(database: Database) -> None:
    await roles.ensure_admin_role(database)
    bare = await users.create_user(database, "bare@example.com", "", None, ["admin"])
    await users.set_roles(database, bare.id, [])


async def test_two_admins_removing_each_other_leave_one(
    database: Database, admin: users.UserRecord
) -> None:
    other = await users.create_user(database, "second@example.com", "", "hash", ["admin"])

    results = await asyncio.gather(
        users.set_roles(database, admin.id, []),
        users.set_disabled(database, other.id, True),
        return_exceptions=True,
    )

    assert sum(isinstance(result, LastAdmin) for result in results) == 1, results


async def test_roles_are_put_and_removed(database: Database) -> None:
    made = await roles.put_role(database, "viewer", RULES)
    again = await roles.put_role(database, "viewer", [*RULES, *RULES])

    assert again.id == made.id
    (only,) = await roles.list_roles(database)
    assert (only.name, only.rules) == ("viewer", RULES * 2)
    await roles.delete_role(database, "viewer")
    assert await roles.list_roles(database) == []


async def test_limits_of_roles_are_stored(database: Database) -> None:
    limits = {"streams": 100, "buffered": "64Mi"}
    await roles.put_role(database, "viewer", RULES, limits)
    assert [role.limits for role in await roles.list_roles(database)] == [limits]
    loaded = await policy.load_policy(database)
    assert [role.limits for role in loaded.roles] == [limits]
    await roles.put_role(database, "viewer", RULES, limits)
    assert await policy.policy_version(database) == loaded.version
    await roles.put_role(database, "viewer", RULES)
    assert [role.limits for role in await roles.list_roles(database)] == [{}]
    assert await policy.policy_version(database) == loaded.version + 1


async def test_limits_of_a_file_are_applied_once(
    database: Database, admin: users.UserRecord
) -> None:
    wanted = [WantedRole("viewer", RULES, {"streams": 100})]
    await apply_rbac(database, wanted, [])
    assert [str(one) for one in await apply_rbac(database, wanted, [])] == [
        "role viewer: unchanged"
    ]
    changed = await apply_rbac(database, [WantedRole("viewer", RULES, {"buffered": "1Gi"})], [])
    assert [str(one) for one in changed] == [
        "role viewer: changed (limits: streams 100 -> buffered 1Gi)"
    ]
    lost = await apply_rbac(database, [WantedRole("viewer", RULES)], [])
    assert [str(one) for one in lost] == ["role viewer: changed (limits: buffered 1Gi -> none)"]
    viewer = next(one for one in await roles.list_roles(database) if one.name == "viewer")
    assert viewer.limits == {}


async def test_role_in_use_is_not_removed(database: Database) -> None:
    await roles.put_role(database, "viewer", RULES)
    await users.create_user(database, "x@y", "", None, ["viewer"])

    with pytest.raises(Conflict, match="in use by 1 user"):
        await roles.delete_role(database, "viewer")


EVERYTHING = [{"name": "*", "namespaces": ["*"], "verbs": ["*"], "resources": ["*"]}]


@pytest.mark.parametrize("more", [{}, {"nonResourceURLs": ["*"]}, {"resources": ["*", "*/*"]}])
async def test_a_role_admin_of_a_file_that_says_everything_is_the_built_in_one(
    database: Database, more: dict[str, Any]
) -> None:
    await roles.ensure_admin_role(database)
    wanted = WantedRole("admin", [EVERYTHING[0] | more])
    (change,) = await apply_rbac(database, [wanted], [])
    assert change.action == "unchanged"


@pytest.mark.parametrize(
    "rules",
    [
        [EVERYTHING[0] | {"name": "dev-*"}],
        [EVERYTHING[0] | {"namespaces": ["shop"]}],
        [EVERYTHING[0] | {"verbs": ["get"]}],
        [EVERYTHING[0] | {"resources": ["pods"]}],
        [EVERYTHING[0] | {"labels": {"env": "dev"}}],
        [EVERYTHING[0] | {"names": ["web-*"]}],
        [EVERYTHING[0], EVERYTHING[0] | {"deny": True}],
        [EVERYTHING[0], {"name": "*", "impersonate": {"users": ["*"]}}],
    ],
)
async def test_a_role_admin_of_a_file_that_says_something_else_is_refused(
    database: Database, rules: list[dict[str, Any]]
) -> None:
    await roles.ensure_admin_role(database)
    with pytest.raises(Conflict, match=r"may do everything .* give these rules to a role of ano"):
        await apply_rbac(database, [WantedRole("admin", rules)], [])


async def test_built_in_role_is_out_of_reach(database: Database) -> None:
    made = await roles.ensure_admin_role(database)

    with pytest.raises(Conflict, match="built in"):
        await roles.put_role(database, "admin", RULES)
    with pytest.raises(Conflict, match="another name"):
        await roles.put_role(database, "admin", EVERYTHING, {"openStreams": 1})
    with pytest.raises(Conflict, match="built in"):
        await roles.delete_role(database, "admin")
    assert await roles.put_role(database, "admin", EVERYTHING) == made
    assert await roles.ensure_admin_role(database) == made


async def test_clusters_are_registered_once(database: Database) -> None:
    made = await clusters.create_cluster(database, "prod-eu1", {"env": "prod"})

    assert await clusters.get_by_name(database, "prod-eu1") == made
    assert await clusters.get_by_id(database, made.id) == made
    with pytest.raises(Conflict, match='"prod-eu1" exists'):
        await clusters.create_cluster(database, "prod-eu1")
    assert (await clusters.set_labels(database, made.id, {"a": "b"})).labels == {"a": "b"}
    sighting = Sighting(made.id, "1.0", "v1.31.0" * 20, NOW)
    await clusters.note_sightings(database, [replace(sighting, cluster_id="deleted"), sighting])
    (seen,) = await clusters.list_clusters(database)
    assert (seen.agent_version, seen.last_seen, seen.labels) == ("1.0", NOW, {"a": "b"})
    await clusters.delete_cluster(database, made.id)
    assert await clusters.list_clusters(database) == []


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a.b", "a/b", "a" * 64, "ä", "a\n"])
async def test_cluster_names_are_dns_labels(sqlite_database: Database, name: str) -> None:
    with pytest.raises(ValueError, match="no cluster name"):
        await clusters.create_cluster(sqlite_database, name)


async def test_unknown_clusters_are_named(database: Database) -> None:
    for attempt in (
        clusters.get_by_name(database, "none"),
        clusters.get_by_id(database, "none"),
        clusters.set_labels(database, "none", {}),
        clusters.delete_cluster(database, "none"),
    ):
        with pytest.raises(NotFound, match='cluster "none" does not exist'):
            await attempt


async def test_signing_keys_retire_once(database: Database) -> None:
    await keys.add_key(database, "k1", "pem one", NOW)
    await keys.add_key(database, "k2", "pem two", NOW + timedelta(days=1))
    with pytest.raises(Conflict, match='"k1" exists'):
        await keys.add_key(database, "k1", "other")

    assert (await keys.retire_key(database, "k1", now=NOW)).retired_at == NOW
    assert (await keys.retire_key(database, "k1")).retired_at == NOW

    newest, oldest = await keys.list_keys(database)
    assert (newest.kid, newest.retired_at, newest.private_pem) == ("k2", None, "pem two")
    assert (oldest.kid, oldest.retired_at, oldest.private_pem) == ("k1", NOW, "")
    assert "pem" not in repr(newest)
    with pytest.raises(NotFound, match="signing key"):
        await keys.retire_key(database, "k3")
    with pytest.raises(Conflict, match="only signing key"):
        await keys.retire_key(database, "k2")


async def rotated(database: Database, kid: str, seconds: float) -> keys.KeyRecord:
    now = NOW + timedelta(seconds=seconds)
    return await keys.rotate_key(database, kid, "pem", now=now, settle_seconds=100)


async def test_one_signing_key_waits_for_its_turn_at_a_time(database: Database) -> None:
    await keys.add_key(database, "k1", "pem", NOW)
    assert (await rotated(database, "k2", 1)).created_at == NOW + timedelta(seconds=1)
    with pytest.raises(Conflict, match='"k2" still waits'):
        await rotated(database, "k3", 100)
    await rotated(database, "k3", 101)
    with pytest.raises(Conflict, match='"k1" exists'):
        await rotated(database, "k1", 999)


@pytest.mark.usefixtures("admin")
async def test_replicas_hear_of_signing_keys_with_the_policy(database: Database) -> None:
    await keys.add_key(database, "k1", "pem", NOW)
    before = await load_policy(database)
    await rotated(database, "k2", 1)
    published = await load_policy(database)
    await keys.retire_key(database, "k1")
    retired = await load_policy(database)
    assert before.version < published.version < retired.version
    assert [key.kid for key in published.keys] == ["k2", "k1"]
    assert [key.retired_at is None for key in retired.keys] == [True, False]
    await keys.retire_key(database, "k1")
    assert await policy_version(database) == retired.version, "nothing changed"


Act = Callable[[Database, users.UserRecord, clusters.ClusterRecord], Awaitable[object]]

CHANGES: dict[str, Act] = {
    "user created": lambda db, _u, _c: users.create_user(db, "new@y", "", None),
    "roles set": lambda db, u, _c: users.set_roles(db, u.id, ["viewer"]),
    "password set": lambda db, u, _c: users.set_password(db, u.id, "h"),
    "user disabled": lambda db, u, _c: users.set_disabled(db, u.id, True),
    "user deleted": lambda db, u, _c: users.delete_user(db, u.id),
    "role put": lambda db, _u, _c: roles.put_role(db, "new", RULES),
    "role changed": lambda db, _u, _c: roles.put_role(db, "viewer", RULES * 2),
    "role deleted": lambda db, _u, _c: roles.delete_role(db, "viewer"),
    "cluster created": lambda db, _u, _c: clusters.create_cluster(db, "new"),
    "labels set": lambda db, _u, c: clusters.set_labels(db, c.id, {"a": "b"}),
    "cluster deleted": lambda db, _u, c: clusters.delete_cluster(db, c.id),
    "file applied": lambda db, _u, _c: apply_rbac(db, [WantedRole("new", RULES)], []),
}
NO_CHANGES: dict[str, Act] = {
    "same roles": lambda db, u, _c: users.set_roles(db, u.id, []),
    "same role": lambda db, _u, _c: roles.put_role(db, "viewer", RULES),
    "heartbeat": lambda db, _u, c: clusters.note_sightings(db, [Sighting(c.id, "1", "2", NOW)]),
    "same file": lambda db, _u, _c: apply_rbac(db, [WantedRole("viewer", RULES)], []),
    "dry run": lambda db, _u, _c: apply_rbac(db, [WantedRole("new", RULES)], [], dry_run=True),
}


@pytest.mark.parametrize("act", [*CHANGES, *NO_CHANGES])
async def test_policy_version_counts_changes_and_nothing_else(
    sqlite_database: Database, act: str
) -> None:
    await roles.put_role(sqlite_database, "viewer", RULES)
    user = await users.create_user(sqlite_database, "x@y", "", None)
    cluster = await clusters.create_cluster(sqlite_database, "prod")
    before = await policy.policy_version(sqlite_database)

    await (CHANGES | NO_CHANGES)[act](sqlite_database, user, cluster)

    after = await policy.policy_version(sqlite_database)
    assert after - before == (1 if act in CHANGES else 0)


async def test_failed_change_does_not_count(database: Database) -> None:
    before = await policy.policy_version(database)

    with pytest.raises(NotFound):
        await users.create_user(database, "x@y", "", None, ["ghost"])

    assert await policy.policy_version(database) == before


async def test_racing_changes_all_count(database: Database) -> None:
    before = await policy.policy_version(database)

    await asyncio.gather(*(clusters.create_cluster(database, f"c{n}") for n in range(8)))

    assert await policy.policy_version(database) == before + 8


async def test_policy_is_everything_enabled(database: Database, admin: users.UserRecord) -> None:
    await roles.put_role(database, "viewer", RULES)
    dev = await users.create_user(database, "dev@y", "", None, ["viewer", "admin"])
    bare = await users.create_user(database, "bare@y", "", None)
    gone = await users.create_user(database, "gone@y", "", None, ["viewer"])
    await users.set_disabled(database, gone.id, True)
    prod = await clusters.create_cluster(database, "prod", {"env": "p"})

    loaded = await policy.load_policy(database)

    assert loaded.version == await policy.policy_version(database)
    assert [role.name for role in loaded.roles] == ["admin", "viewer"]
    assert loaded.user_roles == {
        "root@example.com": ("admin",),
        "dev@y": ("admin", "viewer"),
        "bare@y": (),
    }
    assert loaded.clusters == {"prod": {"env": "p"}}
    assert loaded.cluster_names == {prod.id: "prod"}
    assert loaded.epochs == {admin.id: 0, dev.id: 0, bare.id: 0}


async def test_rbac_is_applied_whole_and_once(database: Database, admin: users.UserRecord) -> None:
    wanted_roles = [WantedRole("viewer", RULES), WantedRole("developer", RULES)]
    wanted_users = [WantedUser("Dev@Y", ("developer", "viewer"), "Dev")]

    first = await apply_rbac(database, wanted_roles, wanted_users)
    second = await apply_rbac(database, wanted_roles, wanted_users)
    third = await apply_rbac(
        database, [WantedRole("viewer", RULES * 2)], [WantedUser("dev@y", ("viewer",), "D")]
    )

    assert [str(change) for change in first] == [
        "role viewer: created",
        "role developer: created",
        "user dev@y: created (roles: developer, viewer)",
    ]
    assert {change.action for change in second} == {"unchanged"}
    assert [str(change) for change in third] == [
        "role viewer: changed (1 rule(s) before, 2 now)",
        "user dev@y: changed (roles: developer, viewer -> viewer; name: D)",
    ]
    assert (await users.get_by_email(database, "dev@y")).roles == ("viewer",)
    assert (await users.get_by_email(database, "dev@y")).name == "D"


async def test_rbac_that_fails_changes_nothing(database: Database, admin: users.UserRecord) -> None:
    before = await policy.load_policy(database)
    new = WantedRole("new", RULES)

    with pytest.raises(LastAdmin):
        await apply_rbac(database, [new], [WantedUser(admin.email, ("new",))])
    with pytest.raises(NotFound, match="ghost"):
        await apply_rbac(database, [new], [WantedUser("x@y", ("ghost",))])
    with pytest.raises(Conflict, match="built in"):
        await apply_rbac(database, [new, WantedRole("admin", RULES)], [])

    assert await policy.load_policy(database) == before


async def test_a_dry_run_is_the_run_without_its_effect(
    database: Database, admin: users.UserRecord
) -> None:
    before = await policy.load_policy(database)
    new, person = WantedRole("new", RULES), WantedUser("x@y", ("new",))

    with pytest.raises(LastAdmin):
        await apply_rbac(database, [new], [WantedUser(admin.email, ("new",))], dry_run=True)
    with pytest.raises(NotFound, match="ghost"):
        await apply_rbac(database, [new], [WantedUser("x@y", ("ghost",))], dry_run=True)
    tried = await apply_rbac(database, [new], [person], dry_run=True)

    assert await policy.load_policy(database) == before
    assert await apply_rbac(database, [new], [person]) == tried


async def test_a_built_in_role_that_stays_as_it_is_is_no_change(
    database: Database, admin: users.UserRecord
) -> None:
    (change,) = await apply_rbac(database, [WantedRole("admin", roles.ADMIN_RULES)], [])
    assert change.action == "unchanged"
