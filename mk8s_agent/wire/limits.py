"""What one connection may cost: windows, counts and budgets, as plain numbers with reasons.

Built by the composition roots (central's `app`, the agent's `main`), read by the parts of
`http2`.
"""

# compiled: its numbers are read on the way of every frame

from dataclasses import dataclass, replace
from typing import Any, Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

HIGH_WATER: Final = 128 * KIB
"""Bytes that may wait in a socket's write buffer. More adds latency to small responses that
share the connection and buys no throughput."""

EARLY: Final = 64 * KIB
"""So much output does not wait for the end of the tick: the next hop can begin with it."""

QUANTUM: Final = 64 * KIB
"""Bytes that one waiting stream may send before the next one has its turn."""

SMALL: Final = 16 * KIB
"""A first write of at most this size goes before streams that are already sending in bulk."""

BUDGET_SECONDS: Final = 10.0
"""How often the budgets below are refilled."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What this end advertises and enforces on one HTTP/2 connection."""

    stream_window: int = 256 * KIB
    """Bytes a peer may send on a stream before they were handed on (RFC 9113, 5.2)."""

    widest_window: int = 0
    """A stream's window may grow to this over a long distance; 0 leaves it as it is."""

    connection_window: int = 32 * MIB
    """Bytes a peer may send on all streams; given back on receipt, so it never stalls a stream."""

    max_frame: int = 64 * KIB
    """Largest frame accepted. Larger ones delay the small frames behind them."""

    table_size: int = 0
    """HPACK dynamic table. 0 on tunnels and towards API servers, where blocks are relayed."""

    max_streams: int = 100
    """Streams a peer may have open at once (kube-apiserver since 1.29 and Envoy's edge: 100)."""

    header_list: int = 192 * KIB
    """Decoded size that ends the connection; smaller excesses are answered with 431."""

    header_list_told: int = 0
    """The size that a peer is told to stay below (RFC 9113, 6.5.2); 0 tells `header_list`."""

    header_block: int = 192 * KIB
    """Encoded bytes of one header block, all CONTINUATION frames together."""

    continuations: int = 16
    """CONTINUATION frames of one block (CVE-2024-27316 and its kin)."""

    resets: int = 200
    """Streams that may be reset within a budget period (CVE-2023-44487, CVE-2025-8671)."""

    control_frames: int = 2_000
    """PING, SETTINGS, PRIORITY, empty DATA and the like within a budget period. Every KiB sent adds
    one: `kubectl logs` reads 4 KiB at a time and sends two WINDOW_UPDATEs for each."""

    write_seconds: float = 60.0
    """How long a peer may take to read nothing while data waits for it."""


FRONT: Final = Limits(table_size=4096, connection_window=4 * MIB, max_frame=16 * KIB)
"""Towards kubectl and the like; central gives it the lengths of its settings."""

TUNNEL: Final = Limits(
    widest_window=16 * MIB, max_streams=20_000, resets=1 << 30, control_frames=100_000
)
"""Between central and an agent: resets of many users' watches are ordinary here."""

AGENT: Final = replace(TUNNEL, header_list=448 * KIB, header_block=448 * KIB)
"""The agent's end of it: the longest head of a client (256 KiB of target, 128 KiB of fields), an
identity (32 KiB) and what central adds."""

API_SERVER: Final = Limits(max_streams=0, resets=1 << 30, control_frames=1 << 30)
"""From an agent to its API server, which cannot open streams. Pods make it send what it sends, also
behind a reset: a flood of that costs the agent's own cluster time, and no other stream its life.
Heads are no longer than central takes."""


IDLE_SHARES: Final = 1024
"""So many are kept for who asks again, as most do; the others go with their last request."""


@dataclass(slots=True, eq=False)
class Share:
    """What one owner has taken of something that many share."""

    key: Any
    """Whose, and of what: under which its owner's others are found."""
    limit: int
    """Bytes that may wait for it."""
    most: int = 0
    """Streams that may be open, where that is bounded by who is asked."""
    user: str = ""
    """Whose, by name, where that is known."""
    groups: tuple[str, ...] = ()
    """Of the login by which it was taken last, where limits depend on them."""
    used: int = 0
    """Bytes that wait for its readers, or for what its requests go to."""
    streams: int = 0
    """Streams that are open."""


class BufferBudget:
    """Bytes that wait for slow readers in the whole process, with a cap on the sum."""

    __slots__ = ("evicting", "holders", "limit", "used")

    def __init__(self, limit: int = 512 * MIB) -> None:
        self.limit = limit
        self.used = 0
        self.holders: dict[Any, None] = {}
        """The streams on which bytes wait."""
        self.evicting = False
        """Some of them are being ended (`eviction`)."""

    def has_room(self, stream: Any, size: int) -> bool:
        """Whether `size` more bytes may wait on a stream, for all it knows and for its owner."""
        share: Share | None = stream.share
        if self.used + size > self.limit:
            return False
        return share is None or share.used + size <= share.limit

    @property
    def scarce(self) -> bool:
        """More than half is used: readers that take nothing have to make room."""
        return self.used > self.limit >> 1

    def __repr__(self) -> str:
        return f"<BufferBudget {self.used} of {self.limit} bytes>"
