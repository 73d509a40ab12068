"""The four ways to change an object, and who owns its fields (managedFields); used by `writes`.

Sources: RFC 6902 (by the jsonpatch library), RFC 7396, for the strategic merge patch
apimachinery/pkg/util/strategicpatch: merge keys and strategies are read from the schema.
Server-side apply is simpler than sigs.k8s.io/structured-merge-diff in one thing: every list is one
field, owned and replaced as a whole. So an object is the same as its leaves, each by its path.
"""

import copy
from typing import Any

import jsonpatch
import jsonpointer

from mk8s_cli.demo_api.catalogue import child, resolve
from mk8s_cli.demo_api.objects import FIXED, ApiError, Document, now

MERGE_KEY = "x-kubernetes-patch-merge-key"
Path = tuple[str, ...]
"""Keys from the top of the object."""
NOT_OWNED = {*FIXED, "generation", "name", "namespace", "managedFields", "generateName"}
IDENTITY = ("manager", "operation", "subresource")
"""The keys that make an entry of managedFields somebody's own."""


def json_patch(item: Document, operations: Any) -> Document:
    """RFC 6902; raises 422 when an operation cannot be done, as the API server does."""
    if not isinstance(operations, list):
        raise ApiError(400, "a JSON patch is a list of operations")
    try:
        patched: Document = jsonpatch.apply_patch(item, operations)
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as error:
        problem = f"the server rejected our request due to an error in our request: {error}"
        raise ApiError(422, problem, "Invalid") from error
    except (TypeError, AttributeError) as error:
        raise ApiError(400, f"a JSON patch is a list of operations: {error}") from error
    return patched


def merge_patch(item: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = dict(item) if isinstance(item, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def strategic_patch(item: Any, patch: Document, schema: Document) -> Document:
    """The object (or part of one) with the patch merged into it."""
    keeps = isinstance(item, dict) and patch.get("$patch") not in {"delete", "replace"}
    merged = dict(item) if keeps else {}
    for key, value in patch.items():
        inner = child(schema, key)
        if key.startswith("$deleteFromPrimitiveList/"):
            name = key.partition("/")[2]
            merged[name] = [entry for entry in merged.get(name) or [] if entry not in value]
        elif key.startswith("$setElementOrder/") or key == "$patch":
            continue  # lists keep the order they have
        elif key == "$retainKeys":
            merged = {own: merged[own] for own in merged if own in value}
        elif value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = strategic_patch(merged.get(key), value, inner)
        elif isinstance(value, list) and "merge" in inner.get("x-kubernetes-patch-strategy", ""):
            merged[key] = _merge_list(merged.get(key) or [], value, inner)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def _merge_list(items: list[Any], patch: list[Any], schema: Document) -> list[Any]:
    merge_key = schema.get(MERGE_KEY)
    if merge_key is None:
        return items + [value for value in patch if value not in items]
    if any(entry.get("$patch") == "replace" for entry in patch):
        return [entry for entry in patch if "$patch" not in entry]
    found = {entry.get(merge_key): entry for entry in items}
    for entry in patch:
        name = entry.get(merge_key)
        if entry.get("$patch") == "delete":
            found.pop(name, None)
        else:
            found[name] = strategic_patch(found.get(name), entry, resolve(schema.get("items")))
    return list(found.values())


def leaves(value: Any, prefix: Path = ()) -> dict[Path, Any]:
    """Every field of a value that is no object itself, or an empty one, with its value."""
    if not isinstance(value, dict) or (prefix and not value):
        return {prefix: value}
    inner = [leaves(value[key], (*prefix, key)) for key in value]
    return {path: leaf for part in inner for path, leaf in part.items()}


def tree(parts: dict[Path, Any]) -> Document:
    """The object that has these leaves."""
    found: Document = {}
    for path in sorted(parts):  # an empty object comes before what is in it
        place = found
        for key in path[:-1]:
            if not isinstance(place.get(key), dict):
                place[key] = {}
            place = place[key]
        place[path[-1]] = copy.deepcopy(parts[path])
    return found


def to_fields(paths: set[Path]) -> Document:
    """FieldsV1 of a set of paths."""
    return tree({tuple(f"f:{key}" for key in path): {} for path in paths})


def from_fields(fields: Document) -> set[Path]:
    """The set of paths of FieldsV1."""
    return {tuple(key.removeprefix("f:") for key in path) for path in leaves(fields)}


def _owned(item: Document) -> dict[Path, Any]:
    """The leaves of an object that managers own."""
    meta = {key: value for key, value in item["metadata"].items() if key not in NOT_OWNED and value}
    rest = {key: item[key] for key in item if key not in {"apiVersion", "kind", "metadata"}}
    return leaves({**rest, "metadata": meta} if meta else rest)


def _split(item: Document, manager: Document) -> tuple[set[Path], list[tuple[Document, set[Path]]]]:
    """The fields of a manager; the entries of the others with theirs."""
    own, others = set[Path](), []
    for entry in item["metadata"].get("managedFields", []):
        paths = from_fields(entry["fieldsV1"])
        if all(entry.get(key) == manager.get(key) for key in IDENTITY):
            own |= paths
        else:
            others.append((entry, paths))
    return own, others


def apply(live: Document, config: Document, manager: Document, *, force: bool) -> Document:
    """The live object with a configuration applied: what its manager wants no more is gone.

    `manager` is an entry of managedFields without its fields. Raises 409 naming fields of others.
    """
    wanted, current, (own, others) = _owned(config), _owned(live), _split(live, manager)
    disputed = {path for path in wanted if current.get(path, wanted[path]) != wanted[path]}
    causes = []
    for entry, paths in others:
        who = f'conflict with "{entry["manager"]}" using {entry["apiVersion"]}'
        common = {"reason": "FieldManagerConflict", "message": who}
        causes += [{**common, "field": "." + ".".join(path)} for path in sorted(paths & disputed)]
    if causes and not force:
        count = "1 conflict" if len(causes) == 1 else f"{len(causes)} conflicts"
        lines = "; ".join(f"{cause['message']}: {cause['field']}" for cause in causes)
        raise ApiError(409, f"Apply failed with {count}: {lines}", causes=causes)
    gone = own.difference(wanted, *(paths for _, paths in others))
    kept = {path: leaf for path, leaf in leaves(live).items() if path not in gone}
    return tree(kept | leaves(config))


def track(
    before: Document | None, after: Document, manager: Document, config: Document | None = None
) -> Document:
    """The object after a write, with managedFields brought up to date.

    The manager owns what it applied (`config`); without that, what it owned and what it changed.
    """
    before = before or {"metadata": {}}
    new, old, (own, others) = _owned(after), _owned(before), _split(before, manager)
    changed = {path for path in new if path not in old or old[path] != new[path]}
    gone = old.keys() - new.keys()
    fresh = (own | changed) - gone if config is None else set(_owned(config))
    entries = before["metadata"].get("managedFields", [])
    if fresh != own or changed or gone:
        left = [(entry, paths - changed - gone) for entry, paths in others]
        entries = [{**entry, "fieldsV1": to_fields(paths)} for entry, paths in left if paths]
        stamp = {"time": now(), "fieldsType": "FieldsV1", "fieldsV1": to_fields(fresh)}
        entries += [{**manager, **stamp}] if fresh else []
    meta = {key: value for key, value in after["metadata"].items() if key != "managedFields"}
    return {**after, "metadata": meta | ({"managedFields": entries} if entries else {})}
