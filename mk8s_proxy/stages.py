"""Which answers need a stage, and which one. Called by the corridor for each admitted request."""

from mk8s_proxy.authz.snapshot import PolicySnapshot
from mk8s_proxy.exchange import Exchange
from mk8s_proxy.stage import BodyStage, Refuse
from mk8s_proxy.status import forbidden


def make_stage(exchange: Exchange, policy: PolicySnapshot, refuse: Refuse) -> BodyStage | None:
    """The stage for an exchange; None for nearly all of them.

    Args:
        exchange: admitted; its head may be replaced here, before it goes to the cluster.
        policy: the snapshot that admitted it.
        refuse: the corridor's way to answer with a Status.
    """
    decision = exchange.decision
    if decision is not None and decision.filtered:
        raise forbidden(
            "only a part of these objects is yours to see: name a namespace or an object"
        )
    return None
