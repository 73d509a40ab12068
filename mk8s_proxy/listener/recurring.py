"""Requests that recur: heads that came before byte for byte, and what the doors said of them.

Controllers and dashboards ask the same again and again. A client connection looks the bytes of a
head up here and need not read them again, since what they mean follows from them alone. What
the doors said does not: an `Admission` is good only until the policy, the credential or the users
change, so `handler_chain` asks for each request whether it still holds. Only admitted requests are
kept: strangers cannot fill the memory.
"""

import itertools
from typing import Final, NamedTuple

from mk8s_proxy.audit.event import RowTexts
from mk8s_proxy.authz.attributes import Decision
from mk8s_proxy.identity.identity import Identity
from mk8s_proxy.kube.request_info import RequestInfo
from mk8s_proxy.listener.request_head import RequestHead

_KEPT = 16384
"""As many as tokens are remembered."""
_KEPT_BYTES: Final = 4096
"""A head above this size is rare."""
_ALL_BYTES = 64 << 20
"""Of all of them together."""
_ADMISSION_BYTES: Final = 3072
"""What a head costs beside itself: its fields, its rows, its block for the tunnel."""

Key = bytes | tuple[bytes, bool, int]
"""The bytes of an HTTP/1.1 head, or an HTTP/2 header block, whether it ends the stream, and the
state of the HPACK table that it refers to (0 where it refers to none)."""


class Admission(NamedTuple):
    """A request that was let through, with all that an equal one needs to follow it."""

    info: RequestInfo
    identity: Identity
    decision: Decision
    prefix: bytes
    texts: RowTexts
    parts: tuple[bytes, bytes]
    """Its block for the tunnel, before and after the audit id."""
    policy: tuple[int, int]
    """The edition of the policy that decided."""
    credentials: int
    """The authenticator's stamp at that time."""


class Recurring:
    """A request head, for all requests that have the same one."""

    __slots__ = ("admission", "head")

    def __init__(self, head: RequestHead) -> None:
        self.head = head
        self.admission: Admission | None = None
        """How such a request was let through last; None if it was not, or not in a plain way."""


class RecurringRequests:
    """What all client connections remember; all is forgotten when it becomes much."""

    def __init__(self) -> None:
        self._known: dict[Key, Recurring] = {}
        self._bytes = 0
        self._tables = itertools.count(1)
        self.find = self._known.get
        """The head with these bytes, if it came before and was let through."""

    def __len__(self) -> int:
        return len(self._known)

    def new_table(self) -> int:
        """A number for a new state of some connection's HPACK table."""
        return next(self._tables)

    def keep(self, key: Key, size: int, recurring: Recurring) -> None:
        """Remembers a head of `size` bytes; but not one that was refused."""
        if recurring.admission is None or size > _KEPT_BYTES:
            return
        self._bytes += size + _ADMISSION_BYTES
        if len(self._known) >= _KEPT or self._bytes > _ALL_BYTES:
            self._known.clear()
            self._bytes = size + _ADMISSION_BYTES
        self._known[key] = recurring
