"""Reads objects in protobuf form, which typed clients such as `kubectl create` send; for `writes`.

The envelope is `runtime.Unknown` behind the four bytes "k8s\\0" (apimachinery's
pkg/runtime/serializer/protobuf); fields are read by central's codec, and meant by the numbers in
`built_in()`. Answers are always JSON.
"""

import base64
import json
import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from mk8s_cli.demo_api.catalogue import built_in, definition_of
from mk8s_cli.demo_api.objects import ApiError, Document
from mk8s_proxy.kube import protobuf as wire

MAGIC = b"k8s\x00"
UNREADABLE = (
    wire.ProtobufError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    OverflowError,
    struct.error,
)
"""What reading a message raises that is cut or of another shape."""


def fields(raw: bytes) -> Iterator[tuple[int, Any]]:
    """Field numbers with int or bytes values of a message; raises `ProtobufError`."""
    for number, wire_type, value, _ in wire.fields(raw):
        yield number, wire.number_of(value) if wire_type == wire.VARINT else value


def decode(body: bytes) -> Document:
    """The object of a protobuf body; raises 400 for what is not one and 415 for unknown kinds."""
    if not body.startswith(MAGIC):
        raise ApiError(400, "the body is not in Kubernetes protobuf form")
    try:
        envelope = dict(fields(body[4:]))
        head = {number: value.decode() for number, value in fields(envelope[1])}
        group, _, version = head[1].rpartition("/")
        name = definition_of(group, version, head[2])
        if name not in built_in()["messages"]:
            raise ApiError(415, f"no protobuf form of {head[1]} {head[2]} is known: send JSON")
        item = _message(name, envelope.get(2, b""))
    except UNREADABLE as error:
        raise ApiError(400, f"the protobuf body cannot be read: {error}") from error
    return {"apiVersion": head[1], "kind": head[2], **item}


def _message(name: str, raw: bytes) -> Any:
    if special := SPECIAL.get(name.rpartition(".")[2]):
        return special(dict(fields(raw)))
    found: Document = {}
    for number, value in fields(raw):
        key, label, kind = built_in()["messages"][name].get(str(number), ("", "unknown", ""))
        if label == "map":
            pair = dict(fields(value))
            found.setdefault(key, {})[pair[1].decode()] = _value(kind, pair.get(2, b""))
        elif label == "repeated":
            found.setdefault(key, []).append(_value(kind, value))
        elif label == "optional" and not key:
            found.update(_value(kind, value))  # an embedded struct, inlined in JSON
        elif label == "optional" and (read := _value(kind, value)) not in ("", None):
            found[key] = read
    return found


def _value(kind: str, value: Any) -> Any:
    if "." in kind:
        return _message(kind, value)
    if kind == "double":
        return struct.unpack("<d", value)[0]
    if isinstance(value, int):
        return bool(value) if kind == "bool" else value
    return base64.b64encode(value).decode() if kind == "bytes" else value.decode()


def _time(parts: dict[int, Any]) -> str | None:
    return f"{datetime.fromtimestamp(parts.get(1, 0), UTC):%Y-%m-%dT%H:%M:%SZ}" if parts else None


SPECIAL: dict[str, Callable[[dict[int, Any]], Any]] = {
    "Time": _time,
    "MicroTime": _time,
    "Quantity": lambda parts: parts.get(1, b"0").decode(),
    "IntOrString": lambda parts: parts[3].decode() if parts.get(1) else parts.get(2, 0),
    "FieldsV1": lambda parts: json.loads(parts.get(1, b"null")),
    "RawExtension": lambda parts: json.loads(parts.get(1, b"null")),
}
"""Messages whose JSON form is not an object of their fields."""
