"""One of several processes that together are central on one machine (`serve --workers N`).

`supervisor` makes one for each process it starts; `app` asks it what differs from process to
process. A worker is a replica: it shares the port and the database with the others, and has
tunnels, a policy feed and a journal of its own.
"""

import contextlib
import secrets
import socket
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from mk8s_proxy.settings.model import Settings, parse_address, shown_address

READY: Final = b"r"
"""What a worker writes to its supervisor once it serves."""
FAILED: Final = b"f"
"""What it writes, followed by the reason, when it cannot start or cannot go on."""


class WorkersFailed(Exception):
    """Not every worker could start; the message is the reason of the first one, in one line."""


@dataclass(frozen=True, slots=True)
class Worker:
    """Which process this is; by default the only one."""

    number: int = 1
    """From 1; it names the journal and the address of health."""
    count: int = 1
    folder: Path | None = None
    """A private folder for the sockets by which workers talk; None for the only one."""
    channel: socket.socket | None = None
    """To the supervisor; it ends when the supervisor does."""
    instance: str = field(default_factory=lambda: secrets.token_hex(8))
    """A name of its own for each process, so that agents know when a worker is a new one."""

    @property
    def alone(self) -> bool:
        """Whether this is the only process."""
        return self.count == 1

    def tell_ready(self) -> None:
        """Let the supervisor know that this worker serves."""
        self._tell(READY)

    def tell_failed(self, reason: str) -> None:
        """Let the supervisor know why this worker cannot start, or cannot go on."""
        self._tell(FAILED + reason.encode("utf-8", "replace")[:4096])

    def _tell(self, message: bytes) -> None:
        if self.channel is not None:
            with contextlib.suppress(OSError):  # the supervisor is gone: the channel's end says so
                self.channel.sendall(message)

    def supervised(self) -> bool:
        """Whether the supervisor is there; to be asked when the channel can be read."""
        assert self.channel is not None
        try:
            return self.channel.recv(64) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False


def settings_of(settings: Settings, number: int) -> Settings:
    """What one of several workers is to use: a journal and an address of health of its own.

    A journal has one writer, whose batches are whole; ``journal.jsonl`` becomes
    ``journal-1.jsonl``, ``journal-2.jsonl`` and so on.
    """
    journal = settings.journal_path
    path = journal.with_name(f"{journal.stem}-{number}{journal.suffix}")
    admin = settings.admin_listen
    if admin:
        host, port = parse_address(admin)
        admin = shown_address(host, port + number - 1 if port else 0)
    return replace(settings, audit=replace(settings.audit, path=path), admin_listen=admin)
