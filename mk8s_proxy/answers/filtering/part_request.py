"""One of the requests by which central carries out another; made by `collection_deletion`.

It goes through the handler chain like any client's and is answered here: it is a leg without a
socket. Its audit rows name the request that it is a part of.
"""

from typing import Any, Final, Protocol

import orjson

from mk8s_agent.wire.http2.frames import ErrorCode
from mk8s_agent.wire.stream import Bytes, Fields, Stream, part
from mk8s_proxy.answers.filtering.request import JSON
from mk8s_proxy.kube.status import StatusError, bad_gateway, service_unavailable, status_error
from mk8s_proxy.listener.exchange import Exchange, new_entry
from mk8s_proxy.listener.http2 import HandlerChain

_MAXIMUM_FAILURE: Final = 64 * 1024
"""Bytes of an answer that is no success; what is longer is not read."""
_DETAILS: Final = ("name", "group", "kind", "uid")
_CAUSE: Final = ("reason", "message", "field")


class Receiver(Protocol):
    """Who asked."""

    def read(self, data: bytes, end: bool) -> None:
        """A piece of a successful answer, the last one when `end`."""

    def failed(self, error: StatusError) -> None:
        """There is no successful answer."""


class PartRequest:
    """A request for `whole`, in the same person's name.

    Args:
        whole: the client's request.
        doors: the handler chain.
        receiver: is told what comes of it: `read` until its end, or `failed` once.
    """

    def __init__(self, whole: Exchange, doors: HandlerChain, receiver: Receiver) -> None:
        self._whole = whole
        self._doors = doors
        self._receiver = receiver
        self._front = Stream(self, 1, 0, 0)
        self._code = 0
        self._retry_after: int | None = None
        self._failure = bytearray()
        self._over = False

    def send(self, method: bytes, target: str, accept: bytes = JSON, body: bytes = b"") -> None:
        """Walks through the handler chain; whatever refuses there is a failure."""
        front, whole = self._front, self._whole
        raw = whole.prefix + target.encode("ascii", "replace")
        agent = tuple(field for field in whole.head.forwarded if field[0] == b"user-agent")
        media = ((b"accept", accept), *(((b"content-type", JSON),) if body else ()))
        head = whole.head._replace(
            method=method,
            target=raw,
            content_length=len(body) if body else -1,
            content_type=JSON if body else b"",
            accept=JSON,
            authorization=b"",
            client_audit_id=b"",
            impersonation=(),
            forwarded=(*agent, *media),
            expects_continue=False,
        )
        entry = new_entry(whole.entry.source_ip)
        entry.parent_audit_id = whole.entry.audit_id
        exchange = Exchange(front, head, entry)
        exchange.whole = whole
        exchange.identity, exchange.cluster = whole.identity, whole.cluster
        front.exchange = exchange
        front.remote_closed = not body
        self._doors.admit(exchange)
        peer = front.peer
        if body and peer is not None:
            front.remote_closed = True
            front.received = len(body)
            peer.connection.send_data(peer, body, len(body), True)

    def cancel(self) -> None:
        """Nobody wants the answer any more."""
        self._over = True
        peer = part(self._front)
        if peer is not None:
            peer.connection.reset(peer, ErrorCode.CANCEL)
        self._doors.finish(self._front.exchange)

    # -- the leg

    def relay_head(
        self, stream: Stream, block: bytes, end: bool, fields: Fields | None = None
    ) -> None:
        """The head of the answer."""
        assert fields is not None
        stream.head_passed = True
        self._code = int(fields[0][1])
        self._retry_after = _seconds(fields)
        if end:
            self._take(b"", True)

    def send_data(self, stream: Stream, data: Bytes, size: int, end: bool) -> None:
        """A piece of the answer."""
        stream.sent += size
        peer = stream.peer
        if peer is not None and size:
            peer.connection.grant(peer, size)
        self._take(bytes(data), end)

    def _take(self, data: bytes, end: bool) -> None:
        if self._over:
            return
        good = 200 <= self._code < 300
        if not good and len(self._failure) <= _MAXIMUM_FAILURE:
            self._failure += data
        if end:
            self._end()
        if good:
            self._receiver.read(data, end)
        elif end:
            error = read_failure(self._code, bytes(self._failure), self._retry_after)
            self._receiver.failed(error)

    def grant(self, stream: Stream, size: int) -> None:
        """The tunnel took bytes of the body: it was handed over as a whole."""

    def reset(self, stream: Stream, code: int) -> None:
        """The answer will not come, or not to its end."""
        if self._over:
            return
        self._end()
        if code == ErrorCode.REFUSED_STREAM:
            message = "the request was not sent to the cluster"
            self._receiver.failed(service_unavailable(message, retry_after=1))
        else:
            message = "the connection to the cluster was lost before it answered"
            self._receiver.failed(bad_gateway(message))

    def answer(self, stream: Stream, code: int, fields: Fields, body: bytes) -> None:
        """A refusal of central's own (see `Front.answer`)."""
        if self._over:
            return
        self._end()
        self._receiver.failed(read_failure(code, body, _seconds(fields)))

    def _end(self) -> None:
        self._over = True
        part(self._front)
        self._doors.finish(self._front.exchange)


def _seconds(fields: Fields) -> int | None:
    text = dict(fields).get(b"retry-after", b"")
    return int(text) if text.isdigit() and len(text) < 6 else None


def read_failure(code: int, body: bytes, retry_after: int | None) -> StatusError:
    """The Status that an answer carries, or what its code says."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict) or found.get("kind") != "Status":
        return status_error(code, f"the cluster answered {code}", retry_after=retry_after)
    reason, message = found.get("reason"), found.get("message")
    return StatusError(
        code,
        reason if isinstance(reason, str) else "Unknown",
        message if isinstance(message, str) else f"the cluster answered {code}",
        retry_after=retry_after,
        details=_details(found.get("details")),
    )


def _details(found: Any) -> dict[str, Any] | None:
    """What is of its kind; the cluster is not trusted to say it right."""
    if not isinstance(found, dict):
        return None
    causes = found.get("causes")
    listed = causes if isinstance(causes, list) else []
    kept = [_texts(cause, _CAUSE) for cause in listed if isinstance(cause, dict)]
    return _texts(found, _DETAILS) | ({"causes": kept} if kept else {})


def _texts(found: dict[str, Any], keys: tuple[str, ...]) -> dict[str, str]:
    return {key: found[key] for key in keys if isinstance(found.get(key), str)}
