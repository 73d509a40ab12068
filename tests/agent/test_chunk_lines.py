"""Lines around chunks: short ones pass in any pieces, long ones do not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_agent.wire.chunk_lines import ChunkLines, ChunkLineTooLong

SIZES = st.lists(st.integers(1, 3000), max_size=6)
EXTENSIONS = st.sampled_from([b"", b";x", b";x=y", b";" + b"e" * 255])


def body(sizes: list[int], extension: bytes = b"", trailers: bytes = b"") -> bytes:
    chunks = [b"%x%b\r\n" % (size, extension) + (b"\n;" * size)[:size] + b"\r\n" for size in sizes]
    return b"".join(chunks) + b"0" + extension + b"\r\n" + trailers + b"\r\n"


def feed(wire: bytes, step: int) -> ChunkLines:
    lines = ChunkLines()
    for start in range(0, len(wire), step):
        lines.feed(wire[start : start + step])
    return lines


@given(sizes=SIZES, extension=EXTENSIONS, step=st.integers(1, 5000))
def test_a_body_in_any_pieces(sizes: list[int], extension: bytes, step: int) -> None:
    wire = body(sizes, extension, b"x-sum: 1\r\n")
    assert not feed(wire[:-1], step).ended
    assert feed(wire, step).ended
    assert feed(wire + b"GET / " + bytes(10_000), step).ended  # that is not its business


@pytest.mark.parametrize("step", [1, 7, 100_000])
@pytest.mark.parametrize(
    "wire",
    [
        b"5;" + b"e" * 256 + b"\r\nhello\r\n0\r\n\r\n",
        b"5;" + b"e" * 100_000,
        body([5, 6]).replace(b"0\r\n", b"0;" + b"e" * 300 + b"\r\n"),
        b"0" * 17 + b"5\r\nhello\r\n",
        b"5" + b" " * 300 + b"\r\nhello\r\n",
        b"0\r\n" + b"x: " + b"y" * 9000,
        b"0\r\n" + b"x: y\r\n" * 2000,
        b"xyz\r\n",
        b"\r\n",
    ],
)
def test_attack_a_line_that_nobody_reads(wire: bytes, step: int) -> None:
    with pytest.raises(ChunkLineTooLong):
        feed(wire, step)
