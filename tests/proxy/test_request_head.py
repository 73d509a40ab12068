"""Request heads: every row of requestinfo-cases.json that one head decides, and what is relayed."""

import base64
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_proxy.listener.head_limits import HEAD_BYTES, MAX_FIELDS, TARGET_BYTES
from mk8s_proxy.listener.header_names import HTTP1_ACTIONS
from mk8s_proxy.listener.http1_head import check_http1_head, read_http1_head
from mk8s_proxy.listener.refusals import REASONS, HeaderRefusal, no_credential
from mk8s_proxy.listener.request_head import (
    SMALL_BODY,
    RequestHead,
    read_http2_head,
)

Field = tuple[bytes, bytes]
CASES = json.loads((Path(__file__).parent.parent / "data/requestinfo-cases.json").read_text())
SUBPROTOCOL = b"base64url.bearer.authorization.k8s.io."
PSEUDO = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":authority", b"central.example.com"),
    (b":path", b"/api/v1/pods"),
]
HOST = (b"Host", b"central.example.com")
BEARER = (b"Authorization", b"Bearer A")
HANDSHAKE = [
    (b"Connection", b"Upgrade"),
    (b"Upgrade", b"websocket"),
    (b"Sec-WebSocket-Version", b"13"),
    (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
]


def http1(*fields: Field, method: bytes = b"GET", host: bool = True) -> RequestHead:
    return read_http1_head(method, b"/api/v1/pods", [*([HOST] if host else []), *fields])


def http2(*fields: Field, end_stream: bool = True, **pseudo: bytes) -> RequestHead:
    head = [(name, pseudo.get(name[1:].decode(), value)) for name, value in PSEUDO]
    return read_http2_head([*head, *fields], end_stream)


def refusal_of(call: Any, *arguments: Any, **keywords: Any) -> HeaderRefusal:
    with pytest.raises(HeaderRefusal) as caught:
        call(*arguments, **keywords)
    return caught.value


# --- the rows of header_cases ---

HEADER_ROWS = {row["id"]: row for row in CASES["header_cases"]}
FILLED_IN = {
    b"<b64url>": base64.urlsafe_b64encode(b"from.subprotocol.x").rstrip(b"="),
    b"<admin>": base64.urlsafe_b64encode(b"admin").rstrip(b"="),
    b"<1.2 MB>": b"x" * 1_200_000,
    b"\\r": b"\r",
    b"\\n": b"\n",
    b"\\0": b"\0",
}
JUDGED_BY_THE_CHAIN = {"IMPERSONATION_FROM_CLIENT", "EMPTY_USER", "RESERVED_GROUP"} | {
    "RESERVED_USER"
}
TAKEN = {"HD041"}
"""Rows that mk8s takes as kube-apiserver does, today: HTTP/1.0."""


def raw_head(row: dict[str, Any]) -> bytes:
    """The head a client would send for a row: what the row says, and what it leaves unsaid."""
    request_line = b"GET / HTTP/1.0" if row["id"] == "HD047" else b"GET / HTTP/1.1"
    lines = []
    for text in row["headers"]:
        line = text.encode()
        for mark, value in FILLED_IN.items():
            line = line.replace(mark, value)
        if line.startswith(b"GET "):
            request_line = line
        elif line.startswith(b"?"):
            request_line = b"GET /" + line + b" HTTP/1.1"
        else:
            lines.append(line)
    if b"websocket" in b"".join(lines).lower() and "without Upgrade" not in row["name"]:
        given_names = {line.partition(b":")[0] for line in lines}
        lines += [b"%b: %b" % field for field in HANDSHAKE if field[0] not in given_names]
    if row["reason"] != "NO_CREDENTIAL" and not has_credential(lines):
        lines.append(b"Authorization: Bearer A")
    if row["reason"] != "HOST":
        lines.append(b"Host: central")
    return b"\r\n".join([request_line, *lines, b"", b""])


def has_credential(lines: list[bytes]) -> bool:
    return any(line.lower().startswith(b"authorization") or SUBPROTOCOL in line for line in lines)


def read_raw(head: bytes) -> RequestHead:
    """What the HTTP/1.1 connection and the handler chain do with raw bytes, without a parser."""
    check_http1_head(head)
    request_line, *lines = head[:-4].split(b"\r\n")
    method, target, _ = request_line.split(b" ")
    fields = [(name, value) for name, _, value in (line.partition(b":") for line in lines)]
    read = read_http1_head(method, target, fields)
    if not read.authorization:
        raise no_credential()
    return read


@pytest.mark.parametrize("row", HEADER_ROWS.values(), ids=list(HEADER_ROWS))
def test_header_row(row: dict[str, Any]) -> None:
    head = raw_head(row)
    if row["id"] in TAKEN:
        assert read_raw(head).method == b"GET"
    elif row["reason"] in JUDGED_BY_THE_CHAIN:
        read = read_raw(head)
        assert read.impersonation
        assert not any(name.startswith(b"impersonate") for name, _ in read.forwarded)
    elif row["mk8s"] == "reject":
        assert refusal_of(read_raw, head).reason == row["reason"]
    else:
        read = read_raw(head)
        stripped = row["mk8s"] == "strip_and_continue"
        sent = {line.partition(":")[0].lower().encode() for line in row["headers"]}
        relayed = sent - {b"authorization", b"connection", b"upgrade"}
        assert {name for name, _ in read.forwarded} & relayed == (set() if stripped else relayed)


def test_a_credential_in_a_subprotocol_is_taken_and_does_not_travel() -> None:
    read = read_raw(raw_head(HEADER_ROWS["HD006"]))
    assert read.authorization == b"Bearer from.subprotocol.x"
    assert dict(read.forwarded)[b"sec-websocket-protocol"] == b"v4.channel.k8s.io"
    assert SUBPROTOCOL not in repr(read.forwarded).encode()


@pytest.mark.parametrize(
    "coding", [b"xchunked", b"chunked, identity", b"identity", b"Chunked", b"", b"chunked,"]
)
def test_only_plain_chunked_is_a_transfer_coding(coding: bytes) -> None:
    refused = refusal_of(http1, BEARER, (b"Transfer-Encoding", coding), method=b"POST")
    assert refused.reason == "TE"


# --- the rows of h2_cases ---

WHOLE_CONNECTION_ROWS = {
    "content-length mismatch with DATA, conflicting, +3, 3_0, abc",
    "rapid reset: 20,000 x HEADERS+RST_STREAM",
    "server-caused resets (MadeYouReset shapes)",
    "PING flood 20,000",
    "SETTINGS flood 20,000",
    "empty DATA / empty HEADERS / PRIORITY / WINDOW_UPDATE floods",
    "CONTINUATION flood",
    "HPACK bomb (1 x 4 KB entry, 10,000 references)",
    "zero-window reader (client never opens window)",
}
GOOD = dict(PSEUDO)


def without(name: bytes) -> list[Field]:
    return [field for field in PSEUDO if field[0] != name]


def changed(name: bytes, value: bytes) -> list[Field]:
    return [(name, value) if field[0] == name else field for field in PSEUDO]


# Row name: the heads it means, each with the reason it is refused for.
HTTP2_HEADS: dict[str, list[tuple[str, list[Field]]]] = {
    "CR/LF/NUL in value, upper-case name, space or colon in name, empty name, "
    "surrounding whitespace": [
        *(
            ("BAD_HEADER_VALUE", [*PSEUDO, (b"x", value)])
            for value in (
                b"a\rb",
                b"a\nb",
                b"a\r\nb",
                b"a\0b",
                b"a\x7fb",
                b" a",
                b"a ",
                b"\ta",
                b"a\t",
            )
        ),
        *(
            ("BAD_HEADER_NAME", [*PSEUDO, (name, b"v")])
            for name in (b"X-A", b"x a", b"x:a", b"", b"x\r", b"x\0", b"\xc3\xa4")
        ),
    ],
    "connection / transfer-encoding / upgrade / keep-alive / proxy-connection header, "
    "te other than trailers": [
        ("CONNECTION_HEADER", [*PSEUDO, field])
        for field in (
            (b"connection", b"close"),
            (b"transfer-encoding", b"chunked"),
            (b"upgrade", b"websocket"),
            (b"keep-alive", b"timeout=5"),
            (b"proxy-connection", b"close"),
            (b"te", b"gzip"),
            (b"te", b"trailers, deflate"),
        )
    ],
    "duplicate, unknown, missing or misplaced pseudo header; empty :path": [
        *(("PSEUDO_HEADER", [*PSEUDO, field]) for field in PSEUDO),
        ("PSEUDO_HEADER", [*PSEUDO, (b":status", b"200")]),
        *(("PSEUDO_HEADER", without(name)) for name in (b":method", b":scheme", b":path")),
        ("HOST", without(b":authority")),
        ("PSEUDO_HEADER", [*without(b":path"), (b"x", b"y"), (b":path", b"/")]),
        ("PSEUDO_HEADER", [*PSEUDO, (b"x", b"y"), (b":path", b"/")]),
        ("PSEUDO_HEADER", changed(b":path", b"")),
        ("PSEUDO_HEADER", changed(b":scheme", b"ftp")),
        ("BAD_HEADER", []),
    ],
    ":path without leading slash": [
        ("TARGET_FORM", changed(b":path", target))
        for target in (b"api", b"*", b"https://central/api", b"central:443")
    ],
    ":path containing a space": [
        ("RAW_ILLEGAL", changed(b":path", b"/api HTTP/1.1")),
    ],
    ":path containing raw bytes >= 0x80": [("RAW_ILLEGAL", changed(b":path", b"/\xc3\xa4"))],
    ':method "GET /x" or empty': [
        ("METHOD", changed(b":method", method))
        for method in (b"GET /x", b"", b"get", b"OPTIONS", b"TRACE", b"PRI")
    ],
    ":authority with userinfo a@b": [
        ("HOST", changed(b":authority", authority))
        for authority in (
            b"a@b",
            b"",
            b"a b",
            b"a:b",
            b"a:123456",
            b"a/b",
            b"[::1",
            b"a,b",
            b"a%41",
        )
    ],
    "host header different from :authority": [("HOST", [*PSEUDO, (b"host", b"other")])],
    "CONNECT, extended CONNECT (:protocol) although not enabled": [
        ("METHOD", [(b":method", b"CONNECT"), (b":authority", b"a:443")]),
        ("METHOD", [*changed(b":method", b"CONNECT"), (b":protocol", b"websocket")]),
        ("METHOD", [(b":protocol", b"websocket"), *PSEUDO]),
    ],
    "content-length: 5 with END_STREAM and no body": [
        ("CL", [*changed(b":method", b"POST"), (b"content-length", b"5")]),
    ],
    "duplicate authorization": [
        ("DUP_AUTHORIZATION", [*PSEUDO, (b"authorization", first), (b"authorization", second)])
        for first, second in ((b"Bearer A", b"Bearer B"), (b"Bearer B", b"Bearer A"))
    ],
    "impersonate_user (underscore)": [
        ("UNDERSCORE_HEADER", [*PSEUDO, (b"impersonate_user", b"alice")]),
    ],
}


def test_every_http2_row_is_accounted_for() -> None:
    rows = {row["name"] for row in CASES["h2_cases"]}
    assert rows == HTTP2_HEADS.keys() | WHOLE_CONNECTION_ROWS


@pytest.mark.parametrize(
    ("reason", "fields"), [head for heads in HTTP2_HEADS.values() for head in heads]
)
def test_http2_row(reason: str, fields: list[Field]) -> None:
    assert refusal_of(read_http2_head, fields, True).reason == reason


@pytest.mark.parametrize(
    "values", [(b"3", b"4"), (b"3", b"3"), (b"+3",), (b"3_0",), (b"abc",), (b"",), (b"9" * 19,)]
)
def test_http2_content_length_is_one_plain_number(values: tuple[bytes, ...]) -> None:
    fields = [(b"content-length", value) for value in values]
    refused = refusal_of(http2, *fields, method=b"POST", end_stream=False)
    assert refused.reason == "CL"


# --- what a good head becomes ---


def test_kubectl_get_over_http2() -> None:
    read = http2(
        (b"accept", b"application/json"),
        (b"authorization", b"bearer a.b.c=="),
        (b"user-agent", b"kubectl/v1.33.1"),
        (b"accept-encoding", b"gzip"),
        (b"kubectl-command", b"kubectl get"),
        (b"te", b"trailers"),
    )
    assert read == RequestHead(
        method=b"GET",
        target=b"/api/v1/pods",
        authority=b"central.example.com",
        authorization=b"Bearer a.b.c==",
        upgrade=b"",
        content_length=-1,
        content_type=b"",
        accept=b"application/json",
        user_agent=b"kubectl/v1.33.1",
        client_audit_id=b"",
        impersonation=(),
        forwarded=(
            (b"accept", b"application/json"),
            (b"user-agent", b"kubectl/v1.33.1"),
            (b"accept-encoding", b"gzip"),
            (b"kubectl-command", b"kubectl get"),
        ),
        expects_continue=False,
    )


def test_apply_over_http1() -> None:
    read = http1(
        (b"Content-Type", b"application/apply-patch+yaml"),
        (b"Content-Length", b"12 "),
        (b"Expect", b"100-Continue"),
        (b"Audit-ID", b"mine"),
        (b"X-Custom", b"\xff\tkept"),
        (b"Impersonate-User", b"alice"),
        (b"Connection", b"keep-alive"),
        BEARER,
        method=b"PATCH",
    )
    assert (read.content_length, read.content_type) == (12, b"application/apply-patch+yaml")
    assert read.expects_continue
    assert read.client_audit_id == b"mine"
    assert read.impersonation == ((b"impersonate-user", b"alice"),)
    assert read.forwarded == (
        (b"content-type", b"application/apply-patch+yaml"),
        (b"x-custom", b"\xff\tkept"),
    )


def test_the_authority_is_lower_case_and_may_come_as_host() -> None:
    assert http2(authority=b"Prod.Example.COM:8443").authority == b"prod.example.com:8443"
    assert http2((b"host", b"central.example.com")).authority == b"central.example.com"
    fields = [*without(b":authority"), (b"host", b"[::1]:8443")]
    assert read_http2_head(fields, True).authority == b"[::1]:8443"


@pytest.mark.parametrize("host", [[], [b""], [b"a", b"b"], [b"a", b"a"], [b"u@a"], [b"a b"]])
def test_http1_needs_exactly_one_host(host: list[bytes]) -> None:
    fields = [(b"Host", value) for value in host]
    assert refusal_of(http1, *fields, host=False).reason == "HOST"


def test_repeated_accept_is_joined_for_us_and_relayed_as_it_came() -> None:
    read = http2((b"accept", b"a/b"), (b"accept", b"c/d"))
    assert read.accept == b"a/b, c/d"
    assert read.forwarded == ((b"accept", b"a/b"), (b"accept", b"c/d"))


@pytest.mark.parametrize("name", [b"content-type", b"user-agent", b"content-encoding"])
def test_headers_with_one_meaning_come_once(name: bytes) -> None:
    assert refusal_of(http2, (name, b"gzip"), (name, b"gzip")).reason == "DUP_HEADER"


def test_unknown_content_codings_are_refused() -> None:
    assert http2((b"content-encoding", b"GZIP")).forwarded == ((b"content-encoding", b"GZIP"),)
    assert refusal_of(http2, (b"content-encoding", b"rot13")).reason == "CONTENT_CODING"


def test_origin_twice_is_still_a_browser() -> None:
    origin = (b"origin", b"https://evil.example")
    assert refusal_of(http2, origin, origin).reason == "BROWSER_ORIGIN"


OWN_ORIGIN = (b"Origin", b"https://central.example.com")


ANY_ORIGIN = [
    b"https://central.example.com",
    b"http://localhost:3000",
    b"https://headlamp.example",
    b"app://lens",
    b"null",
    b"",
]


@pytest.mark.parametrize("origin", ANY_ORIGIN)
@pytest.mark.parametrize("method", [b"GET", b"POST", b"DELETE"])
def test_beside_a_token_in_authorization_an_origin_proves_nothing_bad(
    origin: bytes, method: bytes
) -> None:
    """Dashboards on a desk and browsers behind `kubectl proxy`: no page can set that header."""
    read = http2((b"authorization", b"Bearer A"), (b"origin", origin), method=method)
    assert read.authorization == b"Bearer A"
    assert read.forwarded == ()
    read = http1(*HANDSHAKE, BEARER, (b"Origin", origin))
    assert (read.upgrade, read.authorization) == (b"websocket", b"Bearer A")
    assert b"origin" not in dict(read.forwarded)


@pytest.mark.parametrize("after", [b"", b"/", b"/k8s/prod", b"/k8s/prod/"])
def test_an_own_origin_without_a_token_is_refused_for_the_token(after: bytes) -> None:
    assert http1((b"Origin", OWN_ORIGIN[1] + after)).authorization == b""
    assert http2((b"origin", OWN_ORIGIN[1].upper() + after)).authorization == b""


def test_an_own_origin_has_the_port_of_the_host() -> None:
    fields = [(b"Host", b"central:8443"), (b"Origin", b"https://central:8443/")]
    assert http1(*fields, host=False).authority == b"central:8443"


FOREIGN_ORIGINS = {
    "another_site": b"https://evil.example",
    "opaque_origin_of_a_sandboxed_page": b"null",
    "plain_http_page_of_the_same_host": b"http://central.example.com",
    "websocket_scheme": b"wss://central.example.com",
    "page_on_another_port": b"https://central.example.com:8443",
    "page_on_the_default_port_spelled_out": b"https://central.example.com:443",
    "own_name_as_a_prefix": b"https://central.example.com.evil.example",
    "own_name_as_a_suffix": b"https://evil-central.example.com",
    "subdomain_of_a_pods_choice": b"https://pod.central.example.com",
    "parent_domain": b"https://example.com",
    "own_name_as_user_information": b"https://central.example.com@evil.example",
    "own_name_as_a_path": b"https://evil.example/https://central.example.com",
    "trailing_dot": b"https://central.example.com.",
    "list_of_origins": b"https://central.example.com https://evil.example",
    "no_scheme": b"central.example.com",
    "empty": b"",
}


@pytest.mark.parametrize("origin", FOREIGN_ORIGINS.values(), ids=list(FOREIGN_ORIGINS))
def test_attack_by_origin(origin: bytes) -> None:
    for fields in ([], HANDSHAKE):
        refused = refusal_of(http1, *fields, (b"Origin", origin))
        assert (refused.reason, refused.code) == ("BROWSER_ORIGIN", 403)
    assert refusal_of(http2, (b"origin", origin)).reason == "BROWSER_ORIGIN"


@pytest.mark.parametrize("origin", [OWN_ORIGIN[1], OWN_ORIGIN[1] + b"/", *FOREIGN_ORIGINS.values()])
def test_attack_page_with_the_token_in_a_subprotocol(origin: bytes) -> None:
    token = base64.urlsafe_b64encode(b"a.b.c").rstrip(b"=")
    offered = (b"Sec-WebSocket-Protocol", SUBPROTOCOL + token + b", v5.channel.k8s.io")
    assert http1(*HANDSHAKE, offered).authorization == b"Bearer a.b.c"
    refused = refusal_of(http1, *HANDSHAKE, offered, (b"Origin", origin))
    assert refused.reason == "BROWSER_ORIGIN"


def test_attack_preflight_of_a_page() -> None:
    asks = (b"Access-Control-Request-Headers", b"authorization")
    refused = refusal_of(http1, OWN_ORIGIN, asks, method=b"OPTIONS")
    assert (refused.reason, refused.code) == ("METHOD", 405)


def test_attack_own_origin_beside_another() -> None:
    evil = (b"Origin", b"https://evil.example")
    for pair in ((OWN_ORIGIN, evil), (evil, OWN_ORIGIN), (OWN_ORIGIN, OWN_ORIGIN)):
        assert refusal_of(http1, BEARER, *pair).reason == "BROWSER_ORIGIN"


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("length", [0, 5, SMALL_BODY])
def test_a_small_body_of_a_get_passes(method: bytes, length: int) -> None:
    declared = (b"content-length", b"%d" % length)
    assert http1(declared, method=method).content_length == length
    assert http2(declared, end_stream=False, method=method).content_length == length


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_attack_get_with_a_body_that_is_large_or_without_a_length(method: bytes) -> None:
    large = (b"content-length", b"%d" % (SMALL_BODY + 1))
    chunked = (b"transfer-encoding", b"chunked")
    assert refusal_of(http1, large, method=method).reason == "BODY_ON_GET"
    assert refusal_of(http1, chunked, method=method).reason == "BODY_ON_GET"
    assert refusal_of(http2, large, end_stream=False, method=method).reason == "BODY_ON_GET"
    assert refusal_of(http2, end_stream=False, method=method).reason == "BODY_ON_GET"


def test_names_with_underscores_pass_where_that_is_set() -> None:
    fields = [*PSEUDO, (b"x_team", b"a"), (b"tenant_id", b"7")]
    assert read_http2_head(fields, True, underscores=True).forwarded == tuple(fields[-2:])
    fields = [(b"Host", b"central"), (b"X_Team", b"a")]
    read = read_http1_head(b"GET", b"/api", fields, underscores=True)
    assert read.forwarded == ((b"x_team", b"a"),)


@pytest.mark.parametrize(
    "name",
    [
        b"content_length", b"transfer_encoding", b"impersonate_user", b"impersonate-user_",
        b"mk8s_identity", b"x_mk8s-a", b"x_remote_user", b"x_forwarded_for", b"accept_encoding",
        b"proxy_authorization", b"sec_websocket_key", b"audit_id", b"x_http_method_override",
    ],
)  # fmt: skip
def test_attack_underscore_that_is_read_as_a_dash(name: bytes) -> None:
    with pytest.raises(HeaderRefusal):
        read_http2_head([*PSEUDO, (name, b"a")], True, underscores=True)


def test_bodies_of_other_methods() -> None:
    assert http1((b"transfer-encoding", b"chunked"), method=b"POST").content_length == -1
    assert http2(method=b"DELETE", end_stream=False).content_length == -1
    length = (b"content-length", b"7")
    assert http2(length, method=b"DELETE", end_stream=False).content_length == 7


@pytest.mark.parametrize("order", [1, -1])
def test_smuggling_by_two_lengths(order: int) -> None:
    fields = [(b"Content-Length", b"5"), (b"Transfer-Encoding", b"chunked")][::order]
    assert refusal_of(http1, *fields, method=b"POST").reason == "CL_TE"


@pytest.mark.parametrize("reader", [http1, http2])
def test_too_large_heads(reader: Any) -> None:
    many = [(b"x", b"y")] * (MAX_FIELDS - 5)
    assert len(reader(*many).forwarded) == len(many)
    assert refusal_of(reader, *many, *many[:5]).reason == "HEADER_TOO_LARGE"
    for name, value in ((b"x", b"v" * HEAD_BYTES), (b"n" * HEAD_BYTES, b"v")):
        refused = refusal_of(reader, (name, value))
        assert (refused.reason, refused.code) == ("HEADER_TOO_LARGE", 431)


def test_the_target_has_a_size_of_its_own() -> None:
    longest = b"/" + b"a" * (TARGET_BYTES - 1)
    assert read_http1_head(b"GET", longest, [HOST]).target == longest
    assert refusal_of(read_http1_head, b"GET", longest + b"a", [HOST]).reason == "HEADER_TOO_LARGE"


def test_attack_a_second_path_is_counted_like_any_other_field() -> None:
    twice = [(b":path", b"/" + b"a" * HEAD_BYTES)] * 2
    refused = refusal_of(read_http2_head, [*PSEUDO, *twice], True)
    assert refused.reason == "HEADER_TOO_LARGE"


@pytest.mark.parametrize(
    ("method", "target", "reason"),
    [
        (b"get", b"/", "METHOD"),
        (b"OPTIONS", b"*", "METHOD"),
        (b"GET", b"http://a/", "TARGET_FORM"),
        (b"GET", b"/\x7f", "RAW_ILLEGAL"),
        (b"GET", b"/\r\nX: y", "RAW_ILLEGAL"),
    ],
)
def test_http1_request_lines(method: bytes, target: bytes, reason: str) -> None:
    assert refusal_of(read_http1_head, method, target, [HOST]).reason == reason


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Bearer",
        b"Bearer  A",
        b"Bearer =",
        b"Bearer A B",
        b"Bearer A,Bearer B",
        b"BearerA",
        b"Basic YTpi",
        b"Bearer A=B",
        b"Bearer \xff",
        b"Bearer\tA",
        b"token A",
    ],
)
def test_one_bearer_token_or_401(value: bytes) -> None:
    refused = refusal_of(http2, (b"authorization", value))
    assert (refused.reason, refused.code) == ("BAD_AUTHORIZATION", 401)


