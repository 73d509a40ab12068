"""Central's one codec of protobuf: messages read by a small schema and written again, and fields.

A message becomes a dictionary with the JSON names of the fields that are known here. All others,
whole and in their order, stay under the key `UNKNOWN` and are written back: newer API servers lose
nothing. Presence is kept, so decoding and encoding a message of the API server gives its meaning.

Wire format: protobuf.dev/programming-guides/encoding. Called by `answers`, `status` and
`watch_events`, and by the demo's API server, which knows other messages and reads their fields one
by one.
"""

# interpreted: a type that names itself is another one when compiled

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

UNKNOWN: Final = ""
"""The key of the fields that a schema does not name."""

MAGIC: Final = b"k8s\x00"
"""Before the runtime.Unknown that is around every Kubernetes object."""

VARINT: Final = 0
"""The wire type of numbers and bools."""
_FIXED64, _BYTES, _FIXED32 = 1, 2, 5
_MAX_VARINT_BYTES: Final = 10
_MAX_FIELD_NUMBER: Final = (1 << 29) - 1

Message = dict[str, Any]


class ProtobufError(Exception):
    """Bytes that are no message of the schema."""


@dataclass(frozen=True, slots=True)
class Text:
    """A string; the last one counts."""

    name: str
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Flag:
    """A bool; the last one counts."""

    name: str


@dataclass(frozen=True, slots=True)
class Number:
    """An int64; the last one counts."""

    name: str


@dataclass(frozen=True, slots=True)
class Embedded:
    """A message; if it is not repeated, later ones are merged into the first."""

    name: str
    schema: "Schema"
    repeated: bool = False


Schema = Mapping[int, Text | Flag | Number | Embedded]


def decode(schema: Schema, data: bytes) -> Message:
    """Decode a message.

    Raises:
        ProtobufError: it is cut short, or a known field is of another type.
    """
    message: Message = {}
    unknown = []
    parts: dict[int, list[bytes]] = {}
    for number, wire_type, value, raw in fields(data):
        known = schema.get(number)
        if known is None:
            unknown.append(raw)
        elif wire_type != (VARINT if isinstance(known, Flag | Number) else _BYTES):
            raise ProtobufError(f"field {number} has the wire type {wire_type}")
        elif isinstance(known, Flag):
            message[known.name] = any(byte & 0x7F for byte in value)
        elif isinstance(known, Number):
            message[known.name] = number_of(value)
        elif isinstance(known, Text):
            _put(message, known, _text(value))
        elif known.repeated:
            _put(message, known, decode(known.schema, value))
        else:
            parts.setdefault(number, []).append(value)
    for number, pieces in parts.items():
        embedded = schema[number]
        assert isinstance(embedded, Embedded)
        message[embedded.name] = decode(embedded.schema, b"".join(pieces))
    if unknown:
        message[UNKNOWN] = b"".join(unknown)
    return message


def encode(schema: Schema, message: Message) -> bytes:
    """Encode a message that `decode` made, or one like it."""
    parts = []
    for number, known in sorted(schema.items()):
        if known.name not in message:
            continue
        value = message[known.name]
        if isinstance(known, Flag | Number):
            parts.append(integer_field(number, int(value) % (1 << 64)))
            continue
        for one in value if known.repeated else (value,):
            content = one.encode() if isinstance(known, Text) else encode(known.schema, one)
            parts.append(bytes_field(number, content))
    return b"".join([*parts, message.get(UNKNOWN, b"")])


def bytes_field(number: int, content: bytes) -> bytes:
    """A field of bytes, a string or a message."""
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content


def text_field(number: int, text: str) -> bytes:
    """A field of text."""
    return bytes_field(number, text.encode("utf-8"))


def integer_field(number: int, value: int) -> bytes:
    """A field of a number that is not negative, or of a bool."""
    return _varint(number << 3 | VARINT) + _varint(value)


def _put(message: Message, known: Text | Embedded, value: Any) -> None:
    if known.repeated:
        message.setdefault(known.name, []).append(value)
    else:
        message[known.name] = value


def _text(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise ProtobufError("a string is not UTF-8") from None


def fields(data: bytes) -> Iterator[tuple[int, int, bytes, bytes]]:
    """Number, wire type, value (of a varint: its groups of seven bits) and raw bytes of each.

    Raises:
        ProtobufError: the message is cut short.
    """
    position = 0
    while position < len(data):
        start = position
        key, position = _read_varint(data, position)
        number, wire_type = key >> 3, key & 7
        if not 0 < number <= _MAX_FIELD_NUMBER:
            raise ProtobufError(f"field number {number}")
        begin, position = _value(data, position, wire_type)
        yield number, wire_type, data[begin:position], data[start:position]


def _value(data: bytes, position: int, wire_type: int) -> tuple[int, int]:
    """Where a value begins and ends."""
    if wire_type == VARINT:
        return position, _read_varint(data, position)[1]
    if wire_type == _BYTES:
        length, position = _read_varint(data, position)
    elif wire_type in (_FIXED64, _FIXED32):
        length = 8 if wire_type == _FIXED64 else 4
    else:
        raise ProtobufError(f"wire type {wire_type}")
    if length > len(data) - position:
        raise ProtobufError("a field is cut short")
    return position, position + length


def number_of(value: bytes) -> int:
    """The signed number that the value of a varint field means: int64 is two's complement."""
    number = _read_varint(value, 0)[0]
    return number - (1 << 64) if number >> 63 else number


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for count, byte in enumerate(data[position : position + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80 and value < 1 << 64:
            return value, position + count + 1
    raise ProtobufError("a number is cut short or too long")


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
