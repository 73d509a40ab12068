"""The command of `mk8s delegate`: run as if it had been started by itself.

It has this process's terminal, and gets the signals that are sent to this one. Those that come
before or after it are not lost: the first end what is being done, the others wait until the login
has been ended.
"""

import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from mk8s_cli.terminal.errors import CliError

if TYPE_CHECKING:
    from subprocess import Popen

_PASSED_ON = ("SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT", "SIGBREAK")
_OF_TERMINALS = ("SIGINT", "SIGQUIT")
"""A terminal sends these to every process of its foreground group, the command included."""


class Child:
    """A command, and the signals of this process while it is there."""

    def __init__(self) -> None:
        self._process: Popen[bytes] | None = None
        self._before: dict[int, Any] = {}
        self._ignoring = False

    def __enter__(self) -> Self:
        for name in _PASSED_ON:
            number = getattr(signal, name, None)  # Windows has few of them
            if number is not None:
                self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def run(self, program: str, command: Sequence[str], environment: dict[str, str]) -> int:
        """Run the command and return its exit code; 128 and the number of the signal it died of."""
        import subprocess  # which the help needs not

        try:
            self._process = subprocess.Popen(list(command), executable=program, env=environment)
        except OSError as error:
            raise CliError(f"cannot run {program}: {error.strerror or error}") from error
        code = self._process.wait()
        return code if code >= 0 else 128 - code

    def ignore_signals(self) -> None:
        """From now on nothing interrupts: what follows is short."""
        self._ignoring = True

    def _take(self, number: int, _: FrameType | None) -> None:
        if self._ignoring:
            return
        if self._process is None:
            raise KeyboardInterrupt
        of_terminal = signal.Signals(number).name in _OF_TERMINALS and sys.stdin.isatty()
        if not of_terminal:
            with suppress(OSError, ValueError):  # gone, or not known to Windows
                self._process.send_signal(number)
