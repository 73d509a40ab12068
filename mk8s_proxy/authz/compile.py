"""Rules made ready for matching, and their globs. Called by `snapshot` and `access`.

In a glob, `*` stands for any characters, also none, also newlines; everything else stands for
itself. A rule is matched in the order verb, resource, namespace, name. Grants are narrow and
denials wide: what a grant does not surely mean it does not give, what a denial may mean it takes.
"""

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Final

from mk8s_proxy.authz.attributes import Attributes
from mk8s_proxy.authz.grammar import HTTP_METHODS, RESOURCE_VERBS, WORDS
from mk8s_proxy.authz.policy import BUILT_IN_ROLES, RuleSpec
from mk8s_proxy.authz.scopes import Scope

COLLECTION_VERBS: Final = frozenset({"list", "watch", "deletecollection"})

WORD_OF: Final = {
    ("pods", "log"): "logs",
    ("pods", "exec"): "exec",
    ("pods", "attach"): "exec",
    ("pods", "portforward"): "portforward",
    ("pods", "proxy"): "proxy",
    ("services", "proxy"): "proxy",
    ("nodes", "proxy"): "proxy",
}
"""The words, by the subresources of the core group that they stand for."""

ONLY_SPELLED_OUT: Final = frozenset({("", "nodes", "proxy"), ("", "serviceaccounts", "token")})
"""`nodes/proxy` runs commands in every container of a node; `serviceaccounts/token` makes a
credential that works without this proxy. No glob and no word grants them."""


EXACT: Final = 0
PREFIX: Final = 1
SUFFIX: Final = 2
IndexKey = tuple[str | None, str, int]
"""Resource (None: any), text of the namespace, and how it is meant: EXACT, PREFIX, SUFFIX."""


class Globs:
    """Several globs as one question: one set, one tuple of prefixes, one regular expression.

    Attributes:
        everything: whether any text matches, the empty one included.
        exact: the texts without `*`.
        keys: what a text must be (EXACT), or begin (PREFIX) or end (SUFFIX) with, for one of the
            globs to match it: the keys of an index.
    """

    __slots__ = ("_ends", "_pattern", "_starts", "everything", "exact", "keys")

    def __init__(self, globs: tuple[str, ...]) -> None:
        starred = [re.sub(r"\*+", "*", glob) for glob in globs if "*" in glob]
        single = [glob for glob in starred if glob.count("*") == 1]
        union = "|".join(
            _expression(glob)
            for glob in starred
            if glob.count("*") > 1 or not (glob.startswith("*") or glob.endswith("*"))
        )
        self.exact = frozenset(glob for glob in globs if "*" not in glob)
        self.everything = "*" in starred
        self._starts = tuple(glob[:-1] for glob in single if glob.endswith("*"))
        self._ends = tuple(glob[1:] for glob in single if glob.startswith("*"))
        self._pattern = re.compile(union, re.DOTALL) if union else None
        keys = [(text, EXACT) for text in self.exact]
        for glob in starred:
            prefix, _, rest = glob.partition("*")
            suffix = rest.rpartition("*")[2]
            keys.append((suffix, SUFFIX) if suffix and not prefix else (prefix, PREFIX))
        self.keys = tuple(dict.fromkeys(keys))

    def matches(self, text: str) -> bool:
        """Whether one of the globs matches the whole text."""
        if text in self.exact or text.startswith(self._starts) or text.endswith(self._ends):
            return True
        return self._pattern is not None and self._pattern.fullmatch(text) is not None


@functools.lru_cache(maxsize=4096)
def compile_globs(globs: tuple[str, ...]) -> Globs:
    """Compile globs; most rules of a policy share theirs with others."""
    return Globs(globs)


def _expression(glob: str) -> str:
    """Write a glob as a regular expression that never backtracks over more than one `*`.

    The first place where the text between two stars occurs is as good as any later one, so each
    such step is atomic (CPython's fnmatch does the same).
    """
    first, *middle, last = (re.escape(part) for part in glob.split("*"))
    return first + "".join(f"(?>.*?{part})" for part in middle) + ".*" + last


