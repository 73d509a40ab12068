"""What an agent forwards, and that a central which was taken over cannot make it do more.

Every refusal here is about a head that central never writes.
"""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_agent.apiserver.request import Request, RequestRefused, read_request, request_line
from mk8s_agent.wire.hpack_codec import Decoder

Fields = list[tuple[bytes, bytes]]
WHO = json.dumps({"user": "dev@example.com", "uid": "u1", "groups": ["mk8s:users"]}).encode()
GET: Fields = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":path", b"/api/v1/pods?watch=1"),
    (b"mk8s-identity", WHO),
]
IDENTITY = [
    (b"impersonate-user", b"dev@example.com"),
    (b"impersonate-uid", b"u1"),
    (b"impersonate-group", b"mk8s:users"),
    (b"impersonate-group", b"system:authenticated"),
]


def without(name: bytes, *more: tuple[bytes, bytes]) -> Fields:
    return [(known, value) for known, value in GET if known != name] + list(more)


def read(fields: Fields, end: bool, prefix: bytes = b"") -> Request:
    return read_request(fields, end, prefix)[0]


def written(request: Request) -> Fields:
    return Decoder(0, 1 << 20).decode(request.block)


def test_a_head_is_written_anew() -> None:
    request, carried = read_request(
        [*GET, (b"accept", b"*/*"), (b"mk8s-audit-id", b"id1"), (b"mk8s-content-length", b"12")],
        False,
    )
    assert written(request) == [
        *GET[:3],
        (b"audit-id", b"id1"),
        (b"content-length", b"12"),
        (b"accept", b"*/*"),
        *IDENTITY,
    ]
    assert (request.length, request.upgrade, request.end) == (12, b"", False)
    assert (carried.identity, carried.fields) == (WHO, [(b"accept", b"*/*")])
    assert Decoder(0, 1 << 20).decode(carried.block) == [(b"accept", b"*/*"), *IDENTITY]


def test_a_name_with_an_underscore_that_means_nothing_passes() -> None:
    assert written(read([*GET, (b"x_team", b"a")], True))[3] == (b"x_team", b"a")


def test_a_head_for_http1() -> None:
    """The length is left to whoever frames the body."""
    request = read([*GET, (b"accept", b"*/*"), (b"mk8s-content-length", b"012")], False, b"/c1")
    expected = [(b"accept", b"*/*"), *IDENTITY]
    assert request_line(request) == (b"GET", b"/c1/api/v1/pods?watch=1", expected)
    assert written(request)[3] == (b"content-length", b"12")


def test_a_scheme_is_not_believed() -> None:
    fields = [(b":scheme", b"http"), *without(b":scheme")]
    assert written(read(fields, True))[1] == (b":scheme", b"https")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ([(b"accept", b"*/*"), *GET], "a pseudo-header field behind a header"),
        ([*GET[1:], (b"accept", b"*/*"), GET[0]], "a pseudo-header field behind a header"),
        (without(b":scheme"), "no scheme"),
    ],
)
def test_a_malformed_head(fields: Fields, reason: str) -> None:
    """RFC 9113, 8.3 and 8.3.1."""
    with pytest.raises(RequestRefused, match=reason):
        read(fields, True)


def test_a_request_without_a_body() -> None:
    request = read([*GET, (b"mk8s-content-length", b"0")], True)
    assert (request.length, request.end) == (0, True)
    assert read(GET, True).length == -1


@pytest.mark.parametrize("protocol", [b"websocket", b"SPDY/3.1"])
def test_an_upgrade(protocol: bytes) -> None:
    request = read([*GET, (b"mk8s-upgrade", protocol)], False)
    assert request.upgrade == protocol
    assert b"upgrade" not in dict(written(request))


def test_an_upgrade_that_needs_an_origin() -> None:
    upgrade = (b"mk8s-upgrade", b"websocket")
    assert read([*GET, upgrade, (b"mk8s-origin", b"own")], False).own_origin
    assert not read([*GET, upgrade], False).own_origin


