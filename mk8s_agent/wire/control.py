"""The messages of a tunnel's control stream, as bytes and as values; no I/O.

Called by ``mk8s_agent.tunnel.control_session`` (the agent's side) and by the tunnel package of
central. Each message is a length of four bytes, big-endian, and one JSON object of that many bytes
with a member ``type``::

    agent                                central
      register  ------------------------->
                <-------------------------  registered | refused
      heartbeat ------------------------->
                <-------------------------  heartbeat_ack
      renew     ------------------------->
                <-------------------------  renewed | refused
                <-------------------------  trust
                <-------------------------  drain

Two releases of mk8s meet on one tunnel during an upgrade. So an unknown member is ignored, a
message of an unknown type arrives as `Unknown`, and a new message is only sent to a peer that named
it among its capabilities (`TRUST`). Everything else that is not exactly as described raises
`ControlError`, which costs the peer this tunnel and nothing more.
"""

import dataclasses
import re
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import orjson

from mk8s_agent.wire import control_values
from mk8s_agent.wire.group_names import other_groups, role_groups

TRUST: Final = "trust"
"""The capability of an agent that takes the message of this name."""

MAX_MESSAGE_BYTES: Final = 65536
"""Longest message, without its length. A certificate chain of four is about 4 KiB."""

MAX_KINDS: Final = 256
"""Resources of one scope; Kubernetes 1.37 has about 100 in all."""
KIND: Final = re.compile(r"[a-z0-9-]{1,63}(?:\.[a-z0-9.-]{1,63})?")
"""A resource and, but for the core group, its group."""

BOUNDED: Final = "bounded"
UNBOUNDED: Final = "unbounded"
UNKNOWN: Final = "unknown"
REACHES: Final = frozenset({"", BOUNDED, UNBOUNDED, UNKNOWN})
"""What the group of everybody may do in a cluster: not everything; everything, or what leads there;
the API server does not say. Empty: nobody has asked yet."""

_LENGTH_BYTES: Final = 4


class ControlError(Exception):
    """What arrived on the control stream is no message; the tunnel cannot be used any more."""


@dataclasses.dataclass(frozen=True, slots=True)
class Register:
    """The agent's first message: who it is and what it sees."""

    agent_version: str
    instance: str
    """Random name of this agent process, the same on all its tunnels."""
    kubernetes_version: str
    """``gitVersion`` of the API server, "" when it could not be asked."""
    capabilities: tuple[str, ...]
    """Names of the optional messages and features that this side understands."""
    clock: float
    """The agent's time, in seconds since the epoch."""
    cluster_scoped: tuple[str, ...] = ()
    """Resources of Kubernetes's own groups that live outside namespaces, as ``resource.group``;
    empty when the API server could not be asked, or is too old to say it in one answer."""
    namespaced: tuple[str, ...] = ()
    """The others of these groups."""
    users_group: str = ""
    """What the group of everybody, mk8s:users, may do in the cluster: one of `REACHES`."""
    role_groups: tuple[str, ...] = ()
    """The groups of roles that the agent may act with; `ANY_GROUP` alone for all."""
    other_groups: tuple[str, ...] = ()
    """Other groups that the agent may act with: those that issuers name."""


@dataclasses.dataclass(frozen=True, slots=True)
class Registered:
    """Central accepts the tunnel."""

    tunnel_id: str
    heartbeat_seconds: float
    """How often the agent is to send a heartbeat."""
    clock: float = 0.0
    """Central's time, in seconds since the epoch; 0 when it does not tell."""
    instance: str = ""
    """Random name of the process of central that holds this end; "" when it does not tell."""
    instances: int = 0
    """How many such processes there are behind the address; an agent dials until it reaches all."""


@dataclasses.dataclass(frozen=True, slots=True)
class Heartbeat:
    """The agent is alive."""

    clock: float
    streams: int
    """Requests in flight on this tunnel."""


