"""Groups that an agent may act with, as the control stream tells them; pure.

Called by `control`, by the agent, which finds them out, and by central, which names them.
"""

import re
from typing import Final

MAX_ROLE_GROUPS: Final = 512
ANY_GROUP: Final = "*"
ROLE_GROUP: Final = re.compile(r"mk8s:role:[A-Za-z0-9](?:[A-Za-z0-9._:-]{0,61}[A-Za-z0-9])?")
"""The group of a role of central."""
MAX_OTHER_GROUPS: Final = 256
MAX_OTHER_GROUP_BYTES: Final = 16384
"""Groups of issuers, and their names together: a message of the control stream has 64 KiB."""
_LONGEST_GROUP: Final = 256


def is_other_group(name: str) -> bool:
    """Whether it may be a group of an issuer, ISSUER:GROUP: none to which Kubernetes or mk8s gives
    a meaning."""
    return (
        ":" in name
        and name.isprintable()
        and name == name.strip()
        and not name.casefold().startswith(("system:", "mk8s:"))
        and len(name.encode()) <= _LONGEST_GROUP
    )


def role_groups(value: object) -> tuple[str, ...]:
    """Check a list of groups of roles, or `ANY_GROUP` alone. Raises ValueError."""
    if not isinstance(value, list) or len(value) > MAX_ROLE_GROUPS:
        raise ValueError(f"must be a list of at most {MAX_ROLE_GROUPS} groups")
    if value == [ANY_GROUP]:
        return (ANY_GROUP,)
    if not all(isinstance(one, str) and ROLE_GROUP.fullmatch(one) for one in value):
        raise ValueError("must be a list of groups of roles")
    return tuple(value)


def other_groups(value: object) -> tuple[str, ...]:
    """Check a list of groups of issuers. Raises ValueError."""
    if not isinstance(value, list) or len(value) > MAX_OTHER_GROUPS:
        raise ValueError(f"must be a list of at most {MAX_OTHER_GROUPS} groups")
    if not all(isinstance(one, str) and is_other_group(one) for one in value):
        raise ValueError("must be a list of groups of issuers")
    return tuple(value)
