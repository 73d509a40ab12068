"""Table and PartialObjectMetadata forms of objects, as printed by `kubectl get`.

Used by `reads`. The columns are in `data/columns.yaml`, by resource: name ("!" first: only in
`-o wide`) and a template, where "{dotted.path!x:default}" is a value, by way of a conversion.
"""

import re
import string
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from mk8s_cli.demo_api.catalogue import Document, Kind, data

META_VERSION = "meta.k8s.io/v1"
ROLE = "node-role.kubernetes.io/"


def dig(item: Any, path: str, default: Any = None) -> Any:
    """A value by dotted path; through a list, the values of all its items."""
    for name in path.split("."):
        if isinstance(item, list):
            item = [entry[name] for entry in item if name in entry]
        else:
            item = item.get(name) if isinstance(item, dict) else None
    return default if item is None else item


def age(moment: str | None) -> str:
    """Kubernetes's short duration since a time: 5s, 3m, 4h, 2d."""
    if not moment:
        return "<unknown>"
    seconds = max(0, int((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()))
    for unit, size, limit in (("s", 1, 120), ("m", 60, 3 * 3600), ("h", 3600, 48 * 3600)):
        if seconds < limit:
            return f"{seconds // size}{unit}"
    return f"{seconds // 86400}d"


CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "a": age,
    "l": lambda text: (text or "").lower(),
    "n": lambda values: str(len(values or ())),
    "p": lambda ports: [f"{port['port']}/{port.get('protocol', 'TCP')}" for port in ports or ()],
    "r": lambda labels: [key.removeprefix(ROLE) for key in labels or () if key.startswith(ROLE)],
    "s": lambda numbers: str(sum(numbers or ())),
    "t": lambda flags: str(sum(map(bool, flags or ()))),
    "u": lambda flag: ",SchedulingDisabled" if flag else "",
}
"""age, lower case, number of, ports, roles, sum, number of the true ones, unschedulable."""


class _Cell(string.Formatter):
    """Fills the templates from one object."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> tuple[Any, str]:
        return dig(args[0], field_name), field_name

    def convert_field(self, value: Any, conversion: Any) -> Any:
        return CONVERSIONS[conversion](value) if conversion else value

    def format_field(self, value: Any, format_spec: str) -> str:
        if isinstance(value, dict):
            value = [f"{key}={inner}" for key, inner in value.items()]
        if isinstance(value, list):
            value = ",".join(map(str, value)) or None
        return (format_spec or "<none>") if value is None else str(value)


def _columns(kind: Kind) -> dict[str, str]:
    """Templates by column name."""
    known: dict[str, dict[str, str]] = data("columns")
    if not kind.columns:
        return known.get(kind.resource, known["default"])
    found = {"Name": "{metadata.name}"}
    for column in kind.columns:
        mark = "!" if column.get("priority") else ""
        simple = re.fullmatch(r"\.([\w.]+)", column["jsonPath"])  # others show nothing
        conversion = "!a" if column["type"] == "date" else ""
        found[mark + column["name"]] = f"{{{simple[1]}{conversion}: }}" if simple else ""
    return found


def partial(item: Document) -> Document:
    """PartialObjectMetadata of an object."""
    head = {"kind": "PartialObjectMetadata", "apiVersion": META_VERSION}
    return {**head, "metadata": item["metadata"]}


def table(kind: Kind, items: list[Document], *, include: str, headers: bool = True) -> Document:
    """A Table of objects; `include` is the query parameter includeObject."""
    columns = _columns(kind)
    definitions = []
    for name in columns:
        form = {"type": "string", "format": "name" if name == "Name" else "", "description": ""}
        own = {"name": name.removeprefix("!"), "priority": int(name.startswith("!"))}
        definitions.append({**own, **form})
    rows = []
    for item in items:
        row: Document = {"cells": [_Cell().format(columns[name], item) for name in columns]}
        if include != "None":
            row["object"] = item if include == "Object" else partial(item)
        rows.append(row)
    head = {"kind": "Table", "apiVersion": META_VERSION, "metadata": {}}
    return {**head, "columnDefinitions": definitions if headers else [], "rows": rows}
