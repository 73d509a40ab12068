"""What a terminal shows, by the emulator pyte (extra `conformance`)."""

import time
from collections.abc import Callable

import pyte

from tests.conformance.terminal import Terminal


class Screen:
    """What a person sees of a terminal now, not all that was ever drawn."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._drawn = 0
        self._screen = pyte.Screen(80, 24)
        self._stream = pyte.Stream(self._screen)

    @property
    def text(self) -> str:
        """Its lines."""
        seen = self._terminal.seen
        self._stream.feed(seen[self._drawn :])
        self._drawn = len(seen)
        return "\n".join(self._screen.display)

    def wait_for(self, shown: Callable[[str], bool], *, seconds: float = 60) -> bool:
        """Watch until the text is as it should be; whether it was in time."""
        deadline = time.monotonic() + seconds
        while not shown(self.text):
            if time.monotonic() > deadline or not self._terminal.read(0.5):
                return shown(self.text)
        return True
