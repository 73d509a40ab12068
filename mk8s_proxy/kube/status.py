"""Kubernetes `Status`: the one form in which a refusal or failure reaches a Kubernetes client.

Called by whoever answers a request on a Kubernetes path. kubectl and client-go show `message`, and
decide by `reason`, `code` and the Retry-After header what to do next. The reasons are those of
apimachinery's `meta/v1/types.go`; where it has none for a code, that of `NewGenericServerResponse`
in its `api/errors` package.

Retry-After makes kubectl send the request again, POST included: give `retry_after` only when the
request certainly reached no API server.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

import orjson
import yaml

from mk8s_proxy.kube import cbor
from mk8s_proxy.kube.protobuf import MAGIC, bytes_field, integer_field, text_field

STATUS_REASONS: Final = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    408: "Timeout",
    409: "Conflict",
    413: "RequestEntityTooLarge",
    429: "TooManyRequests",
    500: "InternalError",
    502: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}
"""The reason that Kubernetes gives with each code that mk8s answers."""


class StatusError(Exception):
    """A request that ends with a Kubernetes `Status`.

    Attributes:
        code: the HTTP status.
        reason: Kubernetes's word for it, such as "Forbidden".
        message: one line that tells the person what to do.
        retry_after: seconds until the client may try again; None sends no Retry-After.
        details: metav1.StatusDetails by its JSON names (name, group, kind, uid, causes).
    """

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        retry_after: int | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.retry_after = retry_after
        self.details = details


def status_error(
    code: int,
    message: str,
    *,
    retry_after: int | None = None,
    details: dict[str, Any] | None = None,
) -> StatusError:
    """Make the error of a code with Kubernetes's reason for it."""
    generic = "InternalError" if code >= 500 else "BadRequest"
    reason = STATUS_REASONS.get(code, generic)
    return StatusError(code, reason, message, retry_after=retry_after, details=details)


def bad_request(message: str) -> StatusError:
    """400: the request is malformed, or could be read in two ways."""
    return status_error(400, message)


def unauthorized(message: str = "Unauthorized: run `mk8s login`") -> StatusError:
    """401: no valid credential."""
    return status_error(401, message)


def forbidden(message: str, details: dict[str, Any] | None = None) -> StatusError:
    """403: a valid credential that policy does not allow this."""
    return status_error(403, message, details=details)


def not_found(message: str) -> StatusError:
    """404: no such thing, or none that this user may know of."""
    return status_error(404, message)


def method_not_allowed(message: str) -> StatusError:
    """405: a method that Kubernetes has no verb for."""
    return status_error(405, message)


def request_entity_too_large(message: str) -> StatusError:
    """413: the body is larger than the limit."""
    return status_error(413, message)


def internal_error(message: str = "internal error: the log of central tells more") -> StatusError:
    """500: a fault of this program."""
    return status_error(500, message)


def bad_gateway(message: str) -> StatusError:
    """502: the answer of the cluster is unusable; the request may have been carried out."""
    return status_error(502, message)


def service_unavailable(message: str, retry_after: int | None = None) -> StatusError:
    """503: nothing was forwarded; with `retry_after` the client tries again after that time."""
    return status_error(503, message, retry_after=retry_after)


def status_body(error: StatusError, accept: bytes = b"") -> tuple[bytes, bytes]:
    """Encode the error in the form that the client prefers.

    Args:
        error: what to tell.
        accept: the Accept header; JSON answers whatever it does not say or we do not speak.

    Returns:
        The Content-Type and the body.
    """
    content_type, encode = _ENCODERS[_negotiate(accept)]
    return content_type, encode(status_document(error))


