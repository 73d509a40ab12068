"""Reads the settings: a YAML file, then ``MK8S_*`` environment variables over it.

Called by ``main``. Every problem is collected, so that one run shows all of them.
"""

import difflib
import math
import types
from collections.abc import Mapping
from dataclasses import Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from mk8s_proxy.settings.model import Settings, SettingsError
from mk8s_proxy.settings.yaml_file import YamlDocument, YamlFileError, read_yaml

ENVIRONMENT_PREFIX = "MK8S_"
CONFIG_VARIABLE = "MK8S_CONFIG"
_FOREIGN_PREFIXES = ("MK8S_AGENT_", "MK8S_TEST_", "MK8S_CLI_")
"""Variables of the other programs, which share machines and shells with central."""
_LIKELY_MISSPELT = 0.85
"""How alike (difflib ratio) an unknown variable must be to count as a misspelt one of ours."""


class _Unusable(Exception):
    """A value does not fit its setting; the message completes "place: ..."."""


@dataclass(frozen=True, slots=True)
class _Known:
    """One setting: where it is in the file, its type, and its range."""

    place: str
    kind: type
    optional: bool
    least: float | None
    most: float | None

    @property
    def variable(self) -> str:
        return ENVIRONMENT_PREFIX + self.place.replace(".", "_").upper()


def load_settings(path: Path | None, environment: Mapping[str, str]) -> Settings:
    """Read the settings.

    Args:
        path: the YAML file; None for environment and defaults only.
        environment: usually ``os.environ``.

    Raises:
        SettingsError: with every problem, each one line.
    """
    known = {entry.place: entry for entry in _known_settings(Settings, "")}
    problems: list[str] = []
    values = _from_file(path, known, problems) if path else {}
    values |= _from_environment(environment, known, problems)
    if problems:
        raise SettingsError(problems)
    settings = _build(Settings, "", values)
    assert isinstance(settings, Settings)
    return settings


def environment_variables() -> dict[str, str]:
    """The variable of each setting, by its place in the file. For documentation and tests."""
    return {entry.place: entry.variable for entry in _known_settings(Settings, "")}


def _known_settings(owner: type, prefix: str) -> list[_Known]:
    hints = get_type_hints(owner)
    found: list[_Known] = []
    for entry in fields(owner):
        hint = hints[entry.name]
        if is_dataclass(hint):
            assert isinstance(hint, type)
            found += _known_settings(hint, f"{prefix}{entry.name}.")
        else:
            found.append(_known(entry, hint, prefix))
    return found


def _known(entry: Field[Any], hint: Any, prefix: str) -> _Known:
    optional = get_origin(hint) in (Union, types.UnionType)
    kind = get_args(hint)[0] if optional else hint
    limits = entry.metadata
    return _Known(prefix + entry.name, kind, optional, limits.get("least"), limits.get("most"))


def _from_file(path: Path, known: dict[str, _Known], problems: list[str]) -> dict[str, object]:
    try:
        document = read_yaml(path)
    except YamlFileError as error:
        problems.append(str(error))
        return {}
    if document.value is None:
        return {}
    if not isinstance(document.value, dict):
        problems.append(f"{path}: the file must be a mapping of settings")
        return {}
    values: dict[str, object] = {}
    _read_mapping(document, document.value, "", _Reader(known, values, problems))
    return values


@dataclass(frozen=True, slots=True)
class _Reader:
    known: dict[str, _Known]
    values: dict[str, object]
    problems: list[str]

    def take(self, entry: _Known, value: object, source: str) -> None:
        try:
            self.values[entry.place] = _convert(entry, value)
        except _Unusable as error:
            self.problems.append(f"{source}: {error}")


def _read_mapping(
    document: YamlDocument, mapping: dict[Any, Any], prefix: str, reader: _Reader
) -> None:
    sections = {place.rpartition(".")[0] for place in reader.known}
    for key, value in mapping.items():
        place = f"{prefix}{key}"
        where = document.where(place)
        if place in reader.known:
            reader.take(reader.known[place], value, f"{where}: {place}")
        elif place not in sections:
            near = _nearest(place, [*reader.known, *sections], 0.6)
            reader.problems.append(f'{where}: unknown setting "{place}"{near}')
        elif isinstance(value, dict):
            _read_mapping(document, value, f"{place}.", reader)
        elif value is not None:
            reader.problems.append(f"{where}: {place}: must be a mapping of settings")


def _from_environment(
    environment: Mapping[str, str], known: dict[str, _Known], problems: list[str]
) -> dict[str, object]:
    by_variable = {entry.variable: entry for entry in known.values()}
    values: dict[str, object] = {}
    reader = _Reader(known, values, problems)
    for name in sorted(environment):
        if name in by_variable:
            reader.take(by_variable[name], environment[name], name)
        elif name.startswith(ENVIRONMENT_PREFIX) and name != CONFIG_VARIABLE:
            problems += _misspelt(name, list(by_variable))
    return values


def _misspelt(name: str, variables: list[str]) -> list[str]:
    if name.startswith(_FOREIGN_PREFIXES):
        return []
    near = _nearest(name, variables, _LIKELY_MISSPELT)
    return [f"unknown environment variable {name}{near}"] if near else []


def _nearest(name: str, candidates: list[str], cutoff: float) -> str:
    near = difflib.get_close_matches(name, candidates, n=1, cutoff=cutoff)
    return f' (did you mean "{near[0]}"?)' if near else ""


def _convert(entry: _Known, value: object) -> object:
    if value is None or value == "":
        if entry.optional:
            return None
        if entry.kind is str:
            return ""
        raise _Unusable("must not be empty")
    if entry.kind in (int, float):
        return _number(entry, value)
    if not isinstance(value, str):
        raise _Unusable("must be text (put it in quotes)")
    return Path(value).expanduser() if entry.kind is Path else value


def _number(entry: _Known, value: object) -> float:
    what = "a whole number" if entry.kind is int else "a number"
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise _Unusable(f"must be {what}")
    try:
        number: float = entry.kind(value)
    except (ValueError, OverflowError):
        raise _Unusable(f"must be {what}") from None
    if not math.isfinite(number) or (isinstance(value, float) and number != value):
        raise _Unusable(f"must be {what}")
    if entry.least is not None and number < entry.least:
        raise _Unusable(f"must be at least {entry.least:g}")
    if entry.most is not None and number > entry.most:
        raise _Unusable(f"must be at most {entry.most:g}")
    return number


def _build(owner: type, prefix: str, values: dict[str, object]) -> object:
    hints = get_type_hints(owner)
    arguments: dict[str, object] = {}
    for entry in fields(owner):
        place = prefix + entry.name
        hint = hints[entry.name]
        if is_dataclass(hint):
            assert isinstance(hint, type)
            arguments[entry.name] = _build(hint, f"{place}.", values)
        elif place in values:
            arguments[entry.name] = values[place]
    return owner(**arguments)
