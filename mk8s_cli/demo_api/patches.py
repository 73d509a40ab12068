"""JSON patch, merge patch and strategic merge patch; used by `writes`.

Sources: RFC 6902 (by the jsonpatch library), RFC 7396, and for the strategic one
apimachinery/pkg/util/strategicpatch: merge keys and strategies are read from the schema.
"""

import copy
from typing import Any

import jsonpatch
import jsonpointer

from mk8s_cli.demo_api.catalogue import Document, child, resolve
from mk8s_cli.demo_api.errors import ApiError

MERGE_KEY = "x-kubernetes-patch-merge-key"


def json_patch(item: Document, operations: Any) -> Document:
    """RFC 6902; raises 422 when an operation cannot be done, as the API server does."""
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
