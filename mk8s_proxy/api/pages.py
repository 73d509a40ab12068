"""Pages of lists: where one ended is in its cursor, which only we can make.

A cursor names the last item by the key that the list is sorted by, so that what was added or
removed in between moves nothing. It is signed together with the list, the filters and the caller:
it goes on only where it came from. The keys of its signature are derived from the signing keys,
which all replicas share; so it is good as long as an access token is, at least.
"""

import base64
import binascii
import hmac
import json
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from mk8s_proxy.api.endpoint import Call
from mk8s_proxy.api.errors import ApiError
from mk8s_proxy.api.list_schemas import MOST_ITEMS, PageQuery
from mk8s_proxy.authz.compile import Globs

Place = tuple[str | int, ...]
"""The key by which a list is sorted; no two items have the same."""

_PURPOSE = b"mk8s api cursors 1"
_SIGNATURE = 16
"""Bytes of HMAC-SHA-256 that are kept: 128 bits."""
_UNBOUND = frozenset({"limit", "cursor", "events"})
"""Parameters that may change from page to page."""

T = TypeVar("T")


def cut(call: Call, items: Iterable[T], key: Callable[[T], Place]) -> tuple[list[T], str | None]:
    """Return a page of a list that is at hand whole, and the cursor of the next one.

    Raises:
        ApiError: The cursor is none of this list.
    """
    after = place_of(call)
    rest = sorted(items, key=key)
    if after is not None:
        rest = [item for item in rest if key(item) > after]
    return page(call, rest, key)


def page(call: Call, found: Sequence[T], key: Callable[[T], Place]) -> tuple[list[T], str | None]:
    """Return as many of the first ones as were asked for, and the cursor if there are more."""
    size = page_size(call)
    shown = list(found[:size])
    if len(found) <= size:
        return shown, None
    return shown, cursor_after(call, key(shown[-1]))


def page_size(call: Call) -> int:
    """Return how many items are wanted."""
    assert isinstance(call.query, PageQuery)
    return call.query.limit or (call.older_cli_items or MOST_ITEMS)


def cursor_after(call: Call, place: Place) -> str:
    """Return the cursor with which the list goes on behind a place."""
    packed = json.dumps(place, ensure_ascii=False, separators=(",", ":")).encode()
    signed = _signatures(call, packed)[0] + packed
    return base64.urlsafe_b64encode(signed).decode().rstrip("=")


def place_of(call: Call) -> Place | None:
    """Return the place in the call's cursor, None if it has none.

    Raises:
        ApiError: It is none of this list, these filters and this caller; or it is too old.
    """
    cursor = getattr(call.query, "cursor", None)
    if cursor is None:
        return None
    try:
        signed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _foreign() from None
    signature, packed = signed[:_SIGNATURE], signed[_SIGNATURE:]
    if not any(hmac.compare_digest(signature, good) for good in _signatures(call, packed)):
        raise _foreign()
    return tuple(json.loads(packed))


def matcher(pattern: str | None) -> Callable[[str], bool]:
    """Return what says whether a name is meant by a filter; None means all."""
    if pattern is None:
        return lambda _: True
    return Globs((pattern,)).matches


def _signatures(call: Call, packed: bytes) -> list[bytes]:
    assert call.query is not None
    assert call.identity is not None
    filters = call.query.model_dump_json(exclude=set(_UNBOUND))
    about = json.dumps([call.route, call.identity.uid, filters]).encode()
    keys = call.context.keys.derive(_PURPOSE, call.context.clock())
    return [
        hmac.digest(key, len(about).to_bytes(4, "big") + about + packed, "sha256")[:_SIGNATURE]
        for key in keys
    ]


def _foreign() -> ApiError:
    problem = "is none of this list with these filters, or too old: begin without one"
    return ApiError.invalid("cursor", problem, code=400)