def test_no_credential_is_for_the_chain_to_refuse() -> None:
    assert http2().authorization == b""
    assert (no_credential().reason, no_credential().code) == ("NO_CREDENTIAL", 401)


# --- refusals ---


def test_a_refusal_never_repeats_a_value() -> None:
    secret = b"Bearer s3cr3t, s3cr3t"
    refused = refusal_of(http2, (b"authorization", secret))
    assert "s3cr3t" not in f"{refused} {refused.message} {refused!r}"


def test_a_refusal_names_the_header_in_harmless_letters() -> None:
    refused = refusal_of(http2, (b"a\r\n_\xe2\x80\xae" + b"x" * 100, b"v"))
    assert refused.reason == "BAD_HEADER_NAME"
    assert refused.message.isascii()
    assert refused.message.isprintable()
    assert len(refused.message) < 250


@pytest.mark.parametrize("reason", sorted(REASONS))
def test_every_reason_is_a_client_error_with_one_sentence(reason: str) -> None:
    refused = HeaderRefusal(reason)
    assert 400 <= refused.code < 500
    assert "\n" not in refused.message
    assert str(refused) == f"{reason}: {refused.message}"


# --- properties ---

FORBIDDEN = (
    b"impersonate", b"mk8s-", b"x-mk8s-", b"x-remote-", b"x-forwarded-", b"x-http-method",
    b"x-envoy-", b"x-original-", b"x-rewrite-", b"cf-", b"forwarded",
)  # fmt: skip
NEVER = {
    b"alt-used", b"audit-id", b"authorization", b"connection", b"content-length", b"cookie",
    b"expect", b"forwarded", b"host", b"http2-settings", b"keep-alive", b"origin",
    b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te", b"trailer",
    b"transfer-encoding", b"upgrade", b"x-method-override", b"x-original-url", b"x-real-ip",
    b"x-rewrite-url", b"via",
    # the client's address
    b"cf-connecting-ip", b"cf-connecting-ipv6", b"client-ip", b"fastly-client-ip",
    b"proxy-client-ip", b"true-client-ip", b"wl-proxy-client-ip", b"x-client-ip",
    b"x-cluster-client-ip", b"x-envoy-external-address", b"x-forwarded", b"x-originating-ip",
    b"x-azure-clientip", b"x-appengine-user-ip", b"ali-cdn-real-ip", b"cdn-src-ip",
    b"x-some-cdn-real-ip", b"x-new-product-client-ip", b"x-proxyuser-ip", b"x-true-ip",
    # another target or scheme
    b"x-envoy-original-path", b"x-original-uri", b"x-original-host", b"x-override-url", b"x-host",
    b"x-http-destinationurl", b"front-end-https", b"x-scheme", b"x-url-scheme", b"x-forward-proto",
    # another user
    b"remote-user", b"x-auth-request-email", b"x-webauth-user", b"x-amzn-oidc-data",
    b"x-goog-authenticated-user-email", b"x-ms-client-principal-name", b"x-ssl-client-dn",
    b"ssl-client-verify", b"cf-access-authenticated-user-email", b"x-client-cert",
}  # fmt: skip
HARMLESS = [
    b"accept-language", b"if-match", b"traceparent", b"x-request-id", b"x-b3-traceid", b"x-api-key",
    b"x-amzn-trace-id", b"kubectl-command", b"x-grafana-device-id", b"x-client-version", b"ip",
    b"x-realm", b"x-requested-with", b"x-csrf-token", b"x-goog-api-client", b"x-skip",
    b"client-version", b"x-vault-token", b"x-stream-protocol-version", b"origin-trial",
]  # fmt: skip
NASTY = sorted(NEVER) + [
    prefix + rest for prefix in FORBIDDEN for rest in (b"", b"user", b"-User", b"group", b"_x")
]
KNOWN_VALUES = [
    b"", b"a", b"close", b"0", b"5", b"chunked", b"websocket", b"Upgrade", b"Bearer A", b"trailers",
    b"https://central.example.com",
    b"central.example.com", b"gzip", b"13", b"dGhlIHNhbXBsZSBub25jZQ==", b"v4.channel.k8s.io",
]  # fmt: skip
VALUES = st.sampled_from(KNOWN_VALUES) | st.binary(max_size=8)


