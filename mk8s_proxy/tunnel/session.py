"""One tunnel, central's end: an HTTP/2 client on a connection that an agent dialled.

The handler chain stages a stream here for each request and opens it once its audit row is written.
The answer is checked and composed anew before it reaches the client's connection, which carries
other requests, perhaps of other clusters.
"""

# compiled: every frame of a tunnel passes here

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from mk8s_agent.wire import headers, hpack_codec
from mk8s_agent.wire.control_channel import ControlChannel
from mk8s_agent.wire.hpack_codec import HpackError
from mk8s_agent.wire.http1_leg import Http1Leg
from mk8s_agent.wire.http2.client import Http2Client
from mk8s_agent.wire.http2.frames import ErrorCode
from mk8s_agent.wire.http2.outbound import Transport
from mk8s_agent.wire.limits import TUNNEL, BufferBudget, Limits
from mk8s_agent.wire.stream import Fields, Stream, part
from mk8s_agent.wire.ticks import Ticks
from mk8s_proxy.kube.status import StatusError, bad_gateway, service_unavailable
from mk8s_proxy.kube.watch_events import answer_form
from mk8s_proxy.tunnel.response_head import (
    ResponseHead,
    ResponseRefused,
    body_length,
    read_response,
    relayed_fields,
)

log = logging.getLogger(__name__)

_PROTOCOL_FIELDS: Final = (b"sec-websocket-protocol", b"x-stream-protocol-version")
"""Of a WebSocket, and of SPDY, where Kubernetes says in its own field what it speaks."""
_RESERVE: Final = 8
"""One of so many streams of a tunnel is not for requests that stay open."""


@dataclass(frozen=True, slots=True)
class TunnelEvents:
    """What a tunnel tells the rest of central."""

    refuse: Callable[[Any, StatusError], None]
    """Answers an exchange with a Status; the handler chain's."""
    draining: Callable[["TunnelSession"], None]
    """The agent takes no new streams: what can move to another tunnel should."""
    closed: Callable[["TunnelSession"], None]
    """Called once when the tunnel is gone."""


class Conversation(Protocol):
    """The control stream's other half (`tunnel.control`)."""

    def second(self) -> None:
        """Once a second, while the tunnel is there."""

    def close(self) -> None:
        """The tunnel is gone."""


