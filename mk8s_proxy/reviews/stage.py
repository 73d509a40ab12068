"""The stage of an access review: holds the cluster's answer until it is whole, then narrows it.

Made by `stages.make_stage` for the POST of a SelfSubjectAccessReview or SelfSubjectRulesReview. The
request goes to the cluster as it is, but for the forms of answer that can be read here (no
compression, Table or CBOR). The rules review answers without saying which namespace it was asked
about, so the request's body is read as it passes.
"""

from collections.abc import Callable
from typing import Final

from mk8s_agent.wire import hpack_codec
from mk8s_agent.wire.stream import Bytes, Fields, Stream
from mk8s_proxy.authz.access import Access
from mk8s_proxy.authz.snapshot import PolicySnapshot
from mk8s_proxy.exchange import Exchange
from mk8s_proxy.request_headers import RequestHead
from mk8s_proxy.request_info import RequestInfo
from mk8s_proxy.reviews.documents import (
    ACCESS_REVIEW,
    JSON,
    MEDIA_TYPES,
    RULES_REVIEW,
    DocumentError,
    media_type,
    read,
    read_answer,
)
from mk8s_proxy.reviews.protobuf import Message
from mk8s_proxy.reviews.verdicts import access_status, rules_status
from mk8s_proxy.stage import BodyStage, Refuse, StageRefused
from mk8s_proxy.status import StatusError, bad_gateway, request_entity_too_large

MAX_ANSWER_BYTES: Final = 1024 * 1024
MAX_QUESTION_BYTES: Final = 64 * 1024

_GROUP: Final = "authorization.k8s.io"
_KINDS: Final = {
    "selfsubjectaccessreviews": ACCESS_REVIEW,
    "selfsubjectrulesreviews": RULES_REVIEW,
}
_ANY_TYPES: Final = frozenset({b"*/*", b"application/*"})


def make_review_stage(
    exchange: Exchange, policy: PolicySnapshot, refuse: Refuse
) -> BodyStage | None:
    """The stage of an access review, None for every other request.

    Raises:
        StatusError: 415, a question in a form that is not read here; clients then send JSON.
    """
    info, identity = exchange.info, exchange.identity
    kind = _kind(info) if info is not None else ""
    if not kind or identity is None:
        return None
    head = exchange.head
    if kind == RULES_REVIEW and not _is_readable(head):
        message = "access reviews are taken as JSON, YAML or protobuf, not compressed"
        raise StatusError(415, "UnsupportedMediaType", message)
    exchange.head = head._replace(forwarded=_with_readable_answer(head))
    access = policy.access_of(identity.user, identity.groups, exchange.entry.cluster)
    return ReviewStage(exchange, refuse, kind, access)


def _kind(info: RequestInfo) -> str:
    if info.verb != "create" or info.api_group != _GROUP or info.subresource:
        return ""
    return _KINDS.get(info.resource, "")


def _is_readable(head: RequestHead) -> bool:
    codings = {value.lower() for name, value in head.forwarded if name == b"content-encoding"}
    return codings <= {b"identity"} and media_type(head.content_type) in MEDIA_TYPES


def _with_readable_answer(head: RequestHead) -> tuple[tuple[bytes, bytes], ...]:
    """The headers to forward, without forms of answer that cannot be read here."""
    clauses = (clause.strip() for clause in head.accept.split(b","))
    kept = [clause for clause in clauses if _is_readable_clause(clause)]
    dropped = (b"accept", b"accept-encoding")
    rest = [field for field in head.forwarded if field[0] not in dropped]
    return (*rest, (b"accept", b", ".join(kept) or JSON))


def _is_readable_clause(clause: bytes) -> bool:
    form, *parameters = (part.strip().lower() for part in clause.split(b";"))
    transformed = any(parameter.startswith((b"as=", b"stream=")) for parameter in parameters)
    return form in MEDIA_TYPES | _ANY_TYPES and not transformed


class ReviewStage(BodyStage):
    """Between the two halves of a review."""

    def __init__(self, exchange: Exchange, refuse: Refuse, kind: str, access: Access) -> None:
        super().__init__(exchange, refuse)
        self._kind = kind
        self._access = access
        self._question = bytearray()
        self._fields: Fields | None = None
        self._answer = bytearray()

    def relay_head(
        self, stream: Stream, block: bytes, end: bool, fields: Fields | None = None
    ) -> None:
        """An answer that is no success is not about rights: it passes."""
        assert fields is not None
        if not fields[0][1].startswith(b"2"):
            super().relay_head(stream, block, end, fields)
            return
        self._fields = fields
        if end:
            self._guarded(self._finish)

    def send_data(self, stream: Stream, data: Bytes, size: int, end: bool) -> None:
        """A piece of the question, of the answer, or of an answer that passes."""
        if stream is self._down:
            self._guarded(lambda: self._note(data))
        elif self._fields is not None:
            self._guarded(lambda: self._collect(data, size, end))
            return
        super().send_data(stream, data, size, end)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except DocumentError as error:
            message = f"the cluster's answer to an access review cannot be read: {error}"
            self._give_up(StageRefused(bad_gateway(message)))
        except Exception as error:  # noqa: BLE001  an exception is a refusal
            self._give_up(error)

    def _note(self, data: Bytes) -> None:
        if self._kind != RULES_REVIEW:
            return
        self._question += data
        if len(self._question) > MAX_QUESTION_BYTES:
            message = f"an access review has at most {MAX_QUESTION_BYTES // 1024} KiB"
            raise StageRefused(request_entity_too_large(message))

    def _collect(self, data: Bytes, size: int, end: bool) -> None:
        self._answer += data
        if len(self._answer) > MAX_ANSWER_BYTES:
            raise DocumentError("it is too large")
        back = self._up.peer
        if back is not None and size:
            back.connection.grant(back, size)
        if end:
            self._finish()

    def _finish(self) -> None:
        """The answer is whole: says it, or what both sides say."""
        fields = self._fields
        assert fields is not None
        body = self._narrowed(dict(fields), bytes(self._answer))
        kept = [field for field in fields if field[0] != b"content-length"]
        kept.append((b"content-length", b"%d" % len(body)))
        front = self.exchange.front
        front.connection.relay_head(front, hpack_codec.block(kept), False, kept)
        front.connection.send_data(front, body, len(body), True)

    def _narrowed(self, head: dict[bytes, bytes], body: bytes) -> bytes:
        if head.get(b"content-encoding", b"identity") != b"identity":
            raise DocumentError("it is compressed")
        document = read_answer(head.get(b"content-type", b""), body, self._kind)
        if self._kind == ACCESS_REVIEW:
            status = access_status(document.content, self._access)
        else:
            status = rules_status(document.content, self._access, self._namespace())
        return body if status is None else document.write({**document.content, "status": status})

    def _namespace(self) -> str:
        """The namespace that a rules review asks about."""
        content_type = self.exchange.head.content_type
        asked: Message = read(content_type, bytes(self._question), RULES_REVIEW).content
        spec = asked.get("spec")
        namespace = spec.get("namespace") if isinstance(spec, dict) else None
        if not isinstance(namespace, str):
            raise DocumentError("the question names no namespace")
        return namespace
