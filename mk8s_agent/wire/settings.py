"""Reads settings: a YAML file, then environment variables over it, then options, into dataclasses.

Central and the agent each have a model, nested frozen dataclasses, and read it by this module.
Every problem is collected, so that one run shows all of them.
"""

import difflib
import math
import types
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, is_dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

from mk8s_agent.wire.yaml_file import YamlDocument, YamlFileError, read_yaml

Model = TypeVar("Model")
_NOTHING: Final[Mapping[str, object]] = MappingProxyType({})
_LIKELY_MISSPELT = 0.85
"""How alike (difflib ratio) an unknown variable must be to count as a misspelt one of ours."""


class SettingsError(Exception):
    """The configuration cannot be used. Each of ``problems`` is one line that says what to do."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


@dataclass(frozen=True, slots=True)
class Names:
    """How the settings of one program are called."""

    owner: type
    """Its model; the names of fields, joined by dots, are places in the YAML file."""
    prefix: str
    """Of its environment variables: the rest is the place in capitals, joined by "_"."""
    others: tuple[str, ...] = ()
    """How variables begin that have this prefix and are none of its settings."""


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
    prefix: str

    @property
    def variable(self) -> str:
        return self.prefix + self.place.replace(".", "_").upper()


def setting(default: Any, *, least: float | None = None, most: float | None = None) -> Any:
    """A field with a default and, for numbers, the range that makes sense."""
    return field(default=default, metadata={"least": least, "most": most})


def read_values(
    names: Names,
    path: Path | None,
    environment: Mapping[str, str],
    options: Mapping[str, object] = _NOTHING,
) -> dict[str, object]:
    """Read the values that are set, by their place in the file; defaults are left out.

    Args:
        names: which settings there are.
        path: the YAML file; None for none.
        environment: variables, which go over the file.
        options: of the command line, by place, which go over the variables; None is not given.

    Raises:
        SettingsError: with every problem, each one line.
    """
    known = {entry.place: entry for entry in _known_settings(names.owner, "", names.prefix)}
    problems: list[str] = []
    values = _from_file(path, known, problems) if path else {}
    values |= _from_environment(environment, known, names, problems)
    reader = _Reader(known, values, problems)
    for place, value in options.items():
        if value is not None:
            reader.take(known[place], value, place)
    if problems:
        raise SettingsError(problems)
    return values


def variables_of(names: Names) -> dict[str, str]:
    """The variable of each setting, by its place in the file."""
    found = _known_settings(names.owner, "", names.prefix)
    return {entry.place: entry.variable for entry in found}


def _known_settings(owner: type, place: str, prefix: str) -> list[_Known]:
    hints = get_type_hints(owner)
    found: list[_Known] = []
    for entry in fields(owner):
        hint = hints[entry.name]
        if is_dataclass(hint):
            assert isinstance(hint, type)
            found += _known_settings(hint, f"{place}{entry.name}.", prefix)
        else:
            found.append(_known(entry, hint, place, prefix))
    return found


def _known(entry: Field[Any], hint: Any, place: str, prefix: str) -> _Known:
    optional = get_origin(hint) in (Union, types.UnionType)
    kind = get_args(hint)[0] if optional else hint
    limits = entry.metadata
    least, most = limits.get("least"), limits.get("most")
    return _Known(place + entry.name, kind, optional, least, most, prefix)


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
    environment: Mapping[str, str], known: dict[str, _Known], names: Names, problems: list[str]
) -> dict[str, object]:
    by_variable = {entry.variable: entry for entry in known.values()}
    values: dict[str, object] = {}
    reader = _Reader(known, values, problems)
    for name in sorted(environment):
        if name in by_variable:
            reader.take(by_variable[name], environment[name], name)
        elif name.startswith(names.prefix) and not name.startswith(names.others):
            problems += _misspelt(name, list(by_variable))
    return values


def _misspelt(name: str, variables: list[str]) -> list[str]:
    near = _nearest(name, variables, _LIKELY_MISSPELT)
    return [f"unknown environment variable {name}{near}"] if near else []


def _nearest(name: str, candidates: list[str], cutoff: float) -> str:
    near = difflib.get_close_matches(name, candidates, n=1, cutoff=cutoff)
    return f' (did you mean "{near[0]}"?)' if near else ""


def _convert(entry: _Known, value: object) -> object:
    if get_origin(entry.kind) is tuple:
        return _texts(value)
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


def _texts(value: object) -> tuple[str, ...]:
    """A list of the file, or the lines of a variable."""
    if isinstance(value, str):
        value = [line for line in value.splitlines() if line.strip()]
    if value is not None and not isinstance(value, list):
        raise _Unusable("must be a list")
    texts = tuple(value or ())
    if not all(isinstance(text, str) and text for text in texts):
        raise _Unusable("must be a list of texts (put them in quotes)")
    return texts


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


def build(owner: type[Model], values: Mapping[str, object], prefix: str = "") -> Model:
    """Make a model of what `read_values` gave; what is not there keeps its default."""
    hints = get_type_hints(owner)
    arguments: dict[str, object] = {}
    for entry in fields(owner):  # type: ignore[arg-type]
        place = prefix + entry.name
        hint = hints[entry.name]
        if is_dataclass(hint):
            assert isinstance(hint, type)
            arguments[entry.name] = build(hint, values, f"{place}.")
        elif place in values:
            arguments[entry.name] = values[place]
    return owner(**arguments)