class ResourcePatterns:
    """The `resources` of a rule."""

    __slots__ = ("_any_group", "_globs", "_grouped", "names")

    names: frozenset[str | None]
    """The resources that may match, None standing for a glob: the key of the index."""

    def __init__(self, resources: tuple[str, ...]) -> None:
        any_group, grouped, globs = set(), set(), []
        names: set[str | None] = set()
        for text in resources:
            parent, slash, subresource = text.partition("/")
            resource, dot, group = parent.partition(".")
            names.add(None if "*" in resource else resource)
            if "*" in text:
                groups = compile_globs((group if dot else "*",))
                subresources = compile_globs((subresource,))
                globs.append((compile_globs((resource,)), groups, subresources, bool(slash)))
            elif dot:
                grouped.add((group, resource, subresource))
            else:
                any_group.add((resource, subresource))
        self._any_group = frozenset(any_group)
        self._grouped = frozenset(grouped)
        self._globs = tuple(globs)
        self.names = frozenset(names)

    def spell_out(self, group: str, resource: str, subresource: str) -> bool:
        """Whether exactly this is listed, by no glob."""
        return (resource, subresource) in self._any_group or (
            (group, resource, subresource) in self._grouped
        )

    def match(self, group: str, resource: str, subresource: str) -> bool:
        """Whether this is listed, where the empty subresource stands for the resource itself."""
        if (resource, subresource) in self._any_group:
            return True
        if (group, resource, subresource) in self._grouped:
            return True
        for resources, groups, subresources, has_subresource in self._globs:
            if (
                has_subresource is bool(subresource)
                and resources.matches(resource)
                and groups.matches(group)
                and subresources.matches(subresource)
            ):
                return True
        return False

    def match_by_group(self, group: str, resource: str, subresource: str) -> bool:
        """Whether this is listed with its API group, by no glob for that."""
        return (group, resource, subresource) in self._grouped or any(
            has_subresource is bool(subresource)
            and group in groups.exact
            and resources.matches(resource)
            and subresources.matches(subresource)
            for resources, groups, subresources, has_subresource in self._globs
        )


@functools.lru_cache(maxsize=4096)
def _compile_resources(resources: tuple[str, ...]) -> ResourcePatterns:
    return ResourcePatterns(resources)


