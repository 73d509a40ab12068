"""Which requests are reviews, and the interceptor of each. Called by `mk8s_proxy.answers.choose`.

Each is the POST of one kind. The request goes to the cluster as it is, but for the forms of answer
that can be read here (no compression or Table) and a token of mk8s in a TokenReview.
"""

from typing import Final

from mk8s_proxy.answers.interceptor import Interceptor, Refuse
from mk8s_proxy.answers.reviews.access_review import AccessReviewInterceptor
from mk8s_proxy.answers.reviews.documents import (
    ACCESS_REVIEW,
    JSON,
    MEDIA_TYPES,
    RULES_REVIEW,
    TOKEN_REVIEW,
    media_type,
)
from mk8s_proxy.answers.reviews.token_review import TokenReviewInterceptor
from mk8s_proxy.authz.snapshot import PolicySnapshot
from mk8s_proxy.kube.request_info import RequestInfo
from mk8s_proxy.kube.status import StatusError
from mk8s_proxy.listener.exchange import Exchange
from mk8s_proxy.listener.request_head import RequestHead

_KINDS: Final = {
    ("authorization.k8s.io", "selfsubjectaccessreviews"): ACCESS_REVIEW,
    ("authorization.k8s.io", "selfsubjectrulesreviews"): RULES_REVIEW,
    ("authentication.k8s.io", "tokenreviews"): TOKEN_REVIEW,
}
_ANY_TYPES: Final = frozenset({b"*/*", b"application/*"})


def make_review_interceptor(
    exchange: Exchange, policy: PolicySnapshot, refuse: Refuse
) -> Interceptor | None:
    """The interceptor of a review, None for every other request.

    Raises:
        StatusError: 415, a question in a form that is not read here; clients then send JSON.
    """
    info, identity = exchange.info, exchange.identity
    kind = _kind(info) if info is not None else ""
    if not kind or identity is None:
        return None
    head = exchange.head
    if kind != ACCESS_REVIEW and not _is_readable(head):
        message = "reviews are taken as JSON, YAML, CBOR or protobuf, not compressed"
        raise StatusError(415, "UnsupportedMediaType", message)
    exchange.head = head._replace(forwarded=_with_readable_answer(head))
    if kind == TOKEN_REVIEW:
        # The placeholder for a token has another length.
        exchange.head = exchange.head._replace(content_length=-1)
        return TokenReviewInterceptor(exchange, refuse)
    access = policy.access_of(
        identity.user, identity.login_groups, exchange.cluster, narrowing=identity.narrowing
    )
    return AccessReviewInterceptor(exchange, refuse, kind, access)


def _kind(info: RequestInfo) -> str:
    if info.verb != "create" or info.subresource:
        return ""
    return _KINDS.get((info.api_group, info.resource), "")


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
