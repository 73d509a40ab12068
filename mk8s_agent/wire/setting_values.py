"""What a value of a setting may look like: conversion to its type, and variables inside of it.

Used by :mod:`mk8s_agent.wire.settings` for each value, and by the models of both programs for
values that are written in another way than ours. Pure: text in, value or sentence out.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_origin

_TRUE: Final = frozenset({"true", "yes", "on", "1"})
_FALSE: Final = frozenset({"false", "no", "off", "0"})
_UNITS: Final = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION: Final = re.compile(
    r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?", re.ASCII
)
_REFERENCE: Final = re.compile(r"(\$?)\$\{([^}]*)(\}?)")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


class Unusable(Exception):
    """A value does not fit its setting; the message completes "place: ..."."""


class UnusableItems(Unusable):
    """Several parts of a value do not fit; each of ``problems`` completes a line."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


@dataclass(frozen=True, slots=True)
class Known:
    """One setting: where it is in the file, its type, and its range."""

    place: str
    kind: type
    optional: bool
    least: float | None
    most: float | None
    prefix: str

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return self.prefix + self.place.replace(".", "_").upper()


def convert(entry: Known, value: object) -> object:
    """The value of a setting. Raises :class:`Unusable`."""
    if get_origin(entry.kind) is tuple:
        return _texts(value)
    if value is None or value == "":
        if entry.optional:
            return None
        if entry.kind is str:
            return ""
        raise Unusable("must not be empty")
    if entry.kind is bool:
        return switch(value)
    if entry.kind in (int, float):
        return _number(entry, value)
    if not isinstance(value, str):
        raise Unusable("must be text (put it in quotes)")
    return Path(value).expanduser() if entry.kind is Path else value


def switch(value: object) -> bool:
    """True or false, of YAML or as text. Raises :class:`Unusable`."""
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else ""
    if word not in _TRUE | _FALSE:
        raise Unusable("must be true or false")
    return word in _TRUE


def port(value: object) -> int:
    """A TCP port. Raises :class:`Unusable`."""
    text = "" if isinstance(value, bool) else str(value)
    if not re.fullmatch(r"[0-9]{1,5}", text, re.ASCII) or not 0 < int(text) < 65536:
        raise Unusable("must be a port, 1 to 65535")
    return int(text)


def seconds(value: object) -> int:
    """A time such as 24h, 1h30m or 7d, in seconds. Raises :class:`Unusable`."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if not value or found is None:
        raise Unusable("must be a time with its unit, as in 24h, 90m or 7d")
    parts = zip(found.groups(default="0"), _UNITS.values(), strict=True)
    return sum(int(number) * unit for number, unit in parts)


def expanded(value: object, environment: Mapping[str, str]) -> object:
    """A value with each ``${NAME}`` in its texts replaced by that variable; ``$${`` stays ``${``.

    Raises:
        Unusable: the variable is not set, or what is there is none.
    """
    if isinstance(value, list):
        return [expanded(item, environment) for item in value]
    if isinstance(value, dict):
        return {key: expanded(item, environment) for key, item in value.items()}
    if not isinstance(value, str):
        return value
    return _REFERENCE.sub(lambda found: _variable(found, environment), value)


def _variable(found: re.Match[str], environment: Mapping[str, str]) -> str:
    if found[1]:
        return found[0][1:]
    name = found[2]
    if not found[3] or not _VARIABLE.fullmatch(name):
        raise Unusable('"${" must begin a variable, as in ${NAME}; write $${ for a plain one')
    if name not in environment:
        raise Unusable(f"the environment variable {name} is not set")
    return environment[name]


def _texts(value: object) -> tuple[str, ...]:
    """A list of the file, or the lines of a variable."""
    if isinstance(value, str):
        value = [line for line in value.splitlines() if line.strip()]
    if value is not None and not isinstance(value, list):
        raise Unusable("must be a list")
    texts = tuple(value or ())
    if not all(isinstance(text, str) and text for text in texts):
        raise Unusable("must be a list of texts (put them in quotes)")
    return texts


def _number(entry: Known, value: object) -> float:
    what = "a whole number" if entry.kind is int else "a number"
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise Unusable(f"must be {what}")
    try:
        number: float = entry.kind(value)
    except (ValueError, OverflowError):
        raise Unusable(f"must be {what}") from None
    if not math.isfinite(number) or (isinstance(value, float) and number != value):
        raise Unusable(f"must be {what}")
    if entry.least is not None and number < entry.least:
        raise Unusable(f"must be at least {entry.least:.12g}")
    if entry.most is not None and number > entry.most:
        raise Unusable(f"must be at most {entry.most:.12g}")
    return number
