"""What the handlers share: the API's state and one parsed call."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from mk8s_cli.demo_api import defaults
from mk8s_cli.demo_api.catalogue import DEFINITIONS, Catalogue, Document, Kind, data
from mk8s_cli.demo_api.errors import ApiError
from mk8s_cli.demo_api.store import Store, key_of


@dataclass(frozen=True, slots=True)
class UserInfo:
    """Who is asking, after impersonation."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, list[str]] = field(default_factory=dict)

    def document(self) -> Document:
        """The form of authentication.k8s.io."""
        found = {"uid": self.uid, "groups": list(self.groups), "extra": self.extra}
        return {"username": self.name} | {key: value for key, value in found.items() if value}


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """One authenticated request, for the assertions of tests."""

    method: str
    target: str
    user: UserInfo
    headers: Any


class ApiState:
    """The whole demo API but its sockets, with the sample objects in it."""

    def __init__(self) -> None:
        self.catalogue = Catalogue()
        self.store = Store(defaults.complete)
        self.seen: deque[SeenRequest] = deque(maxlen=1000)
        resources = {tuple(kind.gvk.values()): kind.resource for kind in self.catalogue.kinds()}
        for item in data("samples")["items"]:
            group, _, version = item["apiVersion"].rpartition("/")
            self.store.create(resources[group, version, item["kind"]], item)

    def write(
        self, method: Callable[..., Document], resource: str, item: Document, *, dry_run: bool
    ) -> Document:
        """Calls the store's create or update; a definition's kinds are served from then on."""
        stored = method(resource, item, dry_run=dry_run)
        if resource == DEFINITIONS and not dry_run:
            self.catalogue.add_custom(stored)
        return stored

    def remove(self, resource: str, item: Document) -> None:
        """Deletes an object, and all that is in a namespace or of a defined kind with it."""
        name, inner = item["metadata"]["name"], []
        if resource == "namespaces":
            every = self.store.objects
            inner = [(other, one) for other in every for one in self.store.select(other, name)]
        elif resource == DEFINITIONS:
            inner = [(name, one) for one in self.store.select(name)]  # called as the resource is
            self.catalogue.remove_custom(item)
        for other, one in [*inner, (resource, item)]:
            self.store.delete(other, key_of(one))


@dataclass(frozen=True, slots=True)
class Call:
    """One request for a resource."""

    api: ApiState
    request: web.Request
    user: UserInfo
    kind: Kind
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
