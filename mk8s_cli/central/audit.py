"""Central's audit as the commands read it: pages that follow each other, and what is new.

Called by the audit commands. What central answers is checked for its shape, not for its words:
those are for the terminal to escape.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from mk8s_cli.central.api import Central, Document, listed, segment
from mk8s_cli.terminal.errors import CliError
from mk8s_cli.terminal.validation import span

PAGE_ROWS = 500
"""What central gives at once, at most."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some requests of the audit."""

    items: list[Document]
    cursor: str
    """For the next page; "" behind the last."""
    newest: int
    """What to follow from."""


def moment(text: str) -> str:
    """Return the time that `text` names, in RFC 3339: 90m, 2d, a date, a time.

    Raises:
        CliError: it is none of these.
    """
    ago = span(text)
    if ago is not None and ago <= time.time():
        return _shown(datetime.now(UTC) - timedelta(seconds=ago))
    try:
        return _shown(datetime.fromisoformat(text).astimezone(UTC))
    except (ValueError, OverflowError):
        raise CliError(
            f"{text!a} is no time: write 90m, 12h, 2d, 2026-01-31 or 2026-01-31T08:00:00Z"
        ) from None


def _shown(when: datetime) -> str:
    return when.isoformat().replace("+00:00", "Z")


def page(central: Central, filters: Mapping[str, str]) -> Page:
    """Return one page of what `filters` (parameters of GET /audit) ask for."""
    document = central.call("GET", f"/audit?{urlencode(filters)}")
    items, newest = listed(document, "audit", "GET /audit"), document.get("newest")
    cursor = document.get("next_cursor") or ""
    if len(items) > PAGE_ROWS or not isinstance(newest, int) or not isinstance(cursor, str):
        raise CliError("central's answer is refused: GET /audit is no page of the audit")
    return Page(items, cursor, newest)


def newest_first(central: Central, filters: Mapping[str, str], limit: int) -> Iterator[Page]:
    """Give pages until `limit` requests were given or there are no more; at least one page."""
    cursor, left = "", limit
    while True:
        asked = dict(filters) | {"limit": str(min(left, PAGE_ROWS))}
        found = page(central, asked | ({"cursor": cursor} if cursor else {}))
        yield found
        left -= len(found.items)
        cursor = found.cursor
        if not cursor or left <= 0:
            return


def entry(central: Central, audit_id: str) -> Document:
    """Return one request with its whole row."""
    return central.call("GET", f"/audit/{segment(audit_id)}")


def event(item: Mapping[str, Any]) -> Document:
    """Return the audit.k8s.io/v1 Event of a request that was asked for with it."""
    found = item.get("event")
    if not isinstance(found, dict):
        raise CliError("central's answer is refused: a request of the audit has no event")
    return found
