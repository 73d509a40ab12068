"""What may I? The rules of a cluster, narrowed to what mk8s's policy allows as well.

Called by `mk8s_proxy.answers.reviews` for a SelfSubjectRulesReview. `Narrowing` takes the cluster's
rules one by one and gives what of them mk8s allows, in Kubernetes's words: it looks for the
resources and names that both sides may mean, and asks `access_review` about each, so the list says
what `kubectl auth can-i` would. The words `logs`, `exec`, `portforward` and `proxy` become
subresources, globs the names that the cluster's rule spells out.

Where mk8s allows a verb on everything there is (the built-in role `admin` does), what the cluster
says about it stands as it is, `*` included.

What has no words in Kubernetes is left out and sets `incomplete`: a glob where the cluster's rule
has `*`, or a denial of a part of what a rule for all resources or names would give (of a `*` the
resources of Kubernetes itself are listed then). One word may say more than is meant, and then sets
it too: to Kubernetes `*` is also every subresource, and every cluster-scoped resource, and the verb
`*` is also impersonation.

Verbs that mk8s leaves to the cluster (use, ...) stay, and `bind`, `escalate` and their like where
something may be written by them; the verb `*` becomes the verbs of requests where it does not
stand.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from mk8s_proxy.authz.access import DISCOVERY_PATHS, DISCOVERY_PREFIXES, SELF_REVIEWS, Access
from mk8s_proxy.authz.access_review import ANY, CORE_ONLY, meet, review, touches
from mk8s_proxy.authz.attributes import Attributes
from mk8s_proxy.authz.compile import ONLY_SPELLED_OUT, WORD_OF, CompiledRule, compile_globs
from mk8s_proxy.authz.grammar import HTTP_METHODS, WORDS
from mk8s_proxy.authz.powers import POWERS, covered
from mk8s_proxy.authz.scopes import known_resources
from mk8s_proxy.authz.visibility import NAMESPACES

_VERBS: Final = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
_METHODS: Final = tuple(sorted(HTTP_METHODS))
_BUDGET: Final = 20_000
"""Steps of about a microsecond; what is beyond is left out, and the answer is incomplete."""
_STEPS_OF_A_QUESTION: Final = 16
_STEPS_OF_A_RULE: Final = 10
_OPEN_URLS: Final = (*sorted(DISCOVERY_PATHS), *(f"{prefix}*" for prefix in DISCOVERY_PREFIXES))
_OPEN_RESOURCES: Final = tuple(f"{resource}.{group}" for group, resource in sorted(SELF_REVIEWS))

_EVERY_KIND: Final = ((ANY, ANY, ""), (ANY, ANY, ANY), *sorted(ONLY_SPELLED_OUT))
"""Whoever may do something with these may do it with every resource and subresource."""
_IMPERSONATED: Final = {"users", "groups", "serviceaccounts", "userextras", "uids"}

Texts = tuple[str, ...]
Kind = tuple[str, str, str]
"""API group, resource and subresource; `*` is matched by a `*` of a rule alone."""


@dataclass(frozen=True, slots=True)
class ResourceRule:
    """A rule as SubjectRulesReviewStatus has it; no names mean all of them."""

    verbs: Texts
    api_groups: Texts
    resources: Texts
    names: Texts = ()


@dataclass(frozen=True, slots=True)
class PathRule:
    """A rule about nonResourceURLs."""

    verbs: Texts
    urls: Texts


class Narrowing:
    """One review.

    Args:
        access: what the user may do on the cluster.
        namespace: the one that the review is about.

    Attributes:
        incomplete: whether something had no words; read it when all rules were narrowed.
    """

    def __init__(self, access: Access, namespace: str) -> None:
        self._access = access
        self._namespace = namespace
        self._left = _BUDGET
        self._rules = sum(len(one.allow.rules) + len(one.deny.rules) for one in access.sets)
        self._grants = tuple(
            rule
            for one in access.sets
            for rule in one.allow.rules
            if rule.covers_namespace(namespace) or rule.covers_namespace("")
        )
        self._named = tuple(rule for rule in self._grants if rule.spec.names)
        self._unlimited = _unlimited_verbs(access)
        self._unlimited_methods = _unlimited_methods(access)
        self.incomplete = False

    def _afford(self, steps: int) -> bool:
        """Whether so much more may be done: the loop of central waits meanwhile."""
        self._left -= steps
        self.incomplete |= self._left < 0
        return self._left >= 0

    def begins_another(self) -> bool:
        """Whether another rule may be looked at; the others are left out."""
        return self._afford(_STEPS_OF_A_RULE)

    # -- resources

    def resources(self, rule: ResourceRule) -> list[ResourceRule]:
        """What of a cluster's rule mk8s allows too."""
        verbs = tuple(v for v in _VERBS if v in rule.verbs or ANY in rule.verbs)
        if ANY in rule.verbs and self._unlimited.issuperset(_VERBS):
            self.incomplete |= _may_impersonate(rule)
            return [replace(rule, verbs=(ANY,))]
        self.incomplete |= "impersonate" in rule.verbs
        left = tuple(v for v in verbs if v not in self._unlimited)
        useless = (v for v in POWERS.intersection(rule.verbs) if not self._useful(rule, v))
        out = {*left, ANY, "impersonate", *useless}
        kept = tuple(v for v in rule.verbs + verbs if v not in out)
        names = () if ANY in rule.names else rule.names
        found: dict[tuple[str, Texts, Texts], list[str]] = {}
        for kind, by_names in self._found(rule, left, names) if left else ():
            text = f"{kind[1]}/{kind[2]}" if kind[2] else kind[1]
            for some, allowed in by_names.items():
                found.setdefault((kind[0], tuple(allowed), some), []).append(text)
        whole = replace(rule, verbs=tuple(dict.fromkeys(kept)))
        return [*([whole] if kept else ()), *_joined(found)]

    def _useful(self, rule: ResourceRule, verb: str) -> bool:
        """Whether a verb of no request is of any use to the user."""
        asked = (
            Attributes(verb, group, resource, namespace=self._namespace)
            for group, resource in itertools.product(rule.api_groups, rule.resources)
        )
        return any(map(self._ask, asked))

    def _found(
        self, rule: ResourceRule, verbs: Texts, names: Texts
    ) -> Iterator[tuple[Kind, dict[Texts, list[str]]]]:
        """What is allowed, by kind and names."""
        for kind in dict.fromkeys(self._kinds(rule, verbs)):
            if not self._afford(1):
                return
            allowed = self._verbs(kind, verbs, names)
            yield kind, allowed
            if kind[1] == ANY:
                missing = self._missing(kind, verbs, allowed.get(names, []))
                expanded = missing and not kind[2]
                for group, resource in known_resources(kind[0]) if expanded else ():
                    known = (group, resource, "")
                    yield known, self._verbs(known, missing, names)

    def _missing(self, kind: Kind, verbs: Texts, allowed: list[str]) -> Texts:
        """The verbs for which a `*` is not allowed, but some of what it would have been.

        A denial may take a part of it, or a role give cluster-scoped objects alone. The other way
        round, where it is allowed, it says too much if a role does not give those: of the core
        group they are the namespaces, too, each of which belongs to itself.
        """
        missing = []
        everything = ANY if kind[0] in ("", ANY) else ""
        for verb in verbs:
            wanted = Attributes(verb, *kind)
            if verb in allowed:
                self.incomplete |= not self._given(wanted, everything)
            elif self._given(wanted, "") or self._denied_in_part(wanted) or self._guarded(wanted):
                self.incomplete = True
                missing.append(verb)
        return tuple(missing)

    def _given(self, wanted: Attributes, where: str) -> bool:
        return self._afford(self._rules) and any(
            rule.permits(wanted) and rule.covers_namespace(where) for rule in self._grants
        )

    def _denied_in_part(self, wanted: Attributes) -> bool:
        denials = (rule for one in self._access.sets for rule in one.deny.rules)
        return self._afford(self._rules) and any(
            touches(rule, wanted, everywhere=True) for rule in denials
        )

    def _guarded(self, wanted: Attributes) -> bool:
        """Whether a part of what the `*` would have been needs a rule that names it."""
        if not (self._access.unbounded and any(covered(wanted))):
            return False
        return self._given(wanted, self._namespace)

    def _verbs(self, kind: Kind, verbs: Texts, names: Texts) -> dict[Texts, list[str]]:
        """The allowed verbs by the names that they are allowed for."""
        found: dict[Texts, list[str]] = {}
        for verb in verbs:
            for some in self._names(Attributes(verb, *kind, self._namespace), names):
                found.setdefault(some, []).append(verb)
        return found

    def _names(self, wanted: Attributes, names: Texts) -> list[Texts]:
        """The names for which the question is answered yes: none at all, all (), or some."""
        found: list[Texts] = []
        if not names:
            if self._ask(wanted):
                found = [()]
            else:
                names = tuple(dict.fromkeys(self._written_names(wanted)))
        if some := tuple(name for name in names if self._ask(wanted, name)):
            found = [some]
        if found and wanted.resource == ANY and not wanted.subresource:
            self.incomplete = True  # to Kubernetes it is every subresource, too
        return found

    def _written_names(self, wanted: Attributes) -> Iterator[str]:
        """The names that rules spell out: what may be allowed where not all names are."""
        if wanted.resource == NAMESPACES:
            yield self._namespace
        rules = (rule for rule in self._named if self._afford(1) and rule.permits(wanted))
        for name in (name for rule in rules for name in rule.spec.names):
            if ANY in name:
                self.incomplete = True
            else:
                yield name

    def _ask(self, wanted: Attributes, name: str = "") -> bool:
        wide = ANY in (wanted.api_group, wanted.resource) or wanted.path.endswith(ANY)
        if not self._afford(_STEPS_OF_A_QUESTION + (3 * self._rules if wide else 0)):
            return False
        decision = review(self._access, replace(wanted, name=name))
        if decision.rule and not decision.allowed and not name:
            self.incomplete |= wide or self._denied_by_name(wanted)
        return decision.allowed

    def _denied_by_name(self, wanted: Attributes) -> bool:
        """Whether a denial takes some names only: what it leaves has no words."""
        denials = (rule for one in self._access.sets for rule in one.deny.rules)
        return any(rule.spec.names and rule.forbids(wanted) for rule in denials)

    # -- which resources

    def _kinds(self, rule: ResourceRule, verbs: Texts) -> Iterator[Kind]:
        """What the cluster's rule and those of mk8s may both mean, by these verbs."""
        grants = [own for own in self._grants if self._afford(1) and _says(own, verbs)]
        for group, text in itertools.product(rule.api_groups, rule.resources):
            resource, _, subresource = text.partition("/")
            if ANY not in (group, resource):
                yield group, resource, subresource
                continue
            for pattern in _OPEN_RESOURCES:
                yield from self._common((group, resource, subresource), pattern)
            patterns = (one for own in grants for one in own.spec.resources)
            for pattern in itertools.takewhile(lambda _: self._afford(4), patterns):
                yield from self._common((group, resource, subresource), pattern)

    def _common(self, theirs: Kind, pattern: str) -> Iterator[Kind]:
        """What a rule of the cluster with a `*` and a pattern of mk8s may both mean."""
        group, resource, subresource = theirs
        parent, _, own_subresource = pattern.partition("/")
        name, dot, own_group = parent.partition(".")
        met_group = self._meet(group, own_group if dot else ANY)
        met_name = self._meet(resource, name)
        if met_group is None or met_name is None:
            return
        if not own_subresource:
            if met_group in ("", ANY):
                yield from _streams(theirs, name)
            if not subresource:
                yield met_group, met_name, ""
        elif subresource or resource == ANY:
            met = self._meet(subresource or ANY, own_subresource)
            if met == ANY:
                self.incomplete = True  # Kubernetes has no word for all subresources
            elif met is not None:
                core = met_group == ANY and (met_name, met) in CORE_ONLY
                yield "" if core else met_group, met_name, met

    def _meet(self, theirs: str, glob: str) -> str | None:
        """The text, or `*`, that both mean; None if there is none, or none that has words."""
        if theirs != ANY:
            return theirs if compile_globs((glob,)).matches(theirs) else None
        if ANY in glob and glob.strip(ANY):
            self.incomplete = True
            return None
        return ANY if ANY in glob else glob

    # -- paths

    def paths(self, rule: PathRule) -> list[PathRule]:
        """What of a cluster's rule about nonResourceURLs mk8s allows too."""
        verbs = tuple(v for v in _METHODS if v in rule.verbs or ANY in rule.verbs)
        if verbs and self._unlimited_methods.issuperset(verbs):
            return [rule]
        own = (url for one in self._path_rules() for url in one.spec.non_resource_urls)
        pairs = ((theirs, mine) for mine in (*_OPEN_URLS, *own) for theirs in rule.urls)
        met = (meet(*pair) for pair in itertools.takewhile(lambda _: self._afford(1), pairs))
        found: dict[Texts, list[str]] = {}
        for url in dict.fromkeys(met):
            questions = (Attributes(v, path=url, is_resource_request=False) for v in verbs if url)
            allowed = tuple(asked.verb for asked in questions if self._ask(asked))
            if allowed:
                found.setdefault(allowed, []).append(url)
        return [PathRule(allowed, tuple(urls)) for allowed, urls in found.items()]

    def _path_rules(self) -> Iterable[CompiledRule]:
        return (rule for one in self._access.sets for rule in one.allow.path_rules)


