"""Raw HTTP/1.1 heads: request smuggling needs two readings, and every head here has at most one."""

import re
from collections.abc import Iterator
from contextlib import suppress

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mk8s_proxy.listener.head_limits import HEAD_BYTES
from mk8s_proxy.listener.http1_head import check_http1_head, parser_reason, read_http1_head
from mk8s_proxy.listener.refusals import HeaderRefusal
from mk8s_proxy.listener.request_head import RequestHead

Reading = tuple[bytes, bytes, list[tuple[bytes, bytes]]]
REQUEST_LINE = b"POST /api/v1/namespaces HTTP/1.1"
HEADERS = [b"Host: central.example.com", b"Authorization: Bearer A"]
KUBECTL = (
    b"GET /api/v1/namespaces/other/pods/foo/exec?command=id&container=c&stderr=true HTTP/1.1\r\n"
    b"Host: central.example.com:8443\r\nUser-Agent: kubectl/v1.33.1 (linux/amd64)\r\n"
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer A\r\n"
    b"Sec-WebSocket-Protocol: v5.channel.k8s.io\r\nX-Empty:\r\n\r\n"
)


def head(*headers: bytes, line: bytes = REQUEST_LINE) -> bytes:
    return b"\r\n".join([line, *HEADERS, *headers, b"", b""])


def naive_reading(raw: bytes) -> Reading:
    """What any reader of a head that passed must see."""
    request_line, *lines = raw[:-4].split(b"\r\n")
    method, target, _ = request_line.split(b" ")
    split = (line.partition(b":") for line in lines)
    return method, target, [(name, value.strip(b" \t")) for name, _, value in split]


def llhttp_reading(raw: bytes) -> Reading:
    """What the parser behind the HTTP/1.1 connection sees."""
    url = bytearray()
    fields: list[tuple[bytes, bytes]] = []

    class Callbacks:
        def on_url(self, part: bytes) -> None:
            url.extend(part)

        def on_header(self, name: bytes, value: bytes) -> None:
            fields.append((name, value.strip(b" \t")))

    parser = httptools.HttpRequestParser(Callbacks())
    with suppress(httptools.HttpParserUpgrade):  # raised after the callbacks: the head was read
        parser.feed_data(raw)
    return parser.get_method(), bytes(url), fields


def read(raw: bytes) -> RequestHead:
    check_http1_head(raw)
    return read_http1_head(*naive_reading(raw))


def reason_of(raw: bytes) -> str:
    with pytest.raises(HeaderRefusal) as caught:
        check_http1_head(raw)
    return caught.value.reason


def test_kubectl_passes_and_has_one_reading() -> None:
    check_http1_head(KUBECTL)
    read(KUBECTL)
    assert llhttp_reading(KUBECTL) == naive_reading(KUBECTL)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (head(b"X: " + b"y" * HEAD_BYTES), "HEADER_TOO_LARGE"),
        (head(b"X: a\rb"), "BARE_CR"),
        (head(b"X: y").replace(b"\r\n", b"\n"), "BARE_LF"),
        (head(b"X: a\nY: b"), "BARE_LF"),
        (head(b"X: a", b" b"), "OBS_FOLD"),
        (head(b"X: a", b"\tb: c"), "OBS_FOLD"),
        (b"GET / HTTP/1.1\r\n X: y\r\nHost: a\r\n\r\n", "BAD_HEADER"),
        (head(b"no colon"), "BAD_HEADER"),
        (head(b"", b"X: second head"), "BAD_HEADER"),
        (head()[:-2], "BAD_HEADER"),
        (head() + b"body", "BAD_HEADER"),
        (head(b"X : y"), "BAD_HEADER_NAME"),
        (head(b": y"), "BAD_HEADER_NAME"),
        (head(b"X\x0bY: z"), "BAD_HEADER_NAME"),
        (head(b"\xc3\xa4: z"), "BAD_HEADER_NAME"),
        (head(b"Impersonate_User: alice"), "UNDERSCORE_HEADER"),
        (head(b"X: a\0b"), "BAD_HEADER_VALUE"),
        (head(b"X: a\x7fb"), "BAD_HEADER_VALUE"),
        (head(line=b"GET / HTTP/0.9"), "HTTP_VERSION"),
        (head(line=b"GET / HTTP/1.2"), "HTTP_VERSION"),
        (head(line=b"PRI * HTTP/2.0"), "HTTP_VERSION"),
        (head(line=b"get / HTTP/1.1"), "METHOD"),
        (head(line=b"CONNECT a:443 HTTP/1.1"), "METHOD"),
        (head(line=b"GET /"), "REQUEST_LINE"),
        (head(line=b"GET  / HTTP/1.1"), "REQUEST_LINE"),
        (head(line=b"GET / x HTTP/1.1"), "REQUEST_LINE"),
        (head(line=b"GET /\xc3\xa4 HTTP/1.1"), "REQUEST_LINE"),
        (b"\r\n" + head(), "REQUEST_LINE"),
        (b"", "REQUEST_LINE"),
    ],
)
def test_the_reason_names_the_fault(raw: bytes, reason: str) -> None:
    assert reason_of(raw) == reason


