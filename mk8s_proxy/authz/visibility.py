"""Which objects of a collection a user may see. Made by `access`, asked for each object by filters.

Only rules about the requested verb count: `list` for a list, `watch` for a watch. An object that
does not say what it is (no name, or no namespace where it must have one) is not visible.
"""

from typing import Final

from mk8s_proxy.authz.attributes import Attributes
from mk8s_proxy.authz.compile import CompiledRule
from mk8s_proxy.authz.scopes import Scope

NAMESPACES: Final = "namespaces"
_MAXIMUM_NAMESPACES: Final = 4096
"""Namespaces of which the rules are remembered; more than that empties the memory."""

_Rules = tuple[CompiledRule, ...]


class CollectionVisibility:
    """The part of a collection that rules grant and no rule denies.

    Args:
        wanted: the question about the collection.
        grants: the rules that allow its verb on its resource, for some objects.
        denials: the rules that deny it, for some objects.
    """

    __slots__ = ("_denials", "_grants", "_known", "_wanted")

    def __init__(self, wanted: Attributes, grants: _Rules, denials: _Rules) -> None:
        self._wanted = wanted
        self._grants = grants
        self._denials = denials
        self._known: dict[str, tuple[_Rules, _Rules]] = {}

    @property
    def first(self) -> CompiledRule:
        """A rule that grants some of it."""
        return self._grants[0]

    def allows(self, namespace: str, name: str) -> bool:
        """Whether the user may see an object of the collection.

        Args:
            namespace: as the object's metadata has it; empty if it has none.
            name: likewise.
        """
        place = self._place(namespace, name)
        if place is None:
            return False
        rules = self._known.get(place)
        if rules is None:
            rules = self._learn(place)
        grants, denials = rules
        return any(rule.covers_name(name) for rule in grants) and not any(
            rule.covers_name(name) for rule in denials
        )

    def _place(self, namespace: str, name: str) -> str | None:
        """The namespace that an object belongs to; None if that cannot be told."""
        if not name:
            return None
        wanted = self._wanted
        if namespace or wanted.namespace:
            return namespace or wanted.namespace
        if wanted.resource == NAMESPACES:
            return name
        namespaced = wanted.place is Scope.NAMESPACED
        return None if namespaced else ""

    def _learn(self, namespace: str) -> tuple[_Rules, _Rules]:
        grants = tuple(rule for rule in self._grants if self._covers(rule, namespace))
        denials = tuple(rule for rule in self._denials if rule.covers_namespace(namespace))
        if len(self._known) >= _MAXIMUM_NAMESPACES:
            self._known.clear()
        self._known[namespace] = (grants, denials)
        return grants, denials

    def _covers(self, rule: CompiledRule, namespace: str) -> bool:
        """Whoever may list all namespaces by a rule for cluster-scoped objects may see each."""
        if rule.covers_namespace(namespace):
            return True
        wanted = self._wanted
        listed = wanted.resource == NAMESPACES and not wanted.namespace
        return listed and rule.covers_namespace("")

    def __eq__(self, other: object) -> bool:
        """Whether both show the same objects, as far as the wording of the rules tells."""
        if other is self:
            return True
        return isinstance(other, CollectionVisibility) and self._meaning() == other._meaning()

    def __hash__(self) -> int:
        return hash(self._meaning())

    def _meaning(self) -> tuple[object, ...]:
        grants = frozenset(rule.spec for rule in self._grants)
        return self._wanted, grants, frozenset(rule.spec for rule in self._denials)

    def __repr__(self) -> str:
        rules = ", ".join(rule.label for rule in self._grants)
        return f"<CollectionVisibility of {self._wanted.resource} by {rules}>"
