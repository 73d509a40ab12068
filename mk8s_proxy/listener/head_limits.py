"""How long the head of a request may be, and what it counts; pure.

Used by both connections of this room and by what reads their heads.
"""

from typing import Final, NamedTuple

HEAD_BYTES: Final = 64 * 1024
TARGET_BYTES: Final = 256 * 1024
MAX_FIELDS: Final = 100
"""Fields of one head, pseudo headers included; as many as Envoy, HAProxy and Apache take."""
LINE_OVERHEAD: Final = len(b"DELETE  HTTP/1.1")
"""What a request line has beside its target, at most."""
_FIELD_OVERHEAD: Final = 32


class HeadLimits(NamedTuple):
    """How long a head may be. The tunnel's own limit (`wire.limits.AGENT`) must be higher than both
    together: a head that passes here must never break a tunnel."""

    fields: int = HEAD_BYTES
    """Bytes of all but the target: raw, and of names and values plus 32 for each field (RFC 9113,
    6.5.2)."""
    target: int = TARGET_BYTES
    """Bytes of path and query: `kubectl exec` has its whole command there."""

    @property
    def both(self) -> int:
        """Bytes of a whole head of HTTP/1.1."""
        return self.fields + self.target + LINE_OVERHEAD


HEAD_LIMITS: Final = HeadLimits()
"""The limits of a head unless the settings say otherwise."""


def head_bytes(fields: list[tuple[bytes, bytes]]) -> int:
    """What a head counts: 32 for each field, too (RFC 9113, 6.5.2)."""
    names, values = zip(*fields, strict=True)
    return len(b"".join(values)) + len(b"".join(names)) + len(fields) * _FIELD_OVERHEAD


def target_of(fields: list[tuple[bytes, bytes]]) -> bytes:
    """What stands first as path; a second one is refused, and counts like any other field."""
    for name, value in fields:
        if name == b":path":
            return value
    return b""
