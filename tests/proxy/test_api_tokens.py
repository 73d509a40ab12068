"""Service tokens over the real API server and database: made, used, rotated, revoked."""

import datetime
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.service_tokens import get_by_name
from mk8s_proxy.identity.identity import Unauthenticated
from mk8s_proxy.identity.service_token import is_well_formed
from mk8s_proxy.process import login_feed
from tests.support.management_api import NOW, Answer, Central
from tests.support.seeded import DEVELOPER

CI = {"name": "ci", "roles": ["developer"], "expires_in": 90 * 86400}


@pytest.fixture
async def central(sqlite_database: Database, tmp_path: Path) -> AsyncIterator[Central]:
    central = await Central.start(sqlite_database, tmp_path)
    yield central
    await central.close()


async def make(central: Central, **more: Any) -> Any:
    answer = await central.call("POST", "/tokens", CI | more, token=await central.admin())
    assert answer.status == 201, answer.raw
    return answer.json


async def listed(central: Central) -> Any:
    answer = await central.call("GET", "/tokens", token=await central.admin())
    return answer.json["tokens"]


async def exchange(central: Central, token: str, cluster: str = "dev-1") -> Answer:
    return await central.call("POST", "/auth/token", {"cluster": cluster}, token=token)


async def test_a_token_is_made_and_shown_once(central: Central) -> None:
    made = await make(central, clusters=["dev-*"])
    token = made.pop("token")
    assert is_well_formed(token.encode())
    assert (made["name"], made["user"], made["roles"]) == ("ci", "token:ci", ["developer"])
    assert (made["clusters"], made["status"]) == (["dev-*"], "active")
    assert (made["created_by"], made["last_used"]) == ("admin@example.com", None)
    ends = datetime.datetime.fromisoformat(made["expires_at"])
    assert ends.timestamp() == NOW + 90 * 86400
    row = central.last_row()
    assert row["objectRef"]["resource"] == "servicetokens"
    assert row["objectRef"]["name"] == "ci"
    assert token not in central.journal_path.read_text()
    assert await listed(central) == [made]


async def test_a_token_is_rotated_and_revoked_only_as_it_was_seen(central: Central) -> None:
    await make(central)
    admin = await central.admin()

    async def ask(method: str, path: str, tag: str = "", body: Any = None) -> Answer:
        headers = {"If-Match": tag} if tag else {}
        return await central.call(method, path, body, token=admin, headers=headers)

    seen = (await ask("GET", "/tokens/ci")).headers["ETag"]
    rotated = await ask("POST", "/tokens/ci/rotate", seen, {"overlap": 60})
    assert rotated.status == 200, rotated.raw
    for method, path, body in (
        ("POST", "/tokens/ci/rotate", {"overlap": 60}),
        ("DELETE", "/tokens/ci", None),
    ):
        refused = await ask(method, path, seen, body)
        assert (refused.status, refused.json["reason"]) == (412, "PreconditionFailed")
    shown = await ask("GET", "/tokens/ci")
    assert (shown.status, shown.json["status"]) == (200, "rotating")
    assert "token" not in shown.json
    now = rotated.headers["ETag"].partition(".")[0]
    assert shown.headers["ETag"].partition(".")[0] == now
    assert (await ask("DELETE", "/tokens/ci", shown.headers["ETag"])).status == 204
    assert (await ask("GET", "/tokens/ci")).status == 404


