"""`mk8s-central serve` with several workers: starts them, starts them again, ends with the last.

The supervisor serves nothing and opens no database: what happens once for all (settings, schema,
the check of the addresses) happens before the first worker, the rest in the workers. It has no
event loop and no thread, so that a worker can be forked from it at any time. A worker that loses
its supervisor drains as if it had been told to.
"""

import contextlib
import gc
import logging
import os
import select
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from mk8s_agent.wire import log
from mk8s_proxy.db.errors import StoreError
from mk8s_proxy.identity.ca import CaError
from mk8s_proxy.listener.server import cannot_listen
from mk8s_proxy.process import run as process
from mk8s_proxy.process.app import DRAIN_SECONDS
from mk8s_proxy.process.worker import FAILED, READY, Worker, WorkersFailed, settings_of
from mk8s_proxy.settings.model import Settings, inherited_socket, parse_address, shown_address

logger = logging.getLogger(__name__)

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 10.0
STEADY_SECONDS: Final = 60.0
"""A worker that lived so long is started again at once."""
STOP_SECONDS: Final = DRAIN_SECONDS + 10.0
"""Workers that have not ended by then are killed."""
_STOPS: Final = (signal.SIGTERM, signal.SIGINT)
_REFUSALS: Final = (StoreError, CaError, OSError)
"""What `process.serve` cannot start for, with a reason of one line."""


def serve(settings: Settings) -> int:
    """Run central in as many processes as the settings say. Returns the exit code.

    Raises:
        WorkersFailed: a worker cannot start.
        Whatever `process.serve` raises, when there is only one process.
    """
    if settings.workers == 1:
        return process.serve(settings)
    with tempfile.TemporaryDirectory(prefix="mk8s-workers-") as folder, _reserved(settings) as held:
        return Supervisor(held, Path(folder)).run()


@dataclass(slots=True)
class Place:
    """What is known of the worker with one number."""

    number: int
    pid: int = 0
    """0 while there is none."""
    channel: socket.socket | None = None
    heard: bytearray = field(default_factory=bytearray)
    started: float = 0.0
    due: float = 0.0
    """When the next one is to be started."""
    pause: float = FIRST_PAUSE
    was_ready: bool = False
    """Whether any worker of this number ever served."""

    @property
    def failure(self) -> str:
        """Why the worker could not start or go on, "" when it did not say."""
        text = bytes(self.heard)
        return text[1:].decode("utf-8", "replace") if text[:1] == FAILED else ""

    def ended(self, now: float) -> None:
        """The worker is gone; decide when to start the next."""
        if now - self.started >= STEADY_SECONDS:
            self.pause = FIRST_PAUSE
        self.due = now + self.pause
        self.pause = min(self.pause * 2, LONGEST_PAUSE)
        self.pid = 0
        if self.channel is not None:
            self.channel.close()
            self.channel = None


