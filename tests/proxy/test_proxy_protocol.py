"""The PROXY protocol header: what it says, how it may arrive, and what is none."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_proxy.listener.proxy_protocol import (
    LONGEST,
    SIGNATURE,
    ProxyHeader,
    ProxyProtocolError,
)


def header(
    source: str = "192.0.2.7", *, command: int = 0x21, family: int = 0, more: bytes = b""
) -> bytes:
    address = ipaddress.ip_address(source).packed
    family = family or (0x11 if len(address) == 4 else 0x21)
    block = address * 2 + b"\x12\x34\x20\xfb" + more
    return SIGNATURE + bytes((command, family)) + len(block).to_bytes(2, "big") + block


@pytest.mark.parametrize("source", ["192.0.2.7", "2001:db8::7"])
@pytest.mark.parametrize("more", [b"", b"\x03\x00\x04\x00\x00\x00\x00"])
def test_the_source_is_read_and_the_rest_is_left(source: str, more: bytes) -> None:
    read = ProxyHeader()
    assert read.feed(header(source, more=more) + b"\x16\x03\x01") == b"\x16\x03\x01"
    assert read.source == source


def test_it_may_arrive_byte_by_byte() -> None:
    read, whole = ProxyHeader(), header()
    for index in range(len(whole) - 1):
        assert read.feed(whole[index : index + 1]) is None
    assert read.feed(whole[-1:] + b"rest") == b"rest"
    assert read.source == "192.0.2.7"


@pytest.mark.parametrize(
    "raw",
    [
        header(command=0x20),  # LOCAL: the balancer's own health check
        SIGNATURE + b"\x20\x00\x00\x00",
        SIGNATURE + b"\x21\x00\x00\x00",  # of an unspecified family
        header(family=0x12),  # UDP
        header(family=0x31),  # Unix sockets
    ],
)
def test_a_header_without_a_client(raw: bytes) -> None:
    read = ProxyHeader()
    assert read.feed(raw + b"rest") == b"rest"
    assert read.source == ""


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00",  # TLS at once
        b"GET / HTTP/1.1\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n",  # version 1
        SIGNATURE[:-1] + b"x",
        header(command=0x11),
        header(command=0x22),
        SIGNATURE + b"\x21\x11" + (LONGEST + 1).to_bytes(2, "big"),
        SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11),
        SIGNATURE + b"\x21\x21\x00\x0c" + bytes(12),
    ],
)
def test_attack_what_is_no_header_is_refused(raw: bytes) -> None:
    with pytest.raises(ProxyProtocolError):
        ProxyHeader().feed(raw)


@given(st.binary(max_size=300), st.lists(st.integers(1, 40), max_size=20))
def test_whatever_arrives_is_refused_waited_for_or_read_the_same_in_pieces(
    tail: bytes, cuts: list[int]
) -> None:
    raw = SIGNATURE + tail
    outcomes = []
    for sizes in ([len(raw)], cuts):
        read, left, rest, outcome = ProxyHeader(), raw, b"", "waits"
        try:
            for size in [*sizes, len(raw)]:
                piece, left = left[:size], left[size:]
                if piece and (found := read.feed(piece)) is not None:
                    rest, outcome = found + left, f"source {read.source}"
                    break
        except ProxyProtocolError as error:
            outcome = str(error)
        outcomes.append((outcome, rest))
    assert outcomes[0] == outcomes[1]
