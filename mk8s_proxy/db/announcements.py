"""What the workers of one machine tell each other, so that what one knows holds for all.

Made by `app`. Each worker hears on a Unix datagram socket in a private folder; telling means one
datagram to each of the others. It is news, not state: nothing waits for an answer, and what is
lost (a worker that is just being restarted) it reads from the database, or never had to know.
"""

import asyncio
import contextlib
import json
import logging
import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mk8s_agent.wire.bulkhead import Bulkhead

log = logging.getLogger(__name__)

_LONGEST: Final = 4096
_AT_ONCE: Final = 64
"""Datagrams read before others get their turn."""
_MOST_WAITING: Final = 100_000
"""News kept for workers that are busy; beyond it they are lost."""
_RETRY_SECONDS: Final = 0.01
_HEARD: Final = Bulkhead("announcements.heard")
_SENT: Final = Bulkhead("announcements.sent")

Value = str | float


class Announcements:
    """One worker's way to the others.

    Args:
        folder: where the sockets are; None when there are no workers.
        number: of this worker, from 1.
        count: of all workers.
    """

    def __init__(self, folder: Path | None = None, number: int = 1, count: int = 1) -> None:
        self._own = _path(folder, number) if folder is not None else None
        self._others = [
            str(_path(folder, other))
            for other in range(1, count + 1)
            if folder is not None and other != number
        ]
        self._handlers: dict[str, Callable[..., object]] = {}
        self._socket: socket.socket | None = None
        self._waiting: deque[tuple[bytes, str]] = deque()
        """What did not fit into a worker's queue, which the kernel keeps short."""

    def on(self, kind: str, handler: Callable[..., object]) -> None:
        """Call `handler` with the values of each piece of news of this kind."""
        self._handlers[kind] = handler

    def start(self) -> None:
        """Begin to hear and to tell; nothing to do for a worker that is alone.

        Raises:
            OSError: the folder cannot be used.
        """
        if self._own is None:
            return
        self._own.unlink(missing_ok=True)  # of the worker whose place this one takes
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        self._socket.bind(str(self._own))
        asyncio.get_running_loop().add_reader(self._socket, self._hear)

    def tell(self, kind: str, *values: Value) -> None:
        """Tell the others; never waits and never fails."""
        if self._socket is None:
            return
        message = json.dumps([kind, *values]).encode()
        idle = not self._waiting
        if len(self._waiting) < _MOST_WAITING:
            self._waiting.extend((message, other) for other in self._others)
        else:
            log.warning("announcements.not_told", extra={"kind": kind})
        if idle:
            self._send()

    def _send(self) -> None:
        while self._waiting and self._socket is not None:
            try:
                self._socket.sendto(*self._waiting[0])
            except BlockingIOError:
                asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._send)
                return
            except OSError as error:  # it is being restarted
                log.debug("announcements.gone", extra={"reason": str(error)})
            except Exception:  # noqa: BLE001  logged by `failed`
                _SENT.failed(self._waiting[0])  # or nothing behind it would ever be told
            self._waiting.popleft()

    def close(self) -> None:
        """Hear and tell no more."""
        if self._socket is not None and self._own is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
            self._waiting.clear()
            self._own.unlink(missing_ok=True)

    def _hear(self) -> None:
        assert self._socket is not None
        with contextlib.suppress(BlockingIOError):
            recv = self._socket.recv
            _HEARD.each((recv(_LONGEST) for _ in range(_AT_ONCE)), self._take)

    def _take(self, message: bytes) -> None:
        kind, *values = json.loads(message)
        handler = self._handlers.get(kind)
        if handler is not None:
            handler(*values)


def _path(folder: Path, number: int) -> Path:
    return folder / f"worker-{number}.sock"
