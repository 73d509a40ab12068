"""A program inside a real terminal, as a person runs it: what it draws, how it takes a resize."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self


class Terminal:
    """A program on a pseudo terminal of 80 x 24, which does not outlive its `with` block."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path):
        self.seen = ""
        self._is_open = True
        self._main, worker = pty.openpty()
        self._size(24, 80)
        self._process = subprocess.Popen(
            command,
            env={**environment, "TERM": "xterm"},
            stdin=worker,
            stdout=worker,
            stderr=worker,
            cwd=folder,
            start_new_session=True,
            # Programs that open /dev/tty (k9s) find theirs.
            preexec_fn=lambda: fcntl.ioctl(worker, termios.TIOCSCTTY, 0),  # noqa: PLW1509
        )
        os.close(worker)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._main, text.encode())

    def resize(self, rows: int, columns: int) -> None:
        """Change the window's size, as a window manager does."""
        self._size(rows, columns)
        self._process.send_signal(signal.SIGWINCH)

    def wait_for(self, pattern: str, *, seconds: float = 20) -> bool:
        """Read until the screen's text so far matches; whether it did in time."""
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.seen):
            left = deadline - time.monotonic()
            if left <= 0 or not self._read(left):
                return bool(re.search(pattern, self.seen))
        return True

    def read(self, seconds: float) -> bool:
        """Wait for more of what it draws; False at the end of the program."""
        return self._read(seconds)

    def end(self, *, seconds: float = 20) -> int:
        """Read to the end; the exit code. A program that does not end is killed: -9."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and self._read(left):
            pass
        try:
            return self._process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
        finally:
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_open:
            self._process.kill()
            self._process.wait()
            self._close()

    def _close(self) -> None:
        self._is_open = False
        os.close(self._main)

    def _size(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._main, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _read(self, seconds: float) -> bool:
        """Take what is there; False at the end of the program."""
        poll = select.poll()  # select() takes no file descriptors from 1024 on
        poll.register(self._main, select.POLLIN)
        if not poll.poll(seconds * 1000):
            return True
        with contextlib.suppress(OSError):
            if data := os.read(self._main, 1 << 16):
                self.seen += data.decode(errors="replace")
                return True
        return False
