"""Problem details (RFC 9457): how the listener refuses what is for the management API; pure.

Called by the handler chain and `api_upstream` instead of `mk8s_proxy.kube.status`, which is for
Kubernetes paths. The API itself writes the same form by its models (`mk8s_proxy.api.errors`), which
this room does not know; a test holds the two together.
"""

from http import HTTPStatus
from typing import Any, Final

import orjson

from mk8s_proxy.kube.status import StatusError, valid_text
from mk8s_proxy.listener.exchange import Exchange

MEDIA_TYPE: Final = b"application/problem+json"
TYPE_PREFIX: Final = "tag:mk8s.io,2026:problem:"


def answer_problem(exchange: Exchange, error: StatusError) -> None:
    """Answers a request with a problem."""
    fields, body = problem_answer(error, exchange.entry.audit_id)
    exchange.front.connection.answer(exchange.front, error.code, fields, body)


def problem_answer(error: StatusError, audit_id: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The header fields and the body of a whole answer."""
    fields = [
        (b"content-type", MEDIA_TYPE),
        (b"cache-control", b"no-store"),
        (b"x-request-id", audit_id.encode("ascii")),
    ]
    if error.code == 401:
        fields.append((b"www-authenticate", b'Bearer realm="mk8s"'))
    if error.retry_after is not None:
        fields.append((b"retry-after", b"%d" % error.retry_after))
    return fields, orjson.dumps(_document(error, audit_id))


def _document(error: StatusError, audit_id: str) -> dict[str, Any]:
    message = valid_text(error.message)
    return {
        "type": TYPE_PREFIX + error.reason,
        "title": HTTPStatus(error.code).phrase,
        "status": error.code,
        "detail": message,
        "instance": f"urn:uuid:{audit_id}",
        "reason": error.reason,
        "code": None,
        "errors": [],
        "message": message,
    }
