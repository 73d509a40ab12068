"""The leg of a review: holds the cluster's answer until it is whole, then says what is true.

Subclassed by `access_review` and `token_review`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

from mk8s_agent.wire import hpack_codec
from mk8s_agent.wire.stream import Bytes, Fields, Stream
from mk8s_proxy.answers.interceptor import InterceptionRefused, Interceptor, Refuse
from mk8s_proxy.answers.reviews.documents import DocumentError
from mk8s_proxy.kube.status import bad_gateway, request_entity_too_large
from mk8s_proxy.listener.exchange import Exchange

MAX_ANSWER_BYTES: Final = 1024 * 1024
MAX_QUESTION_BYTES: Final = 64 * 1024


class HeldAnswer(Interceptor, ABC):
    """Between the two halves of a review; both bodies are small."""

    def __init__(self, exchange: Exchange, refuse: Refuse) -> None:
        super().__init__(exchange, refuse)
        self.question = bytearray()
        """The request's body as far as `note` was given it."""
        self._fields: Fields | None = None
        self._answer = bytearray()

    # -- what subclasses override

    @abstractmethod
    def narrowed(self, head: dict[bytes, bytes], body: bytes) -> bytes:
        """The body to answer with; anything raised is a refusal, DocumentError a 502."""

    def holds(self, status: bytes) -> bool:
        """Whether an answer is held; one that is no success is not about the question."""
        return status.startswith(b"2")

    # -- what they use

    def note(self, data: Bytes) -> None:
        """Keeps a piece of the question.

        Raises:
            InterceptionRefused: it is too large.
        """
        self.question += data
        if len(self.question) > MAX_QUESTION_BYTES:
            message = f"a review has at most {MAX_QUESTION_BYTES // 1024} KiB"
            raise InterceptionRefused(request_entity_too_large(message))

    def guarded(self, work: Callable[[], None]) -> None:
        """Does something; what it raises becomes the client's answer."""
        try:
            work()
        except DocumentError as error:
            message = f"the cluster's answer to a review cannot be read: {error}"
            self._give_up(InterceptionRefused(bad_gateway(message)))
        except Exception as error:  # noqa: BLE001  an exception is a refusal
            self._give_up(error)

    # -- the leg

    def relay_head(
        self, stream: Stream, block: bytes, end: bool, fields: Fields | None = None
    ) -> None:
        """The answer's head: held, or passed on at once."""
        assert fields is not None
        if not self.holds(fields[0][1]):
            super().relay_head(stream, block, end, fields)
            return
        self._fields = fields
        if end:
            self.guarded(self._finish)

    def send_data(self, stream: Stream, data: Bytes, size: int, end: bool) -> None:
        """A piece of the question, of the answer, or of an answer that passes."""
        if stream is self._up and self._fields is not None:
            self.guarded(lambda: self._collect(data, size, end))
            return
        super().send_data(stream, data, size, end)

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
        """The answer is whole: says it, or what is true instead."""
        fields = self._fields
        assert fields is not None
        head = dict(fields)
        if head.get(b"content-encoding", b"identity") != b"identity":
            raise DocumentError("it is compressed")
        body = self.narrowed(head, bytes(self._answer))
        kept = [field for field in fields if field[0] != b"content-length"]
        kept.append((b"content-length", b"%d" % len(body)))
        front = self.exchange.front
        front.connection.relay_head(front, hpack_codec.block(kept), False, kept)
        front.connection.send_data(front, body, len(body), True)
