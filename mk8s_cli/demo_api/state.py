"""What the handlers share: the API's state and one parsed call."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from mk8s_cli.demo_api.apply import FieldManagement
from mk8s_cli.demo_api.catalogue import Catalogue, Document, ResourceType
from mk8s_cli.demo_api.patches import StrategicPatch
from mk8s_cli.demo_api.status import ApiError
from mk8s_cli.demo_api.store import Store


@dataclass(frozen=True, slots=True)
class UserInfo:
    """Who is asking, after impersonation."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, list[str]] = field(default_factory=dict)

    def document(self) -> Document:
        """The form of authentication.k8s.io."""
        found: Document = {"username": self.name, "groups": list(self.groups)}
        return (
            found
            | ({"uid": self.uid} if self.uid else {})
            | ({"extra": self.extra} if self.extra else {})
        )


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """One authenticated request, for the assertions of tests."""

    method: str
    target: str
    user: UserInfo
    headers: Any


class ApiState:
    """The whole demo API but its sockets."""

    def __init__(self) -> None:
        self.catalogue = Catalogue()
        self.store = Store()
        self.strategic = StrategicPatch(self.catalogue)
        self.fields = FieldManagement(self.catalogue)
        self.seen: deque[SeenRequest] = deque(maxlen=1000)
        self.documents: dict[str, tuple[int, bytes]] = {}
        """OpenAPI answers by path, with the catalogue revision they were made for."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request for a resource."""

    api: ApiState
    request: web.Request
    user: UserInfo
    kind: ResourceType
    namespace: str
    name: str
    subresource: str

    @property
    def dry_run(self) -> bool:
        """Whether nothing may be stored."""
        return self.request.query.get("dryRun") == "All"

    def flag(self, name: str) -> bool:
        """A boolean query parameter."""
        return self.request.query.get(name, "").lower() in {"1", "true"}

    def number(self, name: str) -> int:
        """A numeric query parameter, 0 when absent; raises 400 for anything else."""
        text = self.request.query.get(name) or "0"
        if not text.isdecimal():
            raise ApiError(400, f"Invalid value: {text!r}: {name} is a whole number")
        return int(text)

    def current(self) -> Document:
        """The object that the path names; raises 404."""
        return self.api.store.get(self.kind.resource, (self.namespace, self.name))
