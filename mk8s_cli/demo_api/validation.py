"""Checks an object against the schema of its kind; used by `writes`.

Types, required fields and unknown fields only: enough that kubectl's everyday mistakes are
answered as a real API server answers them.
"""

from dataclasses import dataclass, field
from typing import Any

from mk8s_cli.demo_api.catalogue import Catalogue, Document

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}
OPEN = "x-kubernetes-preserve-unknown-fields"


@dataclass(frozen=True, slots=True)
class Problems:
    """What does not fit, as the messages and field paths of the API server."""

    unknown: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    types: list[str] = field(default_factory=list)


def problems(catalogue: Catalogue, item: Any, schema: Document) -> Problems:
    """All problems of an object."""
    found = Problems()
    _check(catalogue, (item, schema, ""), found)
    return found


def _check(catalogue: Catalogue, place: tuple[Any, Document, str], found: Problems) -> None:
    item, schema, path = place
    expected = TYPES.get(schema.get("type", ""))
    if item is None or schema.get("x-kubernetes-int-or-string"):
        return
    wrong_number = isinstance(item, bool) and schema.get("type") in {"integer", "number"}
    if expected and (not isinstance(item, expected) or wrong_number):
        found.types.append(f"{path}: a value of type {schema['type']} is needed, not {item!r}")
    elif isinstance(item, list):
        inner = catalogue.resolve(schema.get("items"))
        for at, entry in enumerate(item):
            _check(catalogue, (entry, inner, f"{path}[{at}]"), found)
    elif isinstance(item, dict):
        _check_fields(catalogue, (item, schema, path), found)


def _check_fields(
    catalogue: Catalogue, place: tuple[Document, Document, str], found: Problems
) -> None:
    item, schema, path = place
    known = schema.get("properties", {})
    closed = bool(known) and not schema.get(OPEN) and "additionalProperties" not in schema
    inside = f"{path}." if path else ""
    if path != "status" and not path.startswith("status."):
        found.missing.extend(
            f"{inside}{key}" for key in schema.get("required", []) if item.get(key) is None
        )
    for key, value in item.items():
        if closed and key not in known:
            found.unknown.append(f'unknown field "{inside}{key}"')
        else:
            _check(catalogue, (value, catalogue.child(schema, key), f"{inside}{key}"), found)
