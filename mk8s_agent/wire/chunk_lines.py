"""The lines around the chunks of a body (RFC 9112, 7.1), which llhttp reads at any length.

Used by both ends of HTTP/1.1 beside llhttp, which takes the framing off: a line of the framing is
counted by no window, and what stands in it is read by nobody.
"""

# compiled: every chunk of an answer

from typing import Final

LONGEST_EXTENSION: Final = 256
"""Bytes behind the size of a chunk, its ";" included."""

_LONGEST_SIZE: Final = 16
"""Digits of a chunk's size."""

_LONGEST_TRAILERS: Final = 8 * 1024


class ChunkLineTooLong(Exception):
    """A line around the chunks is over its limit, or no such line at all."""


class ChunkLines:
    """Walks along one chunked body, in whatever pieces it comes."""

    __slots__ = ("_left", "_line", "_trailers", "ended")

    def __init__(self) -> None:
        self.ended = False
        """The body is over: what comes behind it is not looked at."""
        self._left = 0
        """Bytes of a chunk, and of its line end, that are still to come."""
        self._line = b""
        self._trailers = -1
        """Bytes of the trailer section, once the last chunk came."""

    def feed(self, data: bytes) -> None:
        """Looks at the next bytes of the body.

        Raises:
            ChunkLineTooLong: llhttp may go on, but nobody should.
        """
        position, size = 0, len(data)
        while position < size and not self.ended:
            if self._left:
                step = min(self._left, size - position)
                self._left -= step
                position += step
                continue
            end = data.find(b"\n", position) + 1 or size
            self._line += data[position : min(end, position + _LONGEST_TRAILERS + 1)]
            position = end
            self._check_length()
            if self._line.endswith(b"\n"):
                line, self._line = self._line, b""
                self._take(line.removesuffix(b"\n").removesuffix(b"\r"))

    def _check_length(self) -> None:
        if self._trailers >= 0:
            if self._trailers + len(self._line) > _LONGEST_TRAILERS:
                raise ChunkLineTooLong("trailers")
            return
        digits = self._line.partition(b";")[0].rstrip()
        if len(digits) > _LONGEST_SIZE or len(self._line) > len(digits) + LONGEST_EXTENSION + 2:
            raise ChunkLineTooLong("a chunk extension")

    def _take(self, line: bytes) -> None:
        if self._trailers >= 0:
            self._trailers += len(line) + 2
            self.ended = not line
            return
        try:
            chunk = int(line.partition(b";")[0], 16)
        except ValueError as error:
            raise ChunkLineTooLong("no size of a chunk") from error
        if chunk > 0:
            self._left = chunk + 2
        else:
            self._trailers = 0
