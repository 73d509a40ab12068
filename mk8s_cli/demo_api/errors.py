"""Errors as `metav1.Status`; raised everywhere in the demo API, rendered by `app`."""

from http import HTTPStatus
from typing import Any

STATUS: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}}


class ApiError(Exception):
    """A refusal: HTTP code, message, reason (by default the code's own words) and details."""

    def __init__(self, code: int, message: str, reason: str = "", **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason or HTTPStatus(code).phrase.replace(" ", "")
        self.details = details

    def status(self) -> dict[str, Any]:
        """The Status object that clients get."""
        body = {"message": str(self), "reason": self.reason, "details": self.details}
        return {**STATUS, "status": "Failure", **body, "code": self.code}
