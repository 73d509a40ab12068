"""Versioned objects in memory with a bounded history for watches; used by `reads` and `writes`.

Stored objects are never changed in place: every write stores a new dict, so whoever holds an
object may read it without a copy, and must copy before changing.
"""

import asyncio
import contextlib
import copy
import itertools
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mk8s_cli.demo_api.errors import ApiError

Document = dict[str, Any]
Key = tuple[str, str]
"""Namespace ("" when cluster-scoped) and name."""
HISTORY = 2000
"""Events kept; a watch from before them is 410 Gone."""
MODIFIED = "the object has been modified; please apply your changes to the latest version"
FIXED = ("uid", "creationTimestamp", "generation", "resourceVersion")
"""Metadata that no client changes."""


@dataclass(frozen=True, slots=True)
class Event:
    """One change: ADDED, MODIFIED or DELETED, with the object after and before it."""

    version: int
    kind: str
    resource: str
    after: Document
    before: Document | None


def now() -> str:
    """The time in the form of metav1.Time."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def key_of(item: Document) -> Key:
    """The key of an object within its resource."""
    meta = item["metadata"]
    return meta.get("namespace", ""), meta["name"]


class Store:
    """Objects by resource ("deployments.apps") and key.

    `complete(resource, item)` fills in what the server sets, in place, before each write.
    """

    def __init__(self, complete: Callable[[str, Document], None]) -> None:
        self.objects: dict[str, dict[Key, Document]] = {}
        self.history: deque[Event] = deque(maxlen=HISTORY)
        self.version = 100
        self._complete = complete
        self._change = asyncio.Event()

    def find(self, resource: str, key: Key) -> Document | None:
        """The object, if there is one."""
        return self.objects.get(resource, {}).get(key)

    def get(self, resource: str, key: Key) -> Document:
        """The object; raises 404."""
        found = self.find(resource, key)
        if found is None:
            raise ApiError(404, f'{resource} "{key[1]}" not found', name=key[1], kind=resource)
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
            raise ApiError(409, message, "AlreadyExists", name=name, kind=resource)
        item = copy.deepcopy(item)
        item["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": now(), "generation": 1}
        self._complete(resource, item)
        return item if dry_run else self._record("ADDED", resource, item, None)

    def update(self, resource: str, item: Document, *, dry_run: bool = False) -> Document:
        """Replaces an object; raises 404, and 409 if its resourceVersion is not the current one."""
        before = self.get(resource, key_of(item))
        item, old = copy.deepcopy(item), before["metadata"]
        if item["metadata"].get("resourceVersion") not in {None, "", old["resourceVersion"]}:
            message = f'Operation cannot be fulfilled on {resource} "{old["name"]}": {MODIFIED}'
            raise ApiError(409, message, name=old["name"], kind=resource)
        item["metadata"].update({name: old[name] for name in FIXED})
        item["metadata"]["generation"] += item.get("spec") != before.get("spec")
        self._complete(resource, item)
        if item == before or dry_run:
            return item
        return self._record("MODIFIED", resource, item, before)

    def delete(self, resource: str, key: Key) -> Document:
        """Removes an object; raises 404."""
        before = self.get(resource, key)
        return self._record("DELETED", resource, copy.deepcopy(before), before)

    def _record(
        self, kind: str, resource: str, item: Document, before: Document | None
    ) -> Document:
        self.version += 1
        item["metadata"]["resourceVersion"] = str(self.version)
        objects = self.objects.setdefault(resource, {})
        if kind == "DELETED":
            del objects[key_of(item)]
        else:
            objects[key_of(item)] = item
        self.history.append(Event(self.version, kind, resource, item, before))
        self._change.set()  # wakes who waits; the next ones wait for the next change
        self._change = asyncio.Event()
        return item

    def events_after(self, version: int) -> list[Event]:
        """The changes since a version; raises 410 when the history no longer has them all."""
        skipped = len(self.history) - (self.version - version)  # each version is one event
        if skipped < 0 and len(self.history) == self.history.maxlen:
            oldest = self.history[0].version
            message = f"The resourceVersion for the provided watch is too old (oldest: {oldest})"
            raise ApiError(410, message, "Expired")
        return list(itertools.islice(self.history, max(0, skipped), None))

    async def changed(self, version: int, timeout: float) -> None:
        """Returns when something is newer than `version`, or after the timeout."""
        if self.version <= version:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._change.wait(), timeout)
