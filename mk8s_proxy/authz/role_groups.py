"""The groups by which a cluster knows the roles of a person. Called by `access`.

Whoever goes into a cluster has, beside the group of everybody, one for each role that gives them
something there, so that the cluster's own RBAC can hold the upper bound of the role
(`cluster_rbac`). An agent sends only groups that its cluster lets it act with.
"""

from collections.abc import Iterable
from typing import Final

PREFIX: Final = "mk8s:role:"
"""Nobody else gives or asks for a group of this name: it is a right."""
MOST_ROLES: Final = 400
MOST_BYTES: Final = 24 * 1024
"""Of all groups of a person together: the agent takes identities of 32 KiB."""


def group_of(role: str) -> str:
    """The group of a role."""
    return PREFIX + role


def too_many(groups: Iterable[str]) -> str:
    """Why a person with these groups of roles cannot be told to a cluster; "" where they can.

    Leaving some out would take rights from them, and nobody could say which.
    """
    groups = tuple(groups)
    size = sum(map(len, groups))
    if len(groups) <= MOST_ROLES and size <= MOST_BYTES:
        return ""
    return (
        f"{len(groups)} roles with {size} bytes of names count for the user on this cluster, and "
        f"at most {MOST_ROLES} with {MOST_BYTES} can: ask an administrator to give fewer"
    )
