"""Reads settings: a YAML file, then environment variables over it, then options, into dataclasses.

Central and the agent each have a model, nested frozen dataclasses, and read it by this module.
Every problem is collected, so that one run shows all of them. ``${NAME}`` in a value of the file is
that environment variable.
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeAlias, TypeVar, get_type_hints

from mk8s_agent.wire.setting_items import item_type, known, read_items
from mk8s_agent.wire.setting_values import Known, Unusable, UnusableItems, convert, expanded
from mk8s_agent.wire.yaml_file import YamlDocument, YamlFileError, read_yaml

Model = TypeVar("Model")
Reader: TypeAlias = Callable[[object], Mapping[str, object]]
"""Reads the value of another spelling: gives values by place, or raises :class:`Unusable`, which
says what to write instead."""
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
    spellings: Mapping[str, Reader] = field(default_factory=dict)
    """Other keys of the file that mean settings, and what reads them."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Keys of the file that mean nothing here whatever they say, and what to do instead."""


def setting(default: Any, *, least: float | None = None, most: float | None = None) -> Any:
    """A field with a default and, for numbers, the range that makes sense."""
    return field(default=default, metadata={"least": least, "most": most})


def read_values(
    names: Names,
    path: Path | None,
    environment: Mapping[str, str],
    options: Mapping[str, object] = _NOTHING,
    *,
    inside: Mapping[str, str] | None = None,
) -> dict[str, object]:
    """Read the values that are set, by their place in the file; defaults are left out.

    Args:
        names: which settings there are.
        path: the YAML file; None for none.
        environment: variables, which go over the file.
        options: of the command line, by place, which go over the variables; None is not given.
        inside: variables that values of the file may name, where they are not the same.

    Raises:
        SettingsError: with every problem, each one line.
    """
    known = {entry.place: entry for entry in _known_settings(names.owner, "", names.prefix)}
    problems: list[str] = []
    reader = _Reader(known, {}, problems, names, environment if inside is None else inside)
    if path:
        _from_file(path, reader)
    values = reader.values
    values |= _from_environment(environment, known, names, problems)
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


def _known_settings(owner: type, place: str, prefix: str) -> list[Known]:
    hints = get_type_hints(owner)
    found: list[Known] = []
    for entry in fields(owner):
        hint = hints[entry.name]
        if is_dataclass(hint):
            assert isinstance(hint, type)
            found += _known_settings(hint, f"{place}{entry.name}.", prefix)
        else:
            found.append(known(entry, hint, place, prefix))
    return found


def _from_file(path: Path, reader: "_Reader") -> None:
    try:
        document = read_yaml(path)
    except YamlFileError as error:
        reader.problems.append(str(error))
        return
    if document.value is None:
        return
    if not isinstance(document.value, dict):
        reader.problems.append(f"{path}: the file must be a mapping of settings")
        return
    _read_mapping(document, document.value, "", reader)


@dataclass(frozen=True, slots=True)
class _Reader:
    known: dict[str, Known]
    values: dict[str, object]
    problems: list[str]
    names: Names
    environment: Mapping[str, str]
    """What values of the file may name."""
    told_by: dict[str, str] = field(default_factory=dict)
    """Which key of the file said each value."""

    def take(self, entry: Known, value: object, source: str) -> None:
        kind = item_type(entry.kind)
        try:
            taken = convert(entry, value) if kind is None else read_items(kind, value)
            self.values[entry.place] = taken
        except UnusableItems as error:
            self.problems.extend(f"{source}{line}" for line in error.problems)
        except Unusable as error:
            self.problems.append(f"{source}: {error}")

    def take_from_file(self, key: str, value: object, source: str) -> None:
        """Take the value of a key, whose name is the setting's or another spelling of it."""
        if key in self.names.refused:
            self.problems.append(f"{source}: {self.names.refused[key]}")
            return
        reads = self.names.spellings.get(key)
        try:
            value = expanded(value, self.environment)
            meant = {key: value} if reads is None else reads(value)
        except Unusable as error:
            self.problems.append(f"{source}: {error}")
            return
        for place, wanted in meant.items():
            told = source if reads is None else f"{source}: {place}"
            other = self.told_by.setdefault(place, key)
            if other != key:
                self.problems.append(f"{source}: {other} says the same: keep one of the two")
            elif place in self.known:
                self.take(self.known[place], wanted, told)
            else:
                self.values[place] = wanted


def _read_mapping(
    document: YamlDocument, mapping: dict[Any, Any], prefix: str, reader: _Reader
) -> None:
    names = [*reader.known, *reader.names.spellings, *reader.names.refused]
    sections = {place.rpartition(".")[0] for place in names}
    for key, value in mapping.items():
        place = f"{prefix}{key}"
        where = document.where(place)
        if place in names:
            reader.take_from_file(place, value, f"{where}: {place}")
        elif place not in sections:
            near = _nearest(place, [*reader.known, *sections], 0.6)
            reader.problems.append(f'{where}: unknown setting "{place}"{near}')
        elif isinstance(value, dict):
            _read_mapping(document, value, f"{place}.", reader)
        elif value is not None:
            reader.problems.append(f"{where}: {place}: must be a mapping of settings")


def _from_environment(
    environment: Mapping[str, str], known: dict[str, Known], names: Names, problems: list[str]
) -> dict[str, object]:
    by_variable = {entry.variable: entry for entry in known.values()}
    values: dict[str, object] = {}
    reader = _Reader(known, values, problems, names, environment)
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