class CompiledRule:
    """One rule of a role."""

    __slots__ = (
        "_groups", "_methods", "_names", "_namespaces", "_path_prefixes", "_paths", "_users",
        "_verbs", "_words", "label", "resources", "role", "spec",
    )  # fmt: skip

    def __init__(self, role: str, number: int, spec: RuleSpec) -> None:
        self.role = role
        self.label = f"role {role}, rule {number}"
        self.spec = spec
        verbs = frozenset(spec.verbs)
        everything = "*" in verbs
        self._verbs = RESOURCE_VERBS if everything else verbs & RESOURCE_VERBS
        self._words = frozenset(WORDS) if everything else verbs & WORDS.keys()
        self._methods = HTTP_METHODS if everything else verbs & HTTP_METHODS
        if "get" in verbs:
            self._methods |= {"head"}
        self.resources = _compile_resources(spec.resources)
        self._namespaces = compile_globs(spec.namespaces)
        self._names = compile_globs(spec.names or ("*",))
        self._paths = frozenset(spec.non_resource_urls)
        self._path_prefixes = tuple(p[:-1] for p in spec.non_resource_urls if p.endswith("*"))
        self._users = compile_globs(spec.impersonate_users)
        self._groups = compile_globs(spec.impersonate_groups)

    @property
    def keys(self) -> Iterator[IndexKey]:
        """Under which keys an index finds this rule."""
        namespaces = self._namespaces.keys
        if self.spec.deny:
            namespaces += (("", EXACT),)  # a list over all namespaces reaches the denied one
        for resource in self.resources.names:
            for text, kind in namespaces:
                yield resource, text, kind

    def grants(self, wanted: Attributes) -> bool:
        """Whether this rule allows the request for a resource."""
        return (
            self.permits(wanted)
            and (self._namespaces.everything or self._grants_namespace(wanted))
            and (self._names.everything or self._names.matches(wanted.name))
        )

    def grants_some(self, wanted: Attributes) -> bool:
        """Whether this rule may allow the request, for a collection, for some of the objects."""
        if wanted.name and not self._names.matches(wanted.name):
            return False
        if wanted.namespace:
            if not self._namespaces.matches(wanted.namespace):
                return False
        elif not self._grants_some_namespace(wanted):
            return False
        return self.permits(wanted)

    def _grants_some_namespace(self, wanted: Attributes) -> bool:
        if wanted.resource == "namespaces":  # each belongs to itself
            known = bool(wanted.name) and not self._namespaces.matches("")
            return self._namespaces.matches(wanted.name) if known else True
        scope = wanted.place
        if scope is Scope.CLUSTER:
            return self._namespaces.matches("")
        return scope is Scope.UNKNOWN or any(self.spec.namespaces)

    def covers_namespace(self, namespace: str) -> bool:
        """Whether this rule is about the objects of a namespace; "" is outside namespaces."""
        return self._namespaces.matches(namespace)

    def covers_name(self, name: str) -> bool:
        """Whether this rule is about the objects of this name."""
        return self._names.matches(name)

    def permits(self, wanted: Attributes) -> bool:
        """Whether this rule allows the verb on the resource in some namespace, for some name."""
        kind = (wanted.api_group, wanted.resource, wanted.subresource)
        if wanted.guarded and not self._may_give_away(*kind):
            return False
        if not wanted.subresource:
            return wanted.verb in self._verbs and self.resources.match(*kind)
        by_word = self._says_word(wanted)
        if not by_word and wanted.verb not in self._verbs:
            return False
        if kind in ONLY_SPELLED_OUT:
            return self.resources.spell_out(*kind)
        if self.resources.match(*kind):
            return True
        return by_word and self.resources.match(wanted.api_group, wanted.resource, "")

    def _may_give_away(self, group: str, resource: str, subresource: str) -> bool:
        if self.role in BUILT_IN_ROLES:
            return True
        return self.resources.match_by_group(group, resource, subresource)

    def _says_word(self, wanted: Attributes) -> bool:
        if wanted.api_group:
            return False
        word = WORD_OF.get((wanted.resource, wanted.subresource))
        return word is not None and word in self._words and wanted.verb in WORDS[word]

    def _grants_namespace(self, wanted: Attributes) -> bool:
        if wanted.namespace:
            return self._namespaces.matches(wanted.namespace)
        if "" not in self._namespaces.exact:
            return False
        if wanted.verb not in COLLECTION_VERBS:
            return True
        scope = wanted.place
        if scope is Scope.UNKNOWN:
            return self.resources.spell_out(wanted.api_group, wanted.resource, wanted.subresource)
        return scope is Scope.CLUSTER

    def denies(self, wanted: Attributes) -> bool:
        """Whether this rule, being a denial, reaches the request for a resource."""
        return (
            self.forbids(wanted) and self._reaches_namespace(wanted) and self._reaches_name(wanted)
        )

    def denies_all(self, wanted: Attributes) -> bool:
        """Whether a denial that reaches a collection leaves nothing of it."""
        if not self._namespaces.matches(wanted.namespace):
            return False
        return self._names.everything or bool(wanted.name)

    def forbids(self, wanted: Attributes) -> bool:
        """Whether this denial is about the verb on the resource, in some namespace, for a name."""
        group, resource = wanted.api_group, wanted.resource
        if wanted.verb not in self._verbs and not self._says_word(wanted):
            return False
        if self.resources.match(group, resource, ""):
            return True
        subresource = wanted.subresource
        return bool(subresource) and self.resources.match(group, resource, subresource)

    def _reaches_namespace(self, wanted: Attributes) -> bool:
        if self._namespaces.matches(wanted.namespace):
            return True
        if wanted.namespace or wanted.verb not in COLLECTION_VERBS:
            return False
        return wanted.resource == "namespaces" or wanted.place is not Scope.CLUSTER

    def _reaches_name(self, wanted: Attributes) -> bool:
        """Without a name any object may be meant; a proxy name is scheme:name:port."""
        name = wanted.name
        if not name or self._names.matches(name):
            return True
        return wanted.subresource == "proxy" and any(map(self._names.matches, name.split(":")))

    def matches_path(self, wanted: Attributes) -> bool:
        """Whether this rule is about the non-resource request."""
        if wanted.verb not in self._methods:
            return False
        return wanted.path in self._paths or wanted.path.startswith(self._path_prefixes)

    @property
    def impersonates(self) -> bool:
        """Whether this rule is about impersonation at all."""
        return bool(self.spec.impersonate_users or self.spec.impersonate_groups)

    def matches_impersonation(self, wanted: Attributes) -> bool:
        """Whether this rule is about acting as the user or group."""
        if wanted.resource == "users":
            return self._users.matches(wanted.name)
        return wanted.resource == "groups" and self._groups.matches(wanted.name)


class ClusterSelector:
    """The `name` and `labels` of a rule."""

    __slots__ = ("_labels", "_name")

    def __init__(self, spec: RuleSpec) -> None:
        self._name = compile_globs((spec.cluster or "*",))
        self._labels = tuple((key, compile_globs((value,))) for key, value in spec.labels)

    def matches(self, cluster: str, labels: Mapping[str, str]) -> bool:
        """Whether the rule applies to the cluster. A label that is missing matches nothing."""
        return self._name.matches(cluster) and all(
            key in labels and values.matches(labels[key]) for key, values in self._labels
        )
