"""Everything that the demo API holds: kinds, versioned objects, a bounded history for watches.

Stored objects are never changed in place: every write stores a new dict, so whoever holds an
object may read it without a copy, and must copy before changing.
"""

import asyncio
import contextlib
import copy
import uuid
from collections import defaultdict, deque
from dataclasses import dataclass

from mk8s_cli.demo_api.catalogue import DEFINITIONS, Catalogue, data
from mk8s_cli.demo_api.defaults import complete
from mk8s_cli.demo_api.files import Files
from mk8s_cli.demo_api.objects import FIXED, ApiError, Document, details_of, now

Key = tuple[str, str]
"""Namespace ("" when cluster-scoped) and name."""
HISTORY = 2000
"""Events kept; a watch from before them is 410 Gone."""
MODIFIED = "the object has been modified; please apply your changes to the latest version"


@dataclass(frozen=True, slots=True)
class Event:
    """One change: ADDED, MODIFIED or DELETED, with the object after and before it."""

    version: int
    kind: str
    resource: str
    after: Document
    before: Document | None


def key_of(item: Document) -> Key:
    """The key of an object within its resource."""
    meta = item["metadata"]
    return meta.get("namespace", ""), meta["name"]


class Store:
    """Objects by resource ("deployments.apps") and key, the sample objects at first."""

    def __init__(self) -> None:
        self.catalogue = Catalogue()
        self.objects: dict[str, dict[Key, Document]] = {}
        self.files: defaultdict[str, Files] = defaultdict(Files)
        """File systems by the uids of their pods."""
        self.history: deque[Event] = deque(maxlen=HISTORY)
        self.version = 100
        self._change = asyncio.Event()
        kinds = self.catalogue.kinds.values()
        resources = {(kind.api_version, kind.gvk["kind"]): kind.resource for kind in kinds}
        for item in data("samples")["items"]:
            self.create(resources[item["apiVersion"], item["kind"]], item)

    def find(self, resource: str, key: Key) -> Document | None:
        """The object, if there is one."""
        return self.objects.get(resource, {}).get(key)

    def get(self, resource: str, key: Key) -> Document:
        """The object; raises 404."""
        found = self.find(resource, key)
        if found is None:
            details = details_of(resource, key[1])
            raise ApiError(404, f'{resource} "{key[1]}" not found', **details)
        return found

    def select(self, resource: str, namespace: str = "") -> list[Document]:
        """All objects of a resource (in a namespace), ordered by key."""
        found = self.objects.get(resource, {})
        return [found[key] for key in sorted(found) if not namespace or key[0] == namespace]

    def create(self, resource: str, item: Document, *, dry_run: bool = False) -> Document:
        """Stores a new object with fresh uid and times; raises 409 AlreadyExists."""
        name = item["metadata"]["name"]
        if self.find(resource, key_of(item)):
            message = f'{resource} "{name}" already exists'
            raise ApiError(409, message, "AlreadyExists", **details_of(resource, name))
        item = copy.deepcopy(item)
        item["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
        item["metadata"].pop("generation", None)
        if self.catalogue.has_generation(resource):
            item["metadata"]["generation"] = 1
        complete(resource, item)
        return item if dry_run else self._record("ADDED", resource, item, None)

    def update(self, resource: str, item: Document, *, dry_run: bool = False) -> Document:
        """Replaces an object; raises 404, and 409 if its resourceVersion is not the current one."""
        before = self.get(resource, key_of(item))
        item, old = copy.deepcopy(item), before["metadata"]
        if item["metadata"].get("resourceVersion") not in {None, "", old["resourceVersion"]}:
            message = f'Operation cannot be fulfilled on {resource} "{old["name"]}": {MODIFIED}'
            raise ApiError(409, message, **details_of(resource, old["name"]))
        item["metadata"].update({name: old[name] for name in FIXED})
        item["metadata"].pop("generation", None)
        if "generation" in old:
            changed = item.get("spec") != before.get("spec")
            item["metadata"]["generation"] = old["generation"] + changed
        complete(resource, item)
        unchanged = dry_run or item == before
        return item if unchanged else self._record("MODIFIED", resource, item, before)

    def delete(self, resource: str, key: Key) -> None:
        """Removes an object and what is in it, if it is a namespace or defines a kind."""
        before = self.get(resource, key)
        self._record("DELETED", resource, copy.deepcopy(before), before)
        self.files.pop(before["metadata"]["uid"], None)
        name = key[1]  # of a definition: the resource that it defines
        resources = {"namespaces": [*self.objects], DEFINITIONS: [name]}.get(resource, [])
        for other in resources:
            for item in self.select(other, name if resource == "namespaces" else ""):
                self.delete(other, key_of(item))

    def _record(
        self, kind: str, resource: str, item: Document, before: Document | None
    ) -> Document:
        self.version += 1
        item["metadata"]["resourceVersion"] = str(self.version)
        objects = self.objects.setdefault(resource, {})
        objects[key_of(item)] = item
        if kind == "DELETED":
            del objects[key_of(item)]
        if resource == DEFINITIONS:
            self.catalogue.define(item, served=kind != "DELETED")
        self.history.append(Event(self.version, kind, resource, item, before))
        self._change.set()  # wakes who waits; the next ones wait for the next change
        self._change = asyncio.Event()
        return item

    def events_after(self, version: int) -> list[Event]:
        """The changes since a version; raises 410 when the history no longer has them all."""
        is_full = len(self.history) == self.history.maxlen
        if is_full and version < (oldest := self.history[0].version) - 1:
            message = f"The resourceVersion for the provided watch is too old (oldest: {oldest})"
            raise ApiError(410, message, "Expired")
        return [event for event in self.history if event.version > version]

    async def changed(self, version: int, timeout: float) -> None:
        """Returns when something is newer than `version`, or after the timeout."""
        if self.version <= version:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._change.wait(), timeout)
