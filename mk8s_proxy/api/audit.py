"""The audit: everybody sees the requests of their own, administrators all.

"Their own" are those whose verified user id is the caller's. A name is not enough: whoever fails to
log in may claim any, and an address may have belonged to somebody else before.
"""

import datetime
from collections.abc import Sequence
from dataclasses import replace

import orjson

from mk8s_proxy.api import pages
from mk8s_proxy.api.audit_schemas import AuditEntry, AuditPage, AuditQuery
from mk8s_proxy.api.endpoint import Access, Call, Endpoint
from mk8s_proxy.api.errors import ApiError
from mk8s_proxy.api.schemas import Model
from mk8s_proxy.db import audit_search, users
from mk8s_proxy.db.audit_search import AuditEntry as StoredEntry
from mk8s_proxy.db.audit_search import Place, Search
from mk8s_proxy.db.roles import ADMIN_ROLE

MOST_BYTES = 4 << 20
"""Of all events of a page: rows may be long, and clients have a limit."""
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)


async def list_audit(call: Call) -> Model:
    """Find requests, newest first; or follow what is written."""
    _require_database(call)
    asked, database = call.read_query(AuditQuery), call.context.database
    search = _search(call, asked)
    if asked.after is not None:
        found = await audit_search.follow(
            database, search, after=asked.after, limit=asked.limit, events=asked.events
        )
        shown = _fitting(found.entries)
        is_all = len(shown) == len(found.entries)
        return _page(shown, newest=found.newest if is_all else shown[-1].number)
    found = await audit_search.find(
        database, search, before=_place(call), limit=asked.limit, events=asked.events
    )
    shown = _fitting(found.entries)
    if len(shown) < len(found.entries):
        found = replace(found, more=(shown[-1].created_at, shown[-1].id))
    return _page(shown, newest=found.newest, cursor=_cursor(call, found.more))


async def get_audit(call: Call) -> Model:
    """Show one request with its whole row."""
    _require_database(call)
    entry = await audit_search.get(call.context.database, call.path["id"][:64], _own(call))
    return _shown(entry)


def _require_database(call: Call) -> None:
    """Refuse to look for what is not put there: no rows would read as nothing having happened."""
    if not call.context.settings.audit.database:
        raise ApiError(
            501,
            "the audit is not copied into the database here (audit.database is false): "
            "it is in the journal's files on central",
        )


def _own(call: Call) -> str:
    """The user to whose requests the caller is limited, "" for none."""
    _, user = call.caller()
    return "" if call.is_admin else user.id


def _search(call: Call, asked: AuditQuery) -> Search:
    _, user = call.caller()
    wanted = users.normal_email(asked.user or "")
    if wanted and wanted != user.email and not call.is_admin:
        raise ApiError(403, f'the requests of others need the role "{ADMIN_ROLE}"')
    plural, _, subresource = (asked.resource or "").partition("/")
    resource, _, group = plural.partition(".")
    return Search(
        user_id=_own(call),
        user=wanted,
        cluster=asked.cluster or "",
        action=asked.verb or "",
        api_group=group,
        resource=resource,
        subresource=subresource,
        namespace=asked.namespace or "",
        **_codes(asked.code),
        denied=asked.denied,
        since=asked.since,
        until=asked.until,
    )


def _codes(asked: str | None) -> dict[str, int]:
    """A status, or the hundred of a class of them."""
    if asked is None:
        return {}
    return {"code_class": int(asked[0])} if asked.endswith("x") else {"code": int(asked)}


def _fitting(entries: Sequence[StoredEntry]) -> list[StoredEntry]:
    """As many of the first ones as fit into an answer, at least one."""
    shown: list[StoredEntry] = []
    for entry in entries:
        if shown and _size(shown) + len(entry.event) > MOST_BYTES:
            break
        shown.append(entry)
    return shown


def _size(entries: Sequence[StoredEntry]) -> int:
    return sum(len(entry.event) for entry in entries)


def _page(entries: Sequence[StoredEntry], *, newest: int, cursor: str | None = None) -> AuditPage:
    shown = [_shown(entry) for entry in entries]
    return AuditPage(audit=shown, next_cursor=cursor, newest=newest)


def _shown(entry: StoredEntry) -> AuditEntry:
    return AuditEntry.model_validate(
        {
            "id": entry.audit_id,
            "event": orjson.loads(entry.event) if entry.event else None,
            **{
                name: getattr(entry, name)
                for name in AuditEntry.model_fields
                if name not in {"id", "event"}
            },
        }
    )


def _cursor(call: Call, more: Place | None) -> str | None:
    if more is None:
        return None
    return pages.cursor_after(call, ((more[0] - _EPOCH) // _MICROSECOND, more[1]))


def _place(call: Call) -> Place | None:
    place = pages.place_of(call)
    if place is None:
        return None
    microseconds, number = map(int, place)
    return _EPOCH + microseconds * _MICROSECOND, number


ENDPOINTS = (
    Endpoint(
        "GET",
        "/audit",
        list_audit,
        "Find requests in the audit: one's own, for admins all",
        Access.USER,
        query=AuditQuery,
        response=AuditPage,
        refusals=(403, 501),
    ),
    Endpoint(
        "GET",
        "/audit/{id}",
        get_audit,
        "Show one request with its whole row",
        Access.USER,
        response=AuditEntry,
        refusals=(404, 501),
    ),
)
