"""Groups that an issuer took from logins that go on: older access tokens still name them; pure.

Filled by `access_token` with what it is told of ended tokens, as which they reach every process;
asked for tokens and open streams when something has changed. A group that comes back is in newer
tokens, which end later than the last one that had it before.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from mk8s_proxy.identity.identity import Identity

_MARK: Final = "/"
"""Between login and group; no id of a token or a login has it."""
_DIGITS: Final = 24
"""Hexadecimal ones of SHA-256: the store takes 64 characters, and a login's id has 36."""


def lost_ids(logins: Iterable[str], groups: Iterable[str]) -> list[str]:
    """Name, for the store of ended tokens, that these logins have these groups no more."""
    groups = sorted(groups)
    return [f"{login}{_MARK}{_digest(group)}" for login in logins for group in groups]


def is_lost_group(ended: str) -> bool:
    """Say whether the id of something ended is one of `lost_ids`."""
    return _MARK in ended


class LostGroups:
    """By login, until when its tokens may name a group that it has lost."""

    def __init__(self) -> None:
        self._ends: dict[str, dict[str, float]] = {}
        self.generation = 0
        """Grows with every group that is lost."""

    def __len__(self) -> int:
        return len(self._ends)

    def add(self, ended: str, expires: float) -> None:
        """Take one of `lost_ids`; tokens that end after `expires` (epoch seconds) are newer."""
        login, _, group = ended.partition(_MARK)
        ends = self._ends.setdefault(login, {})
        if ends.get(group, 0.0) < expires:
            ends[group] = expires
            self.generation += 1

    def without(self, identity: Identity) -> Identity:
        """Give an identity without the groups that its login has lost since its token was made."""
        ends = self._ends.get(identity.login)
        if ends is None:
            return identity
        kept = tuple(it for it in identity.groups if ends.get(_digest(it), 0.0) < identity.expires)
        return identity if kept == identity.groups else replace(identity, groups=kept)

    def forget(self, now: float) -> None:
        """Give up the logins of which every such token has expired at `now`."""
        over = [login for login, ends in self._ends.items() if max(ends.values()) < now]
        for login in over:
            del self._ends[login]


def _digest(group: str) -> str:
    return hashlib.sha256(group.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
