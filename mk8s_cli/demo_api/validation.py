"""Fields that a kind does not have: dropped, and told or refused; called by `writes`.

Source: apiserver, `fieldValidation` of KEP-2885. The field itself is dropped in any case.
"""

from typing import Any

from mk8s_cli.demo_api.call import WARNINGS, Call
from mk8s_cli.demo_api.catalogue import OF_EVERY_OBJECT, child, resolve
from mk8s_cli.demo_api.objects import ApiError, Document, invalid

ANYTHING = "x-kubernetes-preserve-unknown-fields"
MODES = ("Ignore", "Strict", "Warn")


def known_part(call: Call, item: Document) -> Document:
    """The object without fields that its kind has not; raises 400 if the client wants to know."""
    mode = call.request.query.get("fieldValidation") or "Warn"
    if mode not in MODES:
        shown = ", ".join(f'"{mode}"' for mode in MODES)
        words = f'Unsupported value: "{mode}": supported values: {shown}'
        raise call.invalid_option("fieldValidation", words)
    unknown: list[str] = []
    if call.kind.is_custom:
        own = {key: value for key, value in item.items() if key not in OF_EVERY_OBJECT}
        around = {key: value for key, value in item.items() if key in OF_EVERY_OBJECT}
        kept = _known(around, {"properties": OF_EVERY_OBJECT}, "", unknown)
        kept |= _known(own, call.kind.schema, "", unknown, closed=True)
    else:
        kept = _known(item, call.kind.schema, "", unknown)
    _tell(call, item["metadata"].get("name"), sorted(unknown), mode)
    return dict(kept)


def _tell(call: Call, name: str, unknown: list[str], mode: str) -> None:
    """Refuses the fields or warns of them."""
    told = [f'unknown field "{path}"' for path in unknown]
    if told and call.is_apply:
        words = f"({name}): .{unknown[0]}: field not declared in schema"
        raise ApiError(500, f"failed to create typed patch object {words}", "")
    if told and mode == "Strict":
        words = f"strict decoding error: {', '.join(told)}"
        if call.request.method == "PATCH":
            raise invalid("", "", "", "patch", "FieldValueInvalid", f"Invalid value: {words}")
        kind, version = call.kind.gvk["kind"], call.kind.gvk["version"]
        raise ApiError(400, f'{kind} in version "{version}" cannot be handled as a {kind}: {words}')
    if mode == "Warn":
        call.request[WARNINGS] = told


def _known(
    value: Any, schema: Document, path: str, unknown: list[str], *, closed: bool = False
) -> Any:
    """The part of a value that its schema names; the paths of the rest are added to `unknown`.

    An object whose schema names no property has any, but for `closed` schemas: those of custom
    kinds.
    """
    if isinstance(value, list):
        inner = resolve(schema.get("items"))
        parts = enumerate(value)
        return [_known(it, inner, f"{path}[{at}]", unknown, closed=closed) for at, it in parts]
    properties, others = schema.get("properties", {}), schema.get("additionalProperties")
    is_open = schema.get(ANYTHING) or not (properties or others or closed)
    if not isinstance(value, dict) or is_open:
        return value
    found = {}
    for key, own in value.items():
        where = f"{path}.{key}" if path else key
        if others or key in properties:
            found[key] = _known(own, child(schema, key), where, unknown, closed=closed)
        else:
            unknown.append(where)
    return found
