"""Versioned objects in memory with a bounded history for watches.

Used by `objects` and `controllers`. Stored objects are never changed in place: every write stores
a new dict, so whoever holds an object may read it without a copy, and must copy before changing.
"""

import asyncio
import copy
import itertools
import uuid
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mk8s_cli.demo_api.status import already_exists, conflict, expired, not_found

Document = dict[str, Any]
Key = tuple[str, str]
"""Namespace ("" when cluster-scoped) and name."""
HISTORY = 2000
"""Events kept; a watch from before them is 410 Gone."""


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
    """Objects by resource ("deployments.apps") and key."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[Key, Document]] = {}
        self.history: deque[Event] = deque(maxlen=HISTORY)
        self.version = 100
        self._waiting: set[asyncio.Future[None]] = set()
        self._sequence = itertools.count(1)

    def get(self, resource: str, key: Key) -> Document:
        """The object; raises 404."""
        found = self.objects.get(resource, {}).get(key)
        if found is None:
            raise not_found(resource, key[1])
        return found

    def select(self, resource: str, namespace: str = "") -> list[Document]:
        """All objects of a resource (in a namespace), ordered by key."""
        found = self.objects.get(resource, {})
        return [found[key] for key in sorted(found) if not namespace or key[0] == namespace]

    def create(self, resource: str, item: Document, *, dry_run: bool = False) -> Document:
        """Stores a new object with fresh uid and times; raises 409 AlreadyExists."""
        if key_of(item) in self.objects.get(resource, {}):
            raise already_exists(resource, item["metadata"]["name"])
        item = copy.deepcopy(item)
        fresh = {"uid": str(uuid.uuid4()), "creationTimestamp": now(), "generation": 1}
        item["metadata"] = {**item["metadata"], **fresh}
        item["metadata"].pop("deletionTimestamp", None)
        return item if dry_run else self._record("ADDED", resource, item, None)

    def update(self, resource: str, item: Document, *, dry_run: bool = False) -> Document:
        """Replaces an object; raises 404, and 409 if its resourceVersion is not the current one."""
        before = self.get(resource, key_of(item))
        meta, old = item["metadata"], before["metadata"]
        if meta.get("resourceVersion") not in {None, "", old["resourceVersion"]}:
            raise conflict(resource, meta["name"])
        kept = {
            name: old[name]
            for name in ("uid", "creationTimestamp", "generation", "resourceVersion")
        }
        if "deletionTimestamp" in old:
            kept["deletionTimestamp"] = old["deletionTimestamp"]
        item = {**copy.deepcopy(item), "metadata": {**copy.deepcopy(meta), **kept}}
        if item == before:
            return before
        if item.get("spec") != before.get("spec"):
            item["metadata"]["generation"] = old["generation"] + 1
        if dry_run:
            return item
        if "deletionTimestamp" in old and not item["metadata"].get("finalizers"):
            return self._record("DELETED", resource, item, before)
        return self._record("MODIFIED", resource, item, before)

    def delete(self, resource: str, key: Key) -> Document:
        """Removes an object, or marks it when it has finalizers; raises 404."""
        before = self.get(resource, key)
        if not before["metadata"].get("finalizers"):
            return self._record("DELETED", resource, copy.deepcopy(before), before)
        if "deletionTimestamp" in before["metadata"]:
            return before
        item = copy.deepcopy(before)
        item["metadata"]["deletionTimestamp"] = now()
        return self._record("MODIFIED", resource, item, before)

    def unique_name(self, prefix: str) -> str:
        """A name for `generateName`, with Kubernetes's alphabet without vowels."""
        number, letters = next(self._sequence) * 7919 + 104729, ""
        for _ in range(5):
            number, digit = divmod(number, 27)
            letters += "bcdfghjklmnpqrstvwxz2456789"[digit]
        return prefix + letters

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
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        return item

    def events_after(self, version: int) -> list[Event]:
        """The changes since a version; raises 410 when the history no longer has them all."""
        oldest = self.history[0].version if self.history else self.version + 1
        if version + 1 < oldest and version < self.version and len(self.history) == HISTORY:
            raise expired(oldest)
        if not self.history or version >= self.version:
            return []
        first = max(0, version + 1 - oldest)  # versions in the history are consecutive
        return list(itertools.islice(self.history, first, None))

    async def changed(self, version: int, timeout: float) -> None:
        """Returns when something is newer than `version`, or after the timeout."""
        if self.version > version:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        try:
            await asyncio.wait([waiter], timeout=timeout)
        finally:
            self._waiting.discard(waiter)
            waiter.cancel()
