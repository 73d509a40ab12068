"""A client's HTTP/2 connection: kubectl's ordinary requests, all multiplexed on one socket."""

import time
from dataclasses import dataclass, field
from typing import Final, Protocol

from mk8s_agent.wire import hpack_codec
from mk8s_agent.wire.hpack_codec import (
    CHANGES_TABLE,
    NEEDS_TABLE,
    check_block,
)
from mk8s_agent.wire.http2.frames import ErrorCode
from mk8s_agent.wire.http2.outbound import Transport
from mk8s_agent.wire.http2.server import Http2Server
from mk8s_agent.wire.limits import FRONT, BufferBudget, Limits
from mk8s_agent.wire.stream import Fields, Stream
from mk8s_agent.wire.ticks import Ticks
from mk8s_proxy.audit.event import AuditEntry
from mk8s_proxy.audit.identifier import new_audit_id
from mk8s_proxy.identity.identity import Unauthenticated
from mk8s_proxy.identity.throttle import source_key
from mk8s_proxy.kube.status import StatusError, bad_gateway, service_unavailable, status_error
from mk8s_proxy.listener.body_pace import BodyPace, PaceLimits, end_slow
from mk8s_proxy.listener.client_address import client_address
from mk8s_proxy.listener.exchange import Exchange, new_entry
from mk8s_proxy.listener.head_limits import HEAD_LIMITS, MAX_FIELDS, HeadLimits
from mk8s_proxy.listener.long_heads import LongHeads
from mk8s_proxy.listener.recurring import Recurring, RecurringRequests
from mk8s_proxy.listener.refusals import HeaderRefusal
from mk8s_proxy.listener.request_head import (
    RequestHead,
    read_repeated_head,
)
from mk8s_proxy.listener.unread_heads import LARGE_HEAD, bearer_of, survey
from mk8s_proxy.settings.networks import Networks, contains, parse_ip

UNAUTHENTICATED_REQUESTS: Final = 100
_LARGE_BLOCK: Final = 1024


class HandlerChain(Protocol):
    """What a connection needs of the handler chain."""

    def admit(self, exchange: Exchange) -> None:
        """Takes a request through the doors."""

    def refuse(self, exchange: Exchange, error: StatusError) -> None:
        """Answers with a Status."""

    def expect_known(self, authorization: bytes) -> object:
        """Raises `HeaderRefusal` or `Unauthenticated` where a credential is nobody's."""

    def finish(self, exchange: Exchange) -> None:
        """The exchange is over."""


class Deadlines(PaceLimits, Protocol):
    """The parts of the settings that a client connection watches over."""

    @property
    def header_seconds(self) -> float:
        """For a whole request head to arrive, and for a new connection's first one."""

    @property
    def idle_seconds(self) -> float:
        """For a connection without a request, and for one to authenticate somebody."""


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """What every client connection is given by `app`."""

    chain: HandlerChain
    deadlines: Deadlines
    recurring: RecurringRequests = field(default_factory=RecurringRequests)
    """The requests that came before; what is known of them is `handler_chain`'s."""
    head_limits: HeadLimits = HEAD_LIMITS
    """A larger request head is answered with 431."""
    long_heads: LongHeads = field(default_factory=LongHeads)
    """What all connections hold of long heads that arrive."""
    underscores: bool = False
    """Names of headers may hold one."""
    trusted_proxies: Networks = ()
    """Peers that are believed whom they got a request from."""

    unauthenticated_requests: int = UNAUTHENTICATED_REQUESTS
    """So many on one connection, without one that passed authentication, and it is closed."""

    def trusts(self, peer: str) -> bool:
        """Whether a peer is one of them."""
        return bool(self.trusted_proxies) and contains(self.trusted_proxies, parse_ip(peer))


Refusal = HeaderRefusal | Unauthenticated
_NO_REFUSAL: Final[Refusal | None] = None

UNREADABLE = RequestHead(b"", b"", b"", b"", b"", -1, b"", b"", b"", b"", (), ())
"""Stands for a head that was refused before it could be read."""

_SILENT_SECONDS: Final = 15.0
"""After so long without a byte a client with open streams is asked for a sign of life."""
_LOST_SECONDS: Final = 45.0
"""After so long without one it has vanished: a closed laptop says no goodbye."""


