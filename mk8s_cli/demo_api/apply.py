"""Server-side apply and managedFields; used by `writes` for every write.

Kept simply but truthfully: each manager's entry holds the fields (FieldsV1) it set and nobody
changed since. Simpler than sigs.k8s.io/structured-merge-diff in one thing: every list is one
field, owned and replaced as a whole.
"""

import copy
from typing import Any

from mk8s_cli.demo_api.catalogue import Document
from mk8s_cli.demo_api.errors import ApiError
from mk8s_cli.demo_api.store import FIXED, now

Path = tuple[str, ...]
"""Keys from the top of the object."""
NOT_OWNED = {*FIXED, "name", "namespace", "managedFields", "generateName"}
IDENTITY = ("manager", "operation", "subresource")
"""The keys that make an entry of managedFields somebody's own."""


def to_fields(paths: set[Path]) -> Document:
    """FieldsV1 of a set of paths."""
    found: Document = {}
    for path in sorted(paths):
        place = found
        for key in path:
            place = place.setdefault(f"f:{key}", {})
    return found


def from_fields(fields: Document, prefix: Path = ()) -> set[Path]:
    """The set of paths of FieldsV1."""
    found: set[Path] = set()
    for element, inner in fields.items():
        path = (*prefix, element.removeprefix("f:"))
        found |= from_fields(inner, path) if inner else {path}
    return found


def leaves(value: Any, prefix: Path = ()) -> dict[Path, Any]:
    """Every field of a value that is no object itself, with its value."""
    if not isinstance(value, dict) or (prefix and not value):
        return {prefix: value}
    inner = [leaves(value[key], (*prefix, key)) for key in value]
    return {path: leaf for part in inner for path, leaf in part.items()}


def _owned(item: Document) -> dict[Path, Any]:
    """The leaves of an object that managers own."""
    meta = {key: value for key, value in item["metadata"].items() if key not in NOT_OWNED and value}
    rest = {key: item[key] for key in item if key not in {"apiVersion", "kind", "metadata"}}
    return leaves({**rest, "metadata": meta} if meta else rest)


def _merge(live: Any, config: Any) -> Any:
    """The configuration laid over the live value."""
    if not isinstance(live, dict) or not isinstance(config, dict):
        return config
    return {**live, **{key: _merge(live.get(key), config[key]) for key in config}}


def apply(live: Document | None, config: Document, manager: Document, *, force: bool) -> Document:
    """The object after a server-side apply; raises 409 naming the fields of other managers.

    `manager` is an entry of managedFields without its fields.
    """
    wanted = set(_owned(config))
    if live is None:
        return track(None, config, manager)
    new, current, (before, others) = _owned(config), _owned(live), _split(live, manager)
    disputed = {path for path in wanted if path in current and current[path] != new[path]}
    if not force:
        _refuse_conflicts(others, disputed)
    merged = copy.deepcopy(_merge(live, config))
    shared = set[Path]().union(*(from_fields(entry["fieldsV1"]) for entry in others))
    for path in before - wanted - shared:
        _remove(merged, path)
    return track(live, merged, manager, wanted)


def track(
    before: Document | None, after: Document, manager: Document, wanted: set[Path] | None = None
) -> Document:
    """The object after a write, with managedFields brought up to date.

    `wanted` is all that the manager owns now; None: what it owned and what it changed.
    """
    new, old = _owned(after), _owned(before) if before else {}
    changed = {path for path in new if path not in old or old[path] != new[path]}
    gone = old.keys() - new.keys()
    before = before or {"metadata": {}}
    entries = before["metadata"].get("managedFields", [])
    own, others = _split(before, manager)
    fresh = (own | changed) - gone if wanted is None else wanted
    if fresh != own or changed or gone:
        left = [(entry, from_fields(entry["fieldsV1"]) - changed - gone) for entry in others]
        entries = [{**entry, "fieldsV1": to_fields(rest)} for entry, rest in left if rest]
        stamp = {"time": now(), "fieldsType": "FieldsV1", "fieldsV1": to_fields(fresh)}
        entries += [{**manager, **stamp}] if fresh else []
    return {**after, "metadata": {**after["metadata"], "managedFields": entries}}


def _split(item: Document, manager: Document) -> tuple[set[Path], list[Document]]:
    """The fields of a manager, and the entries of the others."""
    own, others = set[Path](), []
    for entry in item["metadata"].get("managedFields", []):
        if all(entry.get(key) == manager.get(key) for key in IDENTITY):
            own |= from_fields(entry["fieldsV1"])
        else:
            others.append(entry)
    return own, others


def _refuse_conflicts(entries: list[Document], disputed: set[Path]) -> None:
    causes = []
    for entry in entries:
        who = f'conflict with "{entry["manager"]}" using {entry["apiVersion"]}'
        paths = sorted(from_fields(entry["fieldsV1"]) & disputed)
        common = {"reason": "FieldManagerConflict", "message": who}
        causes += [{**common, "field": "." + ".".join(path)} for path in paths]
    if causes:
        count = "1 conflict" if len(causes) == 1 else f"{len(causes)} conflicts"
        lines = "; ".join(f"{cause['message']}: {cause['field']}" for cause in causes)
        raise ApiError(409, f"Apply failed with {count}: {lines}", causes=causes)


def _remove(item: Any, path: Path) -> None:
    """Removes a field in place, and objects that are empty then."""
    if isinstance(item, dict) and path[0] in item:
        if path[1:]:
            _remove(item[path[0]], path[1:])
        if not path[1:] or item[path[0]] == {}:
            del item[path[0]]