@dataclasses.dataclass(frozen=True, slots=True)
class Resources:
    """What the agent said of its cluster when it registered has changed: an upgrade, a new CRD, a
    binding. The members are those of `Register`."""

    kubernetes_version: str
    cluster_scoped: tuple[str, ...]
    namespaced: tuple[str, ...]
    users_group: str = ""
    role_groups: tuple[str, ...] = ()
    other_groups: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class HeartbeatAck:
    """Central has read a heartbeat."""

    clock: float = 0.0
    """Central's time, in seconds since the epoch; 0 when it does not tell."""


@dataclasses.dataclass(frozen=True, slots=True)
class Renew:
    """The agent asks for its next certificate."""

    csr: str
    """PEM, made with a fresh key."""
    trusts: tuple[str, ...] = ()
    """Pins of the authorities that the agent verifies central by; empty from older agents."""


@dataclasses.dataclass(frozen=True, slots=True)
class Renewed:
    """Central issued the certificate that the last `Renew` asked for."""

    certificate: str
    """PEM; the leaf first, then its issuers."""


@dataclasses.dataclass(frozen=True, slots=True)
class Refused:
    """Central will not do what the agent asked for last; the sentence says why and what to do."""

    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class Trust:
    """Whom the agent is to verify central by from now on."""

    authorities: str
    """PEM, one certificate or several."""
    renew_seconds: float
    """The agent's own certificate is of an authority that is on its way out: it asks for another
    one at some moment within so many seconds. 0 where that is not so."""


@dataclasses.dataclass(frozen=True, slots=True)
class Drain:
    """Central opens no new stream here; the agent dials a replacement and lets the old ones end."""


@dataclasses.dataclass(frozen=True, slots=True)
class Unknown:
    """A message of a newer release; to be ignored."""

    kind: str


Message: TypeAlias = (
    Register
    | Registered
    | Heartbeat
    | HeartbeatAck
    | Resources
    | Renew
    | Renewed
    | Refused
    | Trust
    | Drain
    | Unknown
)


