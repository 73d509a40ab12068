"""The OpenAPI v2 document in gnostic's OpenAPIv2.proto, which kubectl before 1.27 insists on.

Called by `discovery`. Only what kubectl reads of it is written.
"""

import functools
import json

from mk8s_cli.demo_api.catalogue import built_in
from mk8s_cli.demo_api.objects import Document

TEXT_NUMBERS = {"$ref": 1, "format": 2, "description": 4}
EXTENSION_NUMBERS = {"schema": 31, "operation": 13}


def encode(document: Document) -> bytes:
    """OpenAPIv2.proto Document of a Swagger document: what kubectl reads of it."""
    info = _field(1, document["info"]["title"]) + _field(2, document["info"]["version"])
    paths = b"".join(
        _field(2, _field(1, path) + _field(2, _field(8, _operation(item["patch"]))))
        for path, item in document["paths"].items()
    )
    known = built_in()["definitions"].keys()
    custom = {name: it for name, it in document["definitions"].items() if name not in known}
    definitions = _built_in_schemas() + _schemas(custom)
    return _field(1, "2.0") + _field(2, info) + _field(8, paths) + _field(9, definitions)


@functools.cache
def _built_in_schemas() -> bytes:
    return _schemas(built_in()["definitions"])


def _field(number: int, value: bytes | str) -> bytes:
    """A length-delimited field."""
    raw = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(raw)) + raw


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def _operation(operation: Document) -> bytes:
    found = _extensions("operation", operation)
    for parameter in operation["parameters"]:
        query = _field(2, "query") + _field(4, parameter["name"]) + _field(6, "string")
        # ParametersItem.parameter.non_body_parameter.query_parameter_sub_schema
        found += _field(8, _field(1, _field(2, _field(3, query))))
    return found


def _schema(schema: Document) -> bytes:
    found = [_field(number, schema[key]) for key, number in TEXT_NUMBERS.items() if key in schema]
    found += [_field(19, name) for name in schema.get("required", [])]
    if isinstance(extra := schema.get("additionalProperties"), dict):
        found.append(_field(21, _field(1, _schema(extra))))
    if "type" in schema:
        found.append(_field(22, _field(1, schema["type"])))
    if "items" in schema:
        found.append(_field(23, _field(1, _schema(schema["items"]))))
    if "properties" in schema:
        found.append(_field(25, _schemas(schema["properties"])))
    return b"".join(found) + _extensions("schema", schema)


def _schemas(schemas: Document) -> bytes:
    pairs = (_field(1, name) + _field(2, _schema(inner)) for name, inner in schemas.items())
    return b"".join(_field(1, pair) for pair in pairs)


def _extensions(place: str, source: Document) -> bytes:
    """The x- fields as NamedAny with YAML (here JSON) values."""
    return b"".join(
        _field(EXTENSION_NUMBERS[place], _field(1, key) + _field(2, _field(2, json.dumps(value))))
        for key, value in source.items()
        if key.startswith("x-")
    )
