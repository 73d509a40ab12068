"""One flush per connection and loop tick, and one clock for all deadlines.

Every connection that has output marks itself; at the end of the tick the hooks run first (central
writes its audit rows there, before any stream head leaves), then each marked connection
joins its output into one write.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol

from mk8s_agent.wire.bulkhead import Bulkhead

_HOOKS: Final = Bulkhead("ticks.hooks")
_FLUSH: Final = Bulkhead("ticks.flush")

CallLater = Callable[[float, Callable[[], None]], object]
"""The loop's `call_later`."""


class Flushable(Protocol):
    """A connection as its `Ticks` sees it."""

    @property
    def transport(self) -> Any:
        """The socket; aborted when `flush` fails."""

    def flush(self) -> None:
        """Writes what was queued since the last tick."""


class Ticks:
    """Collects the connections that were touched in this loop tick.

    Args:
        call_soon: the loop's `call_soon`; tests pass a list's `append`.
        call_later: the loop's `call_later`; without it nothing is put off.
    """

    __slots__ = ("_call_soon", "before_flush", "call_later", "dirty", "scheduled")

    def __init__(
        self,
        call_soon: Callable[[Callable[[], None]], object],
        call_later: CallLater | None = None,
    ) -> None:
        self.call_later = call_later
        self._call_soon = call_soon
        self.dirty: list[Flushable] = []
        """Those with output; who appends itself has to see that the tick is `scheduled`."""
        self.scheduled = False
        """The end of this tick will happen."""
        self.before_flush: list[Callable[[], object]] = []

    def mark(self, connection: Flushable) -> None:
        """`connection` has output: flush it at the end of this tick."""
        self.dirty.append(connection)
        if not self.scheduled:
            self.scheduled = True
            self._call_soon(self.run)

    def schedule(self) -> None:
        """Makes the end of this tick happen although nothing is marked yet."""
        if not self.scheduled:
            self.scheduled = True
            self._call_soon(self.run)

    def run(self) -> None:
        """The end of a tick. Output that the hooks cause still leaves in the same tick.

        Whatever fails costs itself only: the other connections have output in this tick, too.
        """
        for hook in self.before_flush:
            try:
                hook()
            except Exception:  # noqa: BLE001  logged by `failed`
                _HOOKS.failed(hook)
        self.scheduled = False
        dirty, self.dirty = self.dirty, []
        for connection in dirty:
            try:
                connection.flush()
            except Exception:  # noqa: BLE001  logged by `failed`
                _FLUSH.failed(connection, _abort)


def _abort(connection: Flushable) -> None:
    connection.transport.abort()
