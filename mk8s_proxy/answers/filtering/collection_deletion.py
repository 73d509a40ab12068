"""A deletecollection of which a person may delete only a part: central deletes each object itself.

Begun by the handler chain (`mk8s_proxy.answers.choose.begin_deletion`) instead of a tunnel's
stream: the request of the client never reaches the cluster, which would delete what is hidden too.
What central sends are requests of the same person, each through the handler chain and each with
audit rows of its own (`part_request`):

1. the discovery document of the API version: is there such a collection, and can it be deleted?
2. the list, page by page, with the person's selectors and by their own right to list;
3. a deletion by name of each object that may be listed and deleted, a few at a time. The policy
   decides each of them anew, as `deletecollection` of that name.

A page is read to its end before the first of its objects is deleted. The first failure is the
answer, what is deleted by then stays deleted, and nothing begins after it: all as in
kube-apiserver, but for the right `delete` (and not `deletecollection`) that the cluster asks for.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote

import orjson

from mk8s_agent.wire.stream import Bytes, Fields, Stream, join, part
from mk8s_proxy.answers.filtering import delete_options
from mk8s_proxy.answers.filtering.deletion_candidates import (
    Candidate,
    DeletionCandidates,
    PageReader,
)
from mk8s_proxy.answers.filtering.json_values import Unfilterable
from mk8s_proxy.answers.filtering.part_request import PartRequest, Receiver
from mk8s_proxy.answers.filtering.request import JSON, json_accept
from mk8s_proxy.audit.event import AuditEntry
from mk8s_proxy.authz.attributes import Visibility
from mk8s_proxy.kube.request_info import RequestInfo
from mk8s_proxy.kube.status import (
    StatusError,
    bad_gateway,
    forbidden,
    internal_error,
    method_not_allowed,
    not_found,
    request_entity_too_large,
)
from mk8s_proxy.listener.exchange import Exchange
from mk8s_proxy.listener.http2 import HandlerChain

log = logging.getLogger(__name__)

WORKERS: Final = 8
"""Deletions of one request that are on their way at a time."""

_MAXIMUM_DISCOVERY: Final = 1024 * 1024
_NOT_DELETABLE: Final = "the server does not allow this method on the requested resource"
_NOT_THERE: Final = "the server could not find the requested resource"
_NEEDS_LIST: Final = "to delete the part of the collection that you may see, it must be listed: "
_ANOTHER: Final = "UID in precondition"
"""How the API server says that the object of this name is a new one."""


def begin_deletion(
    exchange: Exchange, doors: HandlerChain, note_intent: Callable[[AuditEntry], None]
) -> bool:
    """Takes over an admitted exchange if it deletes a part of a collection; whether it does.

    Asked only where the decision is one for a part. One of central's own deletions of an object is
    only looked at: a decision for some objects must be one for this one.

    Raises:
        StatusError: the request cannot be carried out for a part.
    """
    info, decision = exchange.info, exchange.decision
    assert info is not None
    assert decision is not None
    assert decision.visibility is not None
    if exchange.whole is not None and info.verb == "delete":
        if not decision.visibility.allows(info.namespace, info.name):
            raise forbidden(f"{decision.reason}, and not for this one")
        exchange.decision = replace(decision, visibility=None)
        return False
    if info.verb != "deletecollection":
        return False
    CollectionDeletion(exchange, decision.visibility, doors, note_intent).begin()
    return True


def decided_as(exchange: Exchange, info: RequestInfo) -> RequestInfo:
    """What the policy is asked about a request: a deletion by which central carries out one of a
    collection needs the right to that."""
    if exchange.whole is None or info.verb != "delete":
        return info
    return replace(info, verb="deletecollection")


class CollectionDeletion:
    """The leg that answers a client's deletecollection.

    Args:
        exchange: admitted.
        visibility: says which objects may be deleted.
        doors: the handler chain.
        note_intent: writes the request's intent row, together with that of its first part.

    Raises:
        StatusError: the request cannot be carried out for a part.
    """

    def __init__(
        self,
        exchange: Exchange,
        visibility: Visibility,
        doors: HandlerChain,
        note_intent: Callable[[AuditEntry], None],
    ) -> None:
        info = exchange.info
        assert info is not None
        self._exchange = exchange
        self._doors = doors
        self._note_intent = note_intent
        self._info = info
        query = exchange.head.target.partition(b"?")[2]
        self._parameters = delete_options.read_parameters(query)
        delete_options.check_whole(self._parameters)
        self._accept = json_accept(exchange.head.accept)
        bare_rows = self._parameters.get(b"includeObject") == [b"None"]
        self._objects = DeletionCandidates(visibility.allows, info.namespace, strip_rows=bare_rows)
        self._options: delete_options.Options = {}
        self._body = bytearray()
        self._down = Stream(self, 1, 0, 0)  # peer of the client's stream
        self._running: set[PartRequest] = set()
        self._failure: StatusError | None = None
        self._sent = False
        self._over = False

    def begin(self) -> None:
        """Takes the client's stream: what comes of its body, and at last the answer, goes here."""
        front = self._exchange.front
        join(front, self._down)
        if front.remote_closed:
            self._guarded(self._start)

    # -- the leg

    def send_data(self, stream: Stream, data: Bytes, size: int, end: bool) -> None:
        """A piece of the client's DeleteOptions."""
        front = self._exchange.front
        front.connection.grant(front, size)
        self._body += data
        if len(self._body) > delete_options.MAXIMUM_OPTIONS:
            self._settle(request_entity_too_large("the options of a deletion are too large"))
        elif end:
            self._guarded(self._start)

    def reset(self, stream: Stream, code: int) -> None:
        """The client is gone: what is on its way is called back, and nothing more begins."""
        self._stop()

    def grant(self, stream: Stream, size: int) -> None:
        """The client took a part of the answer: it was handed over as a whole."""

    # -- what is done, in this order

    def _start(self) -> None:
        head = self._exchange.head
        self._options = delete_options.read_options(
            bytes(self._body), _plain_type(head.content_type, head.forwarded), self._parameters
        )
        self._body.clear()
        self._note_intent(self._exchange.entry)
        info = self._info
        version = "/".join(filter(None, (info.api_prefix, info.api_group, info.api_version)))
        self._send(_Discovery(self), b"GET", f"/{version}")

    def discovered(self, document: Any) -> None:
        """The API version says what it has."""
        info = self._info
        found = [one for one in _resources(document) if one.get("name") == info.resource]
        if not found:
            raise not_found(_NOT_THERE)
        verbs = found[0].get("verbs")
        deletable = isinstance(verbs, list) and "deletecollection" in verbs
        if not deletable or bool(found[0].get("namespaced")) is not bool(info.namespace):
            raise method_not_allowed(_NOT_DELETABLE)
        self._list()

    def _list(self) -> None:
        query = delete_options.list_query(
            self._parameters, self._objects.token, table=b"as=Table" in self._accept
        )
        target = f"{self._path()}?{query}"
        self._send(_Page(self, self._objects.page()), b"GET", target, self._accept)

    def _path(self) -> str:
        return quote(self._info.path.rstrip("/"), safe="/-._~!$&'()*+,=:@")

    def go_on(self) -> None:
        """Begins what can begin now."""
        waiting = self._objects.waiting
        while waiting and len(self._running) < WORKERS and not self._failure and not self._over:
            self._delete(waiting.popleft())
        if self._running or self._over:
            return
        if self._failure is not None:
            self._settle(self._failure)
        elif self._objects.token:
            self._list()
        else:
            self._answer()

    def _delete(self, candidate: Candidate) -> None:
        self._sent = True
        body = delete_options.options_for(self._options, candidate.uid)
        target = f"{self._path()}/{quote(candidate.name, safe=':')}"
        self._send(_Deletion(self, self._options), b"DELETE", target, JSON, body)

    def _send(
        self,
        receiver: "_Receiver",
        method: bytes,
        target: str,
        accept: bytes = JSON,
        body: bytes = b"",
    ) -> None:
        receiver.request = PartRequest(self._exchange, self._doors, receiver)
        self._running.add(receiver.request)
        receiver.request.send(method, target, accept, body)

    # -- what came of it

    def done(self, request: PartRequest, then: Callable[[], None]) -> None:
        """A part was answered: goes on."""
        self._running.discard(request)
        self._guarded(then)

    def failed(self, request: PartRequest, error: StatusError) -> None:
        """A part has failed: what is on its way ends, and then the first failure is the answer."""
        self._running.discard(request)
        if self._failure is None:
            retry_after = None if self._sent else error.retry_after
            self._failure = StatusError(
                error.code,
                error.reason,
                error.message,
                retry_after=retry_after,
                details=error.details,
            )
        self._guarded(self.go_on)

    def _guarded(self, work: Callable[[], None]) -> None:
        """Whatever goes wrong ends the deletion."""
        try:
            work()
        except StatusError as error:
            self._settle(error)
        except Exception:
            log.exception("deletion.crashed", extra={"audit_id": self._exchange.entry.audit_id})
            self._settle(internal_error())

    def _answer(self) -> None:
        body = self._objects.answer
        self._over = True
        front = self._exchange.front
        part(front)
        self._exchange.entry.code = 200
        fields = [(b"content-type", JSON), (b"cache-control", b"no-cache, private")]
        front.connection.answer(front, 200, fields, body)

    def _settle(self, error: StatusError) -> None:
        self._stop()
        part(self._exchange.front)
        self._doors.refuse(self._exchange, error)

    def _stop(self) -> None:
        self._over = True
        self._objects.waiting.clear()
        running, self._running = self._running, set()
        for request in running:
            request.cancel()


