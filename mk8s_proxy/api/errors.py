"""Refusals of the management API: one class, one body, one table from failure to status.

Raised by handlers, written by `middleware`.
"""

from collections.abc import Sequence
from typing import Any, Self

from mk8s_proxy.api.schemas import ErrorBody, ErrorDetail
from mk8s_proxy.db.errors import Conflict, NotFound, StoreError
from mk8s_proxy.identity.identity import Unauthenticated
from mk8s_proxy.identity.passwords import TooManyChecks
from mk8s_proxy.identity.refresh import RefreshRefused
from mk8s_proxy.identity.throttle import Throttled

REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
}
"""Kubernetes's words (apimachinery metav1.StatusReason), so that clients know one vocabulary."""

LONGEST_FIELD = 100
"""A field's name may be what the client invented: shown, but not at any length."""


class ApiError(Exception):
    """A refusal as the client sees it.

    Attributes:
        code: HTTP status.
        message: One line that says what to do, safe to show.
        field: Path of the field at fault, "" when none is.
        retry_after: Seconds for the Retry-After header.
        audit_reason: A word for log and audit that may say more than the client learns.
    """

    def __init__(
        self,
        code: int,
        message: str,
        *,
        field: str = "",
        retry_after: int | None = None,
        audit_reason: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.retry_after = retry_after
        self.audit_reason = audit_reason or REASONS.get(code, "Failure")

    @classmethod
    def invalid(cls, field: str, problem: str) -> Self:
        """Refuse a body because of one field."""
        field = field[:LONGEST_FIELD]
        return cls(422, f"{field}: {problem}" if field else problem, field=field)

    @classmethod
    def from_validation(cls, errors: Sequence[Any]) -> Self:
        """Refuse a body by the first of pydantic's errors; the input's values are never shown."""
        first = errors[0]
        field = ".".join(str(part) for part in first["loc"] if part != "[key]")
        if first["type"] == "json_invalid":
            return cls(400, "the body is not valid JSON")
        problem = first["msg"].removeprefix("Value error, ")
        return cls.invalid(field, problem[:1].lower() + problem[1:])

    def body(self) -> ErrorBody:
        """Return the refusal as JSON's model."""
        reason = REASONS.get(self.code, "Failure")
        return ErrorBody(
            error=ErrorDetail(
                code=self.code, reason=reason, message=self.message, field=self.field or None
            )
        )


def translate(error: Exception) -> ApiError | None:
    """Return the refusal that a failure below the API means, None when it means a bug."""
    match error:
        case ApiError():
            return error
        case Unauthenticated():
            return ApiError(401, error.message, audit_reason=error.reason)
        case RefreshRefused():
            return ApiError(401, str(error), audit_reason=error.reason)
        case Throttled():
            return ApiError(429, str(error), retry_after=error.retry_after)
        case TooManyChecks():
            return ApiError(429, "too many logins at once: try again in 2 s", retry_after=2)
        case NotFound():
            return ApiError(404, str(error))
        case Conflict():
            return ApiError(409, str(error))
        case StoreError():
            return _outage()
        case _:
            return _outage() if _is_outage(error) else None


def _outage() -> ApiError:
    return ApiError(
        503, "central cannot reach its database: try again", retry_after=5, audit_reason="Database"
    )


def _is_outage(error: Exception) -> bool:
    """Recognise a lost database by its driver's class names; SQLAlchemy is not for this storey."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return type(error).__module__.startswith("sqlalchemy.") and bool(
        names & {"OperationalError", "InterfaceError", "TimeoutError"}
    )
