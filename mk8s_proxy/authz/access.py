"""What a set of roles allows on one cluster, and the index over its rules. Called by `snapshot`."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain, islice
from typing import Final, TypeVar

from mk8s_proxy.authz.attributes import Attributes, Decision
from mk8s_proxy.authz.cluster_facts import UNTOLD, Bounds
from mk8s_proxy.authz.compile import (
    COLLECTION_VERBS,
    EXACT,
    PREFIX,
    SUFFIX,
    CompiledRule,
    IndexKey,
)
from mk8s_proxy.authz.powers import WRITES, gives_away
from mk8s_proxy.authz.role_groups import group_of, too_many
from mk8s_proxy.authz.scopes import NOTHING_ELSE, Kind, Scope
from mk8s_proxy.authz.visibility import NAMESPACES, CollectionVisibility

_MANY_INDEXES: Final = 64
"""More indexes than this are merged into one, which takes milliseconds, once."""

_A_PART: Final = "allows it only for a part of these objects, and to find those you must list them"
"""The API server deletes a collection as a whole: of a part, central deletes each object."""

_HINT_RULES: Final = 256
"""Rules looked at for a hint in a refusal."""

DISCOVERY_PATHS: Final = frozenset(
    {"/", "/api", "/api/", "/apis", "/apis/", "/version", "/version/", "/healthz", "/livez",
     "/readyz"}
)  # fmt: skip
DISCOVERY_PREFIXES: Final = ("/api/", "/apis/", "/openapi/")
DISCOVERY_ROOTS: Final = frozenset({"/api", "/api/", "/apis", "/apis/"})
SELF_REVIEWS: Final = frozenset(
    {
        ("authorization.k8s.io", "selfsubjectaccessreviews"),
        ("authorization.k8s.io", "selfsubjectrulesreviews"),
        ("authentication.k8s.io", "selfsubjectreviews"),
    }
)


_Key = TypeVar("_Key")


class RuleIndex:
    """Rules of one kind, grants or denials, found by resource and namespace."""

    __slots__ = (
        "buckets",
        "by_resource",
        "impersonations",
        "path_rules",
        "prefix_lengths",
        "rules",
        "suffix_lengths",
    )  # fmt: skip

    def __init__(self, rules: Iterable[CompiledRule]) -> None:
        self.rules = tuple(rules)
        self.path_rules = tuple(rule for rule in self.rules if rule.spec.non_resource_urls)
        self.impersonations = tuple(rule for rule in self.rules if rule.impersonates)
        self.buckets: dict[IndexKey, list[CompiledRule]] = {}
        self.by_resource: dict[str | None, list[CompiledRule]] = {}
        for rule in self.rules:
            for resource in rule.resources.names:
                self.by_resource.setdefault(resource, []).append(rule)
            for key in rule.keys:
                self.buckets.setdefault(key, []).append(rule)
        self.prefix_lengths = self._lengths(PREFIX)
        self.suffix_lengths = self._lengths(SUFFIX)

    @classmethod
    def merge(cls, indexes: Iterable["RuleIndex"]) -> "RuleIndex":
        """Make one index of many: asking one of 10,000 rules beats asking 500 of 20 each."""
        merged = cls(())
        indexes = tuple(indexes)
        for index in indexes:
            _extend(merged.buckets, index.buckets)
            _extend(merged.by_resource, index.by_resource)
        merged.rules = tuple(chain.from_iterable(index.rules for index in indexes))
        merged.path_rules = tuple(chain.from_iterable(index.path_rules for index in indexes))
        merged.impersonations = tuple(
            chain.from_iterable(index.impersonations for index in indexes)
        )
        merged.prefix_lengths = frozenset().union(*(one.prefix_lengths for one in indexes))
        merged.suffix_lengths = frozenset().union(*(one.suffix_lengths for one in indexes))
        return merged

    def _lengths(self, kind: int) -> frozenset[int]:
        return frozenset(len(text) for _, text, other in self.buckets if other == kind)

    def find(self, wanted: Attributes) -> CompiledRule | None:
        """The first grant that allows the request, or the first denial that reaches it."""
        if not wanted.is_resource_request:
            return next((rule for rule in self.path_rules if rule.matches_path(wanted)), None)
        if wanted.verb == "impersonate":
            acting = (rule for rule in self.impersonations if rule.matches_impersonation(wanted))
            return next(acting, None)
        for rule in self.near(wanted.resource, wanted.namespace):
            if rule.denies(wanted) if rule.spec.deny else rule.grants(wanted):
                return rule
        return None

    def near(self, resource: str, namespace: str) -> Iterable[CompiledRule]:
        """The rules that may be about this resource in this namespace, some of them twice."""
        keys: list[IndexKey] = []
        for name in (resource, None):
            keys.append((name, namespace, EXACT))
            keys += [(name, namespace[:length], PREFIX) for length in self.prefix_lengths]
            keys += [(name, namespace[-length:], SUFFIX) for length in self.suffix_lengths]
        return chain.from_iterable([self.buckets[key] for key in keys if key in self.buckets])

    def about(self, resource: str) -> Iterator[CompiledRule]:
        """The rules that may be about this resource in any namespace."""
        return chain(self.by_resource.get(resource, ()), self.by_resource.get(None, ()))


def _extend(known: dict[_Key, list[CompiledRule]], more: Mapping[_Key, list[CompiledRule]]) -> None:
    for key, rules in more.items():
        if (found := known.get(key)) is None:
            known[key] = rules.copy()
        else:
            found.extend(rules)


class RuleSet:
    """Grants and denials that apply to the same clusters."""

    __slots__ = ("allow", "deny")

    def __init__(self, rules: Iterable[CompiledRule]) -> None:
        rules = tuple(rules)
        self.allow = RuleIndex(rule for rule in rules if not rule.spec.deny)
        self.deny = RuleIndex(rule for rule in rules if rule.spec.deny)

    @property
    def rules(self) -> Iterator[CompiledRule]:
        """Every rule."""
        return chain(self.allow.rules, self.deny.rules)


class Access:
    """What a set of roles allows on one cluster."""

    __slots__ = (
        "_allows", "_denies", "_scopes", "_too_many", "groups", "number", "roles", "sets",
        "unbounded",
    )  # fmt: skip

    def __init__(
        self,
        number: int,
        roles: tuple[str, ...],
        sets: tuple[RuleSet, ...],
        scopes: Mapping[Kind, Scope] = NOTHING_ELSE,
        bounds: Bounds = UNTOLD,
        told: tuple[str, ...] = (),
    ) -> None:
        self._scopes = scopes
        self.number = number
        self.roles = roles
        self.sets = sets
        self._allows = _few(one.allow for one in sets if one.allow.rules)
        self._denies = _few(one.deny for one in sets if one.deny.rules)
        granting = dict.fromkeys(one.allow.rules[0].role for one in sets if one.allow.rules)
        self.groups = (*filter(bounds.takes, map(group_of, granting)), *filter(bounds.takes, told))
        """Those of the roles that count on the cluster, and of the login those that it may know."""
        self._too_many = too_many(self.groups)
        self.unbounded = bounds.unbounded
        """Whether the cluster's own RBAC holds nobody back."""

    def with_scope(self, wanted: Attributes) -> Attributes:
        """The question with what the cluster says of its resource."""
        if not wanted.is_resource_request:
            return wanted
        scope = self._scopes.get((wanted.api_group, wanted.resource))
        return wanted if scope is None else replace(wanted, scope=scope)

    def with_guard(self, wanted: Attributes) -> Attributes:
        """The question, marked where it may give away this cluster."""
        return replace(wanted, guarded=True) if self.unbounded and gives_away(wanted) else wanted

    @property
    def layers(self) -> "tuple[Access, ...]":
        """All that must allow it (`narrowing.NarrowedAccess` has two)."""
        return (self,)

    @property
    def any_grant(self) -> bool:
        """Whether some role gives something on this cluster; a denial alone is no access."""
        return bool(self._allows)

    def decide(self, wanted: Attributes) -> Decision:
        """Decide without a cache."""
        if self._too_many:
            return Decision(False, self._too_many)
        if self._scopes:
            wanted = self.with_scope(wanted)
        if self.unbounded and wanted.verb in WRITES:
            wanted = self.with_guard(wanted)
        in_resources = wanted.is_resource_request and not wanted.subresource
        if in_resources and wanted.verb in COLLECTION_VERBS:
            return self._decide_collection(wanted)
        if rule := self._find(self._denies, wanted):
            return _denied(rule)
        if rule := self._find(self._allows, wanted):
            return Decision(True, f"allowed by {rule.label}", rule.label)
        return self._decide_otherwise(wanted)

    def _decide_otherwise(self, wanted: Attributes) -> Decision:
        if not self._allows:
            return Decision(False, f"no role covers this cluster ({self.role_names()})")
        if opening := _open_to_all(wanted):
            return Decision(True, f"{opening} is open to every role", opening)
        return Decision(False, self._refusal(wanted))

    def _decide_collection(self, wanted: Attributes) -> Decision:
        """A collection may be allowed as a whole, in part, or not at all."""
        placed = wanted
        if wanted.resource == NAMESPACES and wanted.name and not wanted.namespace:
            placed = replace(wanted, namespace=wanted.name)  # the object of its own namespace
        about = [index.near(placed.resource, placed.namespace) for index in self._denies]
        limit = None
        for limit in [rule for rules in about for rule in rules if rule.denies(placed)]:
            if limit.denies_all(placed):
                return _denied(limit)
        rule = self._find(self._allows, wanted) or self._find(self._allows, placed)
        if rule and not limit:
            return Decision(True, f"allowed by {rule.label}", rule.label)
        visibility = self._visibility(wanted)
        if visibility is None:
            return self._decide_otherwise(wanted)
        rule = rule or visibility.first
        if wanted.verb == "deletecollection":
            listing = self.decide(replace(wanted, verb="list"))
            if not listing.allowed:
                return Decision(False, f"{rule.label}, {_A_PART}: {listing.reason}")
        what = f"but for what {limit.label}, denies" if limit else "for the objects it covers"
        return Decision(True, f"allowed by {rule.label}, {what}", rule.label, visibility)

    def _visibility(self, wanted: Attributes) -> CollectionVisibility | None:
        """What of a collection is visible; None when no rule grants anything of it."""
        resource = wanted.resource
        allows = chain.from_iterable(index.about(resource) for index in self._allows)
        grants = tuple(rule for rule in allows if rule.grants_some(wanted))
        if not grants:
            return None
        denies = chain.from_iterable(index.about(resource) for index in self._denies)
        denials = tuple(rule for rule in denies if rule.forbids(wanted))
        return CollectionVisibility(wanted, grants, denials)

    def _find(self, indexes: tuple[RuleIndex, ...], wanted: Attributes) -> CompiledRule | None:
        for index in indexes:
            if rule := index.find(wanted):
                return rule
        return None

    def _refusal(self, wanted: Attributes) -> str:
        """Say why nothing allows it, and what would be allowed instead if that is known."""
        nothing = f"no role allows it ({self.role_names()})"
        if wanted.guarded and (why := self._why_guarded(wanted)):
            return why
        if wanted.name or not wanted.is_resource_request:
            return nothing
        about = chain.from_iterable(index.about(wanted.resource) for index in self._allows)
        limits = (rule for rule in islice(about, _HINT_RULES) if rule.permits(wanted))
        rule = next(limits, None)
        return nothing if rule is None else _hint(rule, wanted) or nothing

    def _why_guarded(self, wanted: Attributes) -> str:
        """Which rule would do where the cluster's own RBAC holds people back; "" for none."""
        plain = replace(wanted, guarded=False)
        about = chain.from_iterable(index.about(wanted.resource) for index in self._allows)
        rule = next((rule for rule in islice(about, _HINT_RULES) if rule.grants(plain)), None)
        if rule is None:
            return ""
        below = f"/{wanted.subresource}" if wanted.subresource else ""
        return (
            f"{rule.label}, does not name the API group, and this can give away the whole cluster, "
            "whose own RBAC holds back nobody who has the group mk8s:users: a rule must say "
            f'"{wanted.resource}.{wanted.api_group}{below}"'
        )

    def role_names(self) -> str:
        """The roles, for a refusal."""
        if not self.roles:
            return "the user has no roles"
        more = f" and {len(self.roles) - 10} more" if len(self.roles) > 10 else ""
        return f"roles: {', '.join(self.roles[:10])}{more}"


