"""Reads Kubernetes objects in protobuf form, which new typed clients send; used by `app`.

The envelope is `runtime.Unknown` behind the four bytes "k8s\\0" (apimachinery's
pkg/runtime/serializer/protobuf); messages are read by the field numbers in the catalogue.
Answers are always JSON.
"""

import base64
import json
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from mk8s_cli.demo_api.catalogue import META, Catalogue, Document
from mk8s_cli.demo_api.status import ApiError

MAGIC = b"k8s\x00"
Value = int | bytes


def wire_fields(raw: bytes) -> Iterator[tuple[int, Value]]:
    """Field numbers and raw values of a message; raises ValueError when it is cut."""
    at = 0
    while at < len(raw):
        tag, at = _varint(raw, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(raw, at)
            yield number, value
            continue
        if kind not in {1, 2, 5}:
            raise ValueError(f"wire type {kind}")
        length = {1: 8, 5: 4}.get(kind, 0)
        if kind == 2:
            length, at = _varint(raw, at)
        if at + length > len(raw):
            raise ValueError("cut message")
        yield number, raw[at : at + length]
        at += length


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(raw) or shift > 63:
            raise ValueError("cut varint")
        value |= (raw[at] & 127) << shift
        shift += 7
        at += 1
        if raw[at - 1] < 128:
            return value, at


def decode(catalogue: Catalogue, body: bytes) -> Document:
    """The object of a protobuf body; raises 400 for what is not one and 415 for unknown kinds."""
    if not body.startswith(MAGIC):
        raise ApiError(400, "the body is not in Kubernetes protobuf form")
    try:
        envelope = dict(wire_fields(body[4:]))
        head = {
            number: bytes_of(value).decode() for number, value in wire_fields(bytes_of(envelope[1]))
        }
        group, _, version = head[1].rpartition("/")
        name = catalogue.definition_name(group, version, head[2])
        if name not in catalogue.messages:
            raise ApiError(415, f"no protobuf form of {head[1]} {head[2]} is known: send JSON")
        item = _Reader(catalogue).message(name, bytes_of(envelope.get(2, b"")))
    except (ValueError, KeyError, UnicodeDecodeError, struct.error) as error:
        raise ApiError(400, f"the protobuf body cannot be read: {error}") from error
    return {"apiVersion": head[1], "kind": head[2], **item}


def bytes_of(value: Value) -> bytes:
    """The value of a length-delimited field; raises ValueError for another wire type."""
    if isinstance(value, int):
        raise ValueError("a number where bytes are expected")  # noqa: TRY004 - one error kind here
    return value


class _Reader:
    """Messages to JSON values."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._messages = catalogue.messages

    def message(self, name: str, raw: bytes) -> Any:
        special = (
            SPECIAL.get(name.rpartition(".")[2]) if name.startswith("io.k8s.apimachinery") else None
        )
        if special is not None:
            return special(dict(wire_fields(raw)))
        found: Document = {}
        for number, value in wire_fields(raw):
            field = self._messages[name].get(str(number))
            if field is not None:
                self._put(found, field, value)
        return found

    def _put(self, found: Document, field: list[str], value: Value) -> None:
        name, label, kind = field
        if label == "map":
            pair = dict(wire_fields(bytes_of(value)))
            key = bytes_of(pair.get(1, b"")).decode()
            found.setdefault(name, {})[key] = self._value(kind, pair.get(2, b""))
            return
        read = self._value(kind, value)
        if label == "repeated":
            found.setdefault(name, []).append(read)
        elif not name:
            found.update(read)  # an embedded struct, inlined in JSON
        elif read not in ("", None):
            found[name] = read

    def _value(self, kind: str, value: Value) -> Any:
        if "." in kind:
            return self.message(kind, bytes_of(value))
        if kind == "double":
            return struct.unpack("<d", bytes_of(value))[0]
        if kind == "bool":
            return bool(value)
        if isinstance(value, int):
            return _signed(value)
        return base64.b64encode(value).decode() if kind == "bytes" else value.decode()


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _time(fields: dict[int, Value]) -> str | None:
    if not fields:
        return None  # a zero time
    seconds, nanos = int(fields.get(1, 0)), int(fields.get(2, 0))
    moment = datetime.fromtimestamp(_signed(seconds), UTC)
    fraction = f".{nanos // 1000:06d}" if nanos else ""
    return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def _int_or_string(fields: dict[int, Value]) -> int | str:
    if fields.get(1):
        return bytes_of(fields.get(3, b"")).decode()
    return _signed(int(fields.get(2, 0)))


def _raw(fields: dict[int, Value]) -> Any:
    return json.loads(bytes_of(fields.get(1, b"null")))


def _quantity(fields: dict[int, Value]) -> str:
    return bytes_of(fields.get(1, b"0")).decode()


SPECIAL = {
    "Time": _time,
    "MicroTime": _time,
    "Quantity": _quantity,
    "IntOrString": _int_or_string,
    "FieldsV1": _raw,
    "RawExtension": _raw,
}
assert META.startswith("io.k8s.apimachinery")