class _Receiver(Receiver):
    """What the three kinds of parts share."""

    request: PartRequest

    def __init__(self, deletion: CollectionDeletion) -> None:
        self._deletion = deletion

    def read(self, data: bytes, end: bool) -> None:
        """A piece of the answer."""

    def failed(self, error: StatusError) -> None:
        """There is no answer."""
        self._deletion.failed(self.request, error)

    def _unreadable(self, words: object) -> None:
        self.request.cancel()
        message = f"the cluster's answer cannot be reduced to what you may see: {words}"
        self._deletion.failed(self.request, bad_gateway(message))


class _Discovery(_Receiver):
    """Takes the discovery document."""

    def __init__(self, deletion: CollectionDeletion) -> None:
        super().__init__(deletion)
        self._document = bytearray()

    def read(self, data: bytes, end: bool) -> None:
        """A piece of it."""
        self._document += data
        if len(self._document) > _MAXIMUM_DISCOVERY:
            self._unreadable("its discovery document is too large")
        elif end:
            self._deletion.done(self.request, self._finish)

    def _finish(self) -> None:
        try:
            document = orjson.loads(self._document)
        except orjson.JSONDecodeError:
            raise bad_gateway("the cluster's discovery document is no JSON") from None
        self._deletion.discovered(document)