def test_underscores_pass_where_that_is_set_and_nothing_else_does() -> None:
    check_http1_head(head(b"X_Team: a"), underscores=True)
    for line in (b"X_Team: a\x00", b"X _Team: a", b"X_T\xe4m: a", b"X_Team"):
        with pytest.raises(HeaderRefusal) as caught:
            check_http1_head(head(line), underscores=True)
        assert caught.value.reason != "UNDERSCORE_HEADER"


# --- the desync corpus ---

BAD_LENGTHS = [
    b"", b"+5", b"-5", b"-0", b"5.0", b"5,5", b"5, 5", b"5 5", b"5;", b"5;q=1", b"0x5", b"0b1",
    b"5_0", b"1e3", b"five", b'"5"', b"5\x0b", b"\x0b5", b"5\x0c", b"\x005", b"5\x00", b"5\x7f",
    b"5\xa0", b"\xa05", b"\xd9\xa5", b"\xef\xbc\x95", b"9" * 19, b"18446744073709551621", b"0,0",
    b"5\t5", b"(5)", b"5#", b"\xef\xbb\xbf5",
]  # fmt: skip
BAD_CODINGS = [
    b"", b"xchunked", b"chunkedx", b"chunked, identity", b"identity, chunked", b"identity",
    b"chunked, chunked", b"chunked,chunked", b"chunked,", b",chunked", b"gzip", b"gzip, chunked",
    b"chunked, gzip", b"chunked;q=1", b"chunked; a", b'"chunked"', b"'chunked'", b"Chunked",
    b"CHUNKED", b"chunKed", b"chun ked", b"chunked\x0b", b"\x0bchunked", b"chunked\x0c",
    b"\x00chunked", b"chunked\x00", b"chunked\xa0", b"\xa0chunked", b"c\x68unked\x7f", b"cow",
    b"chunked\tx", b"chunk", b"deflate", b"br", b"trailers", b"(chunked)", b"chunked#",
]  # fmt: skip
DISGUISES = [
    b"%b : %b", b"%b\t: %b", b" %b: %b", b"\t%b: %b", b"\x0b%b: %b", b"\x00%b: %b", b"%b\x00: %b",
    b"%b\x0b: %b", b"%b\xa0: %b", b"\xef\xbb\xbf%b: %b", b"%b %b", b"%b;: %b", b"(%b): %b",
    b'"%b": %b', b"X: y\r%b: %b", b"X: y\n%b: %b", b"X: y\r\r\n%b: %b", b"X: y\n\r%b: %b",
    b"X: y\r\n %b: %b", b"X: y\r\n\t%b: %b", b"%b:\r\n %b", b"%b:\n %b", b"%b\r\n: %b", b"%b:\r%b",
    b"X: y\r\n\r\n%b: %b", b"%b/: %b", b"@%b: %b", b"[%b]: %b", b"X\r\n%b: %b",
]  # fmt: skip
LINE_ENDS = [b"\n", b"\r", b"\r\r\n", b"\n\r", b"\n\r\n", b"\r\n\r", b"\r\n ", b"\r\n\t", b"\x0b",
             b"\x0c", b"\x00", b"\x85", b"\xe2\x80\xa8", b"\x1e"]  # fmt: skip
