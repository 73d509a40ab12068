"""Interceptors of SelfSubjectAccessReview and SelfSubjectRulesReview: yes only where both say so.

Made by `interceptor`. The rules review answers without saying which namespace it was asked about,
so the request's body is read as it passes.
"""

from mk8s_agent.wire.stream import Bytes, Stream
from mk8s_proxy.answers.interceptor import Refuse
from mk8s_proxy.answers.reviews.documents import (
    ACCESS_REVIEW,
    RULES_REVIEW,
    DocumentError,
    read,
    read_answer,
)
from mk8s_proxy.answers.reviews.held_answer import HeldAnswer
from mk8s_proxy.answers.reviews.verdicts import access_status, rules_status
from mk8s_proxy.authz.access import Access
from mk8s_proxy.authz.narrowing import NarrowedAccess
from mk8s_proxy.kube.protobuf import Message
from mk8s_proxy.listener.exchange import Exchange


class AccessReviewInterceptor(HeldAnswer):
    """Narrows the cluster's answer to what mk8s allows as well."""

    def __init__(
        self, exchange: Exchange, refuse: Refuse, kind: str, access: Access | NarrowedAccess
    ) -> None:
        super().__init__(exchange, refuse)
        self._kind = kind
        self._access = access

    def send_data(self, stream: Stream, data: Bytes, size: int, end: bool) -> None:
        """A piece of the question is looked at as it passes."""
        if stream is self._down and self._kind == RULES_REVIEW:
            self.guarded(lambda: self.note(data))
        super().send_data(stream, data, size, end)

    def narrowed(self, head: dict[bytes, bytes], body: bytes) -> bytes:
        """What both sides say; the cluster's own bytes where they agree."""
        document = read_answer(head.get(b"content-type", b""), body, self._kind)
        if self._kind == ACCESS_REVIEW:
            status = access_status(document.content, self._access)
        else:
            status = rules_status(document.content, self._access, self._namespace())
        return body if status is None else document.write({**document.content, "status": status})

    def _namespace(self) -> str:
        """The namespace that a rules review asks about."""
        content_type = self.exchange.head.content_type
        asked: Message = read(content_type, bytes(self.question), RULES_REVIEW).content
        spec = asked.get("spec")
        namespace = spec.get("namespace") if isinstance(spec, dict) else None
        if not isinstance(namespace, str):
            raise DocumentError("the question names no namespace")
        return namespace