class ClientHttp2(Http2Server):
    """One client's connection.

    Args:
        source_ip: the client's address, for the audit.
    """

    __slots__ = (
        "_asked", "_bodies", "_chain", "_deadlines", "_head_limits", "_incomplete_seconds",
        "_long_heads", "_recurring", "_source", "_source_ip", "_stranger_seconds",
        "_strangers_left", "_table", "_trusted", "_underscores", "_unread", "authenticated",
    )  # fmt: skip

    def __init__(
        self,
        transport: Transport,
        ticks: Ticks,
        limits: Limits,
        buffers: BufferBudget,
        *,
        config: ClientConfig,
        source_ip: str,
    ) -> None:
        super().__init__(transport, ticks, limits, buffers)
        self._chain = config.chain
        self._recurring = config.recurring
        self._table = 0
        self._unread = False
        """A block was not decoded, so that none behind it can be."""
        self._deadlines = config.deadlines
        self._bodies = BodyPace(config.deadlines)
        self._head_limits = config.head_limits
        self._long_heads = config.long_heads
        self._underscores = config.underscores
        self._source_ip = source_ip
        self._trusted = config.trusted_proxies if config.trusts(source_ip) else ()
        self._source = "" if self._trusted else source_key(source_ip)
        self._incomplete_seconds = 0.0
        self.authenticated = False
        """A request on it passed authentication."""
        self._strangers_left = config.unauthenticated_requests
        self._asked = False
        self._stranger_seconds = 0.0

    def __repr__(self) -> str:
        return f"<ClientHttp2 {self._source_ip} streams={len(self.streams)}>"

    # -- requests

    def on_block(self, stream_id: int, block: bytes, end: bool) -> None:
        """A request head, or trailers; one that came before, with the same table, is known."""
        find = self._recurring.find
        known = find((block, end, 0)) or find((block, end, self._table))
        if known is not None:
            stream = self.accept(stream_id, None, end)
            if stream is not None:
                self._admit(stream, known.head, known)
            return
        if not self.authenticated and (refusal := self._refused_unread(block)):
            self._refuse_unread(stream_id, end, refusal)
            return
        fields = self.decode(block, not self.authenticated)  # a stranger's are counted already
        head, refusal = UNREADABLE, _NO_REFUSAL
        try:
            head = read_repeated_head(fields, end, self._head_limits, underscores=self._underscores)
        except HeaderRefusal as found:
            refusal = found
        is_looked_at = len(block) <= _LARGE_BLOCK or self._is_worth_a_look(block, head)
        use = check_block(block, fields) if is_looked_at else CHANGES_TABLE
        if use == CHANGES_TABLE:
            self._table = self._recurring.new_table()
        stream = self.accept(stream_id, fields, end)
        if refusal is not None and stream is not None:
            self._refuse_head(stream, fields, refusal)
        if refusal is not None or stream is None:
            return
        recurring = None if use == CHANGES_TABLE else Recurring(head)
        self._admit(stream, head, recurring)
        if recurring is not None:
            key = (block, end, self._table if use == NEEDS_TABLE else 0)
            self._recurring.keep(key, len(block), recurring)

    def on_long_part(self, size: int) -> None:
        """A piece of a long head came: what all of them hold has a bound."""
        if size > self._head_limits.fields:
            self._long_heads.hold(self, self._source, size)

    def give_up_head(self) -> None:
        """A long head has to go, since others need the room. Without it, no other can be read."""
        self.fail(ErrorCode.ENHANCE_YOUR_CALM, "too many long request heads arrive at once")

    def on_lost(self) -> None:
        """The connection is gone, and the head that was arriving."""
        self._long_heads.leave(self)

    def _is_worth_a_look(self, block: bytes, head: RequestHead) -> bool:
        """Whether a large head is worth one at each field: not if it is refused anyway, or nobody's
        (nor is that of trailers, which have no credential)."""
        if len(block) > self._head_limits.fields:  # it has come, whole
            self._long_heads.leave(self)
        return bool(head.authorization)

    def _refused_unread(self, block: bytes) -> Refusal | None:
        """Why a stranger's head is not even decoded: it is over the limits, as far as its encoding
        shows, or large and nobody's. A large one counts as several requests."""
        size = len(block)
        if self._unread or size <= _LARGE_BLOCK:
            return HeaderRefusal("HEADER_TOO_LARGE") if self._unread else None
        self._strangers_left -= size // _LARGE_BLOCK
        seen = survey(block, MAX_FIELDS)
        limits = self._head_limits
        if size > limits.both or seen.fields > MAX_FIELDS or seen.longest > limits.fields:
            return HeaderRefusal("HEADER_TOO_LARGE")
        if size <= LARGE_HEAD:
            return None
        try:
            self._chain.expect_known(bearer_of(seen))
        except (HeaderRefusal, Unauthenticated) as refusal:
            return refusal
        return None

    def _refuse_unread(self, stream_id: int, end: bool, refusal: Refusal) -> None:
        """A refusal that costs no decoding, and the connection: its table does not follow."""
        self._unread = True
        self._long_heads.leave(self)
        stream = self.accept(stream_id, None, end)
        if stream is not None:
            self._refuse_head(stream, [], refusal)
        self.drain()

    def _admit(self, stream: Stream, head: RequestHead, recurring: Recurring | None) -> None:
        """A checked head: into the handler chain."""
        stream.length_left = head.content_length
        source_ip = self._source_ip
        if self._trusted:
            source_ip = client_address(self._trusted, source_ip, head.forwarded_for)
        entry = AuditEntry(new_audit_id(), time.time(), source_ip, began=time.monotonic())
        exchange = stream.exchange = Exchange(stream, head, entry, recurring)
        if not stream.remote_closed:
            self._bodies.begin(stream)
        self._chain.admit(exchange)
        if exchange.identity is not None:
            self.authenticated = True
        elif not self.authenticated:
            self._answered_stranger()

    def _answered_stranger(self) -> None:
        """A request of nobody known: too many of them end the connection, as in Go's servers."""
        self._asked = True
        self._strangers_left -= 1
        if self._strangers_left <= 0:
            self.drain()

    def _refuse_head(self, stream: Stream, fields: Fields, refusal: Refusal) -> None:
        """A head that cannot be read is answered and audited like any other refusal."""
        seen = dict(fields)
        head = UNREADABLE._replace(
            method=seen.get(b":method", b"")[:32],
            target=seen.get(b":path", b"")[:4096],
            accept=seen.get(b"accept", b""),
        )
        source_ip = self._source_ip
        if self._trusted:
            forwarded_for = seen.get(b"x-forwarded-for", b"")
            source_ip = client_address(self._trusted, source_ip, forwarded_for)
        entry = new_entry(source_ip)
        entry.refusal = refusal.reason
        exchange = stream.exchange = Exchange(stream, head, entry)
        self._chain.refuse(exchange, status_error(refusal.code, refusal.message))
        if refusal.code == 400:  # malformed, which is a stream error too (RFC 9113, 8.1.1)
            self.refuse_malformed(stream)
        if not self.authenticated:
            self._answered_stranger()
            if refusal.code == 431:  # it was told what is too large, and costs much
                self.drain()

    def answer(self, stream: Stream, code: int, fields: Fields, body: bytes) -> None:
        """Sends a whole answer of central's own (see `Front.answer`)."""
        if stream.local_closed:
            return
        if stream.head_passed:
            super().reset(stream, ErrorCode.INTERNAL_ERROR)
            return
        length = [(b"content-length", b"%d" % len(body))]
        block = hpack_codec.block([(b":status", b"%d" % code), *fields, *length])
        bodiless = not body or stream.exchange.head.method == b"HEAD"
        self.relay_head(stream, block, bodiless)
        if not bodiless:
            self.send_data(stream, body, len(body), True)

    # -- endings

    def reset(self, stream: Stream, code: int) -> None:
        """The cluster's side ended: in words while no answer has begun, else by a reset."""
        if stream.local_closed and stream.remote_closed:
            return
        if stream.local_closed:  # the whole answer has left: only the upload is of no use now
            super().reset(stream, ErrorCode.NO_ERROR)
            return
        if stream.head_passed or stream.exchange is None:
            super().reset(stream, ErrorCode.INTERNAL_ERROR)
            return
        stream.peer = None
        self._chain.refuse(stream.exchange, interrupted(code))

    def on_stream_closed(self, stream: Stream) -> None:
        """An exchange is over."""
        exchange, stream.exchange = stream.exchange, None
        self._bodies.end(stream, None)
        if exchange is not None:
            self._chain.finish(exchange)

    # -- deadlines

    def _end_slow(self, stream: Stream) -> None:
        end_slow(stream, self._chain, self._deadlines)
        super().reset(stream, ErrorCode.NO_ERROR if stream.local_closed else ErrorCode.CANCEL)

    def second(self, elapsed: float) -> None:
        """Once a second: a head that drips, a connection that nobody uses."""
        super().second(elapsed)
        if self.closed:
            return
        if self._bodies:
            for stream in self._bodies.second(elapsed, _waits):
                self._end_slow(stream)
        incomplete = self.reader.incomplete
        self._incomplete_seconds = self._incomplete_seconds + elapsed if incomplete else 0.0
        if self._incomplete_seconds > self._deadlines.header_seconds:
            self.fail(ErrorCode.ENHANCE_YOUR_CALM, "a frame took too long to arrive")
        elif not self.streams:
            if self._is_idle(elapsed):
                self.drain()
        elif self.health.silent_seconds >= _LOST_SECONDS:
            self._abort("no sign of life from the client")
        elif self.health.silent_seconds >= _SILENT_SECONDS:
            self.ping()

    def _is_idle(self, elapsed: float) -> bool:
        """Whether a connection without streams has had its time; a stranger's PINGs buy none."""
        limit = self._deadlines.idle_seconds
        if self.authenticated:
            return self.health.silent_seconds > limit
        self._stranger_seconds += elapsed
        return self._stranger_seconds > (limit if self._asked else self._deadlines.header_seconds)


def _waits(stream: Stream) -> bool:
    """Whether a client may send no whole frame before more of its body was taken."""
    return stream.receive_window < FRONT.max_frame


def interrupted(code: int) -> StatusError:
    """What a client reads when its request ended before an answer began.

    Only a stream that was refused for certain may be sent again by the client.
    """
    if code == ErrorCode.REFUSED_STREAM:
        return service_unavailable("the request was not sent to the cluster", retry_after=1)
    return bad_gateway("the connection to the cluster was lost before it answered")
