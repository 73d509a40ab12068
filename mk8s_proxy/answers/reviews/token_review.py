"""The interceptor of a TokenReview: a token of mk8s never goes to a cluster.

Made by `interceptor`. Client libraries ask the API server whose token they hold (kr8s does), and
the cluster would read a credential for central, and for other clusters, in that question. So the
body is held until it is whole. If it asks about a token of mk8s, the cluster gets a placeholder,
its answer lends the form (and its refusal holds: its own RBAC decides who may ask), and what it
says of the placeholder is replaced by what mk8s says of the token. Every other token is the
cluster's business: its review passes as it came, both ways.
"""

from mk8s_agent.wire.stream import Bytes, Stream
from mk8s_proxy.answers.interceptor import InterceptionRefused, Refuse
from mk8s_proxy.answers.reviews.documents import TOKEN_REVIEW, DocumentError, read, read_answer
from mk8s_proxy.answers.reviews.held_answer import HeldAnswer
from mk8s_proxy.answers.reviews.tokens import (
    PLACEHOLDER,
    OwnTokens,
    token_of,
    token_status,
    with_token,
)
from mk8s_proxy.identity.access_token import AUDIENCE
from mk8s_proxy.kube.protobuf import Message
from mk8s_proxy.kube.status import bad_request
from mk8s_proxy.listener.exchange import Exchange


class TokenReviewInterceptor(HeldAnswer):
    """Keeps the question back until it is known whose token it is about."""

    def __init__(self, exchange: Exchange, refuse: Refuse) -> None:
        super().__init__(exchange, refuse)
        self._ours = OwnTokens(exchange.head.authorization, AUDIENCE)
        self._whole = exchange.front.remote_closed
        self._token = ""
        self._status: Message | None = None
        """What mk8s says of the token; None when the cluster says it."""

    def send_data(self, stream: Stream, data: Bytes, size: int, end: bool) -> None:
        """A piece of the question waits here; one of the answer as in every review."""
        if stream is self._down:
            self.guarded(lambda: self._take(data, size, end))
        else:
            super().send_data(stream, data, size, end)

    def grant(self, stream: Stream, size: int) -> None:
        """The client got its credit when the question was taken."""
        if stream is not self._up:
            super().grant(stream, size)

    def _take(self, data: Bytes, size: int, end: bool) -> None:
        self.note(data)
        front = self.exchange.front
        front.connection.grant(front, size)
        if not end:
            return
        self._whole = True
        body = self._asked(bytes(self.question))
        self.question.clear()
        back = self._up.peer
        if back is not None:
            back.connection.send_data(back, body, len(body), True)

    def _asked(self, body: bytes) -> bytes:
        """The question as it goes to the cluster."""
        try:
            document = read(self.exchange.head.content_type, body, TOKEN_REVIEW)
            token = token_of(document.content)
            if self._ours.are_in(token.encode("utf-8", "surrogatepass")):
                self._keep(token, document.content)
                body = document.write(with_token(document.content, PLACEHOLDER))
        except DocumentError as error:
            message = f"the TokenReview cannot be read: {error}"
            raise InterceptionRefused(bad_request(message)) from error
        if self._ours.are_in(body):
            message = "a token of mk8s stands outside of spec.token: no cluster may read it"
            raise InterceptionRefused(bad_request(message))
        return body

    def _keep(self, token: str, review: Message) -> None:
        identity = self.exchange.identity
        assert identity is not None
        callers = self._ours.is_callers(token)
        self._token = token
        decision = self.exchange.decision
        roles = decision.groups if decision is not None else ()
        self._status = token_status(review, identity, AUDIENCE, callers=callers, roles=roles)

    def holds(self, status: bytes) -> bool:
        """What the cluster says of a token that it knows passes."""
        return super().holds(status) and not (self._whole and self._status is None)

    def narrowed(self, head: dict[bytes, bytes], body: bytes) -> bytes:
        """The cluster's form with the word of mk8s."""
        if self._status is None:
            raise DocumentError("it came before the question was whole")
        document = read_answer(head.get(b"content-type", b""), body, TOKEN_REVIEW)
        if token_of(document.content) != PLACEHOLDER:
            raise DocumentError("it is about another token")
        answer = with_token(document.content, self._token)
        return document.write({**answer, "status": self._status})
