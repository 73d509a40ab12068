"""What members of control messages may be: one check for each kind of value; no I/O.

Called by ``mk8s_agent.wire.control``. A check gives the value, or raises ValueError with what it
must be, to stand behind the member's name.
"""

from typing import Final

MAX_TEXT: Final = 1024
"""Characters of a text that says something."""
_MAX_CAPABILITIES: Final = 64
_MAX_COUNT: Final = 2**31 - 1
_MAX_CLOCK: Final = 253402300800.0  # the year 10000, where datetime ends
_MAX_SECONDS: Final = 3600.0


def text(value: object) -> str:
    """A short text."""
    # printable, because these texts are shown in logs and on terminals of the other side
    if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
        raise ValueError(f"must be a string of at most {MAX_TEXT} printable characters")
    return value


def pem(value: object) -> str:
    """Something in PEM; what exactly, its reader finds out."""
    if not isinstance(value, str) or not value.startswith("-----BEGIN "):
        raise ValueError("must be PEM")
    return value


def number(value: object, highest: float) -> float:
    """A number from 0 on."""
    # bool is an int to Python and never one to a protocol
    found = -1.0 if isinstance(value, bool) or not isinstance(value, (int, float)) else value
    if not 0 <= found <= highest:
        raise ValueError(f"must be a number between 0 and {highest:g}")
    return float(found)


def clock(value: object) -> float:
    """Seconds since the epoch."""
    return number(value, _MAX_CLOCK)


def seconds(value: object) -> float:
    """A duration."""
    return number(value, _MAX_SECONDS)


def heartbeat_seconds(value: object) -> float:
    """Time between heartbeats."""
    between = seconds(value)
    if between < 1:
        raise ValueError("must be at least 1")
    return between


def count(value: object) -> int:
    """A whole number."""
    count = number(value, _MAX_COUNT)
    if not count.is_integer():
        raise ValueError("must be a whole number")
    return int(count)


def texts(value: object) -> tuple[str, ...]:
    """A short list of short texts."""
    if not isinstance(value, list) or len(value) > _MAX_CAPABILITIES:
        raise ValueError(f"must be a list of at most {_MAX_CAPABILITIES} strings")
    return tuple(text(item) for item in value)
