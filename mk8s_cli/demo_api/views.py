"""The forms in which clients get objects: as they are, only their metadata, or as a Table.

The columns are in `data/columns.yaml`, by resource: name ("!" first: only in `-o wide`) and a
template, where "{dotted.path!x:default}" is a value, by way of a conversion.
"""

import re
import string
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from mk8s_cli.demo_api.call import Call
from mk8s_cli.demo_api.catalogue import Kind, data
from mk8s_cli.demo_api.objects import ApiError, Document, dig

META_VERSION = "meta.k8s.io/v1"
PARTIAL = {"kind": "PartialObjectMetadata", "apiVersion": META_VERSION}
ROLE = "node-role.kubernetes.io/"


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
    "s": lambda numbers: str(sum(map(int, numbers or ()))),
    "u": lambda flag: ",SchedulingDisabled" if flag else "",
}
"""age, lower case, number of, ports, roles, sum (of the true ones, if they are flags), cordoned."""


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


def view(
    call: Call,
    found: Document | list[Document],
    *,
    headers: bool = True,
    meta: Document | None = None,
) -> Document:
    """An object, or a list of objects, in the form that the client wants; raises 406.

    `headers`: with a Table's column definitions; `meta`: of the list, if not just its version.
    """
    form, kind = call.form().kind, call.kind
    meta = meta or {"resourceVersion": str(call.store.version)}
    items = found if isinstance(found, list) else [found]
    if form.endswith("List") and not isinstance(found, list):
        raise ApiError(406, f"you requested {form}, but the requested object is not a list")
    if form == "Table":
        table = _table(kind, items, call.request.query.get("includeObject", "Metadata"))
        return table | {"metadata": meta} | ({} if headers else {"columnDefinitions": []})
    own = {"kind": kind.gvk["kind"], "apiVersion": kind.api_version}
    head = PARTIAL if form else own
    if not isinstance(found, list):
        return {**head, **_part(found, form)}
    # As kube-apiserver does it: what is in a list of a built-in kind does not say what it is.
    repeated = head if form or kind.is_custom else {}
    shown = [{**repeated, **_part(item, form)} for item in items]
    if kind.is_custom and not form:
        meta = {"continue": "", **meta}
    return {**head, "kind": head["kind"] + "List", "metadata": meta, "items": shown}


def _part(item: Document, form: str) -> Document:
    """What a form shows of an object beside its kind."""
    if form:
        return {"metadata": item["metadata"]}
    return {key: value for key, value in item.items() if key not in {"kind", "apiVersion"}}


def _table(kind: Kind, items: list[Document], include: str) -> Document:
    """A Table; `include` is the query parameter includeObject."""
    columns, rows = _columns(kind), []
    definitions = [
        {
            "name": name.removeprefix("!"),
            "type": "string",
            "format": "name" if name == "Name" else "",
            "description": "",
            "priority": int(name.startswith("!")),
        }
        for name in columns
    ]
    for item in items:
        row: Document = {"cells": [_Cell().format(columns[name], item) for name in columns]}
        if include != "None":
            whole = include == "Object"
            row["object"] = item if whole else {**PARTIAL, "metadata": item["metadata"]}
        rows.append(row)
    head = {"kind": "Table", "apiVersion": META_VERSION}
    return {**head, "columnDefinitions": definitions, "rows": rows}
