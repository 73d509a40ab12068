"""The chain: a request passes each door once, in one synchronous function, and leaves.

    target -> RequestInfo -> authenticate -> authorize -> journal -> tunnel stream

`HandlerChain.admit` walks it for one request. What it admits waits; `HandlerChain.commit`, at the
end of the same loop tick, writes the intent rows of all requests of the tick with one call and only
then lets their heads go to the tunnels. No task, lock or database access on the way. A door that
raises refuses; an unexpected exception is a refusal too.

A request whose head equals that of one that was admitted follows it, as long as the policy, the
credential and the time still say the same (`recurring`): its rows and its tunnel are its own.
"""

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from mk8s_agent.wire.ticks import Ticks
from mk8s_proxy.answers import choose
from mk8s_proxy.audit.rows import texts_of
from mk8s_proxy.authz.messages import forbidden_message, refusal_details
from mk8s_proxy.chain.addresses import Address, Addresses, Route, Router
from mk8s_proxy.chain.anonymous import AnonymousVersion
from mk8s_proxy.chain.departures import LONG_TARGET, Departures, no_tunnel
from mk8s_proxy.chain.impersonation import act, may_act
from mk8s_proxy.chain.long_running import WARNING_SECONDS, LongRunning
from mk8s_proxy.chain.own_health import LIVE, asks_health, tell_health
from mk8s_proxy.chain.ports import AuditLog, Authenticator, Policies, Tunnels
from mk8s_proxy.chain.problem import answer_problem
from mk8s_proxy.identity.access_token import LEEWAY, latest_end
from mk8s_proxy.identity.identity import Identity, Unauthenticated
from mk8s_proxy.kube.request_info import RequestInfo
from mk8s_proxy.kube.request_target import TargetRefusal
from mk8s_proxy.kube.status import (
    StatusError,
    forbidden,
    internal_error,
    not_found,
    service_unavailable,
    status_answer,
    status_error,
)
from mk8s_proxy.kube.upgrades import may_upgrade
from mk8s_proxy.listener.exchange import Exchange, facts_of, refused_tunnel
from mk8s_proxy.listener.recurring import Admission, Recurring
from mk8s_proxy.listener.refusals import HeaderRefusal, no_credential
from mk8s_proxy.tunnel.request_block import request_parts
from mk8s_proxy.tunnel.session import TunnelSession

log = logging.getLogger(__name__)