async def test_attack_a_stolen_database_has_no_service_tokens(
    central: Central, tmp_path: Path
) -> None:
    token = (await make(central))["token"]
    files = [path for path in tmp_path.glob("central.db*") if path.is_file()]
    content = b"".join(path.read_bytes() for path in files)
    assert b"service_secrets" in content
    assert token.encode() not in content
    assert token[8:48].encode() not in content


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"name": "CI"}, "name"),
        ({"name": "a@b"}, "name"),
        ({"name": "x" * 64}, "name"),
        ({"roles": []}, "roles"),
        ({"roles": ["nobody"]}, "roles"),
        ({"clusters": ["Prod"]}, "clusters.0"),
        ({"expires_in": 59}, "expires_in"),
        ({"expires_in": 367 * 86400}, "expires_in"),
        ({"expires_in": None}, "expires_in"),
    ],
)
async def test_mistakes_name_their_field(
    central: Central, more: dict[str, Any], field: str
) -> None:
    answer = await central.call("POST", "/tokens", CI | more, token=await central.admin())
    assert (answer.status, answer.json["errors"][0]["field"]) == (422, field)


async def test_only_administrators_see_and_change_service_tokens(central: Central) -> None:
    made = await make(central)
    path = f"/tokens/{made['id']}"
    for token in (await central.token(), made["token"]):
        for method, where, body in (
            ("GET", "/tokens", None), ("POST", "/tokens", CI), ("DELETE", path, None),
            ("POST", f"{path}/rotate", {}),
        ):  # fmt: skip
            assert (await central.call(method, where, body, token=token)).status == 403
    assert len(await listed(central)) == 1


async def test_a_name_that_is_taken(central: Central) -> None:
    await make(central)
    answer = await central.call("POST", "/tokens", CI, token=await central.admin())
    assert answer.status == 409


async def test_a_service_token_is_a_bearer_of_its_own(central: Central) -> None:
    await central.add_cluster("dev-1")
    await central.add_cluster("prod")
    token = (await make(central))["token"]
    whoami = (await central.call("GET", "/auth/whoami", token=token)).json
    assert whoami["user"]["email"] == "token:ci"
    assert (whoami["roles"], whoami["clusters"]) == (["developer"], ["dev-1"])
    assert whoami["login"]["source"] == "service_token"
    assert whoami["login"]["ends_at"] == whoami["expires_at"]
    clusters = (await central.call("GET", "/clusters", token=token)).json["clusters"]
    assert [it["name"] for it in clusters] == ["dev-1"]


async def test_it_is_exchanged_for_an_access_token_of_one_cluster(central: Central) -> None:
    await central.add_cluster("dev-1")
    made = await make(central)
    answer = await exchange(central, made["token"])
    assert answer.status == 200
    assert answer.json["expires_in"] == 900
    bearer = f"Bearer {answer.json['access_token']}".encode()
    identity = central.authenticator.authenticate(bearer)
    assert (identity.user, identity.uid, identity.cluster) == ("token:ci", made["id"], "dev-1")
    assert identity.login_ends == NOW + 90 * 86400
    row = central.last_row()
    assert (row["user"]["username"], row["user"]["uid"]) == ("token:ci", made["id"])
    assert made["token"] not in central.journal_path.read_text()


async def test_an_access_token_never_outlives_its_service_token(central: Central) -> None:
    await central.add_cluster("dev-1")
    token = (await make(central, expires_in=60))["token"]
    assert (await exchange(central, token)).json["expires_in"] == 60
    central.now += 60
    central.authenticator.second()
    assert (await exchange(central, token)).status == 401


async def test_attack_a_service_token_at_another_cluster_than_its_glob(central: Central) -> None:
    for name in ("dev-1", "dev-2"):
        await central.add_cluster(name)
    token = (await make(central, clusters=["dev-2"]))["token"]
    assert (await exchange(central, token, "dev-1")).status == 404
    assert (await exchange(central, token, "dev-2")).status == 200
    policy = central.feed.current
    assert policy.clusters_of("token:ci", ()) == {"dev-2"}
    assert policy.permissions_of("token:ci", (), "dev-1") == []