class Supervisor:
    """The parent of all workers.

    Args:
        settings: of all of them; the addresses are reserved.
        folder: private, for the sockets by which they talk.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._places = [Place(number + 1) for number in range(settings.workers)]
        self._stopping = 0.0
        """When to stop waiting for workers that drain; 0 while central serves."""
        self._told_ready = False
        self._failure = ""
        self._killed = False

    def run(self) -> int:
        """Supervise until told to stop and all workers have ended. Returns the exit code.

        Raises:
            WorkersFailed: a worker could not even start once.
        """
        gc.collect()
        gc.freeze()  # shared with the workers as long as nobody touches it
        with _signals() as wakeup:
            while not self._stopping or any(place.pid for place in self._places):
                if not self._stopping:
                    self._start_due()
                self._wait(wakeup)
                self._reap()
        if self._failure:
            raise WorkersFailed(self._failure)
        return 1 if self._killed else 0

    # -- starting

    def _start_due(self) -> None:
        now = time.monotonic()
        for place in self._places:
            if not place.pid and place.due <= now:
                self._start(place)

    def _start(self, place: Place) -> None:
        ours, theirs = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        # A stop that comes in between must not be lost on a handler that is the supervisor's.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
        pid = self._fork(place)
        if pid == 0:
            ours.close()
            self._become(place.number, theirs)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        if pid < 0:
            ours.close()
            return
        ours.setblocking(False)
        place.pid, place.channel, place.started = pid, ours, time.monotonic()
        place.heard.clear()
        logger.info("worker.started", extra={"worker": place.number, "worker_pid": pid})

    def _fork(self, place: Place) -> int:
        """Like `os.fork`, but negative when the system has nothing left, perhaps for a moment."""
        try:
            return os.fork()
        except OSError as error:
            place.started = time.monotonic()
            place.ended(place.started)  # the others go on, and this one is tried again
            extra = {"worker": place.number, "reason": str(error)}
            logger.error("worker.not_started", extra=extra)  # noqa: TRY400  the reason says it all
            return -1

    def _become(self, number: int, channel: socket.socket) -> None:
        """The rest of the life of a forked process."""
        code = 1
        try:
            for place in self._places:  # or their workers would not notice the supervisor's end
                if place.channel is not None:
                    place.channel.close()
            channel.setblocking(False)
            worker = Worker(number, len(self._places), self._folder, channel)
            code = _work(self._settings, worker)
        except BaseException:
            logger.exception("worker.failed")
        finally:
            logging.shutdown()
            os._exit(code)  # the clean-up of the parent's stack is the parent's

    # -- waiting

    def _wait(self, wakeup: int) -> None:
        channels = {place.channel: place for place in self._places if place.channel is not None}
        watched: list[int | socket.socket] = [wakeup, *channels]
        readable, _, _ = select.select(watched, [], [], self._seconds())
        for channel, place in channels.items():
            if channel in readable:
                self._hear(place)
        if wakeup in readable:
            self._obey(os.read(wakeup, 4096))

    def _obey(self, numbers: bytes) -> None:
        """Do what signals say: stop, or pass on that the journals be opened again."""
        if any(number in _STOPS for number in numbers):
            self._stop()
        elif signal.SIGHUP in numbers:
            for place in self._places:
                if place.was_ready:
                    _send(place.pid, signal.SIGHUP)

    def _seconds(self) -> float:
        """Until the next thing that has a time."""
        now = time.monotonic()
        if self._stopping:
            self._kill_late(now)
            return 0.5
        due = [place.due - now for place in self._places if not place.pid]
        return max(min(due, default=60.0), 0.0)

    def _hear(self, place: Place) -> None:
        assert place.channel is not None
        try:
            said = place.channel.recv(8192)
        except OSError:
            said = b""
        place.heard += said
        if not said:  # it is about to end
            place.channel.close()
            place.channel = None
        elif said == READY:
            place.heard.clear()  # what it may say later is why it ends
            place.was_ready = True
            self._tell_ready()

    def _tell_ready(self) -> None:
        if not self._told_ready and all(place.was_ready for place in self._places):
            self._told_ready = True
            port = parse_address(self._settings.listen)[1]
            extra = {"port": port, "workers": len(self._places)}
            logger.info("central.ready", extra=extra | {"public_url": self._settings.public_url})

    # -- ending

    def _reap(self) -> None:
        for place in self._places:
            if place.pid:
                pid, status = os.waitpid(place.pid, os.WNOHANG)
                if pid:
                    self._ended(place, os.waitstatus_to_exitcode(status))

    def _ended(self, place: Place, code: int) -> None:
        while place.channel is not None:  # its last words
            self._hear(place)
        place.ended(time.monotonic())
        extra = {"worker": place.number, "code": code, "reason": place.failure}
        if self._stopping:
            logger.info("worker.stopped", extra=extra)
            return
        logger.error("worker.died", extra=extra | {"pause_seconds": place.due - time.monotonic()})
        if not place.was_ready and not self._told_ready:
            # A first start that does not succeed is the operator's to mend.
            self._failure = place.failure or f"worker {place.number} ended before it served"
            self._stop()

    def _stop(self) -> None:
        """Pass a stop on to all workers; the second time changes nothing."""
        if self._stopping:
            return
        self._stopping = time.monotonic() + STOP_SECONDS
        logger.info("central.draining")
        for place in self._places:
            _send(place.pid, signal.SIGTERM)

    def _kill_late(self, now: float) -> None:
        if now > self._stopping:
            self._killed = True
            for place in self._places:
                _send(place.pid, signal.SIGKILL)


def _work(settings: Settings, worker: Worker) -> int:
    """Serve as one worker; why it cannot start, the supervisor tells."""
    log.configure(settings.log.level, settings.log.format, worker=worker.number)
    signal.set_wakeup_fd(-1)
    for number in (*_STOPS, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is a journal
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
    try:
        return process.serve(settings_of(settings, worker.number), worker)
    except _REFUSALS as error:
        worker.tell_failed(" ".join(str(error).split()))
        return 1


def _send(pid: int, number: signal.Signals) -> None:
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@contextlib.contextmanager
def _signals() -> Iterator[int]:
    """A descriptor from which the numbers of signals can be read as they come."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    before = {
        number: signal.signal(number, _noted) for number in (*_STOPS, signal.SIGHUP, signal.SIGCHLD)
    }
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)


def _noted(_number: int, _frame: object) -> None:
    """Its number is in the pipe already."""


@contextlib.contextmanager
def _reserved(settings: Settings) -> Iterator[Settings]:
    """The settings with ports that no other program can take while the workers come and go.

    Sockets that are bound and do not listen get no connection, but keep the port for this user.

    Raises:
        OSError: an address is in use, perhaps by another central that would share it silently.
    """
    with contextlib.ExitStack() as held:
        listen = _reserve(settings.listen, held)
        tunnels = _reserve(settings.tunnel_listen, held) if settings.tunnel_listen else ""
        yield replace(settings, listen=listen, tunnel_listen=tunnels)


def _reserve(address: str, held: contextlib.ExitStack) -> str:
    if inherited_socket(address) is not None:
        return address  # bound by our parent, who keeps it
    host, port = parse_address(address)
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.create_server((host, port), family=family) as probe:  # nobody else is there
            port = probe.getsockname()[1]
        keeper = held.enter_context(socket.socket(family, socket.SOCK_STREAM))
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        keeper.bind((host, port))
    except OSError as error:
        raise OSError(error.errno, cannot_listen(host, port, error)) from error
    return shown_address(host, port)