@st.composite
def hostile_fields(draw: st.DrawFn) -> list[Field]:
    names = st.sampled_from(NASTY + list(HTTP1_ACTIONS)) | st.binary(max_size=8)
    recased = st.tuples(names, st.integers(0, 2**16)).map(lambda pair: recase(*pair))
    return draw(st.lists(st.tuples(recased, VALUES), max_size=8))


def recase(name: bytes, seed: int) -> bytes:
    letters = (bytes([byte]) for byte in name)
    return b"".join(
        letter.upper() if seed >> (index % 16) & 1 else letter
        for index, letter in enumerate(letters)
    )


def assert_harmless(read: RequestHead) -> None:
    names = [name for name, _ in read.forwarded]
    assert not NEVER.intersection(names)
    assert not any(name.startswith(FORBIDDEN) for name in names)
    assert all(name == name.lower() and b"_" not in name and name for name in names)
    joined = b"".join(value for _, value in read.forwarded)
    assert not set(joined) & {0, 10, 13, 127}
    assert SUBPROTOCOL not in joined


@given(fields=hostile_fields(), method=st.sampled_from([b"GET", b"POST", b"DELETE"]))
def test_nothing_harmful_is_relayed_from_http1(fields: list[Field], method: bytes) -> None:
    try:
        read = read_http1_head(method, b"/", [HOST, *fields])
    except HeaderRefusal:
        return
    assert_harmless(read)


