"""Searching the audit: everybody their own, administrators all; filters, pages, following."""

import base64
import dataclasses
import datetime
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mk8s_proxy.api import audit as audit_module
from mk8s_proxy.db import audit_logs, users
from mk8s_proxy.db.engine import Database
from tests.support.audit_rows import NOON, entry, record
from tests.support.management_api import Answer, Central

DEV, ADMIN = "dev@example.com", "admin@example.com"
NOW = datetime.datetime.fromtimestamp(NOON, datetime.UTC)


@pytest.fixture
async def central(database: Database, tmp_path: Path) -> AsyncIterator[Central]:
    central = await Central.start(database, tmp_path)
    await fill(central)
    yield central
    await central.close()


async def fill(central: Central) -> None:
    """Rows of two people, of a stranger who claims to be one of them, and of central itself."""
    ids = {it.email: it.id for it in await users.list_users(central.database)}
    rows = [
        entry("dev-1", at=1, user=DEV, uid=ids[DEV]),
        entry("admin-1", at=2, user=ADMIN, uid=ids[ADMIN], cluster="secret", name="plan"),
        entry("dev-2", at=3, user=DEV, uid=ids[DEV], verb="delete", code=404),
        entry("claimed", at=4, user=DEV, uid="", code=401, decision="forbid"),
        entry("before", at=5, user=DEV, uid="id-of-an-earlier-account"),
        entry("admin-2", at=6, user=ADMIN, uid=ids[ADMIN], code=403, decision="forbid"),
        entry("dev-3", at=7, user=DEV, uid=ids[DEV], verb="create", subresource="exec"),
    ]
    records = [record(it) for it in rows]
    await audit_logs.ship(central.database, file="f", start=0, end=9, records=records, now=NOW)


async def ask(central: Central, email: str, query: str = "") -> Answer:
    return await central.call("GET", f"/audit{query}", token=await central.token(email))


async def names(central: Central, email: str, query: str = "") -> list[str]:
    answer = await ask(central, email, query)
    assert answer.status == 200, answer.raw
    return [item["id"] for item in answer.json["audit"]]


async def test_people_see_their_own_and_administrators_all(central: Central) -> None:
    assert await names(central, DEV) == ["dev-3", "dev-2", "dev-1"]
    everything = ["dev-3", "admin-2", "before", "claimed", "dev-2", "admin-1", "dev-1"]
    assert await names(central, ADMIN) == everything


async def test_attack_rows_of_another_user_by_id(central: Central) -> None:
    token = await central.token(DEV)
    for name in ("admin-1", "claimed", "before", "absent", "x" * 500):
        answer = await central.call("GET", f"/audit/{name}", token=token)
        assert (answer.status, "plan" in answer.message) == (404, False)
    own = await central.call("GET", "/audit/dev-1", token=token)
    assert own.json["event"]["auditID"] == "dev-1"
    admin = await central.call("GET", "/audit/admin-1", token=await central.admin())
    assert admin.json["event"]["objectRef"]["name"] == "plan"


async def test_attack_rows_of_another_user_by_cursor(central: Central) -> None:
    page = (await ask(central, ADMIN, "?limit=1")).json
    forged = base64.urlsafe_b64encode(bytes(16) + b"[4503599627370496,7]").decode().rstrip("=")
    for cursor in (page["next_cursor"], forged):
        answer = await ask(central, DEV, f"?cursor={cursor}")
        assert (answer.status, answer.field) == (400, "cursor")
    assert await names(central, DEV, "?after=0") == ["dev-1", "dev-2", "dev-3"]


@pytest.mark.parametrize(
    "query",
    ["?cluster=secret", "?code=401", "?code=403", "?denied=true", "?user=dev@example.com&code=401",
     "?cluster=secret&events=true", "?cluster=secret&after=0", "?namespace=shop&cluster=secret"],
)  # fmt: skip
async def test_attack_rows_of_another_user_by_filter(central: Central, query: str) -> None:
    assert await names(central, DEV, query) == []
    assert await names(central, ADMIN, query)


@pytest.mark.parametrize("query", ["?user=admin@example.com", "?user=ADMIN%40example.com&after=0"])
async def test_attack_to_ask_for_another_user_is_refused(central: Central, query: str) -> None:
    answer = await ask(central, DEV, query)
    assert (answer.status, answer.message) == (403, 'the requests of others need the role "admin"')
    assert await names(central, DEV, "?user=DEV@example.com") == ["dev-3", "dev-2", "dev-1"]


async def test_attack_an_administrator_who_is_none_any_more(central: Central) -> None:
    token = await central.admin()
    another = await users.create_user(central.database, "b@example.com", "", "x", ["admin"])
    assert another.id
    admin = await users.get_by_email(central.database, ADMIN)
    await users.set_roles(central.database, admin.id, [])
    answer = await central.call("GET", "/audit", token=token)
    assert [item["id"] for item in answer.json["audit"]] == ["admin-2", "admin-1"]


