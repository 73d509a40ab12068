"""The upper bound of a role in the words of a cluster's own RBAC. Called by the management API.

Whatever mk8s lets somebody do in a cluster, RBAC must let them do as well, and no more than it
must: it is what Kubernetes judges by when somebody hands on rights (`powers`). RBAC has fewer words
than roles have. Where it has none, its rule is wider than the role's, mk8s still decides by the
role, and a `Note` says so:

- patterns of namespaces, names, resources and API groups become all of them;
- a list or watch that mk8s narrows to namespaces or names is sent to the cluster whole;
- to RBAC `*` is every resource and every subresource;
- denials, and labels of clusters, have no words at all.

Of `namespaces: [""]` wider would be every namespace. So it is what of Kubernetes's own resources
lives outside of them, and custom ones only where they are named with their API group or by a name
that Kubernetes does not use (`Difference.CUSTOM`).
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Final

from mk8s_proxy.authz.attributes import Attributes
from mk8s_proxy.authz.compile import WORD_OF, CompiledRule
from mk8s_proxy.authz.grammar import HTTP_METHODS, WORDS
from mk8s_proxy.authz.policy import BUILT_IN_ROLES, RuleSpec
from mk8s_proxy.authz.scopes import Kind, Scope, known_resources, scope_of
from mk8s_proxy.authz.visibility import NAMESPACES

_VERBS: Final = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
_ANY: Final = "*"
_WITHOUT_NAME: Final = frozenset({"list", "watch"})
_OBJECT_VERBS: Final = frozenset({"get", "update", "patch", "delete"})
_SUBRESOURCES: Final = ("approval", "finalize", "scale", "status")
"""Of what lives outside namespaces; `nodes/proxy` is granted by name alone."""

Texts = tuple[str, ...]


class Difference(Enum):
    """In what the rules of RBAC differ from a role's, with the sentence that says so."""

    NAMESPACES = "patterns of namespaces ({}): RBAC gives it in all, and outside of them"
    NAMES = "patterns of names ({}): RBAC gives it for all"
    RESOURCES = "patterns of resources ({}): RBAC gives every resource, with its subresources"
    SUBRESOURCES = "{}: to RBAC this is every resource with every subresource that it names"
    LISTS = "lists and watches that mk8s narrows: RBAC gives them for the whole cluster"
    DELETIONS = "mk8s deletes the objects of a part one by one: RBAC gives delete as well"
    SCOPE = "{} may live in namespaces or not: RBAC gives it everywhere"
    CUSTOM = "{}: custom resources outside namespaces are not in it, RBAC must have them by name"
    DENIAL = "denies {}: RBAC has no denials"
    LABELS = "counts by the labels that the cluster has now ({})"
    BUILT_IN = "is built in: RBAC gives everything, bind, escalate and approve included"


@dataclass(frozen=True, slots=True)
class Note:
    """What RBAC says otherwise than a rule."""

    role: str
    rule: str
    """As refusals call it, such as "role developer, rule 2"."""
    difference: Difference
    text: str


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """A rule of RBAC: about resources, or about paths."""

    verbs: Texts
    groups: Texts = ()
    resources: Texts = ()
    names: Texts = ()
    urls: Texts = ()

    def document(self) -> dict[str, Any]:
        """Write it as Kubernetes has it."""
        if self.urls:
            return {"nonResourceURLs": list(self.urls), "verbs": list(self.verbs)}
        written = {"apiGroups": list(self.groups), "resources": list(self.resources)}
        if self.names:
            written["resourceNames"] = list(self.names)
        return {**written, "verbs": list(self.verbs)}


@dataclass(slots=True)
class RoleBound:
    """The upper bound of one role."""

    role: str
    everywhere: list[PolicyRule] = field(default_factory=list)
    """Of a ClusterRole."""
    namespaced: dict[str, list[PolicyRule]] = field(default_factory=dict)
    """Of a Role in each namespace."""
    notes: list[Note] = field(default_factory=list)


def bound_of(
    role: str, rules: Iterable[CompiledRule], scopes: Mapping[Kind, Scope], *, built_in: bool
) -> RoleBound:
    """The upper bound of a role.

    Args:
        role: its name.
        rules: those that count on the cluster.
        scopes: what the cluster says of its resources (`ClusterFacts.scopes_of`).
        built_in: whether it may do everything.
    """
    bound = RoleBound(role)
    if built_in:
        everything = PolicyRule((_ANY,), (_ANY,), (_ANY,))
        bound.everywhere = [everything, PolicyRule((_ANY,), urls=(_ANY,))]
        note = Note(role, f"role {role}", Difference.BUILT_IN, Difference.BUILT_IN.value)
        bound.notes.append(note)
        return bound
    for rule in rules:
        _Translation(rule, bound, scopes).add()
    bound.everywhere = _joined(bound.everywhere)
    bound.namespaced = {place: _joined(one) for place, one in sorted(bound.namespaced.items())}
    return bound


