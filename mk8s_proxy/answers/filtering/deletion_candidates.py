"""Which objects of a collection are to be deleted, read from its list page by page; pure.

Called by `collection_deletion`. The pages become the one list that kube-apiserver answers a
deletecollection with, as long as that is short enough to be kept.
"""

from collections import deque
from typing import Any, Final, NamedTuple

import orjson

from mk8s_proxy.answers.filtering.json_values import Unfilterable
from mk8s_proxy.answers.filtering.large_objects import Document
from mk8s_proxy.answers.filtering.list_filter import ListFilter
from mk8s_proxy.answers.filtering.objects import Allows, ObjectJudge, identity, member

MAXIMUM_ANSWER: Final = 4 * 1024 * 1024
"""Bytes of deleted objects that an answer shows; of more it says only that they are deleted."""


MAXIMUM_WAITING: Final = 100_000
"""Objects that may wait for their deletion: a server need not keep to the size of a page."""
_LONGEST: Final = 1024
"""Characters of a name or uid."""


class Candidate(NamedTuple):
    """An object to be deleted."""

    name: str
    uid: str


class DeletionCandidates(ObjectJudge):
    """Collects what a list shows and `allows` lets be deleted.

    Args:
        allows: the person's visibility for deletions.
        namespace: of the collection; empty outside namespaces.
        strip_rows: the answer shows rows without objects.

    Attributes:
        waiting: what is still to be deleted.
        token: `continue` of the page that was read; empty behind the last one.
    """

    __slots__ = ("_envelope", "_key", "_namespace", "_shown", "_size", "token", "waiting")

    def __init__(self, allows: Allows, namespace: str, *, strip_rows: bool) -> None:
        super().__init__(allows, strip_rows=strip_rows)
        self._namespace = namespace
        self._shown: list[bytes] = []
        self._size = 0
        self._envelope: dict[str, Any] = {}
        self._key = "items"
        self.waiting: deque[Candidate] = deque()
        self.token = ""

    def page(self) -> "PageReader":
        """Reads the next page."""
        self.token = ""
        return PageReader(self)

    def item(self, document: Document) -> bytes:
        """Notes an object; nothing of it stays in the list that is being read."""
        self._note(document, super().item(document), within="")
        return b""

    def row(self, document: Document) -> bytes:
        """Notes the object of a table's row."""
        self._note(document, super().row(document), within="object")
        return b""

    def _note(self, document: Document, shown: bytes, within: str) -> None:
        if not shown:
            return
        about = document.outline()
        if within:
            about = member(about, within)
        namespace, name = identity(about)
        uid = member(about, "metadata").get("uid")
        if namespace != self._namespace:
            raise Unfilterable("an object of another namespace than the one that was asked for")
        if not isinstance(uid, str) or not uid:
            raise Unfilterable("an object without a uid: it cannot be told from a new one")
        if len(self.waiting) >= MAXIMUM_WAITING or max(len(name), len(uid)) > _LONGEST:
            raise Unfilterable("more objects at once, or longer names, than can be remembered")
        self.waiting.append(Candidate(name, uid))
        self._key = "rows" if within else "items"
        self._size += len(shown) + 1
        if self._size <= MAXIMUM_ANSWER:
            self._shown.append(shown)
        else:
            self._shown.clear()

    def seal(self, token: str) -> str:
        """Takes the page token, which is not for the client."""
        self.token = token
        return ""

    def frame(self, envelope: bytes) -> None:
        """Takes what surrounds the objects of a page; the first page's counts."""
        found: dict[str, Any] = orjson.loads(envelope)
        self._envelope = self._envelope or found

    @property
    def answer(self) -> bytes:
        """The list of what is deleted, or a Status that says no more than that."""
        envelope = self._envelope
        if self._size > MAXIMUM_ANSWER:
            return orjson.dumps(_success(str(envelope.get("kind", ""))))
        metadata = dict(envelope.get("metadata") or {})
        metadata.pop("continue", None)
        head = {key: value for key, value in envelope.items() if key not in ("items", "rows")}
        head["metadata"] = metadata
        start = orjson.dumps(head)[:-1]
        return b'%b,"%b":[%b]}\n' % (start, self._key.encode(), b",".join(self._shown))


class PageReader:
    """One page, however its bytes are cut."""

    def __init__(self, candidates: DeletionCandidates) -> None:
        self._candidates = candidates
        self._filter = ListFilter(candidates, candidates.seal)
        self._envelope: list[bytes] = []

    def feed(self, data: bytes, end: bool) -> None:
        """Reads on; the arguments and errors are those of `ListFilter.feed`."""
        self._envelope.append(self._filter.feed(data, end))
        if end:
            self._candidates.frame(b"".join(self._envelope))


def _success(kind: str) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {"kind": kind.removesuffix("List")},
        "code": 200,
    }