async def test_attack_a_narrowed_administrator_administers_nothing(central: Central) -> None:
    """Its roles count on some clusters only, and the management API is on none."""
    for name in ("dev-1", "prod"):
        await central.add_cluster(name)
    narrowed = (await make(central, name="narrow", roles=["admin"], clusters=["dev-*"]))["token"]
    assert (await central.call("GET", "/users", token=narrowed)).status == 403
    whoami = (await central.call("GET", "/auth/whoami", token=narrowed)).json
    assert (whoami["admin"], whoami["clusters"]) == (False, ["dev-1"])
    whole = (await make(central, name="whole", roles=["admin"]))["token"]
    assert (await central.call("GET", "/users", token=whole)).status == 200


async def test_attack_a_service_token_in_a_url_is_no_credential(central: Central) -> None:
    token = (await make(central))["token"]
    for name in ("token", "access_token", "bearer"):
        answer = await central.call("GET", f"/auth/whoami?{name}={token}")
        assert answer.status == 401


async def test_attack_a_logout_with_a_service_token_ends_nobodys(central: Central) -> None:
    first = (await make(central))["token"]
    second = (await make(central, name="cd"))["token"]
    body = {"refresh_token": "mk8s_rt_" + "A" * 43}
    assert (await central.call("POST", "/auth/logout", body, token=first)).status == 204
    for token in (first, second):
        assert (await central.call("GET", "/auth/whoami", token=token)).status == 200


async def test_attack_a_service_token_is_no_refresh_token(central: Central) -> None:
    token = (await make(central))["token"]
    answer = await central.call("POST", "/auth/refresh", {"refresh_token": token})
    assert answer.status == 401


async def test_the_roles_of_a_token_follow_the_policy(central: Central) -> None:
    """Whose role becomes less can do less; the token has a copy of nothing."""
    await central.add_cluster("dev-1")
    token = (await make(central))["token"]
    rules = [DEVELOPER[0] | {"name": "prod"}]
    body = {"clusters": rules}
    await central.call("PUT", "/roles/developer", body, token=await central.admin())
    assert (await exchange(central, token)).status == 404
    deleted = await central.call("DELETE", "/roles/developer", token=await central.admin())
    assert deleted.status == 409


async def test_rotation_keeps_the_one_before_for_a_while(central: Central) -> None:
    first = await make(central)
    path = f"/tokens/{first['id']}/rotate"
    answer = await central.call("POST", path, {"overlap": 600}, token=await central.admin())
    assert answer.status == 200
    second = answer.json
    assert second["token"] != first["token"]
    assert (second["id"], second["status"]) == (first["id"], "rotating")
    assert second["expires_at"] == first["expires_at"], "for as long as the one before"
    for token in (first["token"], second["token"]):
        assert (await central.call("GET", "/auth/whoami", token=token)).status == 200
    central.now += 600
    old = await central.call("GET", "/auth/whoami", token=first["token"])
    assert old.status == 401
    assert "ask an administrator" in old.message
    assert (await central.call("GET", "/auth/whoami", token=second["token"])).status == 200
    [now] = await listed(central)
    assert now["status"] == "active"


async def test_rotation_without_overlap_ends_the_one_before(central: Central) -> None:
    await central.add_cluster("dev-1")
    first = await make(central)
    access = (await exchange(central, first["token"])).json["access_token"]
    body = {"overlap": 0, "expires_in": 3600}
    answer = await central.call("POST", "/tokens/ci/rotate", body, token=await central.admin())
    assert answer.status == 200
    with pytest.raises(Unauthenticated):
        central.authenticator.authenticate(f"Bearer {first['token']}".encode())
    with pytest.raises(Unauthenticated):
        central.authenticator.authenticate(f"Bearer {access}".encode())


async def test_rotation_of_one_that_expired_long_ago_is_told_for_how_long(
    central: Central,
) -> None:
    await make(central, expires_in=60)
    central.now += 30 * 86400
    await make(central, name="other")  # which forgets the login of the first one
    path, admin = "/tokens/ci/rotate", await central.admin()
    refused = await central.call("POST", path, {}, token=admin)
    assert (refused.status, refused.json["errors"][0]["field"]) == (422, "expires_in")
    [expired, _] = await listed(central)
    assert (expired["status"], expired["expires_at"]) == ("expired", None)
    assert (await central.call("POST", path, {"expires_in": 60}, token=admin)).status == 200


