"""Errors as `metav1.Status`; raised everywhere in the demo API, rendered by `app`."""

from typing import Any

REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    409: "Conflict",
    410: "Expired",
    415: "UnsupportedMediaType",
    422: "Invalid",
    500: "InternalError",
}


class ApiError(Exception):
    """A refusal: HTTP code, reason (by default the code's), message and details."""

    def __init__(self, code: int, message: str, reason: str = "", **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason or REASONS.get(code, "")
        self.details = details

    def status(self) -> dict[str, Any]:
        """The Status object that clients get."""
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": str(self),
            "reason": self.reason,
            "details": self.details,
            "code": self.code,
        }


def success(name: str, resource: str, uid: str) -> dict[str, Any]:
    """The Status that answers a delete."""
    details = {"name": name, "kind": resource, "uid": uid}
    head = {"kind": "Status", "apiVersion": "v1", "metadata": {}}
    return {**head, "status": "Success", "details": details}


def not_found(resource: str, name: str) -> ApiError:
    """The object does not exist; `resource` is "deployments.apps"."""
    return ApiError(404, f'{resource} "{name}" not found', name=name, kind=resource)


def already_exists(resource: str, name: str) -> ApiError:
    """A create of a name in use."""
    message = f'{resource} "{name}" already exists'
    return ApiError(409, message, "AlreadyExists", name=name, kind=resource)


def conflict(resource: str, name: str) -> ApiError:
    """An update from an old resourceVersion."""
    message = (
        f'Operation cannot be fulfilled on {resource} "{name}": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    return ApiError(409, message, name=name, kind=resource)


def invalid(
    kind: str, name: str, field: str, problem: str, reason: str = "FieldValueInvalid"
) -> ApiError:
    """A value that validation refuses."""
    causes = [{"reason": reason, "message": problem, "field": field}]
    message = f'{kind} "{name}" is invalid: {field}: {problem}'
    return ApiError(422, message, name=name, kind=kind, causes=causes)


def expired(oldest: int) -> ApiError:
    """A resourceVersion that the bounded history no longer covers."""
    return ApiError(
        410, f"The resourceVersion for the provided watch is too old (oldest: {oldest})"
    )