def status_answer(error: StatusError, accept: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The header fields and the body of a whole answer; for `accept` see `status_body`."""
    content_type, body = status_body(error, accept)
    fields = [(b"content-type", content_type), (b"cache-control", b"no-store")]
    if error.code == 401:
        fields.append((b"www-authenticate", b'Bearer realm="mk8s"'))
    if error.retry_after is not None:
        fields.append((b"retry-after", b"%d" % error.retry_after))
    return fields, body


def status_message(error: StatusError) -> bytes:
    """The error in protobuf, with the envelope that every Kubernetes object has."""
    return _encode_protobuf(status_document(error))


def status_document(error: StatusError) -> dict[str, Any]:
    """The error as metav1.Status, by its JSON names."""
    document: dict[str, Any] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": _valid(error.message),
        "reason": error.reason,
    }
    details = _valid(dict(error.details or {}))
    if error.retry_after is not None:
        details["retryAfterSeconds"] = error.retry_after
    if details:
        document["details"] = details
    document["code"] = error.code
    return document


def valid_text(text: str) -> str:
    """Replace what UTF-8 cannot carry: the answer to a bad name must not fail over that name."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _valid(value: Any) -> Any:
    if isinstance(value, str):
        return valid_text(value)
    if isinstance(value, dict):
        return {key: _valid(item) for key, item in value.items()}
    return [_valid(item) for item in value] if isinstance(value, list) else value


def _negotiate(accept: bytes) -> bytes:
    """The first known media type of the highest quality (RFC 9110, 12.5.1)."""
    best, best_quality = _JSON, 0.0
    for clause in accept.split(b","):
        media_type, *parameters = (part.strip().lower() for part in clause.split(b";"))
        quality = _quality(parameters)
        if media_type in (b"*/*", b"application/*"):
            media_type = _JSON
        if media_type in _ENCODERS and quality > best_quality:
            best, best_quality = media_type, quality
    return best


def _quality(parameters: list[bytes]) -> float:
    for parameter in parameters:
        if parameter.startswith(b"q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0


def _encode_yaml(document: dict[str, Any]) -> bytes:
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    return text.encode("utf-8")


def _encode_protobuf(document: dict[str, Any]) -> bytes:
    r"""Encode as the API server does: `k8s\0` and a runtime.Unknown around the Status.

    Field numbers: apimachinery `runtime/generated.proto` and `meta/v1/generated.proto`.
    """
    details: dict[str, Any] | None = document.get("details")
    status = b"".join(
        (
            bytes_field(1, b"\x0a\x00\x12\x00\x1a\x00"),  # ListMeta with its three empty strings
            text_field(2, document["status"]),
            text_field(3, document["message"]),
            text_field(4, document["reason"]),
            bytes_field(5, _details_message(details)) if details else b"",
            integer_field(6, document["code"]),
        )
    )
    type_meta = text_field(1, "v1") + text_field(2, "Status")
    unknown = bytes_field(1, type_meta) + bytes_field(2, status) + b"\x1a\x00\x22\x00"
    return MAGIC + unknown


def _details_message(details: dict[str, Any]) -> bytes:
    def parts() -> Iterator[bytes]:
        for number, key in ((1, "name"), (2, "group"), (3, "kind")):
            yield text_field(number, details.get(key, ""))
        for cause in details.get("causes", ()):
            keys = ((1, "reason"), (2, "message"), (3, "field"))
            yield bytes_field(4, b"".join(text_field(n, cause.get(key, "")) for n, key in keys))
        yield integer_field(5, details.get("retryAfterSeconds", 0))
        yield text_field(6, details.get("uid", ""))

    return b"".join(parts())


_JSON: Final = b"application/json"
_PROTOBUF: Final = b"application/vnd.kubernetes.protobuf"
_ENCODERS: Final[dict[bytes, tuple[bytes, Callable[[dict[str, Any]], bytes]]]] = {
    _JSON: (_JSON, orjson.dumps),
    b"application/yaml": (b"application/yaml", _encode_yaml),
    _PROTOBUF: (_PROTOBUF, _encode_protobuf),
    b"application/cbor": (b"application/cbor", cbor.encode),
}
