"""What all parts speak: objects are dicts, refusals are `metav1.Status`."""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

Document = dict[str, Any]
STATUS: Document = {"kind": "Status", "apiVersion": "v1", "metadata": {}}
FIXED = ("uid", "creationTimestamp", "generation", "resourceVersion")
"""Metadata that no client changes."""


class ApiError(Exception):
    """A refusal: HTTP code, message, reason (by default the code's own words) and details."""

    def __init__(self, code: int, message: str, reason: str = "", **details: Any) -> None:
        super().__init__(message)
        self.code = code
        reason = reason or HTTPStatus(code).phrase.replace(" ", "")
        body = {"message": message, "reason": reason, "details": details, "code": code}
        self.status = {**STATUS, "status": "Failure", **body}


def dig(item: Any, path: str, default: Any = None) -> Any:
    """A value by dotted path; through a list, the values of all its items."""
    for name in path.split("."):
        if isinstance(item, list):
            item = [entry[name] for entry in item if name in entry]
        else:
            item = item.get(name) if isinstance(item, dict) else None
    return default if item is None else item


def now() -> str:
    """The time in the form of metav1.Time."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
