"""YAML files that people write, read strictly. Used for the settings and the RBAC file.

Only plain values (the safe loader), one document, no key twice (YAML itself would silently take
the last), and the line of every value is kept so that a mistake can be pointed at.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 16 << 20
"""More than any real configuration (10,000 roles take 7 MiB); keeps a mistaken path, such as that
of a disk image, out of memory."""
MAX_DEPTH = 32
MAX_VALUES = 500_000
"""Aliases of aliases can make a short file mean a huge one."""

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml where it is there: the other takes seconds for thousands of roles."""


class YamlFileError(Exception):
    """The file cannot be read; the message is one line that names the file and the place."""


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """A file's value, and where each part of it stands."""

    path: Path
    value: Any
    lines: dict[str, int] = field(default_factory=dict)
    """Line, from 1, by place: "roles[0].name"."""

    def where(self, place: str) -> str:
        """ "file:line" of a place, or of its nearest parent that has a line."""
        while place and place not in self.lines:
            place = place[: max(place.rfind("."), place.rfind("["), 0)]
        line = self.lines.get(place)
        return f"{self.path}:{line}" if line else str(self.path)


def read_yaml(path: Path) -> YamlDocument:
    """Read one YAML file; an empty one has the value None.

    Raises:
        YamlFileError: unreadable, not YAML, a key twice, more than one document, too deep.
    """
    text = _read(path)
    try:
        return _parse(path, text)
    except yaml.MarkedYAMLError as marked:
        raise YamlFileError(f"{path}{_mark(marked.problem_mark)}: {marked.problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise YamlFileError(f"{path}: not YAML: {reason}") from None


def _parse(path: Path, text: str) -> YamlDocument:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return YamlDocument(path, None)
        lines: dict[str, int] = {}
        _note_lines(node, "", lines, 0)
        return YamlDocument(path, loader.construct_document(node), lines)
    finally:
        loader.dispose()


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise YamlFileError(f"cannot read {path}: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise YamlFileError(f"{path} is larger than {MAX_BYTES >> 20} MiB")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise YamlFileError(f"{path} is not UTF-8 text") from None


def _note_lines(node: yaml.Node, place: str, lines: dict[str, int], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise _complaint("nested too deep", node)
    if len(lines) > MAX_VALUES:
        raise _complaint("too many values", node)
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _note_lines(item, f"{place}[{index}]", lines, depth + 1)
    elif isinstance(node, yaml.MappingNode):
        _note_mapping(node, place, lines, depth)


def _note_mapping(node: yaml.MappingNode, place: str, lines: dict[str, int], depth: int) -> None:
    seen: set[str] = set()
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _complaint("a key must be a word", key)
        if key.value in seen:
            raise _complaint(f'the key "{key.value}" is there twice', key)
        if key.tag == "tag:yaml.org,2002:merge":
            raise _complaint('merge keys ("<<") are not supported', key)
        seen.add(key.value)
        inner = f"{place}.{key.value}" if place else key.value
        lines[inner] = key.start_mark.line + 1
        _note_lines(value, inner, lines, depth + 1)


def _complaint(problem: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def _mark(mark: yaml.Mark | None) -> str:
    return f":{mark.line + 1}:{mark.column + 1}" if mark else ""
