"""What a role lets one person have open at a time: the `limits` of a role. Called by `policy`.

They are no rights: a role without any has those of the settings, and of several roles of a person
the largest counts, so that another role never takes something away.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

from mk8s_proxy.authz.grammar import Place

LEAST_STREAMS: Final = 10
MOST_STREAMS: Final = 20_000
"""As many as a tunnel carries."""
LEAST_BUFFERED: Final = 1 << 20
MOST_BUFFERED: Final = 16 << 30
_UNITS: Final = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}
_SIZE: Final = re.compile(r"([0-9]{1,9})(Ki|Mi|Gi)", re.ASCII)


@dataclass(frozen=True, slots=True)
class RoleLimits:
    """What whoever holds a role may have of one cluster; None where the settings say it."""

    streams: int | None = None
    """Requests that may be open, watches included."""
    buffered: int | None = None
    """Bytes that may wait for slow readers."""

    def __bool__(self) -> bool:
        """Whether it says anything."""
        return self.streams is not None or self.buffered is not None

    def document(self) -> dict[str, Any]:
        """Write them as `parse_limits` reads them."""
        written: dict[str, Any] = {}
        if self.streams is not None:
            written["streams"] = self.streams
        if self.buffered is not None:
            written["buffered"] = _size_text(self.buffered)
        return written


NO_LIMITS: Final = RoleLimits()
NOTHING: Final = RoleLimits(0, 0)
"""Of a role that is locked: any other one of the person says more."""


def parse_limits(place: Place) -> RoleLimits:
    """Read the `limits` of a role.

    Raises:
        PolicyError: the first mistake, with its place ("limits.streams").
    """
    place.only_keys("streams", "buffered")
    return RoleLimits(
        _streams(place.key("streams")) if place.has("streams") else None,
        _buffered(place.key("buffered")) if place.has("buffered") else None,
    )


def _streams(place: Place) -> int:
    value = place.value
    if type(value) is not int or not LEAST_STREAMS <= value <= MOST_STREAMS:
        raise place.error(f"must be a number from {LEAST_STREAMS} to {MOST_STREAMS}")
    return value


def _buffered(place: Place) -> int:
    match = _SIZE.fullmatch(place.value) if isinstance(place.value, str) else None
    size = int(match[1]) * _UNITS[match[2]] if match else 0
    if not LEAST_BUFFERED <= size <= MOST_BUFFERED:
        raise place.error('must be a size from "1Mi" to "16Gi", such as "64Mi"')
    return size


def _size_text(size: int) -> str:
    unit = next(unit for unit in ("Gi", "Mi", "Ki") if size % _UNITS[unit] == 0)
    return f"{size // _UNITS[unit]}{unit}"
