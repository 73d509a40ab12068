"""Rows of the journal as the database has them: one record for each request. Pure.

Called by the shipper (`mk8s_proxy.process.shipping`). A request's two rows become one record; where
both are at hand, the first is not even decoded.
"""

# interpreted: no request waits for it

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

import orjson

from mk8s_proxy.audit.command import API_GROUP, IsNamespaced, command_of
from mk8s_proxy.audit.unfinished import HEAD

RECEIVED: Final = "RequestReceived"
COMPLETE: Final = "ResponseComplete"
STATUSES: Final = ("running", "success", "failure", "denied", "unknown")
"""What a record may say of the end of its request; "unknown" when central died before it."""

_ACTIONS: Final = {
    "attach": "exec", "exec": "exec", "log": "logs", "portforward": "portforward", "proxy": "proxy",
}  # fmt: skip
"""Subresources for which roles have a verb of their own."""
_FAILURE: Final = 400
_DENIED_CODES: Final = frozenset((401, 403))
_MOST_CODE: Final = 999
_MOST_MILLISECONDS: Final = 1e12
_LENGTHS: Final = {
    "audit_id": 36, "user": 256, "user_id": 64, "cluster": 63, "verb": 64, "action": 64,
    "api_group": 256, "resource": 256, "subresource": 64, "namespace": 256, "name": 512,
    "source_ip": 64, "delegate": 256,
}  # fmt: skip
"""Characters of the database's columns; the whole text is in the row."""
_NUL: Final = rb"\u0000"
"""As JSON has it; where it is not in a row, no text of it has one."""


class AuditRecord(NamedTuple):
    """One request. Its texts have no NUL, which PostgreSQL does not take, and fit their columns."""

    audit_id: str
    stage: str
    created_at: datetime
    """When its head was complete."""
    user: str
    user_id: str
    """Of the user in the database; "" where only a name was claimed."""
    cluster: str
    command: str
    status: str
    """One of `STATUSES`."""
    code: int
    """The HTTP status; 0 when there was none, or none yet."""
    duration_ms: float
    verb: str
    action: str
    """The verb as roles name it: `exec` for what creates pods/exec."""
    api_group: str
    resource: str
    subresource: str
    namespace: str
    name: str
    denied: bool
    """By mk8s, or by the cluster with 401 or 403."""
    source_ip: str
    delegate: str
    """What the user calls whom the login was delegated to; "" for the user."""
    event: str
    """The row, as it was written."""


def latest_rows(rows: bytes) -> tuple[dict[bytes, bytes], int]:
    """The last row of each request among whole rows, in the order of these last rows.

    Returns:
        The rows by audit id, and the number of lines that are no rows.
    """
    latest: dict[bytes, bytes] = {}
    strange = 0
    for line in rows.splitlines():
        head = HEAD.match(line)
        if head is None:
            strange += 1
            continue
        key = head[1]
        if head[2] == b"RequestReceived" and key in latest:
            continue  # copied from a file that could not be synced: its end is known already
        latest.pop(key, None)
        latest[key] = line
    return latest, strange


def record_of(row: bytes, is_namespaced: IsNamespaced) -> AuditRecord:
    """The record of one row. Raises ValueError: it is none."""
    try:
        return _record(row, orjson.loads(row), is_namespaced)
    except (AttributeError, KeyError, TypeError, IndexError) as error:
        raise ValueError(f"not an audit row: {error}") from error


def _record(row: bytes, event: dict[str, Any], is_namespaced: IsNamespaced) -> AuditRecord:
    notes: Mapping[str, str] = event.get("annotations") or {}
    code = min(max(int((event.get("responseStatus") or {}).get("code", 0)), 0), _MOST_CODE)
    denied = notes.get("authorization.k8s.io/decision") != "allow" or code in _DENIED_CODES
    texts = _texts(event, notes)
    if _NUL in row:
        texts = {key: _storable(text)[: _LENGTHS[key]] for key, text in texts.items()}
    stage = COMPLETE if event["stage"] == COMPLETE else RECEIVED
    unknown = notes.get("mk8s.io/outcome") == "unknown"
    failed = code >= _FAILURE or (code == 0 and texts["api_group"] != API_GROUP)
    return AuditRecord(
        stage=stage,
        created_at=datetime.fromisoformat(event["requestReceivedTimestamp"]),
        command=_storable(command_of(event, is_namespaced)),
        status=_status(stage, denied=denied, unknown=unknown, failed=failed),
        code=code,
        duration_ms=_milliseconds(notes.get("mk8s.io/duration-ms", "0")),
        denied=denied,
        event=row.decode("ascii").rstrip("\n"),
        **texts,
    )


def _texts(event: Mapping[str, Any], notes: Mapping[str, str]) -> dict[str, str]:
    """The columns that are a text of the row, as long as the database takes them."""
    reference, user = event.get("objectRef") or {}, event["user"]
    texts = {
        "audit_id": event["auditID"],
        "user": user.get("username", ""),
        "user_id": user.get("uid", ""),
        "cluster": notes.get("mk8s.io/cluster", ""),
        "verb": event["verb"],
        "action": _ACTIONS.get(reference.get("subresource", ""), event["verb"]),
        "api_group": reference.get("apiGroup", ""),
        "resource": reference.get("resource", ""),
        "subresource": reference.get("subresource", ""),
        "namespace": reference.get("namespace", ""),
        "name": reference.get("name", ""),
        "source_ip": event["sourceIPs"][0],
        "delegate": notes.get("mk8s.io/delegate", ""),
    }
    return {key: text[: _LENGTHS[key]] for key, text in texts.items()}


def _status(stage: str, *, denied: bool, unknown: bool, failed: bool) -> str:
    if unknown:
        return "unknown"
    if denied:
        return "denied"
    if stage == RECEIVED:
        return "running"
    return "failure" if failed else "success"


def _milliseconds(text: str) -> float:
    """A duration; the clock never goes back, and no request takes thirty years."""
    return min(max(float(text), 0.0), _MOST_MILLISECONDS)


def _storable(text: str) -> str:
    return text.replace("\x00", "\\x00")
