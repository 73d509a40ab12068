"""Which answers of the API server pass without being decoded; pure.

Called by `mk8s_agent.apiserver.pool` for every answer. An agent looks at a head for two reasons
only: an informational one stops here, and a 401 speaks of the agent's own credential. The status is
the first field, so the first bytes of a block tell these two from all others. What they do not tell
is decoded. Central reads each answer again, in its client's interest.
"""

from typing import Final

_INDEXED: Final = frozenset(range(0x88, 0x8F))
"""Fields of HPACK's static table: 200, 204, 206, 304, 400, 404 and 500."""
_LITERAL: Final = frozenset((0x08, 0x18, 0x48))
"""A value follows the static table's name: not for a table, for none ever, for the dynamic one."""


def _huffman(digits: str) -> bytes:
    """A Huffman coded string (RFC 7541, appendix B): 0 to 2 have five bits, other digits six."""
    bits = "".join(f"{int(it):05b}" if it < "3" else f"{int(it) + 0x16:06b}" for it in digits)
    size = -(-len(bits) // 8)
    return bytes((0x80 | size,)) + int(bits.ljust(size * 8, "1"), 2).to_bytes(size, "big")


def _strings(status: int) -> tuple[bytes, bytes]:
    return b"\x03%d" % status, _huffman(str(status))


_UNREAD: Final = frozenset(
    string for status in range(200, 600) if status != 401 for string in _strings(status)
)
"""Final statuses as HPACK strings: three or four bytes, as their first one says."""


def passes_unread(block: bytes) -> bool:
    """Tells whether a head is certainly a final one, and no 401."""
    first = block[0] if block else 0
    if first in _INDEXED:
        return True
    return first in _LITERAL and (block[1:4] in _UNREAD or block[1:5] in _UNREAD)
