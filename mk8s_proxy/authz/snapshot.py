"""The whole policy at one moment. Made by the policy feed, asked by the handler chain.

A snapshot never changes; its caches only remember what it would say again. Roles are compiled when
it is made, which may take a while and may happen in another thread; what a user may do on a
cluster is put together when first asked.
"""

import logging
from collections.abc import Hashable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from mk8s_agent.wire.memory import Memory
from mk8s_proxy.authz.access import Access, RuleSet
from mk8s_proxy.authz.attributes import Attributes, Decision, is_apply, required_attributes
from mk8s_proxy.authz.cluster_facts import Bounds, ClusterFacts
from mk8s_proxy.authz.compile import ClusterSelector, CompiledRule, Globs, compile_globs
from mk8s_proxy.authz.narrowing import NarrowedAccess, compiled_narrowing
from mk8s_proxy.authz.policy import PolicyError, PolicySource, RoleSpec, RuleSpec
from mk8s_proxy.authz.role_limits import NOTHING, RoleLimits
from mk8s_proxy.authz.scopes import Kind, Scope
from mk8s_proxy.kube.request_info import RequestInfo

_LOGGER = logging.getLogger(__name__)

_ACCESS_BYTES: Final = 1024
_RULE_BYTES: Final = 64
"""What an access holds, and for each rule set of its own."""
_DECISION_BYTES: Final = 1536
"""What an answer holds beside its texts: question, reason and key."""

_NEVER_TOLD: Final = ("system:", "mk8s:")
"""Whatever the settings list: to Kubernetes and to us these mean rights."""

_UNREADABLE: Final = Decision(reason="what this delegation may do is not understood here")
"""A newer central wrote it, or it was damaged: that is not worth a traceback for each request."""
_FAILED: Final = Decision(reason="the policy could not be evaluated: the log of central tells more")

Answer = tuple[Attributes, Decision]
"""What decided a request: one of its questions, and the answer to it."""