BAD_REQUEST_LINES = [
    b"POST / HTTP/0.9", b"POST / HTTP/1.2", b"POST / HTTP/2.0", b"POST /",
    b"POST / HTTP/1", b"POST / HTTP/11", b"POST / HTTP/1.1 ", b"POST / HTTP/1.1\t",
    b" POST / HTTP/1.1", b"POST  / HTTP/1.1", b"POST /  HTTP/1.1", b"POST\t/\tHTTP/1.1",
    b"post / HTTP/1.1",
    b"Post / HTTP/1.1", b"POST / http/1.1", b"POST / HTTP /1.1", b"POST / HTTPS/1.1",
    b"POST / HTTP/1,1", b"POST / HTTP/+1.1", b"POST / HTTP/1.01", b"POST http://a/ HTTP/1.1",
    b"POST //a@b HTTP/1.1 HTTP/1.1", b"POST a:443 HTTP/1.1", b"POST * HTTP/1.1",
    b"\r\nPOST / HTTP/1.1",
    b"POST /a b HTTP/1.1", b"POST /a\tb HTTP/1.1", b"POST /a\x00 HTTP/1.1", b"POST /\xff HTTP/1.1",
    b"POST / HTTP/1.1\x00", b"\x00POST / HTTP/1.1", b"POST\x00 / HTTP/1.1", b"PO ST / HTTP/1.1",
    b"POST: / HTTP/1.1", b"POST", b"", b"CONNECT / HTTP/1.1", b"TRACE / HTTP/1.1",
    b"OPTIONS / HTTP/1.1", b"PRI * HTTP/2.0", b"GET / HTTP/1.1\nPOST / HTTP/1.1",
]  # fmt: skip
SECURITY_HEADERS = [
    b"Authorization", b"Content-Length", b"Transfer-Encoding", b"Host", b"Impersonate-User",
    b"Impersonate-Group", b"Impersonate-Uid", b"Impersonate-Extra-x", b"X-Remote-User", b"Cookie",
    b"X-Forwarded-For", b"mk8s-identity", b"TE", b"Trailer", b"HTTP2-Settings", b"Content-Type",
    b"Audit-ID", b"Kubectl-Command", b"Accept", b"",
]  # fmt: skip
REMOVED_WITHOUT_HARM = {
    b"HTTP2-Settings", b"Kubectl-Command", b"TE", b"Trailer", b"X-Remote-User",
}  # fmt: skip
"""Fields that nobody here or behind decides by: Connection may take them out (RFC 9110, 7.6.1)."""
BAD_UPGRADES = [
    b"h2c", b"HTTP/2.0", b"TLS/1.2", b"websocket, SPDY/3.1", b"websocket,h2c", b"SPDY/3", b"spdy",
    b"websocket/13", b"", b"websocket\x00", b"SPDY/3.1;q=1", b"websocket websocket",
]  # fmt: skip
LENGTH, CODING = b"Content-Length", b"Transfer-Encoding"


def desync_payloads() -> Iterator[bytes]:
    """Heads that some server, proxy or parser has been known to read differently from another."""
    for length in BAD_LENGTHS:
        yield head(b"Content-Length: " + length)
        yield head(b"Content-Length: 5", b"Content-Length: " + length)
        yield head(b"Content-Length: " + length, b"Transfer-Encoding: chunked")
    for coding in BAD_CODINGS:
        yield head(b"Transfer-Encoding: " + coding)
        yield head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: " + coding)
        yield head(b"Transfer-Encoding: " + coding, b"Transfer-Encoding: chunked")
        yield head(b"Content-Length: 5", b"Transfer-Encoding: " + coding)
        yield head(b"Transfer-Encoding: " + coding, b"Content-Length: 5")
    for disguise in DISGUISES:
        yield head(disguise % (CODING, b"chunked"))
        yield head(b"Content-Length: 5", disguise % (CODING, b"chunked"))
        yield head(disguise % (LENGTH, b"5"), b"Transfer-Encoding: chunked")
        yield head(disguise % (b"Impersonate-User", b"system:admin"))
    yield from doubled_lengths()
    yield from bad_lines()
    yield from connection_tricks()


def doubled_lengths() -> Iterator[bytes]:
    for first, second in ((b"5", b"5"), (b"5", b"6"), (b"0", b"5"), (b"5", b"0"), (b"5", b"05")):
        for name in (b"Content-Length", b"content-length", b"CONTENT-LENGTH"):
            yield head(b"Content-Length: " + first, name + b": " + second)
    for name in (b"transfer-encoding", b"TRANSFER-ENCODING", b"Transfer-encoding"):
        yield head(b"Content-Length: 0", name + b": chunked")
        yield head(name + b": chunked", b"Content-Length: 5")
    for method in (b"GET", b"HEAD"):
        for header in (b"Content-Length: 16385", b"Transfer-Encoding: chunked"):
            yield head(header, line=method + b" / HTTP/1.1")


def bad_lines() -> Iterator[bytes]:
    for line in BAD_REQUEST_LINES:
        yield head(b"Content-Length: 0", line=line)
    lines = [REQUEST_LINE, *HEADERS, b"Content-Length: 5"]
    for end in LINE_ENDS:
        for at in range(len(lines)):
            mixed = [line + (end if index == at else b"\r\n") for index, line in enumerate(lines)]
            yield b"".join([*mixed, b"\r\n"])
    for end in (b"\n", b"\r", b"", b"\r\n ", b"\r\n\r\n\r\n"):
        yield b"\r\n".join(lines) + b"\r\n" + end
    for host in ([], [b"a", b"a"], [b"a", b"b"], [b"u@a"], [b""], [b"a b"], [b"a, b"], [b"a/"]):
        yield b"\r\n".join([REQUEST_LINE, *(b"Host: " + name for name in host), b"", b""])


