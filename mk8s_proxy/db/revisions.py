"""Changing what somebody has seen, and nothing else: revisions and the conditions on them.

A revision is a digest of what can be changed of a thing, so it needs no column and is the same at
every replica. A condition is checked in the transaction of the change and behind the policy
version's row lock, where no other writer can come between: of two who changed what they had both
read, one is refused.
"""

import hashlib
import json
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from mk8s_proxy.db.errors import Stale
from mk8s_proxy.db.meta import raise_policy_version

_HEX = 32
"""Digits of SHA-256 that are kept: 128 bits."""


def revision_of(*parts: object) -> str:
    """Digest parts that JSON can write; the order of keys does not matter."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_HEX]


@dataclass(frozen=True, slots=True)
class Condition:
    """What must be there for a change to be made."""

    revisions: frozenset[str] | None = None
    """One of these; None is any."""
    absent: bool = False
    """Nothing must be there."""

    def check(self, revision: str | None) -> None:
        """Refuse to change what is there; None is nothing. Raises :class:`Stale`."""
        if self.absent:
            if revision is not None:
                raise Stale("it exists already")
        elif revision is None:
            raise Stale("it does not exist")
        elif self.revisions is not None and revision not in self.revisions:
            raise Stale("it has changed since it was read: read it again")


async def hold(session: AsyncSession, condition: Condition | None) -> None:
    """Wait for other writers before anything is read that a condition is about."""
    if condition is not None:
        await raise_policy_version(session)
