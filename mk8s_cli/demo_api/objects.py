"""What all parts speak: objects are dicts, refusals are `metav1.Status`."""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

Document = dict[str, Any]
STATUS: Document = {"kind": "Status", "apiVersion": "v1", "metadata": {}}
WITHOUT_OBJECT = (404, 405, 422)
"""Codes whose Status has details even when they say nothing."""
FIXED = ("uid", "creationTimestamp", "resourceVersion")
"""Metadata that no client changes."""


def details_of(resource: str, name: str = "") -> dict[str, str]:
    """The details of a Status that speaks of an object of a resource ("deployments.apps")."""
    plural, _, group = resource.partition(".")
    found = {"name": name, "group": group, "kind": plural}
    return {key: value for key, value in found.items() if value}


class ApiError(Exception):
    """A refusal: HTTP code, message, reason ("": none, by default the code's words) and details."""

    def __init__(self, code: int, message: str, reason: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        body: Document = {"message": message}
        if reason is None:
            reason = HTTPStatus(code).phrase.replace(" ", "")
        if reason:
            body["reason"] = reason
        if details or code in WITHOUT_OBJECT:
            body["details"] = details
        self.status = {**STATUS, "status": "Failure", **body, "code": code}


def not_found() -> ApiError:
    """404 for a path that names nothing."""
    return ApiError(404, "the server could not find the requested resource")


def invalid(kind: str, group: str, name: str, field: str, *problem: str) -> ApiError:
    """422 for a field: `problem` is a reason in short and what is said about it."""
    reason, words = problem
    cause = {"reason": reason, "message": words, "field": field}
    shown = f"{kind}.{group}" if group else kind
    details = {"name": name, "group": group, "kind": kind}
    details = {key: value for key, value in details.items() if value}
    message = f'{shown} "{name}" is invalid: {field}: {words}'
    return ApiError(422, message, "Invalid", **details, causes=[cause])


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
