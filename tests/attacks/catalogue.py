"""All attacks by name, in the order of a run: those that share a stage stand together."""

from tests.attacks import (
    agents,
    audit,
    cluster_side,
    floods,
    grammar,
    logins,
    readers,
    smuggling,
    strangers,
)
from tests.attacks.attack import Attack

_FAMILIES = (floods, cluster_side, smuggling, grammar, logins, readers, agents, strangers, audit)


def _place(attack: Attack) -> tuple[bool, tuple[tuple[str, str], ...]]:
    """Attacks of one stage stand together; those that need one each come last."""
    return attack.alone, attack.settings


ATTACKS: tuple[Attack, ...] = tuple(
    sorted((it for family in _FAMILIES for it in family.ATTACKS), key=_place)
)


def named(name: str) -> Attack:
    """The attack of this name. Raises KeyError."""
    return {it.name: it for it in ATTACKS}[name]


def chosen(names: list[str]) -> list[Attack]:
    """The attacks whose names begin with one of these; all when none is given."""
    return [it for it in ATTACKS if not names or it.name.startswith(tuple(names))]
