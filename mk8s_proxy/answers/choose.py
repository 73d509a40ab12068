"""Which answers need an interceptor, and which one."""

from typing import Final

from mk8s_proxy.answers.filtering.collection_deletion import begin_deletion, decided_as
from mk8s_proxy.answers.filtering.continue_token import TokenSeal
from mk8s_proxy.answers.filtering.interceptor import FilterInterceptor, closing_event
from mk8s_proxy.answers.interceptor import Interceptor, Refuse
from mk8s_proxy.answers.reviews.interceptor import make_review_interceptor
from mk8s_proxy.answers.upgraded_session import UpgradedSession, begins_session
from mk8s_proxy.authz.snapshot import PolicySnapshot
from mk8s_proxy.listener.exchange import Exchange

__all__ = [
    "VERBS_OF_REVIEWS",
    "Between",
    "TokenSeal",
    "begin_deletion",
    "closing_event",
    "decided_as",
    "make_interceptor",
]

Between = Interceptor | UpgradedSession
"""What may stand between a client's stream and a tunnel's."""

VERBS_OF_REVIEWS: Final = frozenset({"create"})
"""Only a request with one of these verbs may need an interceptor although its user sees all of the
answer; `make_interceptor` need not be asked about others."""


def make_interceptor(
    exchange: Exchange, policy: PolicySnapshot, refuse: Refuse, seal: TokenSeal
) -> Between | None:
    """The interceptor for an exchange; None for most.

    Args:
        exchange: admitted; its head may be replaced here, before it goes to the cluster.
        policy: the snapshot that admitted it.
        refuse: the handler chain's way to answer with a Status.
        seal: for the page tokens of filtered lists.

    Raises:
        StatusError: no interceptor can answer it.
    """
    decision = exchange.decision
    visibility = decision.visibility if decision is not None else None
    if visibility is None and begins_session(exchange):
        return UpgradedSession(exchange)
    if (review := make_review_interceptor(exchange, policy, refuse)) is not None:
        return review
    if visibility is not None:
        return FilterInterceptor(exchange, refuse, visibility=visibility, seal=seal)
    return None