def _kinds(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_KINDS:
        raise ValueError(f"must be a list of at most {MAX_KINDS} resources")
    if not all(isinstance(one, str) and KIND.fullmatch(one) for one in value):
        raise ValueError("must be a list of resources")
    return tuple(value)


def _reach(value: object) -> str:
    if not isinstance(value, str) or value not in REACHES:
        raise ValueError(f"must be one of {', '.join(sorted(REACHES))}")
    return value


_Check: TypeAlias = Callable[[object], object]

_MESSAGES: Final[dict[str, tuple[type[Any], dict[str, _Check]]]] = {
    "register": (
        Register,
        {
            "agent_version": control_values.text,
            "instance": control_values.text,
            "kubernetes_version": control_values.text,
            "capabilities": control_values.texts,
            "clock": control_values.clock,
            "cluster_scoped": _kinds,
            "namespaced": _kinds,
            "users_group": _reach,
            "role_groups": role_groups,
            "other_groups": other_groups,
        },
    ),
    "registered": (
        Registered,
        {
            "tunnel_id": control_values.text,
            "heartbeat_seconds": control_values.heartbeat_seconds,
            "clock": control_values.clock,
            "instance": control_values.text,
            "instances": control_values.count,
        },
    ),
    "heartbeat": (Heartbeat, {"clock": control_values.clock, "streams": control_values.count}),
    "heartbeat_ack": (HeartbeatAck, {"clock": control_values.clock}),
    "resources": (
        Resources,
        {
            "kubernetes_version": control_values.text,
            "cluster_scoped": _kinds,
            "namespaced": _kinds,
            "users_group": _reach,
            "role_groups": role_groups,
            "other_groups": other_groups,
        },
    ),
    "renew": (Renew, {"csr": control_values.pem, "trusts": control_values.texts}),
    "renewed": (Renewed, {"certificate": control_values.pem}),
    "refused": (Refused, {"message": control_values.text}),
    "trust": (
        Trust,
        {"authorities": control_values.pem, "renew_seconds": control_values.seconds},
    ),
    "drain": (Drain, {}),
}
_OPTIONAL: Final = {
    ("register", "cluster_scoped"),
    ("register", "namespaced"),
    ("register", "users_group"),
    ("register", "role_groups"),
    ("register", "other_groups"),
    ("resources", "users_group"),
    ("resources", "role_groups"),
    ("resources", "other_groups"),
    ("registered", "clock"),
    ("registered", "instance"),
    ("registered", "instances"),
    ("heartbeat_ack", "clock"),
    ("renew", "trusts"),
}
_KINDS: Final = {message: kind for kind, (message, _) in _MESSAGES.items()}


def encode_message(message: Message) -> bytes:
    """Give the bytes of one message, its length included.

    Raises:
        ValueError: the peer would refuse it: too long, or a member out of range. This is a
            mistake of the sender.
    """
    kind = _KINDS.get(type(message))
    if kind is None:
        raise ValueError(f"{type(message).__name__} is not sent")
    try:
        body = orjson.dumps({"type": kind, **dataclasses.asdict(message)})
        _decode_body(body)
    except (ControlError, orjson.JSONEncodeError) as error:
        raise ValueError(f"cannot send {kind}: {error}") from error
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


class ControlDecoder:
    """Cuts the bytes of a control stream into messages; one for each stream and direction."""

    __slots__ = ("_buffer", "_error")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._error = ""

    def feed(self, data: bytes) -> list[Message]:
        """Take what arrived and give the messages that are complete now, in order.

        Raises:
            ControlError: the bytes are no control stream. Every later call raises it again.
        """
        if self._error:
            raise ControlError(self._error)
        self._buffer += data
        try:
            return self._complete_messages()
        except ControlError as error:
            self._buffer.clear()
            self._error = str(error)
            raise

    def _complete_messages(self) -> list[Message]:
        messages: list[Message] = []
        start = 0
        while len(self._buffer) - start >= _LENGTH_BYTES:
            body_start = start + _LENGTH_BYTES
            length = int.from_bytes(self._buffer[start:body_start], "big")
            if length > MAX_MESSAGE_BYTES:
                raise ControlError(f"a message of {length} bytes is over {MAX_MESSAGE_BYTES}")
            if len(self._buffer) < body_start + length:
                break
            start = body_start + length
            messages.append(_decode_body(bytes(self._buffer[body_start:start])))
        del self._buffer[:start]
        return messages


def _decode_body(body: bytes) -> Message:
    if len(body) > MAX_MESSAGE_BYTES:
        raise ControlError(f"a message of {len(body)} bytes is over {MAX_MESSAGE_BYTES}")
    try:
        members = orjson.loads(body)
    except orjson.JSONDecodeError:
        # the parser's own words would quote the peer's bytes
        raise ControlError("a message is not JSON") from None
    if not isinstance(members, dict):
        raise ControlError("a message is not a JSON object")
    kind = members.get("type")
    if not isinstance(kind, str) or not kind or len(kind) > control_values.MAX_TEXT:
        raise ControlError("a message has no type")
    if kind not in _MESSAGES:
        return Unknown(kind)
    message, checks = _MESSAGES[kind]
    values = {name: _member(kind, members, name) for name in checks if _told(kind, members, name)}
    decoded: Message = message(**values)
    return decoded


def _told(kind: str, members: dict[str, object], name: str) -> bool:
    return name in members or (kind, name) not in _OPTIONAL


def _member(kind: str, members: dict[str, object], name: str) -> object:
    if name not in members:
        raise ControlError(f"{kind} has no {name}")
    try:
        return _MESSAGES[kind][1][name](members[name])
    except ValueError as error:
        raise ControlError(f"{kind}.{name} {error}") from None
