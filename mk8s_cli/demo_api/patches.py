"""JSON patch, merge patch and strategic merge patch; used by `objects`.

Sources: RFC 6902 (by the jsonpatch library), RFC 7396, and for the strategic one
apimachinery/pkg/util/strategicpatch: merge keys and strategies are read from the schema.
"""

import copy
from typing import Any

import jsonpatch
import jsonpointer

from mk8s_cli.demo_api.catalogue import Catalogue, Document
from mk8s_cli.demo_api.status import ApiError

ORDER, REMOVE = "$setElementOrder/", "$deleteFromPrimitiveList/"


def json_patch(item: Document, operations: Any) -> Document:
    """RFC 6902; raises 422 when an operation cannot be done, as the API server does."""
    try:
        patched: Document = jsonpatch.apply_patch(item, operations)
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as error:
        problem = f"the server rejected our request due to an error in our request: {error}"
        raise ApiError(422, problem) from error
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


class StrategicPatch:
    """Merges by the merge keys that the schemas of the catalogue name."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def apply(self, item: Any, patch: Document, schema: Document) -> Document:
        """The object (or part of one) with the patch merged into it."""
        if patch.get("$patch") == "delete":
            return {}
        if patch.get("$patch") == "replace":
            return {key: value for key, value in patch.items() if key != "$patch"}
        merged = dict(item) if isinstance(item, dict) else {}
        for key, value in patch.items():
            if key.startswith("$"):
                continue
            child = self._catalogue.child(schema, key)
            if value is None:
                merged.pop(key, None)
            elif isinstance(value, dict):
                merged[key] = self.apply(merged.get(key), value, child)
            elif isinstance(value, list) and _merges(child):
                merged[key] = self._merge_list(merged.get(key) or [], value, child)
            else:
                merged[key] = copy.deepcopy(value)
        return self._directives(merged, patch, schema)

    def _directives(self, merged: Document, patch: Document, schema: Document) -> Document:
        for directive, values in patch.items():
            key = directive.partition("/")[2]
            if directive.startswith(REMOVE) and key in merged:
                merged[key] = [value for value in merged[key] if value not in values]
            if directive.startswith(ORDER) and key in merged:
                merge_key = self._catalogue.child(schema, key).get("x-kubernetes-patch-merge-key")
                merged[key] = _ordered(merged[key], values, merge_key)
            if directive == "$retainKeys":
                merged = {name: value for name, value in merged.items() if name in values}
        return merged

    def _merge_list(self, items: list[Any], patch: list[Any], schema: Document) -> list[Any]:
        merge_key = schema.get("x-kubernetes-patch-merge-key")
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
                inner = self._catalogue.resolve(schema.get("items"))
                found[name] = self.apply(found.get(name), entry, inner)
        return list(found.values())


def _merges(schema: Document) -> bool:
    return "merge" in schema.get("x-kubernetes-patch-strategy", "").split(",")


def _ordered(items: list[Any], order: list[Any], merge_key: str | None) -> list[Any]:
    """The list in the order of the directive, what it does not name last."""
    names = [entry.get(merge_key) if merge_key else entry for entry in order]
    return sorted(
        items,
        key=lambda entry: (
            names.index(name)
            if (name := entry.get(merge_key) if merge_key else entry) in names
            else len(names)
        ),
    )