class PolicySnapshot:
    """An immutable policy; only what clusters say of themselves (`facts`) may change.

    Attributes:
        version: the version of the database that it was made from; 0 if unknown.
    """

    def __init__(
        self,
        source: PolicySource,
        version: int = 0,
        cluster_ids: Mapping[str, str] = MappingProxyType({}),
        facts: ClusterFacts | None = None,
    ) -> None:
        self.version = version
        self._facts = ClusterFacts() if facts is None else facts
        self._stamp = self._facts.stamp
        self._cluster_ids = dict(cluster_ids)
        self._clusters = {name: dict(labels) for name, labels in source.clusters.items()}
        self._user_roles = {user.lower(): tuple(roles) for user, roles in source.user_roles.items()}
        self._only: dict[str, Globs] = {
            user.lower(): compile_globs(globs) for user, globs in source.user_clusters.items()
        }
        """Of those whose roles count on some clusters only."""
        self._group_roles = dict(source.group_roles)
        self._told = compile_globs(source.told_groups)
        shut = source.locked_clusters.items()
        self._locked = {name: Decision(reason=told) for name, told in shut}
        """What those with a right on a cluster are told of its lock; others learn of none."""
        self._locked_roles = dict(source.locked_roles)
        self._selectors: dict[tuple[Any, ...], int] = {}
        self._selector_rules: list[ClusterSelector] = []
        self._roles = {role.name: self._compile(role) for role in source.roles}
        self._limits = {role.name: role.limits for role in source.roles if role.limits}
        self._limits |= dict.fromkeys(self._locked_roles, NOTHING)
        self._selected: dict[str, frozenset[int]] = {}
        self._by_roles: Memory[tuple[Hashable, ...], Access] = Memory(65536, 64 << 20)
        # By roles, not by user, so one token holds none. Buys 13 % of a request with a known target
        # (compiled 15 %). What is behind it is made for each of them: see `bench_policy`.
        self._answers: Memory[tuple[Hashable, ...], Answer] = Memory(8192, 32 << 20)
        self._narrowed: Memory[tuple[int, str], NarrowedAccess] = Memory(8192, 16 << 20)
        """Of delegations, by what their owner may do on a cluster and their narrowing."""
        self._made = 0

    def decide(
        self,
        user: str,
        groups: tuple[str, ...],
        cluster: str,
        attributes: Attributes,
        narrowing: str = "",
    ) -> Decision:
        """Decide one question. Never raises: whatever goes wrong here is a refusal.

        Args:
            user: the email.
            groups: those of the login.
            cluster: the name of the cluster.
            attributes: the question.
            narrowing: that of the identity's login.
        """
        try:
            access = self.access_of(user, groups, cluster, narrowing)
            if self._locked and cluster in self._locked and access.any_grant:
                return self._locked[cluster]
            return access.decide(attributes)
        except Exception as error:  # noqa: BLE001  logged by `_failed`
            return _failed(cluster, error)

    @property
    def edition(self) -> tuple[int, int]:
        """What a decision depends on: the version, and what clusters have said of themselves."""
        return self.version, self._facts.stamp

    def _follow_facts(self) -> None:
        """Decide anew what was decided before a cluster said something."""
        self._stamp = self._facts.stamp
        self._by_roles.clear()
        self._answers.clear()
        self._narrowed.clear()

    def cluster_id(self, name: str) -> str:
        """The id of the cluster that a name means in this policy; "" when it is not known."""
        return self._cluster_ids.get(name, "")

    def decide_request(
        self, user: str, cluster: str, info: RequestInfo, upgrade: bool, content_type: bytes,
        groups: tuple[str, ...] = (), narrowing: str = "",
    ) -> Answer:  # fmt: skip
        """The first denied of all questions that a request asks, or the last allowed one.

        But one that allows a part only stands, whatever else is allowed as a whole. Never raises:
        whatever goes wrong here is a refusal.

        Args:
            user: the email.
            cluster: the name of the cluster.
            info: what is asked.
            upgrade: whether it asks to upgrade the connection.
            content_type: the Content-Type header, empty if none.
            groups: those of the login; the one of everybody alone is as good as none.
            narrowing: that of the identity's login, empty for all but delegations.
        """
        try:
            if self._stamp != self._facts.stamp:
                self._follow_facts()
            if self._only:
                roles = self._roles_on(user, cluster)
            else:
                roles = self._user_roles.get(user.lower(), ())
            access: Access | NarrowedAccess
            if len(groups) > 1:  # the first is the one of everybody
                access = self._access(user, cluster, groups)
            else:
                key = (roles, cluster)
                access = self._by_roles.find(key) or self._make_access(roles, cluster)
            if narrowing:
                access = self._narrow(access, cluster, narrowing)
            if self._locked and cluster in self._locked and access.any_grant:
                first = required_attributes(info, upgrade, content_type)[0]
                return first, self._locked[cluster]
            applies = info.verb == "patch" and is_apply(content_type)
            asked = (  # equal ones ask equal questions
                access.number, info.is_resource_request, info.verb, info.api_group, info.resource,
                info.subresource, info.namespace,
                info.name if info.is_resource_request else info.path, upgrade, applies,
            )  # fmt: skip
            return self._answers.find(asked) or self._answer(
                asked, access, required_attributes(info, upgrade, content_type)
            )
        except Exception as error:  # noqa: BLE001  logged by `_failed`
            return Attributes(info.verb), _failed(cluster, error)

    def access_of(
        self, user: str, groups: tuple[str, ...], cluster: str, narrowing: str = ""
    ) -> Access | NarrowedAccess:
        """What the user may do on the cluster, for questions wider than one request.

        Raises:
            PolicyError: the narrowing cannot be understood.
        """
        if self._stamp != self._facts.stamp:
            self._follow_facts()
        access = self._access(user, cluster, groups)
        return self._narrow(access, cluster, narrowing) if narrowing else access

    def bounds_of(self, cluster: str) -> Bounds:
        """What people may do in the cluster by its own word."""
        return self._facts.bounds_of(cluster)

    def scopes_of(self, cluster: str) -> Mapping[Kind, Scope]:
        """What the cluster says of its resources, where the list says otherwise."""
        return self._facts.scopes_of(cluster)

    @property
    def groups_to_tell(self) -> tuple[str, ...]:
        """The groups that are known here and that clusters may know, too."""
        return tuple(group for group in sorted(self._group_roles) if self._is_told(group))

    def rules_on(self, cluster: str) -> dict[str, tuple[CompiledRule, ...]]:
        """The rules of each role that gives something on the cluster, denials included."""
        selected = self._selected_by(cluster)
        found = {}
        for role, by_selector in self._roles.items():
            sets = [rules for number, rules in by_selector.items() if number in selected]
            if any(one.allow.rules for one in sets):
                found[role] = tuple(rule for one in sets for rule in one.rules)
        return found

    def clusters_of(
        self, user: str, groups: tuple[str, ...], narrowing: str = ""
    ) -> frozenset[str]:
        """Tell on which clusters the user has any role that allows something."""
        return frozenset(
            name
            for name in self._clusters
            if self.access_of(user, groups, name, narrowing).any_grant
        )

    def permissions_of(
        self, user: str, groups: tuple[str, ...], cluster: str, narrowing: str = ""
    ) -> list[dict[str, Any]]:
        """List the user's rules on the cluster, as written, each with its `role` and `rule`.

        Of a delegation those of its narrowing: what its owner may not do is not taken off.
        """
        access = self.access_of(user, groups, cluster, narrowing)
        rules = [rule for one in access.layers[-1].sets for rule in one.rules]
        return [{"role": rule.role, "rule": rule.label, **rule.spec.document()} for rule in rules]

    def roles_of(self, user: str) -> tuple[str, ...]:
        """Name the user's roles."""
        return self._user_roles.get(user.lower(), ())

    def limits_of(
        self, user: str, cluster: str, streams: int, buffered: int, groups: tuple[str, ...] = ()
    ) -> tuple[int, int]:
        """What the user may have open on the cluster: the largest that their roles there allow.

        Args:
            user: the email.
            cluster: the name of the cluster.
            streams: requests, where a role says nothing.
            buffered: bytes that wait, where a role says nothing.
            groups: those of the login.
        """
        if not self._limits:
            return streams, buffered
        selected = self._selected_by(cluster)
        default = RoleLimits(streams, buffered)
        found = [
            self._limits.get(role, default)
            for role in self._roles_with(user, cluster, groups)
            if not selected.isdisjoint(self._roles.get(role, ()))
        ] or [default]
        return (
            max(streams if one.streams is None else one.streams for one in found),
            max(buffered if one.buffered is None else one.buffered for one in found),
        )

    def _compile(self, role: RoleSpec) -> dict[int, RuleSet]:
        """Compile a role into the rule sets of the clusters that its rules select; of one that is
        locked, only what it denies."""
        by_selector: dict[int, list[CompiledRule]] = {}
        for number, rule in enumerate(role.rules, start=1):
            if role.name in self._locked_roles and not rule.deny:
                continue
            compiled = CompiledRule(role.name, number, rule)
            by_selector.setdefault(self._selector(rule), []).append(compiled)
        return {selector: RuleSet(rules) for selector, rules in by_selector.items()}

    def _selector(self, rule: RuleSpec) -> int:
        """Number the cluster selector of a rule; many rules share one."""
        key = (rule.cluster, rule.labels)
        number = self._selectors.setdefault(key, len(self._selector_rules))
        if number == len(self._selector_rules):
            self._selector_rules.append(ClusterSelector(rule))
        return number

    def _answer(
        self,
        asked: tuple[Hashable, ...],
        access: Access | NarrowedAccess,
        questions: tuple[Attributes, ...],
    ) -> Answer:
        answer: Answer | None = None
        for attributes in questions:
            decision = access.decide(attributes)
            if answer is None or answer[1].visibility is None or not decision.allowed:
                answer = (attributes, decision)
            if not decision.allowed:
                break
        assert answer is not None
        if access.groups and answer[1].allowed:
            answer = (answer[0], replace(answer[1], groups=access.groups))
        if self._locked_roles and not answer[1].allowed and not answer[1].rule:
            answer = (answer[0], self._with_locks(access, answer[1]))
        texts = len(answer[0].name) + len(answer[0].path) + len(answer[1].reason)
        self._answers.keep(asked, answer, _DECISION_BYTES + 4 * texts)
        return answer

    def _with_locks(self, access: Access | NarrowedAccess, refusal: Decision) -> Decision:
        """A refusal for want of a rule, with what a locked role could have to do with it."""
        for role in access.layers[0].roles:  # of a delegation those of its owner
            if told := self._locked_roles.get(role):
                return replace(refusal, reason=f'{refusal.reason}; the role "{role}" is {told}')
        return refusal

    def _roles_on(self, user: str, cluster: str) -> tuple[str, ...]:
        """The roles of a user that count on a cluster."""
        name = user.lower()
        roles = self._user_roles.get(name, ())
        if roles and self._only and name in self._only and not self._only[name].matches(cluster):
            return ()
        return roles

    def _roles_with(self, user: str, cluster: str, groups: tuple[str, ...]) -> tuple[str, ...]:
        """The same with those that the groups of a login give."""
        roles = self._roles_on(user, cluster)
        given = {role for group in groups for role in self._group_roles.get(group, ())}
        return tuple(sorted(given.union(roles))) if given else roles

    def _access(self, user: str, cluster: str, groups: tuple[str, ...]) -> Access:
        roles = self._roles_with(user, cluster, groups)
        told = tuple(group for group in groups if self._is_told(group))
        key = (roles, cluster, *told) if told else (roles, cluster)
        return self._by_roles.find(key) or self._make_access(roles, cluster, told)

    def _is_told(self, group: str) -> bool:
        """Whether clusters may know who asks by this group."""
        return self._told.matches(group) and not group.casefold().startswith(_NEVER_TOLD)

    def _make_access(
        self, roles: tuple[str, ...], cluster: str, told: tuple[str, ...] = ()
    ) -> Access:
        selected = self._selected_by(cluster)
        sets = tuple(
            rules
            for role in roles
            for selector, rules in self._roles.get(role, {}).items()
            if selector in selected
        )
        self._made += 1
        facts = self._facts
        scopes, bounds = facts.scopes_of(cluster), facts.bounds_of(cluster)
        access = Access(self._made, roles, sets, scopes, bounds, told)
        rules = sum(len(one.allow.rules) + len(one.deny.rules) for one in sets)
        size = _ACCESS_BYTES + _RULE_BYTES * rules + 2 * sum(map(len, access.groups))
        self._by_roles.keep((roles, cluster, *told) if told else (roles, cluster), access, size)
        return access

    def _narrow(self, owner: Access, cluster: str, narrowing: str) -> NarrowedAccess:
        """What a delegation of somebody may do on the cluster."""
        known = self._narrowed.find((owner.number, narrowing))
        if known is None:
            compiled = compiled_narrowing(narrowing)
            self._made += 1
            scopes = self._facts.scopes_of(cluster)
            known = NarrowedAccess(self._made, owner, compiled, cluster, scopes)
            size = _ACCESS_BYTES + 2 * len(narrowing) + compiled.size
            self._narrowed.keep((owner.number, narrowing), known, size)
        return known

    def _selected_by(self, cluster: str) -> frozenset[int]:
        """Number the selectors that select the cluster; an unknown cluster has none."""
        selected = self._selected.get(cluster)
        if selected is None:
            labels = self._clusters.get(cluster)
            if labels is None:
                return frozenset()
            rules = enumerate(self._selector_rules)
            selected = frozenset(n for n, selector in rules if selector.matches(cluster, labels))
            self._selected[cluster] = selected
        return selected


def _failed(cluster: str, error: Exception) -> Decision:
    """The refusal of what could not be decided."""
    if isinstance(error, PolicyError):
        return _UNREADABLE
    _LOGGER.error("the policy failed on a decision about cluster %r", cluster, exc_info=error)
    return _FAILED