FORGED = {
    "a credential": [*GET, (b"authorization", b"Bearer stolen")],
    "a ready-made identity": [*GET, (b"impersonate-user", b"admin")],
    "a group besides": [*GET, (b"impersonate-group", b"system:masters")],
    "a group in capitals": [*GET, (b"Impersonate-Group", b"system:masters")],
    "a group behind a line end": [*GET, (b"x", b"y\r\nImpersonate-Group: system:masters")],
    "a group in the audit id": [*GET, (b"mk8s-audit-id", b"i\r\nImpersonate-Group: x")],
    "a line end in a name": [*GET, (b"x: y\r\nimpersonate-group", b"system:masters")],
    "a colon in a name": [*GET, (b"impersonate-group: x", b"y")],
    "an empty name": [*GET, (b"", b"y")],
    "an underscore": [*GET, (b"impersonate_user", b"admin")],
    "a NUL": [*GET, (b"x", b"a\0b")],
    "a front proxy's user": [*GET, (b"x-remote-user", b"admin")],
    "a ready-made identity with an underscore": [*GET, (b"impersonate_user", b"admin")],
    "a length with an underscore": [*GET, (b"content_length", b"5")],
    "a front proxy's user with underscores": [*GET, (b"x_remote_user", b"admin")],
    "a field of mk8s with an underscore": [*GET, (b"mk8s_identity", b"{}")],
    "two identities": [*GET, (b"mk8s-identity", WHO)],
    "no identity": without(b"mk8s-identity"),
    "an empty identity": without(b"mk8s-identity", (b"mk8s-identity", b"")),
    "an empty user": without(
        b"mk8s-identity", (b"mk8s-identity", WHO.replace(b"dev@example.com", b""))
    ),
    "no marker group": without(
        b"mk8s-identity", (b"mk8s-identity", WHO.replace(b"mk8s:users", b"users"))
    ),
    "the agent itself": without(
        b"mk8s-identity",
        (b"mk8s-identity", WHO.replace(b"dev@example.com", b"system:serviceaccount:mk8s:agent")),
    ),
    "two methods": [*GET, (b":method", b"DELETE")],
    "two paths": [*GET, (b":path", b"/")],
    "no method": without(b":method"),
    "CONNECT": without(b":method", (b":method", b"CONNECT")),
    "a method with a space": without(b":method", (b":method", b"GET /")),
    "no path": without(b":path"),
    "a dot segment": without(b":path", (b":path", b"/api/v1/x/proxy/../../y")),
    "a dot segment at the end": without(b":path", (b":path", b"/api/..")),
    "a single dot": without(b":path", (b":path", b"/api/./v1?x")),
    "an encoded dot segment": without(b":path", (b":path", b"/api/%2e%2E/v1")),
    "an encoded slash": without(b":path", (b":path", b"/api/v1/pods/x%2Fexec")),
    "an encoded percent sign": without(b":path", (b":path", b"/api/v1/pods/x%252fexec")),
    "an encoded backslash": without(b":path", (b":path", b"/api/v1%5cpods")),
    "an encoded question mark": without(b":path", (b":path", b"/api/v1%3fpods")),
    "an encoded number sign": without(b":path", (b":path", b"/api/v1%23pods")),
    "an encoded zero": without(b":path", (b":path", b"/api/v1/pods/x%00")),
    "half an escape": without(b":path", (b":path", b"/api/v1/pods/x%2")),
    "a backslash": without(b":path", (b":path", b"/api\\..\\v1")),
    "a number sign": without(b":path", (b":path", b"/api/v1/pods/x#/exec")),
    "a semicolon": without(b":path", (b":path", b"/api/v1;x/pods")),
    "an encoded semicolon": without(b":path", (b":path", b"/api/v1%3Bx/pods")),
    "an empty segment": without(b":path", (b":path", b"/api/v1//secrets")),
    "an empty first segment": without(b":path", (b":path", b"//api/v1")),
    "a path without a slash": without(b":path", (b":path", b"api")),
    "a space in the path": without(b":path", (b":path", b"/ HTTP/1.1\r\nx: y")),
    "a line end in the path": without(b":path", (b":path", b"/\r\n")),
    "a byte over 127 in the path": without(b":path", (b":path", b"/\xff")),
    "an authority": [*GET, (b":authority", b"evil")],
    "a host": [*GET, (b"host", b"evil")],
    "hop-by-hop fields": [*GET, (b"transfer-encoding", b"chunked")],
    "a connection option": [*GET, (b"connection", b"authorization")],
    "a length of its own": [*GET, (b"content-length", b"5")],
    "an unknown protocol": [*GET, (b"mk8s-upgrade", b"h2c")],
    "a length that is none": [*GET, (b"mk8s-content-length", b"+3")],
    "a length without end": [*GET, (b"mk8s-content-length", b"1" * 19)],
    "a page's origin": [*GET, (b"mk8s-upgrade", b"websocket"), (b"origin", b"https://evil")],
    "an origin of central's": [
        *GET, (b"mk8s-upgrade", b"websocket"), (b"mk8s-origin", b"https://evil"),
    ],
    "an origin without a WebSocket": [*GET, (b"mk8s-origin", b"own")],
    "an origin for SPDY": [*GET, (b"mk8s-upgrade", b"SPDY/3.1"), (b"mk8s-origin", b"own")],
    "an upgrade with a length": [
        *GET, (b"mk8s-upgrade", b"websocket"), (b"mk8s-content-length", b"5"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("fields", FORGED.values(), ids=list(FORGED))
def test_forged_by_a_central_that_was_taken_over(fields: Fields) -> None:
    with pytest.raises(RequestRefused):
        read_request(fields, False)


def test_a_length_without_a_body_is_no_way_to_a_second_request() -> None:
    with pytest.raises(RequestRefused, match="without a body"):
        read_request([*GET, (b"mk8s-content-length", b"5")], True)


names = st.one_of(
    st.sampled_from(
        [name for name, _ in GET] + [b"accept", b"mk8s-upgrade", b"mk8s-content-length"]
    ),
    st.binary(max_size=20),
)


@given(st.lists(st.tuples(names, st.binary(max_size=30)), max_size=8), st.booleans())
def test_whatever_is_forwarded_is_one_safe_head(more: Fields, end: bool) -> None:
    try:
        request = read([*GET, *more], end)
    except RequestRefused:
        return
    fields = written(request)
    assert fields[:3] == GET[:3]
    assert [field for field in fields if field[0].startswith(b"impersonate")] == IDENTITY
    assert [name for name, _ in fields[3:] if name.startswith((b":", b"mk8s-"))] == []
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in fields)
    assert lines.count(b"\n") == len(fields)
    assert b"authorization:" not in lines
