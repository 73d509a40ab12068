"""Upgrades: what kubectl asks for passes, what would turn the proxy blind does not."""

import base64
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_proxy.listener.http1_head import read_http1_head
from mk8s_proxy.listener.refusals import HeaderRefusal
from mk8s_proxy.listener.request_head import RequestHead
from mk8s_proxy.listener.upgrade_head import read_upgrade

Field = tuple[bytes, bytes]
PREFIX = b"base64url.bearer.authorization.k8s.io."
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = (b"Connection", b"Upgrade")
WEBSOCKET = [
    UPGRADE,
    (b"Upgrade", b"websocket"),
    (b"Sec-WebSocket-Version", b"13"),
    (b"Sec-WebSocket-Key", KEY),
]
RELAYED = ((b"sec-websocket-version", b"13"), (b"sec-websocket-key", KEY))


def read(*fields: Field, method: bytes = b"GET") -> RequestHead:
    return read_http1_head(method, b"/", [(b"Host", b"central"), *fields])


def offered(*protocols: bytes) -> Field:
    return (b"Sec-WebSocket-Protocol", b", ".join(protocols))


def bearer_protocol(token: bytes) -> bytes:
    return PREFIX + base64.urlsafe_b64encode(token).rstrip(b"=")


def reason_of(*fields: Field, method: bytes = b"GET") -> str:
    with pytest.raises(HeaderRefusal) as caught:
        read(*fields, method=method)
    return caught.value.reason


def test_kubectl_exec_over_websocket() -> None:
    head = read(*WEBSOCKET, offered(b"v5.channel.k8s.io"), (b"Kubectl-Command", b"kubectl exec"))
    assert head.upgrade == b"websocket"
    assert head.forwarded == (
        (b"kubectl-command", b"kubectl exec"),
        *RELAYED,
        (b"sec-websocket-protocol", b"v5.channel.k8s.io"),
    )


def test_kubectl_exec_over_spdy() -> None:
    versions = [
        (b"X-Stream-Protocol-Version", version)
        for version in (b"v5.channel.k8s.io", b"v4.channel.k8s.io", b"channel.k8s.io")
    ]
    fields = [(b"Content-Length", b"0"), UPGRADE, (b"Upgrade", b"SPDY/3.1"), *versions]
    head = read(*fields, method=b"POST")
    assert head.upgrade == b"SPDY/3.1"
    assert head.forwarded == tuple((name.lower(), value) for name, value in versions)


def test_a_browser_connection_header_and_other_letter_case() -> None:
    fields = [(b"Connection", b"keep-alive, UPGRADE"), (b"Upgrade", b"WebSocket"), *WEBSOCKET[2:]]
    assert read(*fields).upgrade == b"websocket"
    assert read(UPGRADE, (b"Upgrade", b"spdy/3.1"), method=b"POST").upgrade == b"SPDY/3.1"


def test_connection_may_be_split_over_lines() -> None:
    fields = [(b"Connection", b"keep-alive"), *WEBSOCKET]
    assert read(*fields).upgrade == b"websocket"


@pytest.mark.parametrize("option", [b"close", b"Keep-Alive", b"keep-alive, close"])
def test_ordinary_connection_options(option: bytes) -> None:
    head = read((b"Connection", option))
    assert (head.upgrade, head.forwarded) == (b"", ())


@pytest.mark.parametrize(
    ("option", "left"),
    [
        (b"X-Lb", ((b"x-other", b"2"),)),
        (b"close, x-lb , X-OTHER", ()),
        (b"TE, close", ((b"x-lb", b"1"), (b"x-other", b"2"))),
        (b"Keep-Alive", ((b"x-lb", b"1"), (b"x-other", b"2"))),
        (b"via", ((b"x-lb", b"1"), (b"x-other", b"2"))),
    ],
)
def test_fields_that_connection_names_end_here(option: bytes, left: tuple[Field, ...]) -> None:
    fields = [(b"X-Lb", b"1"), (b"X-Other", b"2"), (b"Connection", option)]
    assert read(*fields).forwarded == left


def test_a_websocket_may_name_fields_too() -> None:
    head = read((b"X-Lb", b"1"), *WEBSOCKET[1:], (b"Connection", b"Upgrade, X-Lb"))
    assert head.upgrade == b"websocket"
    assert head.forwarded == RELAYED


@pytest.mark.parametrize(
    "option",
    [
        b"close, Authorization", b"", b"close,", b"close;a", b"Host", b"Content-Length",
        b"Transfer-Encoding", b"Cookie", b"Impersonate-User", b"impersonate-extra-a",
        b"mk8s-identity", b"Audit-Id", b"Accept", b"Content-Type",
        b"Content-Encoding", b"X-Forwarded-For", b"Origin", b"Connection", b"a b", b"x_y",
        b"Sec-WebSocket-Protocol", b"Expect", b"User-Agent",
    ],
)  # fmt: skip
def test_hop_by_hop_stripping_attack(option: bytes) -> None:
    assert reason_of((b"Connection", option)) == "CONNECTION_OPTION"
    assert reason_of(*WEBSOCKET, (b"Connection", option)) == "CONNECTION_OPTION"


@pytest.mark.parametrize("token", [b"h2c", b"", b"websocket, SPDY/3.1", b"websocket2", b"SPDY/3"])
def test_blind_upgrade_attack(token: bytes) -> None:
    assert reason_of(UPGRADE, (b"Upgrade", token)) == "UPGRADE_TOKEN"


