"""Server-side apply and managedFields; used by `objects` for every write.

Kept simply but truthfully: each manager's entry holds the fields (FieldsV1) it set and nobody
changed since. Semantics: sigs.k8s.io/structured-merge-diff, schema hints `x-kubernetes-list-type`,
`-list-map-keys` and `-map-type`; a list without them is atomic.
"""

import copy
import json
from dataclasses import dataclass
from typing import Any

from mk8s_cli.demo_api.catalogue import Catalogue, Document
from mk8s_cli.demo_api.status import ApiError
from mk8s_cli.demo_api.store import now

Path = tuple[str, ...]
"""Elements in the notation of FieldsV1: f:name, k:{"name":"web"}, v:"value"."""
SYSTEM_META = {"name", "namespace", "uid", "resourceVersion", "creationTimestamp", "generation"}
NOT_OWNED = {"apiVersion", "kind", "metadata"}
SYSTEM_META |= {"managedFields", "selfLink", "deletionTimestamp", "generateName"}


@dataclass(frozen=True, slots=True)
class Manager:
    """Who writes: the identity of an entry of managedFields."""

    name: str
    operation: str
    """Apply or Update."""
    api_version: str
    subresource: str = ""

    def owns(self, entry: Document) -> bool:
        """Whether the entry is this manager's."""
        own = (entry.get("manager"), entry.get("operation"), entry.get("subresource", ""))
        return own == (self.name, self.operation, self.subresource)

    def entry(self, fields: set[Path]) -> Document:
        """A fresh entry."""
        found = {"manager": self.name, "operation": self.operation, "apiVersion": self.api_version}
        found["time"] = now()
        if self.subresource:
            found["subresource"] = self.subresource
        return {**found, "fieldsType": "FieldsV1", "fieldsV1": to_fields(fields)}


def to_fields(paths: set[Path]) -> Document:
    """FieldsV1 of a set of paths."""
    found: Document = {}
    for path in sorted(paths):
        place = found
        for element in path:
            place = place.setdefault(element, {})
        if any(other[: len(path)] == path and other != path for other in paths):
            place["."] = {}
    return found


def from_fields(fields: Document, prefix: Path = ()) -> set[Path]:
    """The set of paths of FieldsV1."""
    found: set[Path] = set()
    for element, inner in fields.items():
        path = prefix if element == "." else (*prefix, element)
        found |= from_fields(inner, path) if inner else {path}
    return found


def show(path: Path) -> str:
    """A path as kubectl prints it: .spec.containers[name="web"].image."""
    text = ""
    for element in path:
        mark, value = element[:2], element[2:]
        if mark == "f:":
            text += f".{value}"
        elif mark == "k:":
            pairs = [f"{key}={json.dumps(part)}" for key, part in json.loads(value).items()]
            text += f"[{','.join(pairs)}]"
        else:
            text += f"[={value}]"
    return text


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def stripped(item: Document) -> Document:
    """The part of an object that managers own."""
    found = {key: value for key, value in item.items() if key not in NOT_OWNED}
    meta = item.get("metadata", {}).items()
    own = {key: value for key, value in meta if key not in SYSTEM_META and value}
    return {**found, "metadata": own} if own else found


