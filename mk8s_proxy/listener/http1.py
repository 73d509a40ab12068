"""A client's HTTP/1.1 connection: upgrades (exec, attach, port-forward) and simple clients, also
those that speak HTTP/1.0.

One request at a time; what is pipelined behind it waits. Heads and chunks are read by
`http1_reader`.
"""

from typing import Final

from mk8s_agent.wire.http1_leg import Http1Leg, PausableTransport
from mk8s_agent.wire.http2.frames import ErrorCode
from mk8s_agent.wire.limits import KIB, BufferBudget
from mk8s_agent.wire.stream import Fields, Stream, part
from mk8s_agent.wire.ticks import Ticks
from mk8s_proxy.identity.throttle import source_key
from mk8s_proxy.kube.status import status_error
from mk8s_proxy.listener.body_pace import BodyPace, end_slow
from mk8s_proxy.listener.client_address import client_address
from mk8s_proxy.listener.exchange import Exchange, new_entry
from mk8s_proxy.listener.http1_answer import answer_head, head_lines
from mk8s_proxy.listener.http1_head import HeadSearch
from mk8s_proxy.listener.http1_reader import BadChunk, ChunkedBody, Request, read_request
from mk8s_proxy.listener.http2 import UNREADABLE, ClientConfig, interrupted
from mk8s_proxy.listener.recurring import Recurring
from mk8s_proxy.listener.refusals import HeaderRefusal

_HEAD_END: Final = b"\r\n\r\n"
_LINE_BYTES: Final = 8 * KIB
"""Of a head that is refused: where method and target are looked for."""

_EARLY_BYTES: Final = 64 * KIB
"""What a client may send before its upgrade is answered, or pipeline behind a request."""