def _denied(rule: CompiledRule) -> Decision:
    return Decision(False, f"{rule.label}, denies it", rule.label)


def _hint(rule: CompiledRule, wanted: Attributes) -> str:
    """What a rule that does not reach far enough allows; "" where naming something is no help."""
    if not rule.covers_namespace(wanted.namespace):
        namespaces = ", ".join(one for one in rule.spec.namespaces if one)
        if not namespaces or wanted.place is Scope.CLUSTER:
            return ""
        return f"{rule.label}, allows it only in the namespaces {namespaces}: name one with -n"
    names = ", ".join(rule.spec.names)
    if not names:
        return ""
    if wanted.verb == "create":
        return f"{rule.label}, is about the objects {names}, and a new one has no name here yet"
    return f"{rule.label}, allows it only for the objects {names}: name one"


def _few(indexes: Iterable[RuleIndex]) -> tuple[RuleIndex, ...]:
    indexes = tuple(indexes)
    return (RuleIndex.merge(indexes),) if len(indexes) > _MANY_INDEXES else indexes


def _open_to_all(wanted: Attributes) -> str:
    """Name the opening that lets everyone with a role through, "" if there is none."""
    if wanted.is_resource_request:
        kind = (wanted.api_group, wanted.resource)
        asks = wanted.verb == "create" and not (wanted.subresource or wanted.namespace)
        return "self review" if asks and kind in SELF_REVIEWS else ""
    path = wanted.path
    known = path in DISCOVERY_PATHS or path.startswith(DISCOVERY_PREFIXES)
    if known and wanted.verb in ("get", "head"):
        return "discovery"
    # The API server answers 405 itself: a client that tries sees the same as without mk8s.
    return "discovery" if wanted.verb == "post" and path in DISCOVERY_ROOTS else ""