class FieldManagement:
    """Applies configurations and keeps managedFields, by the schemas of the catalogue."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def leaves(self, value: Any, schema: Document, prefix: Path = ()) -> dict[Path, Any]:
        """Every owned field of a value, with its value."""
        found: dict[Path, Any] = {}
        if isinstance(value, dict) and value and schema.get("x-kubernetes-map-type") != "atomic":
            for key, inner in value.items():
                child = self._catalogue.child(schema, key)
                found |= self.leaves(inner, child, (*prefix, f"f:{key}"))
            return found
        kind = schema.get("x-kubernetes-list-type") if isinstance(value, list) else None
        if kind == "set":
            return {(*prefix, f"v:{_dumps(inner)}"): inner for inner in value}
        if kind == "map":
            item_schema = self._catalogue.resolve(schema.get("items"))
            for inner in value:
                path = (*prefix, _list_key(inner, schema))
                found |= {path: None, **self.leaves(inner, item_schema, path)}
            return found
        return {prefix: value} if prefix else {}

    def merge(self, live: Any, config: Any, schema: Document) -> Any:
        """The configuration laid over the live value."""
        if isinstance(live, dict) and isinstance(config, dict):
            if schema.get("x-kubernetes-map-type") == "atomic":
                return config
            children = {key: self._catalogue.child(schema, key) for key in config}
            changed = {key: self.merge(live.get(key), config[key], children[key]) for key in config}
            return {**live, **changed}
        kind = schema.get("x-kubernetes-list-type")
        if not (isinstance(live, list) and isinstance(config, list)) or kind not in {"set", "map"}:
            return config
        if kind == "set":
            return live + [value for value in config if value not in live]
        item_schema = self._catalogue.resolve(schema.get("items"))
        found = {_list_key(entry, schema): entry for entry in live}
        for entry in config:
            key = _list_key(entry, schema)
            found[key] = self.merge(found.get(key), entry, item_schema)
        return list(found.values())

    def apply(
        self,
        live: Document | None,
        config: Document,
        schema: Document,
        *,
        manager: Manager,
        force: bool,
    ) -> Document:
        """The object after a server-side apply; raises 409 naming the fields of other managers."""
        wanted = self.leaves(stripped(config), schema)
        if live is None:
            return with_entries(config, [manager.entry(set(wanted))])
        current = self.leaves(stripped(live), schema)
        entries = copy.deepcopy(live["metadata"].get("managedFields", []))
        disputed = {
            path for path, value in wanted.items() if path in current and current[path] != value
        }
        others = [entry for entry in entries if not manager.owns(entry)]
        if not force:
            _refuse_conflicts(others, disputed)
        kept = _without(others, disputed)
        owned_by_others = set().union(*(from_fields(entry["fieldsV1"]) for entry in kept))
        before = set().union(*(from_fields(e["fieldsV1"]) for e in entries if manager.owns(e)))
        merged = self.merge(live, {**config, "metadata": _own_meta(live, config)}, schema)
        merged = copy.deepcopy(merged)
        for path in sorted(before - set(wanted), key=len):
            if not any(other[: len(path)] == path for other in owned_by_others):
                _remove(merged, path)
        return with_entries(merged, [*kept, manager.entry(set(wanted))])

    def track(
        self, before: Document | None, after: Document, schema: Document, manager: Manager
    ) -> Document:
        """The object after an ordinary write, with managedFields brought up to date."""
        new = self.leaves(stripped(after), schema)
        old = self.leaves(stripped(before), schema) if before else {}
        changed = {path for path, value in new.items() if path not in old or old[path] != value}
        gone = set(old) - set(new)
        entries = after["metadata"].get("managedFields")
        if entries is None and before:
            entries = before["metadata"].get("managedFields")
        entries = [entry for entry in entries or [] if entry.get("fieldsV1")]
        if not changed and not gone:
            return with_entries(after, entries)
        own = set().union(*(from_fields(e["fieldsV1"]) for e in entries if manager.owns(e)))
        others = _without([entry for entry in entries if not manager.owns(entry)], changed | gone)
        mine = (own | changed) - gone
        return with_entries(after, [*others, manager.entry(mine)] if mine else others)


def _own_meta(live: Document, config: Document) -> Document:
    """The metadata of a configuration, without what only the server sets."""
    meta = config.get("metadata", {})
    return {
        key: value
        for key, value in meta.items()
        if key not in SYSTEM_META or key not in live["metadata"]
    }


def with_entries(item: Document, entries: list[Document]) -> Document:
    """The object with these managedFields."""
    meta = {key: value for key, value in item["metadata"].items() if key != "managedFields"}
    return {**item, "metadata": {**meta, "managedFields": entries} if entries else meta}


def _list_key(entry: Document, schema: Document) -> str:
    """The path element of an item of a map-like list; the one default among keys is protocol."""
    keys = {key: entry.get(key) for key in sorted(schema.get("x-kubernetes-list-map-keys", []))}
    if keys.get("protocol", "") is None:
        keys["protocol"] = "TCP"
    return f"k:{_dumps({key: value for key, value in keys.items() if value is not None})}"


def _without(entries: list[Document], paths: set[Path]) -> list[Document]:
    found = []
    for entry in entries:
        left = from_fields(entry["fieldsV1"]) - paths
        if left:
            found.append({**entry, "fieldsV1": to_fields(left)})
    return found


def _refuse_conflicts(entries: list[Document], disputed: set[Path]) -> None:
    causes: list[Document] = []
    for entry in entries:
        who = f'conflict with "{entry["manager"]}" using {entry["apiVersion"]}'
        causes += [
            {"reason": "FieldManagerConflict", "message": who, "field": show(path)}
            for path in sorted(from_fields(entry["fieldsV1"]) & disputed)
        ]
    if causes:
        count = "1 conflict" if len(causes) == 1 else f"{len(causes)} conflicts"
        lines = "; ".join(f"{cause['message']}: {cause['field']}" for cause in causes)
        raise ApiError(409, f"Apply failed with {count}: {lines}", causes=causes)


def _matches(entry: Any, element: str) -> bool:
    wanted = json.loads(element[2:])
    if element.startswith("v:"):
        return bool(entry == wanted)
    return all(
        entry.get(key, "TCP" if key == "protocol" else None) == wanted[key] for key in wanted
    )


def _remove(item: Any, path: Path) -> None:
    """Removes a field or list item in place; what is not there is removed already."""
    for element in path[:-1]:
        if isinstance(item, dict):
            item = item.get(element[2:])
        elif isinstance(item, list):
            item = next((entry for entry in item if _matches(entry, element)), None)
    if isinstance(item, dict):
        item.pop(path[-1][2:], None)
    elif isinstance(item, list):
        item[:] = [entry for entry in item if not _matches(entry, path[-1])]
