"""The server name of real ClientHellos, cut anywhere, and of bytes that are none."""

import ssl
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mk8s_agent.wire.client_hello import MAX_HELLO_BYTES, ClientHelloPeek, lacks


def openssl_hello(
    name: str | None, *, maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, alpn: bool = True
) -> bytes:
    """What OpenSSL sends first, through memory only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = maximum
    if alpn:
        context.set_alpn_protocols(["h2", "http/1.1"])
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


HELLO = openssl_hello("central.example.com")


def vector(data: bytes, size: int) -> bytes:
    return len(data).to_bytes(size, "big") + data


def record(payload: bytes, *, kind: int = 22, version: bytes = b"\x03\x01") -> bytes:
    return bytes([kind]) + version + vector(payload, 2)


def server_name(*entries: bytes) -> bytes:
    """A server_name extension with entries of a type byte and a name each."""
    return extension(0, vector(b"".join(entries), 2))


def entry(name: bytes, kind: int = 0) -> bytes:
    return bytes([kind]) + vector(name, 2)


def extension(kind: int, body: bytes) -> bytes:
    return kind.to_bytes(2, "big") + vector(body, 2)


def hello(*extensions: bytes, tail: bytes | None = None, kind: int = 1) -> bytes:
    """A handshake message with these extensions, or with `tail` in their place."""
    end = vector(b"".join(extensions), 2) if tail is None else tail
    body = b"\x03\x03" + b"r" * 32 + vector(b"", 1) + vector(b"\x13\x01", 2) + vector(b"\0", 1)
    return bytes([kind]) + vector(body + end, 3)


def peek(data: bytes) -> tuple[bool, str]:
    one = ClientHelloPeek()
    return one.feed(data), one.server_name


def records(message: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(message), size):
        yield record(message[at : at + size])


# --- real ones ---


@pytest.mark.parametrize("maximum", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("alpn", [True, False])
def test_openssl(maximum: ssl.TLSVersion, alpn: bool) -> None:
    named = openssl_hello("tunnel.mk8s.internal", maximum=maximum, alpn=alpn)
    assert peek(named) == (True, "tunnel.mk8s.internal")
    assert peek(openssl_hello(None, maximum=maximum, alpn=alpn)) == (True, "")
    # No SNI for an address: RFC 6066, 3.
    assert peek(openssl_hello("192.0.2.1", maximum=maximum, alpn=alpn)) == (True, "")


def test_names_are_lower_case() -> None:
    assert peek(openssl_hello("Tunnel.MK8s.Internal")) == (True, "tunnel.mk8s.internal")
    assert peek(record(hello(server_name(entry(b"a_B-9.c"))))) == (True, "a_b-9.c")


def test_one_byte_at_a_time() -> None:
    one = ClientHelloPeek()
    decided = [one.feed(HELLO[at : at + 1]) for at in range(len(HELLO))]
    assert decided == [False] * (len(HELLO) - 1) + [True]
    assert one.server_name == "central.example.com"


def test_nothing_is_said_before_the_end() -> None:
    one = ClientHelloPeek()
    assert not one.feed(b"")
    assert not one.feed(HELLO[:-1])
    assert one.server_name == ""


@pytest.mark.parametrize("size", [1, 3, 4, 5, 100])
def test_over_several_records(size: int) -> None:
    stream = b"".join(records(HELLO[5:], size))
    assert peek(stream) == (True, "central.example.com")
    assert peek(stream[:-1]) == (False, "")


def test_what_follows_the_hello_is_not_looked_at() -> None:
    one = ClientHelloPeek()
    assert one.feed(HELLO + b"\xff" * (2 * MAX_HELLO_BYTES))
    assert one.feed(openssl_hello("other.example.com"))
    assert one.server_name == "central.example.com"


@given(cuts=st.lists(st.integers(0, len(HELLO)), max_size=6))
def test_segments_do_not_matter(cuts: list[int]) -> None:
    one = ClientHelloPeek()
    edges = [0, *sorted(cuts), len(HELLO)]
    decided = [one.feed(HELLO[a:b]) for a, b in pairwise(edges)]
    assert decided[-1]
    assert one.server_name == "central.example.com"


# --- made ones ---


def test_extensions_before_and_after() -> None:
    around = [extension(0x0A0A, b""), server_name(entry(b"a.b")), extension(16, b"\0\0")]
    assert peek(record(hello(*around))) == (True, "a.b")


def test_no_extensions_at_all() -> None:
    assert peek(record(hello(tail=b""))) == (True, "")
    assert peek(record(hello())) == (True, "")


GOOD_NAME = server_name(entry(b"a.b"))
UNREADABLE = {
    "plain HTTP": b"GET / HTTP/1.1\r\n\r\n",
    "SSL 2": b"\x80\x2e\x01\x03\x01",
    "an alert": record(b"\x02\x28", kind=21),
    "another version": record(hello(GOOD_NAME), version=b"\x02\x00"),
    "an empty record": record(b""),
    "an oversized record": b"\x16\x03\x01\x40\x01",
    "a server hello": record(hello(GOOD_NAME, kind=2)),
    "an alert within the hello": record(hello(GOOD_NAME)[:9]) + record(b"\x01\x00", kind=21),
    "an empty hello": record(b"\x01\x00\x00\x00"),
    "a hello that ends in the random": record(b"\x01" + vector(b"\x03\x03rrr", 3)),
    "a session id beyond the end": record(b"\x01" + vector(b"\x03\x03" + b"r" * 32 + b"\xff", 3)),
    "extensions beyond the end": record(hello(tail=b"\x00\x09\x00\x00")),
    "half a length of extensions": record(hello(tail=b"\x00")),
    "bytes behind the extensions": record(hello(tail=vector(GOOD_NAME, 2) + b"x")),
    "half an extension": record(hello(tail=vector(GOOD_NAME + b"\x00", 2))),
    "two server_name extensions": record(hello(GOOD_NAME, GOOD_NAME)),
    "two names": record(hello(server_name(entry(b"a.b"), entry(b"c.d")))),
    "another kind of name": record(hello(server_name(entry(b"a.b", kind=1)))),
    "an empty list": record(hello(server_name())),
    "an empty extension": record(hello(extension(0, b""))),
    "bytes behind the list": record(hello(extension(0, vector(entry(b"a.b"), 2) + b"x"))),
    "an empty name": record(hello(server_name(entry(b"")))),
    "a name with NUL": record(hello(server_name(entry(b"tunnel.mk8s.internal\0")))),
    "a name with a dot at its end": record(hello(server_name(entry(b"tunnel.mk8s.internal.")))),
    "a name that is not ASCII": record(hello(server_name(entry("tünnel".encode())))),
    "a name that is too long": record(hello(server_name(entry(b"a" * 256)))),
}


@pytest.mark.parametrize("data", UNREADABLE.values(), ids=list(UNREADABLE))
def test_the_unreadable_has_no_name(data: bytes) -> None:
    assert peek(data) == (True, "")


def test_a_hello_without_end_is_given_up() -> None:
    message = b"\x01\xff\xff\xff" + b"x" * (2 * MAX_HELLO_BYTES)
    stream = b"".join(records(message, 1000))
    one = ClientHelloPeek()
    assert not one.feed(stream[:MAX_HELLO_BYTES])
    assert one.feed(stream[MAX_HELLO_BYTES : MAX_HELLO_BYTES + 1])
    assert one.server_name == ""


def test_memory_stays_bounded_under_a_dripping_client() -> None:
    one = ClientHelloPeek()
    fed = 0
    for part in records(b"\x01\xff\xff\xff" + b"x" * 100_000, 1):
        fed += len(part)
        if one.feed(part):
            break
    assert MAX_HELLO_BYTES < fed <= MAX_HELLO_BYTES + 6
    assert (len(one._buffer), len(one._handshake)) == (0, 0)


# --- fuzz ---


@given(data=st.lists(st.binary(max_size=60), max_size=6))
@example(data=[b"\x16", b"\x03"])
def test_any_bytes_are_survived(data: list[bytes]) -> None:
    one = ClientHelloPeek()
    for part in data:
        one.feed(part)
    assert one.server_name.isascii()


@given(body=st.binary(max_size=80), data=st.data())
def test_any_hello_is_survived(body: bytes, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from([1, 1, 1, 0, 2]))
    assert peek(record(bytes([kind]) + vector(body, 3)))[0]
    assert peek(record(hello(tail=body)))[0]
    assert peek(record(hello(extension(0, body))))[0]


@given(at=st.integers(0, len(HELLO) - 1), byte=st.integers(0, 255), end=st.integers(0, 600))
def test_a_damaged_hello_is_survived(at: int, byte: int, end: int) -> None:
    damaged = HELLO[:at] + bytes([byte]) + HELLO[at + 1 :]
    decided, name = peek(damaged[:end])
    assert decided or name == ""


@given(
    name=st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z]{1,10}){0,3}", fullmatch=True)
)
def test_any_host_name_comes_back(name: str) -> None:
    assert peek(record(hello(server_name(entry(name.upper().encode()))))) == (True, name)


# --- the short way ---

TUNNEL = "tunnel.mk8s.internal"


def is_short_cut(data: bytes) -> bool:
    return lacks(data, TUNNEL.encode())


def test_most_hellos_need_no_reading() -> None:
    assert is_short_cut(HELLO)
    assert is_short_cut(openssl_hello(None))
    assert not is_short_cut(openssl_hello(TUNNEL))
    assert not is_short_cut(openssl_hello(TUNNEL.upper()))


@pytest.mark.parametrize("end", [0, 8, 9, len(HELLO) - 1])
def test_a_part_of_a_hello_is_read(end: int) -> None:
    assert not is_short_cut(HELLO[:end])


def test_attack_a_tunnel_name_behind_a_record_that_ends_early_is_not_overlooked() -> None:
    """Otherwise nobody would ask an agent for its certificate, nor anybody know a tunnel."""
    message = hello(server_name(entry(TUNNEL.encode())))
    parts = list(records(message, 60))
    assert not is_short_cut(parts[0])
    assert not is_short_cut(b"".join(parts))
    assert not is_short_cut(record(message, kind=23))


@given(
    st.sampled_from([TUNNEL, TUNNEL.upper(), "central.example.com"]),
    st.integers(1, 300),
    st.integers(0, 300),
    st.binary(max_size=3),
    st.integers(0, 300),
)
def test_the_short_way_never_misses_a_tunnel(
    name: str, size: int, at: int, junk: bytes, end: int
) -> None:
    """Whatever the bytes: what is taken for no tunnel is none by the whole reading either."""
    data = b"".join(records(hello(server_name(entry(name.encode()))), size))
    data = data[:at] + junk + data[at + len(junk) :]
    if is_short_cut(data[:end]):
        one = ClientHelloPeek()
        one.feed(data[:end])
        one.feed(data[end:])
        assert one.server_name != TUNNEL