def _says(rule: CompiledRule, verbs: Texts) -> bool:
    """Whether a rule has one of the verbs, perhaps by a word."""
    said = rule.spec.verbs
    by_word = {verb for word in said for verb in WORDS.get(word, ())}
    return ANY in said or not by_word.union(said).isdisjoint(verbs)


def _unlimited_verbs(access: Access) -> frozenset[str]:
    """The verbs that are allowed for every object there is."""
    if any(rule.spec.resources for one in access.sets for rule in one.deny.rules):
        return frozenset()
    wide = [
        rule
        for one in access.sets
        for rule in one.allow.rules
        if rule.covers_namespace(ANY) and rule.covers_name(ANY)
    ]
    return frozenset(
        verb
        for verb in _VERBS
        if all(any(rule.permits(asked) for rule in wide) for asked in _everything(access, verb))
    )


def _everything(access: Access, verb: str) -> Iterator[Attributes]:
    for kind in _EVERY_KIND:
        asked = Attributes(verb, *kind)
        yield asked
        if access.unbounded:
            yield from map(access.with_guard, covered(asked))


def _unlimited_methods(access: Access) -> frozenset[str]:
    """The methods that are allowed on every path."""
    if any(one.deny.path_rules for one in access.sets):
        return frozenset()
    return frozenset(
        verb
        for verb in _METHODS
        for one in access.sets
        for rule in one.allow.path_rules
        if rule.matches_path(Attributes(verb, path=ANY, is_resource_request=False))
        and ANY in rule.spec.non_resource_urls
    )