async def test_attack_without_a_token_or_with_one_of_a_cluster(central: Central) -> None:
    for path in ("/audit", "/audit/dev-1"):
        assert (await central.call("GET", path)).status == 401


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("verb=delete", ["dev-2"]),
        ("verb=exec", ["dev-3"]),
        ("resource=pods/exec", ["dev-3"]),
        ("resource=pods&code=404", ["dev-2"]),
        ("code=4xx", ["admin-2", "claimed", "dev-2"]),
        ("code=5xx", []),
        ("resource=deployments.apps", []),
        ("denied=true", ["admin-2", "claimed"]),
        ("denied=false&limit=2", ["dev-3", "before"]),
        ("cluster=secret&namespace=shop", ["admin-1"]),
        ("user=admin@example.com&denied=false", ["admin-1"]),
        (f"since={(NOW + datetime.timedelta(seconds=6)).strftime('%Y-%m-%dT%H:%M:%SZ')}",
         ["dev-3", "admin-2"]),
        (f"until={(NOW + datetime.timedelta(seconds=2)).strftime('%Y-%m-%dT%H:%M:%S')}%2B00:00",
         ["dev-1"]),
    ],
)  # fmt: skip
async def test_filters(central: Central, query: str, expected: list[str]) -> None:
    assert await names(central, ADMIN, f"?{query}") == expected


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=ten", "limit"),
        ("code=abc", "code"),
        ("code=1000", "code"),
        ("code=6xx", "code"),
        ("code=4XX", "code"),
        ("code=40x", "code"),
        ("after=-1", "after"),
        ("after=99999999999999999999", "after"),
        ("since=yesterday", "since"),
        ("since=2026-01-01T00:00:00", "since"),
        ("since=0001-01-01T00:00:00%2B14:00", "since"),
        ("until=9999-12-31T23:59:59-14:00", "until"),
        ("cursor=%2A%2A", "cursor"),
        ("cursor=AAAA", "cursor"),
        ("cursor=________________f_______8", "cursor"),
        ("user=%00", "user"),
        ("cluster=", "cluster"),
        ("namespace=" + "n" * 300, "namespace"),
        ("resource=a%0Ab", "resource"),
        ("colour=red", "colour"),
        ("limit=1&limit=2", "limit"),
        ("denied=perhaps", "denied"),
    ],
)
async def test_a_query_that_is_wrong_names_its_field(
    central: Central, query: str, field: str
) -> None:
    answer = await ask(central, ADMIN, f"?{query}")
    status = 400 if query.startswith("cursor=") else 422
    assert (answer.status, answer.field) == (status, field), answer.raw


async def test_bytes_that_are_no_text_are_a_refusal_or_nothing(central: Central) -> None:
    for query in ("?user=%ff%fe", "?cluster=%ed%a0%80", "?namespace=%27%22%5c"):
        assert (await ask(central, ADMIN, query)).status in {200, 422}


async def test_pages_follow_each_other(central: Central) -> None:
    seen: list[str] = []
    query = "?limit=2"
    while True:
        page = (await ask(central, ADMIN, query)).json
        seen += [item["id"] for item in page["audit"]]
        if page["next_cursor"] is None:
            break
        query = f"?limit=2&cursor={page['next_cursor']}"
    assert len(seen) == 7
    assert seen == await names(central, ADMIN)


async def test_following_gives_what_is_new_and_what_has_ended(central: Central) -> None:
    newest = (await ask(central, ADMIN)).json["newest"]
    assert await names(central, ADMIN, f"?after={newest}") == []
    open_ = entry("new", at=20)
    for place, ended in enumerate((False, True)):
        made = [record(open_, ended=ended)]
        await audit_logs.ship(
            central.database, file="g", start=place, end=place + 1, records=made, now=NOW
        )
        page = (await ask(central, ADMIN, f"?after={newest}")).json
        assert [it["status"] for it in page["audit"]] == ["success" if ended else "running"]
        newest = page["newest"]


async def test_long_events_make_short_pages(
    central: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_module, "MOST_BYTES", 1500)
    page = (await ask(central, ADMIN, "?events=true")).json
    assert 1 <= len(page["audit"]) < 7
    assert page["audit"][0]["event"]["kind"] == "Event"
    rest = (await ask(central, ADMIN, f"?cursor={page['next_cursor']}")).json
    assert len(page["audit"]) + len(rest["audit"]) == 7
    followed = (await ask(central, ADMIN, "?events=true&after=0")).json
    assert followed["newest"] == followed["audit"][-1]["number"] < page["newest"]


async def test_an_item_has_the_described_fields(central: Central) -> None:
    [item] = (await ask(central, ADMIN, "?cluster=secret")).json["audit"]
    wanted: dict[str, Any] = {
        "user": ADMIN,
        "cluster": "secret",
        "command": "get pod plan -n shop",
        "status": "success",
        "duration_ms": 250.0,
        "created_at": "2026-09-21T14:13:22Z",
        "event": None,
    }
    assert item.items() >= wanted.items()


async def test_reading_the_audit_leaves_no_row_but_a_line_in_the_log(central: Central) -> None:
    token = await central.admin()
    before = len(central.rows())
    await central.call("GET", "/audit?user=x@example.com", token=token)
    assert len(central.rows()) == before


async def test_it_is_in_the_open_api_document(central: Central) -> None:
    document = (await central.call("GET", "/openapi.json")).json
    operation = document["paths"]["/audit"]["get"]
    schemas = {it["name"]: it["schema"] for it in operation["parameters"]}
    assert schemas["limit"]["maximum"] == 500
    assert schemas["since"] == {"format": "date-time", "type": "string"}
    assert {it["name"] for it in operation["parameters"] if it["in"] != "query"} == {
        "If-None-Match"
    }
    assert not any("anyOf" in it for it in schemas.values())


async def test_an_audit_that_is_not_in_the_database_says_so(central: Central) -> None:
    settings = central.context.settings
    off = dataclasses.replace(settings, audit=dataclasses.replace(settings.audit, database=False))
    central.context.settings = off
    for path in ("/audit", "/audit?after=0", "/audit/dev-1"):
        answer = await central.call("GET", path, token=await central.token(DEV))
        assert answer.status == 501
        assert "audit.database is false" in answer.message
