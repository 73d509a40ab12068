"""CBOR as the API server reads and writes it, in the shape of JSON; pure.

Source: apimachinery, `runtime/serializer/cbor`. Objects begin with the tag of self-described CBOR
(RFC 8949, 3.4.6), also one within another: that of an event. Go writes strings as byte strings, and
reads both. What JSON cannot say is
refused, as are a key that comes twice and a length that is not said before.
"""

import io
from typing import Any, Final

import cbor2

_SELF_DESCRIBED: Final = 55799
_PREFIX: Final = b"\xd9\xd9\xf7"
_MAXIMUM_DEPTH: Final = 64
_INTEGERS: Final = range(-(2**63), 2**64)


class CborError(Exception):
    """Bytes that are no object in CBOR."""


def encode(value: Any) -> bytes:
    """Write a value of JSON's shape."""
    return cbor2.dumps(embedded(value))


def embedded(value: Any) -> Any:
    """An object to be written within another one, with a tag of its own."""
    return cbor2.CBORTag(_SELF_DESCRIBED, value)


def decode(data: bytes) -> Any:
    """Read one data item, and nothing behind it.

    Raises:
        CborError: malformed, ambiguous, too deep, or with what JSON has no words for.
    """
    source = io.BytesIO(data.removeprefix(_PREFIX))
    decoder = cbor2.CBORDecoder(
        source,
        max_depth=_MAXIMUM_DEPTH,
        allow_indefinite=False,
        allow_duplicate_keys=False,
        strict_hashable_types=True,
        semantic_decoders=_MEANINGS,
    )
    try:
        value = decoder.decode()
    except (cbor2.CBORError, ValueError, TypeError) as error:
        raise CborError(f"malformed: {type(error).__name__}") from error
    if source.read():
        raise CborError("something follows")
    return _plain(value)


def _no_meaning(value: Any, immutable: bool) -> Any:
    raise ValueError("a tag")


_NO_MEANINGS: Final = dict.fromkeys(
    (*range(6), 25, *range(28, 31), *range(35, 38), 52, 54, 100, 256, *range(258, 262), 1004,
     43000),
    _no_meaning,
)  # fmt: skip
"""Tags to which cbor2 gives a meaning: a date, a pattern or a cycle is nothing of JSON, and making
one costs more than its bytes."""


def _described(value: Any, immutable: bool) -> Any:
    """What stands behind the tag of an embedded object."""
    return value


_MEANINGS: Final = {**_NO_MEANINGS, _SELF_DESCRIBED: _described}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return _text(value)
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        plain = {_plain(key): _plain(one) for key, one in value.items()}
        if len(plain) != len(value):
            raise CborError("a key comes twice")
        return plain
    if isinstance(value, int) and value not in _INTEGERS:
        raise CborError("a number that is too large")
    if value is None or isinstance(value, str | int | float):
        return value
    raise CborError("a value that JSON has no words for")


def _text(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise CborError("a string is not UTF-8") from None
