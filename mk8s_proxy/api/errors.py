"""Refusals of the management API: one class, one body, one table from failure to status.

Raised by handlers, written by `middleware` as problem details (RFC 9457).
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Self

from mk8s_proxy.api.problem_schemas import FieldProblem, OAuthProblem, Problem
from mk8s_proxy.db.errors import Conflict, NotFound, Stale, StoreError
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
    408: "Timeout",
    409: "Conflict",
    412: "PreconditionFailed",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    501: "NotImplemented",
    502: "BadGateway",
    503: "ServiceUnavailable",
    504: "Timeout",
}
"""Kubernetes's words (apimachinery metav1.StatusReason) where it has one, so that clients know one
vocabulary."""

_PHRASES = {status.value: status.phrase for status in HTTPStatus}
TYPE_PREFIX = "tag:mk8s.io,2026:problem:"
"""Of a problem's type: a tag URI (RFC 4151), which names and leads nowhere."""
MOST_FIELDS = 20
"""Fields at fault that an answer names."""

OAUTH_WORDS = {
    401: "invalid_grant",
    403: "invalid_grant",
    429: "temporarily_unavailable",
    500: "server_error",
    503: "temporarily_unavailable",
}
"""What OAuth's clients are told where a refusal has no word of its own; "invalid_request" for all
others (RFC 6749, sections 4.1.2.1 and 5.2)."""

LONGEST_FIELD = 100
"""A field's name may be what the client invented: shown, but not at any length."""


class ApiError(Exception):
    """A refusal as the client sees it.

    Attributes:
        code: HTTP status.
        message: One line that says what to do, safe to show.
        fields: The fields at fault, each with what is wrong with it.
        retry_after: Seconds for the Retry-After header.
        word: Of OAuth (RFC 6749, RFC 8628), for its clients; "" for none.
        audit_reason: A word for log and audit that may say more than the client learns.
    """

    def __init__(
        self,
        code: int,
        message: str,
        *,
        fields: Sequence[FieldProblem] = (),
        retry_after: int | None = None,
        audit_reason: str = "",
        word: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.word = word
        self.message = message
        self.fields = tuple(fields)
        self.retry_after = retry_after
        self.audit_reason = audit_reason or REASONS.get(code, "Failure")

    @classmethod
    def invalid(cls, field: str, problem: str, *, code: int = 422) -> Self:
        """Refuse a request because of one field."""
        field = field[:LONGEST_FIELD]
        message = f"{field}: {problem}" if field else problem
        fields = [FieldProblem(field=field, detail=problem)] if field else []
        return cls(code, message, fields=fields)

    @classmethod
    def from_validation(cls, errors: Sequence[Any]) -> Self:
        """Refuse a body by pydantic's errors; the input's values are never shown."""
        if errors[0]["type"] == "json_invalid":
            return cls(400, "the body is not valid JSON")
        found = [_field_problem(error) for error in errors[:MOST_FIELDS]]
        first = found[0]
        message = f"{first.field}: {first.detail}" if first.field else first.detail
        if len(errors) > 1:
            message += f" (and {len(errors) - 1} more)"
        return cls(422, message, fields=[it for it in found if it.field])

    def body(self, instance: str, *, is_oauth: bool = False) -> Problem:
        """Return the refusal as JSON's model; `instance` is the URI of this answer.

        Clients of OAuth find the word in `error`, and it is always there (RFC 6749, 5.2).
        """
        reason = REASONS.get(self.code, "Failure")
        said = Problem(
            type=TYPE_PREFIX + reason,
            title=_PHRASES.get(self.code, "Failure"),
            status=self.code,
            detail=self.message,
            instance=instance,
            reason=reason,
            code=self.word or None,
            errors=list(self.fields),
            message=self.message,
        )
        if not is_oauth:
            return said
        word = self.word or OAUTH_WORDS.get(self.code, "invalid_request")
        return OAuthProblem(**(dict(said) | {"code": word, "error": word}))


def _field_problem(error: Any) -> FieldProblem:
    field = ".".join(str(part) for part in error["loc"] if part != "[key]")
    problem = error["msg"].removeprefix("Value error, ")
    return FieldProblem(field=field[:LONGEST_FIELD], detail=problem[:1].lower() + problem[1:])


def translate(error: Exception) -> ApiError | None:
    """Return the refusal that a failure below the API means, None when it means a bug."""
    match error:
        case ApiError():
            return error
        case Unauthenticated():
            return ApiError(error.code, error.message, audit_reason=error.reason)
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
        case Stale():
            return ApiError(412, str(error))
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
