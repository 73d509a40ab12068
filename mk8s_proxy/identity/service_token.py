"""Service tokens: opaque, for jobs; made, recognised and looked up here. Pure.

A token is the prefix, 40 characters of 62 (238 random bits) and their CRC-32 as six more: secret
scanners find it by its form, and a mistyped or made-up one is refused before anything is hashed.
What is well formed is looked up by its SHA-256, which needs no salt and no slow hash for so many
bits, in a table in memory: a guess costs microseconds and no question to the database, and how long
it takes says nothing of the secrets, since a stranger does not choose their hashes.

`ServiceTokens` is filled by `app` from each policy that the feed loads. `TokenAuthenticator` asks
it, for the token itself and for the access tokens that were minted from it.
"""

# compiled: every request of a job asks it

import hashlib
import re
import secrets
import string
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from mk8s_proxy.identity.identity import USERS_GROUP, Identity, Unauthenticated

PREFIX: Final = "mk8s_st_"
"""Makes a leaked token recognisable for scanners."""
BEARER: Final = b"mk8s_st_"
"""The same as a request brings it."""

USER_PREFIX: Final = "token:"
"""How their names begin in policy, audit and clusters; users' are email addresses."""

LOOK_SECONDS: Final = 60.0
"""For so long a token that was looked up is taken for what it was found to be, unless something
changes; also how exact its last use is known."""

_ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_SECRET: Final = 40
_CHECK: Final = 6
_FORM: Final = re.compile(rb"mk8s_st_([0-9A-Za-z]{40})([0-9A-Za-z]{6})")

_GONE: Final = (
    "the service token is unknown, was revoked or has expired: ask an administrator for a new one "
    "(mk8s admin tokens)"
)


@dataclass(frozen=True, slots=True)
class ServiceLogin:
    """What a secret that is good stands for."""

    login: str
    """The login that the secret is (claim sid of its access tokens)."""
    token_id: str
    name: str
    ends: float
    """Epoch seconds."""


def new_service_token() -> str:
    """Make a token."""
    secret = "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET))
    return f"{PREFIX}{secret}{_checksum(secret.encode())}"


def hash_service_token(token: bytes) -> str:
    """Return what the database knows a token by."""
    return hashlib.sha256(token).hexdigest()


def is_well_formed(token: bytes) -> bool:
    """Say whether a token may be one: its form, and its checksum."""
    found = _FORM.fullmatch(token)
    return found is not None and _checksum(found[1]) == found[2].decode("ascii")


def _checksum(secret: bytes) -> str:
    number, digits = zlib.crc32(secret), ""
    for _ in range(_CHECK):
        number, digit = divmod(number, 62)
        digits = _ALPHABET[digit] + digits
    return digits


class ServiceTokens:
    """The service tokens that are good, in memory. It starts empty: then none is.

    Args:
        clock: epoch seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._by_hash: dict[str, ServiceLogin] = {}
        self._live: dict[str, ServiceLogin] = {}
        self._used: set[str] = set()
        self.generation = 0
        """Grows with every change that could turn a good token into a bad one."""

    def __len__(self) -> int:
        return len(self._by_hash)

    def replace(self, by_hash: Mapping[str, ServiceLogin]) -> None:
        """Take the state of the database: what each secret that is good stands for, by its hash."""
        if by_hash == self._by_hash:
            return
        self._by_hash = dict(by_hash)
        self._live = {one.login: one for one in self._by_hash.values()}
        self.generation += 1

    def identify(self, token: bytes) -> Identity:
        """Return who sent a token. The identity is to be asked for again after `LOOK_SECONDS`.

        Raises:
            Unauthenticated: It is none, or none that is good now.
        """
        if not is_well_formed(token):
            raise Unauthenticated(
                "SERVICE_TOKEN_MALFORMED",
                "this is no service token of mk8s: its checksum is wrong (copied in part?)",
            )
        found = self._by_hash.get(hash_service_token(token))
        now = self._clock()
        if found is None or found.ends <= now:
            raise Unauthenticated("SERVICE_TOKEN_UNKNOWN", _GONE)
        self._used.add(found.login)
        return Identity(
            user=f"{USER_PREFIX}{found.name}",
            uid=found.token_id,
            groups=(USERS_GROUP,),
            expires=min(found.ends, now + LOOK_SECONDS),
            cluster="",
            token_id="",
            epoch=0,
            login=found.login,
            login_ends=found.ends,
        )

    def require_live(self, login: str) -> None:
        """Refuse what came of a secret that is not good any more; "" is never good.

        Raises:
            Unauthenticated: It was revoked or rotated, or has expired.
        """
        found = self._live.get(login)
        if found is None or found.ends <= self._clock():
            raise Unauthenticated("SERVICE_TOKEN_ENDED", _GONE)

    def second(self) -> None:
        """Once a second: forget what has expired, so that its open streams are looked at."""
        now = self._clock()
        if any(one.ends <= now for one in self._live.values()):
            self.replace({key: one for key, one in self._by_hash.items() if one.ends > now})

    def take_used(self) -> set[str]:
        """Return the logins that were used since the last call."""
        taken, self._used = self._used, set()
        return taken


def is_service_user(user: str) -> bool:
    """Say whether a user's name is that of a service token, and no odd email address."""
    return user.startswith(USER_PREFIX) and "@" not in user