class ClientHttp1(Http1Leg):
    """One client's connection.

    Args:
        source_ip: the client's address, for the audit.
    """

    def __init__(
        self,
        transport: PausableTransport,
        ticks: Ticks,
        buffers: BufferBudget,
        *,
        config: ClientConfig,
        source_ip: str,
    ) -> None:
        super().__init__(transport, ticks, buffers)
        self._chain = config.chain
        self._recurring = config.recurring
        self._deadlines = config.deadlines
        self._bodies = BodyPace(config.deadlines)
        self._head_limits = config.head_limits
        self._long_heads = config.long_heads
        self._search = HeadSearch(config.head_limits)
        self._underscores = config.underscores
        self._source_ip = source_ip
        self._trusted = config.trusted_proxies if config.trusts(source_ip) else ()
        self._source = "" if self._trusted else source_key(source_ip)
        self._early = bytearray()
        """Bytes not yet taken: the start of a head, pipelined requests, data before a 101."""
        self._switched = False
        self._keep_alive = True
        self._old = False
        """The request in progress came in HTTP/1.0."""
        self._quiet_seconds = 0.0
        self._draining = False
        self._reading_heads = False
        self._last = False
        """The connection is being closed: what still arrives is nobody's request."""
        self._body_left = 0
        self._chunks: ChunkedBody | None = None
        self.authenticated = False
        """A request on it passed authentication."""
        self._strangers_left = config.unauthenticated_requests
        self._asked = False

    def __repr__(self) -> str:
        return f"<ClientHttp1 {self._source_ip} {'upgraded' if self._switched else ''}>"

    # -- bytes in

    def receive(self, data: bytes) -> None:
        """Takes what the socket delivered."""
        if self._switched:
            self._pass_on(data, end=False)
        elif self.stream is None:
            self._read_start(data)
        elif self.stream.remote_closed or self.stream.exchange.head.upgrade:
            self._hold(data)
        else:
            self._read_body(data)

    def _read_start(self, data: bytes) -> None:
        """Takes what comes while no request is in progress: nearly always one whole head."""
        if not self._early:
            if self._asked:
                self._quiet_seconds = 0.0  # the time for this head begins
            if data.find(_HEAD_END) == len(data) - 4 >= 0 and not self._ended():
                self._read_head(data)
                return
        self._early += data
        self._read_heads()

    def _hold(self, data: bytes) -> None:
        self._early += data
        if len(self._early) > _EARLY_BYTES and not self._reading_paused:
            self._reading_paused = True
            self.transport.pause_reading()

    def _read_heads(self) -> None:
        """Takes one request head after another while no request is in progress."""
        if self._reading_heads:  # a request that was answered at once: the loop below goes on
            return
        self._reading_heads = True
        try:
            while self.stream is None and self._early and not self._ended():
                head = self._next_head()
                if not head:
                    return
                self._read_head(head)
        finally:
            self._reading_heads = False

    def _next_head(self) -> bytes:
        """The next whole head, taken from what has arrived; b"" when there is none."""
        early = self._early
        try:
            end = self._search.end(early)
        except HeaderRefusal as refusal:
            self._refuse_head(early, refusal)
            return b""
        if end:
            head = bytes(early[:end])
            del early[:end]
            self._long_heads.leave(self)
            return head
        if len(early) > self._head_limits.fields:
            self._long_heads.hold(self, self._source, len(early))
        return b""

    def give_up_head(self) -> None:
        """A long head has to go, since others need the room (see `long_heads`)."""
        self._refuse_head(self._early, HeaderRefusal("LONG_HEADS"))

    def _read_head(self, raw: bytes) -> None:
        known = self._recurring.find(raw)
        if known is not None:
            self._keep_alive = not self._draining
            self._old = False
            self._admit(known, whole=True)
            return
        try:
            request = read_request(raw, self._head_limits, underscores=self._underscores)
        except HeaderRefusal as refusal:
            self._refuse_head(raw, refusal)
            return
        self._keep_alive = request.keep_alive and not self._draining
        self._old = request.old
        self._begin(raw, request)

    def _begin(self, raw: bytes, request: Request) -> None:
        """A request: its stream is joined to a tunnel's by the handler chain."""
        head = request.head
        self._chunks = ChunkedBody(self._pass_chunk) if request.chunked else None
        self._body_left = max(head.content_length, 0)
        whole = not request.chunked and not self._body_left and not head.upgrade
        recurring = Recurring(head)
        stream = self._admit(recurring, whole=whole)
        if whole and request.keep_alive and not request.old:
            self._recurring.keep(raw, len(raw), recurring)
        if not self._serves(stream) or stream.remote_closed or head.upgrade:
            return
        if head.expects_continue and not stream.local_closed:
            self._put(b"HTTP/1.1 100 Continue\r\n\r\n")
        body, self._early = bytes(self._early), bytearray()
        if body:
            self._read_body(body)

    def _admit(self, recurring: Recurring, *, whole: bool) -> Stream:
        """A checked head, of a request without a body if `whole`: into the handler chain."""
        stream = self.stream = Stream(self, 1, 0, 0)
        stream.remote_closed = whole
        source_ip = self._source_ip
        if self._trusted:
            source_ip = client_address(self._trusted, source_ip, recurring.head.forwarded_for)
        exchange = Exchange(stream, recurring.head, new_entry(source_ip), recurring)
        stream.exchange = exchange
        self._asked = True
        if not whole and not recurring.head.upgrade:
            self._bodies.begin(stream)
        self._chain.admit(exchange)
        if exchange.identity is not None:
            self.authenticated = True
        return stream

    def _serves(self, stream: Stream) -> bool:
        """Whether this is still the request in progress: the handler chain may have answered it."""
        return self.stream is stream

    # -- bodies in

    def _read_body(self, data: bytes) -> None:
        if self._chunks is not None:
            self._read_chunks(self._chunks, data)
            return
        taken = data[: self._body_left]
        self._body_left -= len(taken)
        if len(taken) < len(data):
            self._hold(data[len(taken) :])
        self._pass_on(taken, end=not self._body_left)

    def _read_chunks(self, chunks: ChunkedBody, data: bytes) -> None:
        try:
            chunks.feed(data)
        except BadChunk:
            self._break_off()
            return
        if chunks.more:
            self._keep_alive = False
        if chunks.done:
            self._chunks = None
            self._pass_on(b"", end=True)

    def _pass_chunk(self, data: bytes) -> None:
        self._pass_on(data, end=False)

    # -- answers

    def relay_head(
        self, stream: Stream, block: bytes, end: bool, fields: Fields | None = None
    ) -> None:
        """Writes a response head (see `Leg.relay_head`); HTTP/1.1 needs the decoded fields."""
        assert fields is not None
        if stream.local_closed or stream is not self.stream:
            return
        stream.head_passed = True
        exchange: Exchange = stream.exchange
        if exchange.identity is None and not self.authenticated:
            self._strangers_left -= 1
            self._keep_alive = self._keep_alive and self._strangers_left > 0
        if exchange.entry.code == 101:
            self._switch(exchange, fields)
            return
        lines, self._chunked, self._keep_alive = answer_head(
            int(fields[0][1]),
            fields,
            method=exchange.head.method,
            end=end,
            keep_alive=self._keep_alive and stream.remote_closed,
            old=self._old,
        )
        self._put(lines)
        if end:
            stream.local_closed = True
            self._message_sent(stream)

    def _switch(self, exchange: Exchange, fields: Fields) -> None:
        """101: from here on both directions are bytes of the other protocol."""
        self._switched = True
        self._chunked = False
        upgrade = [(b"Connection", b"Upgrade"), (b"Upgrade", exchange.head.upgrade)]
        self._put(head_lines(101, [*fields[:1], *upgrade, *fields[1:]]) + b"\r\n")
        early, self._early = bytes(self._early), bytearray()
        self._read_again()
        if early:
            self._pass_on(early, end=False)

    def answer(self, stream: Stream, code: int, fields: Fields, body: bytes) -> None:
        """Sends a whole answer of central's own (see `Front.answer`)."""
        if stream.local_closed:
            return
        if stream.head_passed:
            self._break_off()
            return
        head = stream.exchange.head
        length = [(b"content-length", b"%d" % len(body))]
        fields = [(b":status", b"%d" % code), *fields, *length]
        bodiless = not body or head.method == b"HEAD"
        self.relay_head(stream, b"", bodiless, fields)
        if not bodiless:
            self.send_data(stream, body, len(body), True)

    def _refuse_head(self, raw: bytes | bytearray, refusal: HeaderRefusal) -> None:
        """A head that cannot be read: answered, audited, and the last one of this connection."""
        line = bytes(raw[:_LINE_BYTES]).partition(b"\r\n")[0].split(b" ", 2)
        head = UNREADABLE._replace(method=line[0][:32], target=b"".join(line[1:2])[:4096])
        stream = self.stream = Stream(self, 1, 0, 0)
        stream.remote_closed = True
        self._keep_alive = self._old = False
        self._early = bytearray()
        self._long_heads.leave(self)
        entry = new_entry(self._source_ip)
        entry.refusal = refusal.reason
        exchange = stream.exchange = Exchange(stream, head, entry)
        self._chain.refuse(exchange, status_error(refusal.code, refusal.message))

    # -- endings

    def _message_sent(self, stream: Stream) -> None:
        if stream.remote_closed and not self._switched:
            self._complete(stream)
        else:  # an upgraded stream, or an answer that came before the whole request
            back = part(stream)
            self._end(stream)
            self._close()
            if back is not None:
                back.connection.reset(back, ErrorCode.NO_ERROR)

    def _complete(self, stream: Stream) -> None:
        """Request and answer are complete: the next request may come."""
        keep = self._keep_alive
        part(stream)  # they would wait for the garbage collector, holding each other
        self._end(stream)
        self._chunked = False
        if not keep:
            self._close()
            return
        self._read_again()
        if self._early:
            self._read_heads()

    def _ended(self) -> bool:
        return self.closed or self._last

    def _close(self) -> None:
        self._last = True
        self.flush()
        self.transport.close()

    def _end(self, stream: Stream) -> None:
        self.stream = None
        self._bodies.end(stream, None)
        if stream.pending is not None:
            self._drop_pending(stream)
        exchange: Exchange = stream.exchange
        stream.exchange = None
        self._chain.finish(exchange)

    def reset(self, stream: Stream, code: int) -> None:
        """The cluster's side ended: in words while no answer has begun, else by closing."""
        stream.peer = None
        if stream is not self.stream or stream.local_closed:
            return
        if stream.head_passed:
            self._break_off()
        else:
            self._chain.refuse(stream.exchange, interrupted(code))

    def _abandon(self, stream: Stream, code: int) -> None:
        self._break_off()

    def _break_off(self) -> None:
        """Closes without the end of the message: what was cut short must not look complete."""
        self._out.clear()
        self.transport.abort()
        self.connection_lost()

    def drain(self) -> None:
        """No further request on this connection."""
        self._draining = True
        self._keep_alive = False
        if self.stream is None and not self.closed:
            self._close()

    def connection_lost(self) -> None:
        """The client is gone: the request in the cluster is cancelled."""
        if self.closed:
            return
        self.closed = True
        self._long_heads.leave(self)
        stream = self.stream
        if stream is None:
            return
        peer = part(stream)
        self._end(stream)
        if peer is not None:
            peer.connection.reset(peer, ErrorCode.CANCEL)

    # -- deadlines

    def second(self, elapsed: float) -> None:
        """Once a second: a head that drips, a client that reads nothing, one that asks nothing."""
        stream = self.stream
        if stream is not None:
            self._quiet_seconds = 0.0
            drips = self._bodies.second(elapsed, lambda _: self._reading_paused)
            untold = drips and not end_slow(stream, self._chain, self._deadlines)
            if untold or self._stalls(stream, elapsed):
                self._break_off()
            return
        self._quiet_seconds += elapsed
        waits_for_head = bool(self._early) or not self._asked
        limit = self._deadlines.header_seconds if waits_for_head else self._deadlines.idle_seconds
        if self._quiet_seconds > limit:
            self._break_off()