class _Page(_Receiver):
    """Takes a page of the list."""

    def __init__(self, deletion: CollectionDeletion, page: PageReader) -> None:
        super().__init__(deletion)
        self._page = page

    def read(self, data: bytes, end: bool) -> None:
        """A piece of it."""
        try:
            self._page.feed(data, end)
        except Unfilterable as error:
            self._unreadable(error)
            return
        if end:
            self._deletion.done(self.request, self._deletion.go_on)

    def failed(self, error: StatusError) -> None:
        """Whoever may not list learns why it is needed."""
        if error.code == 403:
            error = StatusError(403, error.reason, _NEEDS_LIST + error.message)
        super().failed(error)


class _Deletion(_Receiver):
    """Takes the answer about one object."""

    def __init__(self, deletion: CollectionDeletion, options: delete_options.Options) -> None:
        super().__init__(deletion)
        self._own_uid = delete_options.names_uid(options)

    def read(self, data: bytes, end: bool) -> None:
        """The object as it was is not needed."""
        if end:
            self._deletion.done(self.request, self._deletion.go_on)

    def failed(self, error: StatusError) -> None:
        """An object that somebody else has deleted is no failure, and a new one is not meant."""
        another = error.code == 409 and _ANOTHER in error.message and not self._own_uid
        if error.code == 404 or another:
            self._deletion.done(self.request, self._deletion.go_on)
        else:
            super().failed(error)


def _resources(document: Any) -> list[dict[str, Any]]:
    found = document.get("resources") if isinstance(document, dict) else None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise bad_gateway("the cluster's discovery document cannot be read")
    return found


def _plain_type(content_type: bytes, forwarded: Fields | tuple[tuple[bytes, bytes], ...]) -> bytes:
    """The media type of a body; one that is compressed is of none that is read here."""
    codings = {value.lower() for name, value in forwarded if name == b"content-encoding"}
    return content_type if codings <= {b"identity"} else b"compressed"
