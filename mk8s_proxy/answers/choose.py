"""Which answers need a stage, and which one. Called by the corridor for each admitted request."""

from mk8s_proxy.answers.filtering.collection_deletion import begin_deletion, decided_as
from mk8s_proxy.answers.filtering.continue_token import TokenSeal
from mk8s_proxy.answers.filtering.filter_stage import FilterStage, farewell
from mk8s_proxy.answers.reviews.stage import make_review_stage
from mk8s_proxy.answers.stage import BodyStage, Refuse
from mk8s_proxy.authz.snapshot import PolicySnapshot
from mk8s_proxy.listener.exchange import Exchange

__all__ = ["TokenSeal", "begin_deletion", "decided_as", "farewell", "make_stage"]


def make_stage(
    exchange: Exchange, policy: PolicySnapshot, refuse: Refuse, seal: TokenSeal
) -> BodyStage | None:
    """The stage for an exchange; None for nearly all of them.

    Args:
        exchange: admitted; its head may be replaced here, before it goes to the cluster.
        policy: the snapshot that admitted it.
        refuse: the corridor's way to answer with a Status.
        seal: for the page tokens of filtered lists.

    Raises:
        StatusError: no stage can answer it.
    """
    if (review := make_review_stage(exchange, policy, refuse)) is not None:
        return review
    decision = exchange.decision
    if decision is not None and decision.visibility is not None:
        return FilterStage(exchange, refuse, visibility=decision.visibility, seal=seal)
    return None