class HandlerChain:
    """The way of every request to a cluster.

    Args:
        management: takes requests that are for central itself.
    """

    def __init__(
        self,
        *,
        router: Router,
        authenticator: Authenticator,
        policies: Policies,
        journal: AuditLog,
        tunnels: Tunnels,
        management: Callable[[Exchange], None],
        ticks: Ticks,
    ) -> None:
        self._addresses = Addresses(router)
        self._authenticator = authenticator
        self._policies = policies
        self._journal = journal
        self._tunnels = tunnels
        self._management = management
        self._ticks = ticks
        self.departures = Departures(
            journal, tunnels, ticks, self._refuse_waiting, self._keep_in_sight, self._break_off
        )
        """Where what was admitted goes."""
        self.seal = choose.TokenSeal()
        """For the page tokens of filtered lists; `app` gives it the keys that all replicas have."""
        self.health: Callable[[], bool] | None = None
        """Whether central can serve, for balancers, which have no token; None tells nobody."""
        self.anonymous: AnonymousVersion | None = None  # the same
        self.long_running = LongRunning(
            self._why_ended, self._why_ended_by_now, _ends, ticks.call_later
        )
        ticks.before_flush.append(partial(self.departures.commit, at_once=False))

    # -- the walk

    def admit(self, exchange: Exchange) -> None:
        """Walks a request through every door; refuses it at the first that does not open."""
        try:
            self._walk(exchange)
        except (TargetRefusal, HeaderRefusal) as refusal:
            error = status_error(refusal.code, refusal.message)
            self._refuse_with(exchange, error, refusal.reason)
        except Unauthenticated as unknown:
            self._refuse_with(exchange, status_error(unknown.code, unknown.message), unknown.reason)
        except StatusError as error:
            self._refuse_with(exchange, error, error.reason)
        except Exception:
            log.exception("chain.crashed", extra={"audit_id": exchange.entry.audit_id})
            self._refuse_with(exchange, internal_error(), "INTERNAL")

    def _walk(self, exchange: Exchange) -> None:
        recurring = exchange.recurring
        if recurring is not None and recurring.admission is not None:
            if self._holds(recurring.admission):
                self._follow(exchange, recurring.admission)
                return
            recurring.admission = None
        head = exchange.head
        if len(head.target) > LONG_TARGET and exchange.whole is None:
            self.expect_known(head.authorization)
        address = self._addresses.find(head.authority, head.method, head.target)
        route, info = address.route, address.info
        if route.management:
            self._manage(exchange)
            return
        if not head.authorization and self._serve_stranger(exchange, address):
            return
        exchange.prefix = route.prefix
        exchange.info = info
        identity = self._authenticate(exchange, route)
        if head.upgrade and not may_upgrade(head.upgrade, info):
            raise HeaderRefusal("UPGRADE_ROUTE")
        if exchange.whole is not None:
            info = choose.decided_as(exchange, info)
        identity = self._authorize(exchange, identity, info)
        whole = exchange.decision is None or exchange.decision.visibility is None
        if whole or not choose.begin_deletion(exchange, self, self._journal.intent):
            self._leave(exchange, identity, address)

    def _serve_stranger(self, exchange: Exchange, address: Address) -> bool:
        """Answers what needs no credential; whether it is that."""
        if self.health is not None and asks_health(exchange, address):
            tell_health(exchange, address.info.path == LIVE or self.health())
            return True
        if self.anonymous is not None and self.anonymous.asked(exchange, address):
            self.departures.send(exchange, None, self.anonymous.admit(exchange, address))
            return True
        return False

    def expect_known(self, authorization: bytes) -> Identity:
        """Who asks. Of strangers a long target is not even read: it costs more than a refusal."""
        if not authorization:
            raise no_credential()
        return self._authenticator.authenticate(authorization)

    def _manage(self, exchange: Exchange) -> None:
        """Hands on what is for the management API, which itself decides."""
        head = exchange.head
        if head.impersonation:
            raise HeaderRefusal("IMPERSONATION_FROM_CLIENT", head.impersonation[0][0])
        if head.authorization:  # whose connection it is
            with contextlib.suppress(Unauthenticated):
                exchange.identity = self._authenticator.authenticate(head.authorization)
        self._management(exchange)

    def _authenticate(self, exchange: Exchange, route: Route) -> Identity:
        """Who asks, and of which cluster: host, prefix and token must agree."""
        if exchange.whole is not None:
            return self._authenticate_part(exchange, exchange.whole)
        exchange.cluster = route.cluster
        if not exchange.head.authorization:
            raise no_credential()
        identity = self._authenticator.authenticate(exchange.head.authorization)
        exchange.identity = identity
        cluster = route.cluster or identity.cluster
        if not cluster:
            raise not_found(
                "no cluster is addressed: use the host name or path of a cluster, "
                "or a token made for one (mk8s get-token)"
            )
        exchange.entry.parent_audit_id = identity.command
        if identity.cluster:
            identity.require_cluster(cluster, self._policies.current.cluster_id(cluster))
        exchange.cluster = cluster
        return identity

    def _authenticate_part(self, exchange: Exchange, whole: Exchange) -> Identity:
        """Who asked for the whole asks for its parts, as long as that would still be admitted."""
        identity = whole.identity
        assert identity is not None
        identity = self._as_of_now(identity)
        if why := self._why_ended(whole):
            raise forbidden(why)
        return identity

    def _authorize(self, exchange: Exchange, identity: Identity, info: RequestInfo) -> Identity:
        """Whether this may go on; as whom."""
        if not self._policies.fresh(time.monotonic()):
            raise service_unavailable(
                "the policy is too old to decide by: central cannot read its database",
                retry_after=5,
            )
        head, policy = exchange.head, self._policies.current
        if head.impersonation:
            identity = exchange.identity = act(
                policy, identity, head.impersonation, exchange.cluster
            )
        attributes, decision = policy.decide_request(
            identity.user, exchange.cluster, info, bool(head.upgrade), head.content_type,
            identity.groups if identity.original is None else (), identity.narrowing,
        )  # fmt: skip
        exchange.decision = decision
        if decision.allowed:
            exchange.entry.facts = facts_of(exchange, "allow", decision.reason)
            return identity
        message = forbidden_message(identity.user, exchange.cluster, attributes, decision)
        raise forbidden(message, refusal_details(attributes))

    # -- the way out

    def _leave(self, exchange: Exchange, identity: Identity, address: Address) -> None:
        policy = self._policies.current
        between: choose.Between | None = None
        decision = exchange.decision
        if (
            decision is None
            or decision.visibility is not None
            or exchange.head.upgrade
            or (address.info.verb in choose.VERBS_OF_REVIEWS)
        ):
            between = choose.make_interceptor(exchange, policy, self.refuse, self.seal)
        parts = request_parts(exchange, identity, address.path_block)
        exchange.stays_open = bool(exchange.head.upgrade) or address.long_running
        if not exchange.stays_open:  # an open watch holds no row
            texts = texts_of(exchange.entry.facts)
            exchange.entry.texts = texts if texts.short else None
            if between is None and exchange.recurring is not None:
                self._remember(exchange, exchange.recurring, parts)
        self.departures.send(exchange, between, parts)

    def _remember(
        self, exchange: Exchange, recurring: Recurring, parts: tuple[bytes, bytes]
    ) -> None:
        """An equal request may follow this one, unless it acts as somebody else or is a part of a
        command, to which its rows refer."""
        info, identity, decision = exchange.info, exchange.identity, exchange.decision
        texts = exchange.entry.texts
        if not (info and identity and decision and texts) or identity.original or identity.command:
            return
        recurring.admission = Admission(
            info, identity, decision, exchange.prefix, texts, parts,
            self._policies.current.edition, self._authenticator.stamp,
        )  # fmt: skip

    def _holds(self, admission: Admission) -> bool:
        """Whether every door would say the same again.

        What they say of equal heads depends on the policy, on the credential and on the time.
        """
        return (
            admission.policy == self._policies.current.edition
            and self._policies.fresh(time.monotonic())
            and self._authenticator.vouches(admission.identity, admission.credentials)
        )

    def _follow(self, exchange: Exchange, admission: Admission) -> None:
        """Sends on a request that equals one that was admitted."""
        info, identity, decision, prefix, texts, parts, _, _ = admission
        exchange.info = info
        exchange.identity = identity
        exchange.decision = decision
        exchange.prefix = prefix
        exchange.cluster = texts.facts.cluster
        exchange.entry.facts = texts.facts
        exchange.entry.texts = texts
        self.departures.send(exchange, None, parts)

    def commit(self) -> bool:
        """What the end of a tick does: rows first, heads after them.

        Returns:
            Whether the rows were written. Whoever else writes to the journal commits here too:
            a commit elsewhere could lose the row of a request that then left.
        """
        return self.departures.commit()

    def _keep_in_sight(self, exchange: Exchange) -> None:
        """A stream that may stay open for hours is looked at again when something changes."""
        identity = exchange.identity
        assert identity is not None
        token = identity.original or identity
        credentials = tuple({token.token_id, token.login} - {""})
        first = min(token.expires + LEEWAY, _ends(exchange) - WARNING_SECONDS)
        self.long_running.add(exchange, first, credentials)

    def _break_off(self, exchange: Exchange) -> None:
        self.long_running.break_off(exchange)

    def _refuse_waiting(self, exchange: Exchange, written: bool) -> None:
        if written:
            gone = no_tunnel(self._tunnels, exchange.cluster, "the agent has just disconnected")
            self.refuse(exchange, gone)
        else:
            error = service_unavailable("the audit log cannot be written", retry_after=5)
            self._refuse_with(exchange, error, "AUDIT_UNAVAILABLE")

    def _why_ended(self, exchange: Exchange) -> str:
        """Why an open exchange may not go on; "" when it may."""
        identity, info = exchange.identity, exchange.info
        assert identity is not None
        assert info is not None
        try:
            identity = exchange.identity = self._as_of_now(identity)
        except Unauthenticated as error:
            return error.message
        head, policy = exchange.head, self._policies.current
        _, decision = policy.decide_request(
            identity.user, exchange.cluster, info, bool(head.upgrade), head.content_type,
            identity.groups if identity.original is None else (), identity.narrowing,
        )  # fmt: skip
        visibility = decision.visibility
        if identity.original is not None and decision.allowed:
            decision = may_act(policy, identity, exchange.cluster)[1]
        if not decision.allowed:
            return f"no longer allowed: {decision.reason}"
        if exchange.decision is None or exchange.decision.visibility == visibility:
            return ""
        exchange.closing_event = choose.closing_event(exchange)
        return "what the user may see has changed"

    def _as_of_now(self, identity: Identity) -> Identity:
        """Who has something open, as the login is by now: it may have lost groups.

        Raises:
            Unauthenticated: the login has ended, or its user may not go on.
        """
        original = identity.original
        now = self._authenticator.recheck(original or identity)
        if original is None:
            return now
        return identity if now is original else replace(identity, original=now)

    def _why_ended_by_now(self, exchange: Exchange) -> str:
        """The same after some time, when what nobody has told counts, too: a database that cannot
        be read may hold a logout."""
        if not self._policies.fresh(time.monotonic()):
            return "central cannot read its database"
        return self._why_ended(exchange)

    # -- endings

    def refuse(self, exchange: Exchange, error: StatusError) -> None:
        """Answers with a Status after the walk: an agent's or a cluster's failure."""
        if not exchange.entry.facts.reason:
            decision = exchange.entry.facts.decision
            exchange.entry.facts = facts_of(exchange, decision, error.message)
        self._answer(exchange, error)

    def _refuse_with(self, exchange: Exchange, error: StatusError, reason: str) -> None:
        entry = exchange.entry
        entry.facts = facts_of(exchange, "forbid", error.message)
        entry.refusal = reason
        self._answer(exchange, error)

    def _answer(self, exchange: Exchange, error: StatusError) -> None:
        exchange.entry.code = error.code
        if self._addresses.is_management(exchange.head.authority, exchange.head.target):
            answer_problem(exchange, error)
            return
        fields, body = status_answer(error, exchange.head.accept)
        exchange.front.connection.answer(exchange.front, error.code, fields, body)

    def finish(self, exchange: Exchange) -> None:
        """The exchange is over, in whatever way: writes its outcome row, once."""
        if exchange.settled:
            return
        exchange.settled = True
        self.departures.shares.give_back(exchange)
        if exchange.stays_open:
            self.long_running.remove(exchange)
            exchange.entry.lasts = True
        entry = exchange.entry
        entry.bytes_in = exchange.front.received
        entry.bytes_out = exchange.front.sent
        entry.duration = time.monotonic() - entry.began
        self._journal.outcome(entry)
        if not self._ticks.scheduled:
            self._ticks.schedule()

    def tunnel_refused(self, session: TunnelSession, reason: str) -> None:
        """An agent was turned away: that is a row, too."""
        self._journal.outcome(refused_tunnel(session.cluster_id, session.cluster, reason))
        self._ticks.schedule()


def _ends(exchange: Exchange) -> float:
    """When the login behind an open exchange ends."""
    assert exchange.identity is not None
    return latest_end(exchange.identity.original or exchange.identity)