async def test_a_revoked_token_and_what_came_of_it(central: Central) -> None:
    await central.add_cluster("dev-1")
    made = await make(central)
    access = (await exchange(central, made["token"])).json["access_token"]
    login = central.authenticator.authenticate(f"Bearer {access}".encode()).login
    answer = await central.call("DELETE", "/tokens/ci", token=await central.admin())
    assert answer.status == 204
    assert login in central.authenticator.take_revoked(), "its open streams end"
    for token in (made["token"], access):
        with pytest.raises(Unauthenticated):
            central.authenticator.authenticate(f"Bearer {token}".encode())
    assert (await central.call("GET", "/auth/whoami", token=made["token"])).status == 401
    assert await listed(central) == []
    gone = await central.call("DELETE", f"/tokens/{made['id']}", token=await central.admin())
    assert gone.status == 404


async def test_a_token_revoked_before_the_snapshot_knows(central: Central) -> None:
    """At another replica, until it has looked: the database is asked for the caller."""
    made = await make(central)
    async with central.database.transaction() as session:
        await session.execute(text("DELETE FROM service_tokens"))
    assert (await central.call("GET", "/auth/whoami", token=made["token"])).status == 401


async def test_last_use_is_written_in_the_background(central: Central) -> None:
    made = await make(central)
    central.now += 120
    await central.call("GET", "/auth/whoami", token=made["token"])
    assert (await listed(central))[0]["last_used"] is None
    await central.logins.write()
    before = (await get_by_name(central.database, "ci")).logins[0]
    assert before.last_seen != before.opened_at
    await central.logins.write()
    assert (await get_by_name(central.database, "ci")).logins[0] == before


async def test_last_use_that_could_not_be_written_is_written_later(
    central: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await make(central)
    central.now += 120
    await central.call("GET", "/auth/whoami", token=made["token"])

    async def down(*_: object) -> None:
        raise OSError("no database")

    with monkeypatch.context() as patched:
        patched.setattr(login_feed, "note_seen", down)
        with pytest.raises(OSError, match="no database"):
            await central.logins.write()
    await central.logins.write()
    login = (await get_by_name(central.database, "ci")).logins[0]
    assert login.last_seen != login.opened_at


@pytest.mark.parametrize("too", [False, True])
async def test_service_tokens_of_a_disabled_administrator(central: Central, too: bool) -> None:
    """They go on, since jobs need them, unless it is said."""
    admin = await central.admin()
    boss = {"email": "boss@example.com", "password": "a long enough one", "roles": ["admin"]}
    await central.call("POST", "/users", boss, token=admin)
    theirs = (await central.login("boss@example.com", "a long enough one"))["access_token"]
    answer = await central.call("POST", "/tokens", CI, token=theirs)
    token = answer.json["token"]
    body = {"disabled": True, "revoke_tokens": too}
    path = "/users/boss@example.com/disabled"
    assert (await central.call("PUT", path, body, token=admin)).status == 200
    assert (await central.call("GET", "/auth/whoami", token=theirs)).status == 401
    expected = 401 if too else 200
    assert (await central.call("GET", "/auth/whoami", token=token)).status == expected


async def test_attack_a_service_token_is_no_last_administrator(central: Central) -> None:
    """It cannot log in and set a password: who depends on it is locked out with it."""
    token = (await make(central, name="root", roles=["admin"]))["token"]
    path = "/users/admin@example.com"
    for method, where, body in (
        ("DELETE", path, None), ("PUT", f"{path}/disabled", {"disabled": True}),
        ("PUT", f"{path}/roles", {"roles": []}),
    ):  # fmt: skip
        assert (await central.call(method, where, body, token=token)).status == 409