def test_half_an_upgrade_is_refused() -> None:
    assert reason_of(UPGRADE) == "UPGRADE_TOKEN"
    assert reason_of((b"Upgrade", b"websocket")) == "UPGRADE_TOKEN"
    assert reason_of((b"Connection", b"close"), (b"Upgrade", b"websocket")) == "UPGRADE_TOKEN"
    assert reason_of(*WEBSOCKET, (b"Upgrade", b"websocket")) == "UPGRADE_TOKEN"


@pytest.mark.parametrize(
    "body", [(b"Content-Length", b"5"), (b"Transfer-Encoding", b"chunked")], ids=["length", "te"]
)
def test_a_body_under_an_upgrade_is_refused(body: Field) -> None:
    assert reason_of(UPGRADE, (b"Upgrade", b"SPDY/3.1"), body, method=b"POST") == "UPGRADE_BODY"


def test_websocket_handshakes_are_whole() -> None:
    assert reason_of(*WEBSOCKET, method=b"POST") == "WEBSOCKET_HEAD"
    for missing in (2, 3):
        fields = WEBSOCKET[:missing] + WEBSOCKET[missing + 1 :]
        assert reason_of(*fields) == "WEBSOCKET_HEAD"
    for name, value in ((b"Sec-WebSocket-Version", b"8"), (b"Sec-WebSocket-Key", b"short")):
        fields = [field for field in WEBSOCKET if field[0] != name]
        assert reason_of(*fields, (name, value)) == "WEBSOCKET_HEAD"
        assert reason_of(*WEBSOCKET, (name, value)) == "WEBSOCKET_HEAD"


def test_websocket_headers_stay_behind_without_a_websocket() -> None:
    fields = [*WEBSOCKET[2:], offered(bearer_protocol(b"a.b.c"), b"v4.channel.k8s.io")]
    head = read(*fields, (b"Sec-WebSocket-Extensions", b"permessage-deflate"))
    assert (head.authorization, head.forwarded) == (b"", ())
    spdy = read(*fields, UPGRADE, (b"Upgrade", b"SPDY/3.1"))
    assert (spdy.authorization, spdy.forwarded) == (b"", ())


def test_a_websocket_needs_no_subprotocol() -> None:
    assert read(*WEBSOCKET).forwarded == RELAYED


def test_the_protocol_of_port_forward_is_no_token_and_travels_on() -> None:
    """Refused, kubectl since 1.31 would fall back to SPDY, and nobody would notice."""
    tunnel = b"SPDY/3.1+portforward.k8s.io"
    assert read(*WEBSOCKET, offered(tunnel)).forwarded == (
        *RELAYED,
        (b"sec-websocket-protocol", tunnel),
    )


# --- the bearer subprotocol ---


def test_the_bearer_subprotocol_is_the_credential_and_the_rest_keeps_its_order() -> None:
    first, token, last = b"v5.channel.k8s.io", bearer_protocol(b"ey.J-h_b.x"), b"v4.channel.k8s.io"
    head = read(*WEBSOCKET, offered(first, token), offered(last))
    assert head.authorization == b"Bearer ey.J-h_b.x"
    wanted = (b"sec-websocket-protocol", first + b", " + last)
    assert head.forwarded == (*RELAYED, wanted)


@pytest.mark.parametrize("authorization", [b"Bearer bad", b"Bearer good", b"Basic YTpi", b""])
def test_two_credential_channels_attack(authorization: bytes) -> None:
    fields = [(b"Authorization", authorization), offered(bearer_protocol(b"admin"))]
    assert reason_of(*WEBSOCKET, *fields) == "TWO_CREDENTIALS"
    assert reason_of(*fields, *WEBSOCKET) == "TWO_CREDENTIALS"


def test_two_tokens_among_the_subprotocols() -> None:
    fields = offered(bearer_protocol(b"A"), bearer_protocol(b"B"), b"v4.channel.k8s.io")
    assert reason_of(*WEBSOCKET, fields) == "DUP_AUTHORIZATION"


@pytest.mark.parametrize(
    "protocol",
    [
        PREFIX,
        PREFIX + b"A",
        PREFIX + b"QQ+Q",
        PREFIX + b"QQ.Q",
        bearer_protocol(b"A B"),
        bearer_protocol(b"A\r\nX: y"),
        bearer_protocol(b"\xff"),
        bearer_protocol(b"A").replace(b"bearer", b"Bearer"),
    ],
)
def test_bad_tokens_among_the_subprotocols(protocol: bytes) -> None:
    assert reason_of(*WEBSOCKET, offered(protocol, b"v4.channel.k8s.io")) == "BAD_AUTHORIZATION"


def test_a_token_alone_leaves_no_protocol_to_speak() -> None:
    assert reason_of(*WEBSOCKET, offered(bearer_protocol(b"A"))) == "SUBPROTOCOL"


@pytest.mark.parametrize("value", [b"", b"a,", b",a", b"a b", b"a;b", b"a, ,b", b"\xff"])
def test_subprotocols_are_words(value: bytes) -> None:
    assert reason_of(*WEBSOCKET, (b"Sec-WebSocket-Protocol", value)) == "SUBPROTOCOL"


NAMES = [
    b"authorization", b"connection", b"sec-websocket-key", b"sec-websocket-protocol",
    b"sec-websocket-version", b"upgrade",
]  # fmt: skip
KNOWN_VALUES = st.sampled_from([b"upgrade", b"websocket", b"13", KEY, PREFIX + b"QQ, a"])


@given(kept=st.dictionaries(st.sampled_from(NAMES), KNOWN_VALUES | st.binary()))
def test_nothing_but_refusals_is_raised(kept: dict[bytes, bytes]) -> None:
    with suppress(HeaderRefusal):
        asked = read_upgrade(b"GET", kept)
        assert asked.token in {b"", b"websocket", b"SPDY/3.1"}
        assert PREFIX not in b"".join(value for _, value in asked.forwarded)
