"""CBOR in the shape of JSON: what the API server writes is read, what JSON cannot say is not."""

from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_proxy.kube.cbor import CborError, decode, encode

texts = st.text(st.characters(codec="utf-8"), max_size=8)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=12,
)


def in_bytes(value: Any) -> Any:
    """Strings as the API server writes them."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, list):
        return [in_bytes(one) for one in value]
    if isinstance(value, dict):
        return {in_bytes(key): in_bytes(one) for key, one in value.items()}
    return value


@given(values)
def test_values_of_json_come_back(value: Any) -> None:
    assert decode(encode(value)) == value
    assert decode(cbor2.dumps(in_bytes(value))) == value


@given(st.binary(max_size=64))
def test_any_bytes_are_a_value_or_an_error(data: bytes) -> None:
    try:
        value = decode(data)
    except CborError:
        return
    assert isinstance(value, dict | list | str | int | float | None)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"\xa1",
        encode({"a": 1}) + b"\x00",
        b"\x81" * 500 + b"\x01",
        b"\xd9\xd9\xf7" * 100_000 + b"\x01",
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
        bytes.fromhex("a2616101616102"),
        cbor2.dumps({"a": 1, b"a": 2}),
        cbor2.dumps({1: 2}),
        bytes.fromhex("bf616101ff"),
        cbor2.dumps(2**70),
        bytes.fromhex("3bffffffffffffffff"),  # -2**64
        cbor2.dumps(cbor2.undefined),
        cbor2.dumps(b"\xff"),
        *(cbor2.dumps(cbor2.CBORTag(tag, "x")) for tag in (0, 2, 28, 35, 9999)),
    ],
)
def test_attack_cbor_that_is_no_json(data: bytes) -> None:
    with pytest.raises(CborError):
        decode(data)
