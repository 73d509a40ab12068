"""Errors as `metav1.Status`; raised everywhere in the demo API, rendered by `app`."""

from typing import Any

REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    409: "Conflict",
    410: "Expired",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    500: "InternalError",
}
STATUS: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}}


class ApiError(Exception):
    """A refusal: HTTP code, reason (by default the code's), message and details."""

    def __init__(self, code: int, message: str, reason: str = "", **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason or REASONS.get(code, "")
        self.details = details

    def status(self) -> dict[str, Any]:
        """The Status object that clients get."""
        body = {"message": str(self), "reason": self.reason, "details": self.details}
        return {**STATUS, "status": "Failure", **body, "code": self.code}
