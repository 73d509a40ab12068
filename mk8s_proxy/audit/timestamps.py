"""Times of audit rows: RFC 3339 in UTC with microseconds, as metav1.MicroTime writes them. Pure."""

import time
from collections.abc import Callable
from typing import Final

_MICROSECONDS: Final = 1_000_000
_THREE_DIGITS: Final = [f"{number:03d}" for number in range(1000)]
"""Looking a number up takes a third of formatting it."""


class Timestamps:
    """Makes timestamps; the second of the last one is at hand. One belongs to one event loop."""

    __slots__ = ("_start", "_text")

    def __init__(self) -> None:
        self._start = 0
        self._text = "1970-01-01T00:00:00."

    def format(self, moment: float) -> str:
        """The text of a time in seconds since the epoch."""
        microseconds = int(moment * _MICROSECONDS)
        fraction = microseconds - self._start
        if not 0 <= fraction < _MICROSECONDS:
            second, fraction = divmod(microseconds, _MICROSECONDS)
            self._start = second * _MICROSECONDS
            self._text = _text_of(second)
        high, low = divmod(fraction, 1000)
        return f"{self._text}{_THREE_DIGITS[high]}{_THREE_DIGITS[low]}Z"

    def pair(self, first: float, second: float) -> tuple[str, str]:
        """The texts of two times, which nearly always are of one second."""
        one = int(first * _MICROSECONDS) - self._start
        other = int(second * _MICROSECONDS) - self._start
        if not (0 <= one < _MICROSECONDS and 0 <= other < _MICROSECONDS):
            return self.format(first), self.format(second)
        text, digits = self._text, _THREE_DIGITS
        return (
            f"{text}{digits[one // 1000]}{digits[one % 1000]}Z",
            f"{text}{digits[other // 1000]}{digits[other % 1000]}Z",
        )


def _text_of(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))


_OWN: Final = Timestamps()

timestamp: Final[Callable[[float], str]] = _OWN.format
"""The text of a time in seconds since the epoch."""
timestamps: Final[Callable[[float, float], tuple[str, str]]] = _OWN.pair
"""The texts of two times."""