def _may_impersonate(rule: ResourceRule) -> bool:
    """Whether the verb `*` of a cluster's rule is also impersonation, which is never listed."""
    resources = {text.partition("/")[0] for text in rule.resources}
    groups = {"", "authentication.k8s.io", ANY}
    return not groups.isdisjoint(rule.api_groups) and not resources.isdisjoint(
        _IMPERSONATED | {ANY}
    )


def _streams(theirs: Kind, name: str) -> Iterator[Kind]:
    """The subresources that words give on the resources that a pattern names."""
    _, resource, subresource = theirs
    for parent, sub in WORD_OF:
        asked = subresource == sub if subresource else resource == ANY
        if asked and resource in (ANY, parent) and compile_globs((name,)).matches(parent):
            yield "", parent, sub


def _joined(found: dict[tuple[str, Texts, Texts], list[str]]) -> list[ResourceRule]:
    """Rules that differ in the API group alone become one."""
    groups: dict[tuple[Texts, Texts, Texts], list[str]] = {}
    for (group, verbs, names), resources in found.items():
        groups.setdefault((verbs, tuple(resources), names), []).append(group)
    return [
        ResourceRule(verbs, tuple(members), tuple(dict.fromkeys(resources)), names)
        for (verbs, resources, names), members in groups.items()
    ]
