"""What a delegation may do at most: its language, and how it stands beside its owner's roles.

A narrowing is the body of `POST /delegations`, kept as canonical JSON in the login and in its
access tokens. It says clusters, namespaces, verbs and resources in the words of a rule, and is one:
`snapshot` decides each request by the owner's roles and by that rule, and both must allow it. Some
things no narrowing gives, whatever it says: acting as somebody else (no rule of it is about that),
credentials of the cluster, and Secrets that it does not name.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from mk8s_agent.wire.memory import Memory
from mk8s_proxy.authz.access import Access, RuleSet
from mk8s_proxy.authz.attributes import Attributes, Decision, Visibility
from mk8s_proxy.authz.cluster_facts import UNTOLD
from mk8s_proxy.authz.compile import CompiledRule, Globs, compile_globs
from mk8s_proxy.authz.grammar import (
    Place,
    PolicyError,
    check_glob,
    check_resource,
    check_verb,
)
from mk8s_proxy.authz.policy import RuleSpec
from mk8s_proxy.authz.scopes import Kind, Scope

MOST_BYTES: Final = 2048
"""Of the canonical text, which each access token of the delegation carries."""
MOST_WORDS: Final = 64
"""Of each part. A rule is found by each pair of a resource and a namespace, so their product costs
memory."""
LABEL: Final = "the delegation"

READ_ONLY: Final = ("get", "list", "watch", "logs")
_EVERYTHING: Final = ("*",)
_KEYS: Final = ("clusters", "namespaces", "verbs", "resources")
_DEFAULTS: Final = {
    "clusters": _EVERYTHING,
    "namespaces": _EVERYTHING,
    "verbs": READ_ONLY,
    "resources": _EVERYTHING,
}
_SECRETS: Final = frozenset({"secrets", "secrets."})
_NEVER: Final = (
    RuleSpec("*", (), ("*",), ("*",), ("serviceaccounts/token",), deny=True),
    RuleSpec(
        "*",
        (),
        ("*",),
        ("create", "update", "patch"),
        ("certificatesigningrequests", "podcertificaterequests", "*.oauth.openshift.io"),
        deny=True,
    ),
)
"""What makes credentials that work without mk8s, and longer than the delegation."""
_NO_SECRETS: Final = RuleSpec("*", (), ("*",), ("*",), ("secrets.",), deny=True)
"""Some hold tokens of ServiceAccounts: only who names them delegates them."""


@dataclass(frozen=True, slots=True)
class Narrowing:
    """A narrowing that was checked; each part sorted, without duplicates."""

    clusters: tuple[str, ...]
    namespaces: tuple[str, ...]
    verbs: tuple[str, ...]
    resources: tuple[str, ...]

    def text(self) -> str:
        """Write it as logins and tokens carry it: equal narrowings have equal texts."""
        document = {key: getattr(self, key) for key in _KEYS}
        return json.dumps(document, sort_keys=True, separators=(",", ":"))

    def rules(self) -> tuple[RuleSpec, ...]:
        """Write it as the rules of a role that applies to all of its clusters."""
        grant = RuleSpec("*", (), self.namespaces, self.verbs, self.resources)
        named = not _SECRETS.isdisjoint(self.resources)
        return (grant, *_NEVER, *(() if named else (_NO_SECRETS,)))

    def __str__(self) -> str:
        """Say what it allows, for a refusal."""
        where = "" if self.namespaces == _EVERYTHING else f" in {_words(self.namespaces)}"
        clusters = "" if self.clusters == _EVERYTHING else f" on {_words(self.clusters)}"
        return f"{_words(self.verbs)} of {_words(self.resources)}{where}{clusters}"


def _words(texts: tuple[str, ...]) -> str:
    shown = [one or '""' for one in texts[:10]]
    return ", ".join(shown) + (", ..." if len(texts) > len(shown) else "")


def parse_narrowing(document: object) -> Narrowing:
    """Read a narrowing; what it leaves out is everything, but of the verbs those that read.

    Raises:
        PolicyError: the first mistake, with its place ("verbs[2]").
    """
    top = Place(document)
    top.only_keys(*_KEYS)
    found = Narrowing(
        clusters=_sorted([check_glob(one) for one in _part(top, "clusters")]),
        namespaces=_sorted([check_glob(one, empty=True) for one in _part(top, "namespaces")]),
        verbs=_sorted([_check_verb(one) for one in _part(top, "verbs")]),
        resources=_sorted([check_resource(one) for one in _part(top, "resources")]),
    )
    if len(found.text().encode()) > MOST_BYTES:
        raise top.error(f"is too long: {MOST_BYTES} bytes at most; write patterns with *")
    return found


def _part(top: Place, key: str) -> list[Place]:
    items = list(top.optional(key, _DEFAULTS[key]).items())
    if not items:
        raise top.key(key).error('must not be empty: write ["*"] for all, or leave it out')
    if len(items) > MOST_WORDS:
        raise top.key(key).error(f"must have {MOST_WORDS} entries at most: write patterns with *")
    return items


def _check_verb(place: Place) -> str:
    """Check a verb of resources: a narrowing is about nothing else, and about acting as nobody."""
    verb = check_verb(place)
    if verb in ("impersonate", "head", "post", "put"):
        raise place.error(f'"{verb}" cannot be delegated')
    return verb


def _sorted(texts: list[str]) -> tuple[str, ...]:
    return tuple(sorted(set(texts)))


@dataclass(frozen=True, slots=True)
class Compiled:
    """A narrowing made ready for matching."""

    clusters: Globs
    rules: RuleSet
    summary: str
    size: int
    """Bytes that it holds."""


_known: Final[Memory[str, Compiled]] = Memory(1024, 16 << 20)
"""Compiled ones by their texts: every new policy asks for them again."""
_COMPILED_BYTES: Final = 4096
_KEY_BYTES: Final = 256


def compiled_narrowing(text: str) -> Compiled:
    """Read and compile the text of a login or token.

    Raises:
        PolicyError: it cannot be understood, perhaps since a newer central wrote it.
    """
    known = _known.find(text)
    if known is None:
        known = _compile(_read(text))
        _known.keep(text, known, known.size)
    return known


def _read(text: str) -> Narrowing:
    if len(text.encode("utf-8", "surrogatepass")) > MOST_BYTES:
        raise PolicyError("", "the narrowing is too long")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise PolicyError("", "the narrowing is no JSON") from None
    if not isinstance(document, dict) or document.keys() != set(_KEYS):
        raise PolicyError("", "the narrowing has not the parts of one")
    return parse_narrowing(document)


def _compile(narrowing: Narrowing) -> Compiled:
    rules = []
    for number, spec in enumerate(narrowing.rules(), start=1):
        rule = CompiledRule("delegation", number, spec)
        rule.label = LABEL
        rules.append(rule)
    keys = sum(len(tuple(rule.keys)) for rule in rules)
    return Compiled(
        compile_globs(narrowing.clusters),
        RuleSet(rules),
        str(narrowing),
        _COMPILED_BYTES + _KEY_BYTES * keys,
    )


@dataclass(frozen=True, slots=True)
class BothVisible:
    """What of a collection both sides show."""

    first: Visibility
    second: Visibility

    def allows(self, namespace: str, name: str) -> bool:
        """Whether the object of this namespace (empty: none) and name is visible."""
        return self.first.allows(namespace, name) and self.second.allows(namespace, name)


class NarrowedAccess:
    """What a delegation may do on one cluster: what its owner may, and the narrowing says.

    Args:
        number: of no other access.
        owner: what the owner may do there.
        compiled: the narrowing.
        cluster: the name of the cluster.
        scopes: what the cluster says of its resources.
    """

    __slots__ = ("bound", "number", "owner", "summary")

    def __init__(
        self,
        number: int,
        owner: Access,
        compiled: Compiled,
        cluster: str,
        scopes: Mapping[Kind, Scope],
    ) -> None:
        sets = (compiled.rules,) if compiled.clusters.matches(cluster) else ()
        self.number = number
        self.owner = owner
        # As if the cluster held nobody back: what gives it away must be named with its API group.
        self.bound = Access(number, (), sets, scopes, UNTOLD)
        self.summary = compiled.summary

    @property
    def layers(self) -> tuple[Access, ...]:
        """All of these must allow it."""
        return self.owner, self.bound

    @property
    def groups(self) -> tuple[str, ...]:
        """Those of the owner's roles: a delegation goes into the cluster as its owner."""
        return self.owner.groups

    @property
    def any_grant(self) -> bool:
        """Whether there may be anything to do on the cluster."""
        return self.owner.any_grant and self.bound.any_grant

    def decide(self, wanted: Attributes) -> Decision:
        """Decide without a cache: yes where both say so, and no more visible than to both."""
        decision = self.owner.decide(wanted)
        if not decision.allowed:
            return decision
        limit = self.bound.decide(wanted)
        if not limit.allowed:
            return self.refusal(limit)
        seen = _both(decision.visibility, limit.visibility)
        if seen is not None and wanted.verb == "deletecollection":
            listing = self.decide(replace(wanted, verb="list"))  # by which the part is found
            if not listing.allowed:
                return listing
        reason = f"{decision.reason}, within {LABEL}"
        return replace(decision, reason=reason, visibility=seen)

    def refusal(self, limit: Decision) -> Decision:
        """What a refusal of the narrowing says; of what is never given, or must be named, so."""
        if limit.rule:
            return Decision(False, f"{LABEL} does not give this; Secrets it must name", LABEL)
        return Decision(False, f"{LABEL} allows {self.summary}, and no more", "")


def _both(first: Visibility | None, second: Visibility | None) -> Visibility | None:
    if first is None or second is None:
        return first or second
    return BothVisible(first, second)
