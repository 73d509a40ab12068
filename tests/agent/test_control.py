"""The control stream's codec: round trips, every refusal, and no input that does anything else."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_agent.wire import control

PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
REGISTER = control.Register("1.2.3", "agent-7", "v1.31.2", ("renew",), 1_700_000_000.5)
MESSAGES = (
    REGISTER,
    dataclasses.replace(REGISTER, users_group="bounded", role_groups=("mk8s:role:a.B_c:d",)),
    dataclasses.replace(REGISTER, users_group="unbounded", role_groups=("*",)),
    control.Resources("v1.37.2", ("nodes",), ("pods",), "unknown", ()),
    control.Registered("t-1", 10.0, 1_700_000_000.25, "w-1", 2),
    control.Heartbeat(1_700_000_001.0, 12),
    control.HeartbeatAck(1_700_000_001.5),
    control.Renew(PEM, ("sha256:00",)),
    control.Trust(PEM, 120.0),
    control.Renewed(PEM),
    control.Refused("the cluster was deleted"),
    control.Drain(),
)


def frame(body: object) -> bytes:
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    return len(encoded).to_bytes(4, "big") + encoded


def decode(data: bytes) -> list[control.Message]:
    return control.ControlDecoder().feed(data)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda it: type(it).__name__)
def test_round_trip(message: control.Message) -> None:
    assert decode(control.encode_message(message)) == [message]


def test_the_bytes_are_a_length_and_json() -> None:
    assert control.encode_message(control.Drain()) == b'\x00\x00\x00\x10{"type":"drain"}'


def test_messages_arrive_in_order_whatever_the_cuts() -> None:
    data = b"".join(map(control.encode_message, MESSAGES))
    decoder = control.ControlDecoder()
    received = [message for byte in data for message in decoder.feed(bytes((byte,)))]
    assert received == list(MESSAGES)


def test_several_messages_in_one_read_and_a_rest() -> None:
    decoder = control.ControlDecoder()
    one = control.encode_message(control.Drain())
    assert decoder.feed(one + one + one[:7]) == [control.Drain(), control.Drain()]
    assert decoder.feed(one[7:]) == [control.Drain()]


def test_central_may_keep_its_clock_to_itself() -> None:
    data = frame({"type": "registered", "tunnel_id": "t", "heartbeat_seconds": 5})
    assert decode(data) == [control.Registered("t", 5.0, 0.0, "", 0)]
    assert decode(frame({"type": "heartbeat_ack"})) == [control.HeartbeatAck(0.0)]


def test_an_older_agent_does_not_tell_what_people_may_do() -> None:
    members = {key: value for key, value in REGISTER_MEMBERS.items() if "group" not in key}
    assert decode(frame(members)) == [REGISTER]
    older = {
        "type": "resources",
        "kubernetes_version": "v1",
        "cluster_scoped": [],
        "namespaced": [],
    }
    assert decode(frame(older)) == [control.Resources("v1", (), ())]


@pytest.mark.parametrize(
    ("member", "value", "sentence"),
    [
        ("users_group", "everything", "must be one of"),
        ("users_group", None, "must be one of"),
        ("role_groups", "*", "must be a list of at most 512 groups"),
        ("role_groups", ["mk8s:role:a"] * 513, "must be a list of at most 512 groups"),
        ("role_groups", ["system:masters"], "must be a list of groups of roles"),
        ("role_groups", ["mk8s:role:"], "must be a list of groups of roles"),
        ("role_groups", ["mk8s:role:a", "*"], "must be a list of groups of roles"),
        ("role_groups", [7], "must be a list of groups of roles"),
        ("other_groups", "acme:devs", "must be a list of at most 256 groups"),
        ("other_groups", ["acme:devs"] * 257, "must be a list of at most 256 groups"),
        ("other_groups", ["*"], "must be a list of groups of issuers"),
        ("other_groups", ["System:masters"], "must be a list of groups of issuers"),
        ("other_groups", ["mk8s:role:a"], "must be a list of groups of issuers"),
        ("other_groups", ["acme:a\nb"], "must be a list of groups of issuers"),
        ("other_groups", ["acme:a "], "must be a list of groups of issuers"),
        ("other_groups", ["acme:" + "ä" * 126], "must be a list of groups of issuers"),
        ("other_groups", [7], "must be a list of groups of issuers"),
    ],
)
def test_attack_groups_that_are_none(member: str, value: object, sentence: str) -> None:
    with pytest.raises(control.ControlError, match=sentence):
        decode(frame({**REGISTER_MEMBERS, member: value}))


def test_a_newer_peer_is_understood() -> None:
    assert decode(frame({"type": "drain", "seconds": 30})) == [control.Drain()]
    assert decode(frame({"type": "telemetry", "x": [1]})) == [control.Unknown("telemetry")]


REGISTER_MEMBERS = {"type": "register", **dataclasses.asdict(REGISTER)}


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"{", "not JSON"),
        (b"[" * 60_000, "not JSON"),
        (b'{"type":"drain","x":NaN}', "not JSON"),
        ([], "not a JSON object"),
        ("drain", "not a JSON object"),
        ({}, "no type"),
        ({"type": 1}, "no type"),
        ({"type": ""}, "no type"),
        ({"type": "x" * 1025}, "no type"),
        ({"type": "trust", "authorities": PEM}, "trust has no renew_seconds"),
        (
            {"type": "trust", "authorities": "x", "renew_seconds": 0},
            "trust.authorities must be PEM",
        ),
        ({"type": "trust", "authorities": PEM, "renew_seconds": -1}, "renew_seconds must be a num"),
        ({"type": "renew", "csr": PEM, "trusts": "sha256:00"}, "renew.trusts must be a list"),
        ({"type": "register"}, "register has no agent_version"),
        (REGISTER_MEMBERS | {"agent_version": 1}, "register.agent_version must be a string"),
        (REGISTER_MEMBERS | {"instance": "a\x1b[2J"}, "register.instance must be a string"),
        (REGISTER_MEMBERS | {"instance": "a" * 1025}, "register.instance must be a string"),
        (REGISTER_MEMBERS | {"capabilities": "renew"}, "register.capabilities must be a list"),
        (REGISTER_MEMBERS | {"capabilities": [""] * 65}, "register.capabilities must be a list"),
        (REGISTER_MEMBERS | {"capabilities": [1]}, "register.capabilities must be a string"),
        (
            REGISTER_MEMBERS | {"namespaced": "pods"},
            "namespaced must be a list of at most",
        ),
        (REGISTER_MEMBERS | {"namespaced": ["a"] * 257}, "register.namespaced must be a list of"),
        (REGISTER_MEMBERS | {"cluster_scoped": [1]}, "cluster_scoped must be a list of resources"),
        (REGISTER_MEMBERS | {"cluster_scoped": ["A\n"]}, "must be a list of resources"),
        (REGISTER_MEMBERS | {"clock": "now"}, "register.clock must be a number"),
        (REGISTER_MEMBERS | {"clock": True}, "register.clock must be a number"),
        (REGISTER_MEMBERS | {"clock": -1}, "register.clock must be a number"),
        (REGISTER_MEMBERS | {"clock": 1e300}, "register.clock must be a number"),
        ({"type": "heartbeat", "clock": 1, "streams": 1.5}, "streams must be a whole number"),
        ({"type": "heartbeat", "clock": 1, "streams": 2**31}, "heartbeat.streams must be"),
        ({"type": "registered", "tunnel_id": "t", "heartbeat_seconds": 0.01}, "at least 1"),
        ({"type": "renew", "csr": "x"}, "renew.csr must be PEM"),
        ({"type": "renewed", "certificate": None}, "renewed.certificate must be PEM"),
    ],
)
def test_what_is_no_message_is_refused(body: object, sentence: str) -> None:
    with pytest.raises(control.ControlError, match=sentence):
        decode(frame(body))


def test_crafted_length_reserves_no_memory() -> None:
    with pytest.raises(control.ControlError, match="4294967295 bytes"):
        decode(b"\xff\xff\xff\xff")
    with pytest.raises(control.ControlError, match="65537 bytes"):
        decode((65537).to_bytes(4, "big"))


def test_after_an_error_the_stream_stays_refused() -> None:
    decoder = control.ControlDecoder()
    with pytest.raises(control.ControlError, match="not JSON"):
        decoder.feed(frame(b"?"))
    with pytest.raises(control.ControlError, match="not JSON"):
        decoder.feed(control.encode_message(control.Drain()))


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (control.Unknown("x"), "Unknown is not sent"),
        (control.Refused("line\nline"), "cannot send refused"),
        (control.Refused("\ud800"), "cannot send refused"),
        (control.Heartbeat(float("nan"), 0), "cannot send heartbeat"),
        (control.Renewed("-----BEGIN " + "x" * 65536), "is over 65536"),
    ],
)
def test_a_message_that_the_peer_would_refuse_is_not_sent(
    message: control.Message, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        control.encode_message(message)


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_no_bytes_do_anything_but_raise_control_error(reads: list[bytes]) -> None:
    decoder = control.ControlDecoder()
    try:
        for read in reads:
            decoder.feed(read)
    except control.ControlError:
        pass


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
MEMBER_NAMES = sorted({field.name for message in MESSAGES for field in dataclasses.fields(message)})
KIND_NAMES = [json.loads(control.encode_message(message)[4:])["type"] for message in MESSAGES]


@given(st.sampled_from(KIND_NAMES), st.dictionaries(st.sampled_from(MEMBER_NAMES), json_values))
def test_what_is_decoded_can_be_sent_again(kind: str, members: dict[str, object]) -> None:
    try:
        (message,) = decode(frame({"type": kind, **members}))
    except control.ControlError:
        return
    assert decode(control.encode_message(message)) == [message]


printable = st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=50)


@given(
    st.builds(
        control.Register,
        printable,
        printable,
        printable,
        st.lists(printable, max_size=5).map(tuple),
        st.floats(0, 4e9),
    )
)
def test_every_register_round_trips(message: control.Register) -> None:
    assert decode(control.encode_message(message)) == [message]