def connection_tricks() -> Iterator[bytes]:
    for name in set(SECURITY_HEADERS) - REMOVED_WITHOUT_HARM:
        yield head(b"Connection: close, " + name)
        yield head(b"Connection: " + name)
    for token in BAD_UPGRADES:
        yield head(b"Connection: Upgrade", b"Upgrade: " + token)
    for header in (b"Content-Length: 5", b"Transfer-Encoding: chunked"):
        yield head(b"Connection: Upgrade", b"Upgrade: SPDY/3.1", header)
    yield head(b"Upgrade: websocket")
    yield head(b"Connection: Upgrade")
    yield head(b"Connection: Upgrade", b"Upgrade: SPDY/3.1", b"Upgrade: SPDY/3.1")


CORPUS = sorted(set(desync_payloads()))


@pytest.mark.parametrize("name", sorted(REMOVED_WITHOUT_HARM))
def test_what_connection_names_is_taken_out(name: bytes) -> None:
    raw = head(b"Connection: close, " + name, name + b": trailers")
    assert name.lower() not in dict(read(raw).forwarded)


def test_the_corpus_is_large() -> None:
    assert len(CORPUS) >= 500


@pytest.mark.parametrize("raw", CORPUS, ids=range(len(CORPUS)))
def test_desync(raw: bytes) -> None:
    with pytest.raises(HeaderRefusal):
        read(raw)


# --- one reading ---

TOKENS = st.from_regex(re.compile(rb"[!#$%&'*+.^`|~0-9A-Za-z-]{1,12}"), fullmatch=True)
TEXT = st.from_regex(re.compile(rb"[\t -~\x80-\xff]{0,20}"), fullmatch=True)
# llhttp gives these a meaning of their own; how they are framed is tested above.
FRAMING = {b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"proxy-connection"}


@given(
    method=st.sampled_from([b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE"]),
    target=st.from_regex(re.compile(rb"/[!-~]{0,20}"), fullmatch=True),
    fields=st.lists(st.tuples(TOKENS, TEXT), max_size=6),
)
def test_a_head_that_passes_reads_the_same_to_llhttp(
    method: bytes, target: bytes, fields: list[tuple[bytes, bytes]]
) -> None:
    lines = [b"%b:%b\r\n" % field for field in fields if field[0].lower() not in FRAMING]
    raw = b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, b"".join(lines))
    check_http1_head(raw)
    try:
        seen = llhttp_reading(raw)
    except httptools.HttpParserError:
        return  # llhttp is stricter about some targets; refusing is no second reading
    assert seen == naive_reading(raw)


@given(raw=st.binary(max_size=200))
@example(raw=KUBECTL)
def test_any_bytes_raise_only_refusals(raw: bytes) -> None:
    with suppress(HeaderRefusal):
        read(raw)


@given(data=st.data())
def test_a_damaged_head_is_refused_or_has_one_reading(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(KUBECTL) - 1))
    drop = data.draw(st.integers(0, 3))
    insert = data.draw(
        st.sampled_from([b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b"\0", b"_", b""])
    )
    raw = KUBECTL[:at] + insert + KUBECTL[at + drop :]
    try:
        check_http1_head(raw)
    except HeaderRefusal:
        return
    method, target, fields = naive_reading(raw)
    assert method.isalpha()
    assert b" " not in target
    assert raw.count(b"\n") == raw.count(b"\r") == raw.count(b"\r\n") == len(fields) + 2


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ((b"content-length: 5", b"TRANSFER-ENCODING: chunked"), "CL_TE"),
        ((b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), "TE"),
        ((b"Transfer-Encoding: gzip, chunked",), "TE"),
        ((b"Content-Length: 5", b"Content-Length: 5"), "CL"),
        ((b"Content-Length: 0x5",), "CL"),
        ((b"Content-Length: 9999999999999999999",), "CL"),
        ((b"Content-Length: 5",), "BAD_HEADER"),
        ((b"Transfer-Encoding: chunked",), "BAD_HEADER"),
        ((b"X: content-length",), "BAD_HEADER"),
    ],
)
def test_what_is_wrong_with_a_head_that_only_the_parser_refuses(
    lines: tuple[bytes, ...], reason: str
) -> None:
    assert parser_reason(head(*lines)) == reason
