"""Which objects of a collection a user may see. Made by `access`, asked for each object by filters.

Only rules about the requested verb count: `list` for a list, `watch` for a watch. An object that
does not say what it is (no name, or no namespace where it must have one) is not visible.
"""

import itertools
from typing import Final

from mk8s_agent.wire.memory import Memory
from mk8s_proxy.authz.attributes import Attributes
from mk8s_proxy.authz.compile import CompiledRule
from mk8s_proxy.authz.scopes import Scope

NAMESPACES: Final = "namespaces"

_Rules = tuple[CompiledRule, ...]

_known: Final[Memory[tuple[int, str], tuple[_Rules, _Rules]]] = Memory(65536, 32 << 20)
"""The rules about a namespace, by the visibility that asks. All share one: how many of them are
there, and how many namespaces each meets, is not ours to say."""
_numbers: Final = itertools.count()


class CollectionVisibility:
    """The part of a collection that rules grant and no rule denies.

    Args:
        wanted: the question about the collection.
        grants: the rules that allow its verb on its resource, for some objects.
        denials: the rules that deny it, for some objects.
    """

    __slots__ = ("_denials", "_grants", "_number", "_wanted")

    def __init__(self, wanted: Attributes, grants: _Rules, denials: _Rules) -> None:
        self._wanted = wanted
        self._grants = grants
        self._denials = denials
        self._number = next(_numbers)

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
        rules = _known.find((self._number, place)) or self._learn(place)
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
        size = 4 * len(namespace) + 8 * (len(grants) + len(denials)) + 350
        _known.keep((self._number, namespace), (grants, denials), size)
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
