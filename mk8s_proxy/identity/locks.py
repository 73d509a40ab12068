"""Who is locked: users, groups, logins and tokens whose credentials are refused for now; pure.

Filled by `login_feed` from each policy that the feed loads; asked by `access_token` when something
has changed, never for each request, and by the API before it opens or prolongs a login. A lock ends
nothing: who was locked goes on with the same login once it is gone.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mk8s_proxy.identity.identity import Identity, Unauthenticated
from mk8s_proxy.identity.service_token import USER_PREFIX, is_service_user

LOCKED: Final = "LOCKED"
"""The reason of such a refusal."""


def locked(words: str) -> Unauthenticated:
    """Make the refusal of who is known, and locked: 403, since a new login would not help."""
    return Unauthenticated(LOCKED, words, 403)


@dataclass(frozen=True, slots=True)
class Lock:
    """One lock on people or jobs."""

    kind: str
    """user, group, login or token; whatever else there is is not about who asks."""
    target: str
    words: str
    """What who is meant by it is told."""
    covers: tuple[str, ...] = ()
    """Of a group its members by email, of a login those that it delegated."""


def words_of(reason: str, ends: datetime | None) -> str:
    """Say what is told to whoever meets a lock."""
    until = f" (until {ends:%Y-%m-%d %H:%M} UTC)" if ends else ""
    return f"locked: {reason}{until}: ask your administrator"


class Locks:
    """The locks in force, in memory."""

    def __init__(self) -> None:
        self._locks: frozenset[Lock] = frozenset()
        self._users: dict[str, str] = {}
        self._groups: dict[str, str] = {}
        self._logins: dict[str, str] = {}
        self._tokens: dict[str, str] = {}
        self.generation = 0
        """Grows with every change."""

    def __len__(self) -> int:
        return len(self._locks)

    def replace(self, locks: Iterable[Lock]) -> None:
        """Take the state of the database."""
        fresh = frozenset(locks)
        if fresh == self._locks:
            return
        self._locks = fresh
        self._users = self._told("user") | self._covered("group")
        self._groups = self._told("group")
        self._logins = self._told("login") | self._covered("login")
        self._tokens = self._told("token")
        self.generation += 1

    def words(self, user: str, groups: Iterable[str] = (), login: str = "", token: str = "") -> str:
        """Return what somebody is told who is locked; "" for who is not.

        Args:
            user: The email, or what policy calls a service token.
            groups: Of the login.
            login: Its id.
            token: The id of an access token.
        """
        if not self._locks:
            return ""
        if is_service_user(user) and (told := self._tokens.get(user.removeprefix(USER_PREFIX))):
            return told
        by_group = (self._groups.get(group, "") for group in groups)
        told = self._users.get(user) or self._logins.get(login) or self._tokens.get(token)
        return told or next(filter(None, by_group), "")

    def require_open(self, identity: Identity) -> None:
        """Refuse who is locked. Raises what `locked` makes."""
        told = self.words(identity.user, identity.groups, identity.login, identity.token_id)
        if told:
            raise locked(told)

    def _told(self, kind: str) -> dict[str, str]:
        return {lock.target: lock.words for lock in self._locks if lock.kind == kind}

    def _covered(self, kind: str) -> dict[str, str]:
        locks = [lock for lock in self._locks if lock.kind == kind]
        return {one: lock.words for lock in locks for one in lock.covers}