@given(fields=hostile_fields(), end_stream=st.booleans(), lower=st.booleans())
def test_nothing_harmful_is_relayed_from_http2(
    fields: list[Field], end_stream: bool, lower: bool
) -> None:
    sent = [(name.lower(), value) for name, value in fields] if lower else fields
    try:
        read = read_http2_head([*PSEUDO, *sent], end_stream)
    except HeaderRefusal:
        return
    assert_harmless(read)


@pytest.mark.parametrize("name", HARMLESS)
def test_what_tools_send_to_their_own_backends_passes(name: bytes) -> None:
    assert (name, b"x") in read_http2_head([*PSEUDO, (name, b"x")], True).forwarded


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize("change", [bytes.lower, bytes.upper, bytes.title])
def test_each_forbidden_header_alone_is_refused_or_left_behind(name: bytes, change: Any) -> None:
    for value in (b"x", b"trailers", b"Bearer A", b"100-continue"):
        try:
            read = http1((change(name), value))
        except HeaderRefusal:
            continue
        assert_harmless(read)
        assert not read.forwarded


any_fields = st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20)), max_size=6)


@given(fields=any_fields, method=st.binary(max_size=8), target=st.binary(max_size=12))
def test_http1_raises_only_refusals(fields: list[Field], method: bytes, target: bytes) -> None:
    with suppress(HeaderRefusal):
        read_http1_head(method, target, fields)


@given(fields=any_fields, with_pseudo=st.booleans(), end_stream=st.booleans())
def test_http2_raises_only_refusals(
    fields: list[Field], with_pseudo: bool, end_stream: bool
) -> None:
    with suppress(HeaderRefusal):
        read_http2_head([*PSEUDO, *fields] if with_pseudo else fields, end_stream)


@pytest.mark.parametrize("reader", [http1, http2])
def test_attack_more_impersonation_than_is_looked_at(reader: Any) -> None:
    group = (b"impersonate-group", b"devs")
    assert len(reader(*[group] * 64).impersonation) == 64
    refused = refusal_of(reader, *[group] * 65)
    assert (refused.reason, refused.code) == ("IMPERSONATION_HEADER", 403)