def is_built_in(role: str) -> bool:
    """Whether a role is one that mk8s itself defines."""
    return role in BUILT_IN_ROLES


class _Translation:
    """One rule of a role on its way into RBAC."""

    def __init__(self, rule: CompiledRule, bound: RoleBound, scopes: Mapping[Kind, Scope]) -> None:
        self._rule = rule
        self._bound = bound
        self._scopes = scopes
        self._noted: set[Difference] = set()

    def add(self) -> None:
        """Put what the rule gives into the bound."""
        spec = self._rule.spec
        if spec.labels:
            text = ", ".join(f"{key}={value}" for key, value in spec.labels)
            self._note(Difference.LABELS, text)
        if spec.deny:
            self._note(Difference.DENIAL, _in_short(spec))
            return
        if spec.non_resource_urls and (methods := _methods(spec)):
            self._bound.everywhere.append(PolicyRule(methods, urls=spec.non_resource_urls))
        if spec.resources:
            self._place(spec.namespaces)

    def _note(self, difference: Difference, *what: str) -> None:
        if difference not in self._noted:
            self._noted.add(difference)
            text = difference.value.format(*what)
            label = self._rule.label
            self._bound.notes.append(Note(self._rule.role, label, difference, text))

    # -- where

    def _place(self, namespaces: Texts) -> None:
        patterns = [one for one in namespaces if _ANY in one]
        if patterns:
            if not _holds_everything(patterns):
                self._note(Difference.NAMESPACES, ", ".join(patterns))
            for rule in self._rules():
                self._bound.everywhere += self._named(rule)
            return
        if "" in namespaces:
            for rule in self._outside():
                self._bound.everywhere += self._named(rule)
        named = [one for one in namespaces if one]
        for rule in self._rules() if named else ():
            for namespace in named:
                self._bound.namespaced.setdefault(namespace, []).extend(self._named(rule))
            self._bound.everywhere += self._widened(rule)

    def _widened(self, rule: PolicyRule) -> Iterator[PolicyRule]:
        """What of a rule for namespaces goes to the cluster as a list of all of them."""
        verbs = tuple(verb for verb in rule.verbs if verb in _WITHOUT_NAME)
        (resource,) = rule.resources
        group = rule.groups[0]
        named = _ANY not in (group, resource) and resource != NAMESPACES
        outside = named and self._scope(group, resource) is Scope.CLUSTER
        if verbs and "/" not in resource and not outside:
            self._note(Difference.LISTS)
            yield replace(rule, verbs=verbs)

    def _named(self, rule: PolicyRule) -> Iterator[PolicyRule]:
        """A rule with the names that it is limited to."""
        spec = self._rule.spec
        patterns = [name for name in spec.names if _ANY in name]
        if patterns and not _holds_everything(patterns):
            self._note(Difference.NAMES, ", ".join(patterns))
        if patterns or not spec.names:
            yield rule
            return
        yield replace(rule, names=spec.names)
        verbs = tuple(verb for verb in rule.verbs if verb in _WITHOUT_NAME)
        if verbs and "/" not in rule.resources[0]:
            self._note(Difference.LISTS)
            yield replace(rule, verbs=verbs)

    # -- what

    def _rules(self) -> Iterator[PolicyRule]:
        """What the rule gives in its namespaces: one API group and one resource each."""
        for pattern in self._rule.spec.resources:
            group, resource = self._translated(pattern)
            yield from self._with_verbs(group, resource)
        yield from self._by_words()

    def _with_verbs(self, group: str, resource: str) -> Iterator[PolicyRule]:
        verbs = _verbs(self._rule.spec)
        if verbs:
            yield PolicyRule(self._deleting(resource, verbs), (group,), (resource,))

    def _deleting(self, resource: str, verbs: Texts) -> Texts:
        if "/" in resource or "deletecollection" not in verbs or "delete" in verbs:
            return verbs
        self._note(Difference.DELETIONS)
        return (*verbs, "delete")

    def _by_words(self) -> Iterator[PolicyRule]:
        words = self._rule.spec.verbs
        for (resource, subresource), word in WORD_OF.items():
            if word not in words and _ANY not in words:
                continue
            asked = (Attributes(v, "", resource, subresource) for v in _VERBS if v in WORDS[word])
            verbs = tuple(
                one.verb for one in asked if one.verb in WORDS[word] and self._permits(one)
            )
            if verbs:
                yield PolicyRule(verbs, ("",), (f"{resource}/{subresource}",))

    def _permits(self, asked: Attributes) -> bool:
        return self._rule.permits(asked)

    def _translated(self, pattern: str) -> tuple[str, str]:
        """API group and resource as RBAC says them."""
        parent, slash, subresource = pattern.partition("/")
        resource, dot, group = parent.partition(".")
        group = group if dot else _ANY
        everything = set(resource) == {_ANY}
        if _ANY in group and set(group) != {_ANY}:
            self._note(Difference.RESOURCES, pattern)
            group = _ANY
        if _ANY in group:
            group = _ANY
        if _ANY not in resource + subresource:
            return group, parent.partition(".")[0] + slash + subresource
        if everything and (not subresource or _ANY not in subresource):
            self._note(Difference.SUBRESOURCES, pattern)
            return group, f"{_ANY}/{subresource}" if subresource else _ANY
        if everything and set(subresource) == {_ANY}:
            self._note(Difference.SUBRESOURCES, pattern)
            return group, _ANY
        self._note(Difference.RESOURCES, pattern)
        return group, f"{_ANY}/{subresource}" if subresource and _ANY not in subresource else _ANY

    # -- outside namespaces

    def _outside(self) -> Iterator[PolicyRule]:
        """What the rule gives outside namespaces: the kinds of which that is known."""
        for pattern in self._rule.spec.resources:
            parent = pattern.partition("/")[0]
            resource, dot, group = parent.partition(".")
            scope = self._scope(group if dot else _ANY, resource)
            if _ANY in parent or (scope is Scope.NAMESPACED and not dot):
                self._note(Difference.CUSTOM, pattern)
            elif scope is Scope.UNKNOWN:
                self._note(Difference.SCOPE, parent)
                yield from self._with_verbs(*self._translated(pattern))
        for kind, below in itertools.product(self._kinds(), self._subresources()):
            yield from self._outside_kind(*kind, below)

    def _subresources(self) -> list[str]:
        """The subresources that the rule may be about; the empty one is the resource itself."""
        named = {pattern.partition("/")[2] for pattern in self._rule.spec.resources}
        known = _SUBRESOURCES if any(_ANY in one for one in named) else ()
        return sorted({"", *known, *(one for one in named if _ANY not in one)})

    def _outside_kind(self, group: str, resource: str, subresource: str) -> Iterator[PolicyRule]:
        asked = (Attributes(verb, group, resource, subresource) for verb in _VERBS)
        own = (group, resource) == ("", NAMESPACES)  # each belongs to itself
        kept = [one.verb for one in asked if self._rule.permits(one)]
        verbs = tuple(verb for verb in kept if not (own and verb in _OBJECT_VERBS))
        text = f"{resource}/{subresource}" if subresource else resource
        if verbs and not (own and subresource):
            yield PolicyRule(self._deleting(text, verbs), (group,), (text,))

    def _kinds(self) -> Iterator[Kind]:
        known = dict.fromkeys(known_resources(_ANY)) | dict.fromkeys(self._scopes)
        return (kind for kind in known if self._scope(*kind) is Scope.CLUSTER)

    def _scope(self, group: str, resource: str) -> Scope:
        if group != _ANY:
            return self._scopes.get((group, resource)) or scope_of(group, resource)
        scopes = {
            self._scope(*kind)
            for kind in (*known_resources(_ANY), *self._scopes)
            if kind[1] == resource
        }
        return scopes.pop() if len(scopes) == 1 else Scope.UNKNOWN


