"""Signing keys over the management API: seen, rotated, retired, by admins only."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mk8s_proxy.db import keys as store
from mk8s_proxy.db.engine import Database
from mk8s_proxy.identity.key_rotation import rotation_of
from mk8s_proxy.process.key_feed import KeyFeed
from tests.support.management_api import KEY, NOW, Central


@pytest.fixture
async def central(sqlite_database: Database, tmp_path: Path) -> AsyncIterator[Central]:
    """It follows its keys as `app` has it."""
    made = datetime.fromtimestamp(NOW, UTC) - timedelta(days=1)
    await store.add_key(sqlite_database, KEY.kid, KEY.private_pem(), made)
    central = await Central.start(sqlite_database, tmp_path)
    feed = KeyFeed(
        sqlite_database,
        central.keys,
        rotation_of(central.context.settings),
        lambda _: None,
        clock=lambda: central.now,
    )
    central.feed.on_change(lambda policy: feed.take(policy.rows.keys))
    yield central
    await central.close()


async def rotate(central: Central, token: str) -> Any:
    answer = await central.call("POST", "/keys", token=token)
    assert answer.status == 201, answer.raw
    return answer.json


async def test_a_new_key_is_published_signs_and_the_old_one_ends(central: Central) -> None:
    admin = await central.admin()
    new = await rotate(central, admin)
    assert new["status"] == "pending"
    row = central.last_row()
    assert (row["verb"], row["objectRef"]["resource"]) == ("create", "signingkeys")
    assert row["objectRef"]["name"] == new["id"]
    published = (await central.call("GET", "/.well-known/jwks.json")).json["keys"]
    assert [key["kid"] for key in published] == [KEY.kid, new["id"]]

    rotation = rotation_of(central.context.settings)
    shown = []
    for after in (0, rotation.settle, rotation.settle + rotation.verify):
        central.now = NOW + after
        items = (await central.call("GET", "/keys", token=await central.admin())).json["keys"]
        shown.append([item["status"] for item in items])
        assert "private" not in str(items)
    assert shown == [["signing", "pending"], ["verifying", "signing"], ["ended", "signing"]]


async def test_one_new_key_at_a_time(central: Central) -> None:
    admin = await central.admin()
    await rotate(central, admin)
    answer = await central.call("POST", "/keys", token=admin)
    assert answer.status == 409
    assert "still waits" in answer.message


async def test_attack_a_stolen_key_is_of_no_use_once_it_is_retired(central: Central) -> None:
    admin = await central.admin()
    identity = central.authenticator.authenticate(f"Bearer {admin}".encode())
    new = await rotate(central, admin)
    answer = await central.call("POST", f"/keys/{KEY.kid}/retire", token=admin)
    assert (answer.status, answer.json["status"]) == (200, "retired")
    row = central.last_row()
    assert (row["verb"], row["objectRef"]["name"]) == ("retire", KEY.kid)

    assert (await central.call("GET", "/keys", token=admin)).status == 401
    with pytest.raises(Exception, match="unknown signing key"):
        central.authenticator.recheck(identity)  # streams that are open end, too
    fresh = await central.admin()
    items = (await central.call("GET", "/keys", token=fresh)).json["keys"]
    assert [(item["id"], item["status"]) for item in items] == [
        (KEY.kid, "retired"),
        (new["id"], "signing"),
    ]


async def test_the_last_key_stays(central: Central) -> None:
    admin = await central.admin()
    answer = await central.call("POST", f"/keys/{KEY.kid}/retire", token=admin)
    assert answer.status == 409
    assert "only signing key" in answer.message
    assert (await central.call("POST", "/keys/none/retire", token=admin)).status == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/keys"), ("POST", "/keys"), ("POST", f"/keys/{KEY.kid}/retire")],
    ids=["list", "rotate", "retire"],
)
async def test_keys_are_for_admins(central: Central, method: str, path: str) -> None:
    assert (await central.call(method, path, token=await central.token())).status == 403
    assert (await central.call(method, path)).status == 401
