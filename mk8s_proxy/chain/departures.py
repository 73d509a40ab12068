"""Heads that wait for their rows: no request leaves before the journal has it.

Filled by `handler_chain` during a loop tick, emptied at its end. Where the disk is slow, they wait
longer than a tick, and those behind them, too: the loop goes on, and in the end they leave or are
refused.
"""

import logging
from collections.abc import Callable
from typing import Final

from mk8s_agent.wire.bulkhead import Bulkhead
from mk8s_agent.wire.stream import Stream
from mk8s_proxy.chain.ports import AuditLog, Tunnel
from mk8s_proxy.listener.exchange import Exchange

log = logging.getLogger(__name__)

_RELEASE: Final = Bulkhead("chain.release")
Head = tuple[Exchange, Tunnel, Stream, bytes]
"""Whose it is, where it goes, its stream there, and its block."""


class Departures:
    """The way out of the chain.

    Args:
        journal: where the rows are.
        refuse: answers a request that cannot leave; the flag says whether its row is written.
        opened: told of each that leaves and may stay open for hours.
        broken: ends one whose release raised.
    """

    def __init__(
        self,
        journal: AuditLog,
        refuse: Callable[[Exchange, bool], None],
        opened: Callable[[Exchange], None],
        broken: Callable[[Exchange], None],
    ) -> None:
        self.heads: list[Head] = []
        """Of this tick: their rows are noted, and not written."""
        self._late: list[Head] = []
        """Their rows are being written, for longer than could be waited for."""
        self._journal = journal
        self._refuse = refuse
        self._opened = opened
        self._broken = broken

    def commit(self) -> bool:
        """Writes what was noted; lets the heads go whose rows are written, refuses the others.

        Returns:
            Whether what was noted is written.
        """
        finished = self._finish()
        if finished is None:
            return False
        late, self._late = self._late, []
        if late:
            self._release(late, finished)
        heads, self.heads = self.heads, []
        written = self._write()
        if not written and self._journal.waiting:
            self._late = heads
        elif heads:
            self._release(heads, written)
        return written

    def _finish(self) -> bool | None:
        try:
            return self._journal.finish()
        except Exception:
            log.exception("journal.crashed")
            return False

    def _write(self) -> bool:
        try:
            return self._journal.commit()
        except Exception:
            log.exception("journal.crashed")
            return False

    def _release(self, heads: list[Head], written: bool) -> None:
        refused = False
        for head in heads:
            try:
                refused = self._release_one(head, written) or refused
            except Exception:  # noqa: BLE001  logged by `failed`
                _RELEASE.failed(head[0], self._broken)
                refused = True
        if refused:
            self._write()

    def _release_one(self, head: Head, written: bool) -> bool:
        """Lets one head go to its tunnel; True when its client was refused instead."""
        exchange, session, stream, block = head
        if stream.peer is not None and written and session.available:
            session.open_prepared(stream, block)
            if exchange.stays_open:
                self._opened(exchange)
            return False
        gone = stream.peer is None  # the client has left before
        session.discard_prepared(stream)
        if not gone:
            self._refuse(exchange, written)
        return not gone