def _holds_everything(patterns: Iterable[str]) -> bool:
    return any(set(pattern) == {_ANY} for pattern in patterns)


def _verbs(spec: RuleSpec) -> Texts:
    return tuple(verb for verb in _VERBS if verb in spec.verbs or _ANY in spec.verbs)


def _methods(spec: RuleSpec) -> Texts:
    methods = HTTP_METHODS if _ANY in spec.verbs else HTTP_METHODS.intersection(spec.verbs)
    return tuple(sorted(methods | ({"head"} if "get" in methods else frozenset())))


def _in_short(spec: RuleSpec) -> str:
    what = ",".join((*spec.resources, *spec.non_resource_urls)) or "acting as others"
    where = f" in {','.join(one or repr('') for one in spec.namespaces)}" if spec.namespaces else ""
    names = f" named {','.join(spec.names)}" if spec.names else ""
    return f"{','.join(spec.verbs) or 'impersonate'} on {what}{names}{where}"


def _joined(rules: Iterable[PolicyRule]) -> list[PolicyRule]:
    """Rules that differ in the resource alone become one, and so those that do in the group."""
    by_resource: dict[PolicyRule, dict[str, None]] = {}
    for rule in rules:
        key = replace(rule, resources=())
        by_resource.setdefault(key, {}).update(dict.fromkeys(rule.resources))
    by_group: dict[PolicyRule, dict[str, None]] = {}
    for key, resources in by_resource.items():
        whole = replace(key, groups=(), resources=tuple(resources))
        by_group.setdefault(whole, {}).update(dict.fromkeys(key.groups))
    return [replace(key, groups=tuple(groups)) for key, groups in by_group.items()]


__all__ = ["Difference", "Note", "PolicyRule", "RoleBound", "bound_of", "is_built_in"]
