"""Requests that recur: heads that came before byte for byte, and what the doors said of them.

Controllers and dashboards ask the same again and again. A client connection looks the bytes of a
head up here and need not read them again, since what they mean follows from them alone. What
the doors said does not: an `Admission` is good only until the policy, the credential or the users
change, so `handler_chain` asks for each request whether it still holds. Only admitted requests are
kept: strangers cannot fill the memory.
"""

import itertools
from typing import Final, NamedTuple

from mk8s_agent.wire.memory import Memory
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
    """What all client connections remember, oldest first out."""

    def __init__(self) -> None:
        self._known: Memory[Key, Recurring] = Memory(_KEPT, _ALL_BYTES)
        # Buys 70 % of a request that recurs (compiled 58 %): the whole walk.
        self._now = 0.0
        self.find = self._known.find
        """The head with these bytes, if it came before and was let through."""
        self.new_table = itertools.count(1).__next__
        """Gives a number for a new state of some connection's HPACK table."""

    def __len__(self) -> int:
        return len(self._known)

    def keep(self, key: Key, size: int, recurring: Recurring) -> None:
        """Remembers a head of `size` bytes; but not one that was refused."""
        if recurring.admission is None or size > _KEPT_BYTES:
            return
        self._known.keep(key, recurring, size + _ADMISSION_BYTES)

    def second(self, now: float) -> None:
        """Once a second: gives up a bounded number of those whose token has expired at `now`."""
        self._now = now
        self._known.sweep(self._is_over)

    def _is_over(self, recurring: Recurring) -> bool:
        admission = recurring.admission
        return admission is None or admission.identity.expires < self._now
