"""The one way to remember: what is kept between requests, bounded in entries and bytes; pure.

Central and agent know again what they have read before: heads, targets, tokens, names. All of
that may be forgotten at any time, since it can be read anew; so it lives in a `Memory`, which
forgets what it has held for longest, and is bounded whatever is asked of it. Each use says beside
it what it buys, as `python -m tests.bench.bench_exchange --memories` measured it
(`tests/bench/MEMORIES.md`); what buys less than 3 % of a request is not remembered. What must not
be forgotten (such as ended logins, `mk8s_proxy.identity.revocations`) does not belong here.
"""

# compiled: asked several times for each request

from collections.abc import Callable, Hashable
from itertools import islice
from typing import Final, Generic, TypeVar

ENTRY_BYTES: Final = 256
"""What an entry costs beside its key and value: its places in two dicts, and its size."""
_OLDEST: Final = 16
"""The part of a full memory that goes at once, one sixteenth: to find the oldest entry of a dict is
to pass over all those that have gone since the dict was last resized."""
_SWEEP_SECONDS: Final = 25
"""In so many calls of `sweep` each entry is looked at once."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Memory(Generic[K, V]):
    """A bounded memory. Not thread-safe: it belongs to one event loop.

    Args:
        most_entries: 0 keeps nothing.
        most_bytes: of all entries together, as their keepers count them and `ENTRY_BYTES` each.
    """

    __slots__ = (
        "_kept", "_share", "_sizes", "_to_sweep", "find", "most_bytes", "most_entries", "size",
    )  # fmt: skip

    def __init__(self, most_entries: int, most_bytes: int) -> None:
        self.most_entries = most_entries
        self.most_bytes = most_bytes
        self.size = 0
        """Bytes of what is kept."""
        self._kept: dict[K, V] = {}
        self._sizes: dict[K, int] = {}
        self._to_sweep: list[K] = []
        self._share = 1
        self.find: Callable[[K], V | None] = self._kept.get
        """What is kept under a key, None if nothing is. The dict's own method: a call in C."""

    def __len__(self) -> int:
        return len(self._kept)

    def __repr__(self) -> str:
        return f"<Memory {len(self._kept)} of {self.most_entries}, {self.size} bytes>"

    def keep(self, key: K, value: V, size: int) -> None:
        """Remembers a value as the newest, unless it alone is too much.

        Args:
            key: under which `find` finds it.
            value: not None.
            size: bytes of key and value, with all that only they hold.
        """
        size += ENTRY_BYTES
        if key in self._sizes:
            self.forget(key)
        if size > self.most_bytes or self.most_entries < 1:
            return
        if len(self._kept) >= self.most_entries or self.size + size > self.most_bytes:
            self._make_room(size)
        self._kept[key] = value
        self._sizes[key] = size
        self.size += size

    def forget(self, key: K) -> None:
        """Forgets one entry, if it is there."""
        if key in self._sizes:
            self.size -= self._sizes.pop(key)
            del self._kept[key]

    def clear(self) -> None:
        """Forgets everything."""
        self._kept.clear()
        self._sizes.clear()
        self._to_sweep = []
        self.size = 0

    def sweep(self, is_over: Callable[[V], bool]) -> None:
        """Forgets what is of no more use; called once a second, it looks at a part of the entries.

        An entry that is over is gone after two rounds of `_SWEEP_SECONDS` at the latest.
        """
        if not self._to_sweep:
            self._to_sweep = list(self._kept)
            self._share = len(self._kept) // _SWEEP_SECONDS + 1
        turn = self._to_sweep[-self._share :]
        del self._to_sweep[-self._share :]
        for key in turn:
            value = self.find(key)
            if value is not None and is_over(value):
                self.forget(key)

    def _make_room(self, size: int) -> None:
        while self._kept and (
            len(self._kept) >= self.most_entries or self.size + size > self.most_bytes
        ):
            for key in list(islice(self._kept, len(self._kept) // _OLDEST + 1)):
                self.forget(key)