class TunnelSession(Http2Client):
    """A live tunnel of one cluster.

    Args:
        cluster_id: from the verified certificate.
        events: what to call when something happens to it.
        limits: what is advertised to the agent and enforced.
    """

    __slots__ = (
        "_events", "cluster", "cluster_id", "control", "conversation", "instance", "issuer",
        "registered", "serial",
    )  # fmt: skip

    def __init__(
        self,
        transport: Transport,
        ticks: Ticks,
        buffers: BufferBudget,
        *,
        cluster_id: str,
        events: "TunnelEvents",
        limits: Limits = TUNNEL,
    ) -> None:
        super().__init__(transport, ticks, limits, buffers)
        self.cluster_id = cluster_id
        self.cluster = ""
        """The cluster's name, once the agent has registered."""
        self.instance = ""
        """The agent's process, the same on all its tunnels, once it has registered."""
        self.serial = ""
        """Of the agent's certificate, lower-case hexadecimal."""
        self.issuer = ""
        """Which authority signed that certificate: its `CertificateAuthority.key_id`."""
        self.registered = False
        self.conversation: Conversation | None = None
        """What answers on the control stream."""
        self.control = self._open_control()
        self._events = events

    def __repr__(self) -> str:
        state = "CLOSED" if self.closed else "DRAINING" if self.draining else "OPEN"
        return f"<TunnelSession cluster={self.cluster!r} {state} streams={len(self.streams)}>"

    def _open_control(self) -> ControlChannel:
        stream = self.prepare()
        channel = ControlChannel(stream)
        head = [
            (b":method", b"POST"),
            (b":scheme", b"https"),
            (b":path", headers.CONTROL_PATH),
        ]
        self.open_prepared(stream, hpack_codec.block(head))
        return channel

    # -- room

    @property
    def full(self) -> bool:
        """The agent is there, and takes no more requests here for now."""
        going = self.ready and not self.draining and not self.closed
        return going and len(self.streams) >= self.peer_max_streams

    @property
    def crowded(self) -> bool:
        """What is left is a reserve: watches may fill a tunnel, but not keep a `get` out of it."""
        return len(self.streams) >= self.peer_max_streams - self.peer_max_streams // _RESERVE

    # -- answers

    def on_response(self, stream: Stream, block: bytes, end: bool) -> None:
        """An agent's answer. Whatever is wrong with it ends its own stream only."""
        if stream is self.control.stream:
            stream.head_passed = True
            if end:
                self.fail(ErrorCode.NO_ERROR, "the control stream ended")
            return
        try:
            head = read_response(self.decode(block))
            if head.status < 200:
                return
            stream.head_passed = True
            self._relay(stream, head, end)
        except (HpackError, ResponseRefused) as error:
            log.warning("response.refused", extra={"cluster": self.cluster, "reason": str(error)})
            self._tell(stream, str(error))

    def refuse_answer(self, stream: Stream, reason: str) -> None:
        """An answer that is too large: its client is told why, if it has got nothing yet."""
        if stream is self.control.stream:
            self.fail(ErrorCode.PROTOCOL_ERROR, f"control stream: {reason}")
            return
        log.warning("response.refused", extra={"cluster": self.cluster, "reason": reason})
        if stream.head_passed:
            self.stream_error(stream, ErrorCode.PROTOCOL_ERROR)
        else:
            self._tell(stream, reason)

    def _tell(self, stream: Stream, reason: str) -> None:
        self._give_up(stream, bad_gateway(f"the cluster's answer cannot be relayed: {reason}"))

    def _relay(self, stream: Stream, head: ResponseHead, end: bool) -> None:
        front = stream.peer
        if front is None:
            return
        exchange, status = front.exchange, head.status
        proxied = exchange.info is not None and exchange.info.subresource == "proxy"
        if head.internal or exchange.head.upgrade:
            if headers.ERROR in head.internal:
                self._give_up(stream, agent_error(status, head.internal[headers.ERROR]))
                return
            if check_upgrade(head, status, exchange.head.upgrade):
                status, proxied = 101, False
        if status != 101:
            stream.length_left = body_length(head, exchange.head.method, end=end)
        if exchange.stays_open:
            _note_form(exchange, head.fields)
        kept = head.fields
        if proxied or 300 <= status < 400:
            kept = relayed_fields(
                head, proxied=proxied, prefix=exchange.prefix, method=exchange.head.method,
                info=exchange.info,
            )  # fmt: skip
        exchange.entry.code = status
        exchange.entry.upstream_audit_id = head.audit_id.decode("ascii", "replace")
        exchange.entry.answered = time.monotonic()
        connection = front.connection
        block = b"" if isinstance(connection, Http1Leg) else hpack_codec.block(kept)
        connection.relay_head(front, block, end, kept)

    def _give_up(self, stream: Stream, error: StatusError) -> None:
        """Ends a stream here and tells its client why."""
        front = part(stream)
        super().reset(stream, ErrorCode.CANCEL)
        if front is not None:
            self._events.refuse(front.exchange, error)

    # -- life

    def on_ready(self) -> None:
        """The peer is there: see how far away."""
        self.ping()

    def on_goaway(self, last_stream_id: int, *, first: bool) -> None:
        """The agent drains: it takes no new streams."""
        super().on_goaway(last_stream_id, first=first)
        if first:
            told = {"cluster": self.cluster, "streams": len(self.streams)}
            log.info("tunnel.draining", extra=told)
            self._events.draining(self)

    def close_when_idle(self) -> None:
        """A draining tunnel closes when only the control stream is left."""
        if self.draining and not self.closed and len(self.streams) - (1 in self.streams) == 0:
            self.flush()
            self.transport.close()

    def second(self, elapsed: float) -> None:
        """Once a second: deadlines, also those of the conversation."""
        super().second(elapsed)
        if self.conversation is not None and not self.closed:
            self.conversation.second()

    def on_lost(self) -> None:
        """The tunnel is gone."""
        self._events.closed(self)


def _note_form(exchange: Any, fields: Fields) -> None:
    """What is needed to say something in a stream that stays open."""
    exchange.answer_form = answer_form(fields)
    chosen = [value for name, value in fields if name in _PROTOCOL_FIELDS]
    exchange.subprotocol = chosen[0] if len(chosen) == 1 else b""


def check_upgrade(head: ResponseHead, status: int, asked: bytes) -> bool:
    """Whether the API server switched to the protocol that was asked for; b"" is none.

    An answer that is no switch is one to the client, too (RFC 9110, 7.8): a server may take the
    request as a plain one. But nobody is sent elsewhere in the middle of one (CVE-2020-8559).

    Raises:
        ResponseRefused: a redirect, or another protocol than the one asked for.
    """
    switched = head.internal.get(headers.UPGRADE)
    if switched is None:
        if asked and 300 <= status < 400:
            raise ResponseRefused(f"status {status} to an upgrade request")
        return False
    if not asked or switched != asked:
        raise ResponseRefused("another protocol than the one asked for")
    return True


def agent_error(status: int, message: bytes) -> StatusError:
    """A Status for an error of the agent's own.

    503 means that nothing reached the API server, so the client may try again.
    """
    text = message.decode("ascii", "replace")
    shown = "".join(c if c.isprintable() else "?" for c in text)[:512]
    if status == 503:
        return service_unavailable(shown, retry_after=1)
    return bad_gateway(shown)
