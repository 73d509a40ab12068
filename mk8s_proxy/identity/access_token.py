"""Access tokens: minted for a login, verified for each request.

RS256 and nothing else. `mint` is called by the management API, `TokenAuthenticator` by the
handler chain and the API alike, so that there is one verification for every entrance.
A token has the header `{"alg": "RS256", "kid": ..., "typ": "JWT"}` and no other field; anything
that would bring its own key or rules (jku, x5u, jwk, x5c, crit) is refused before any signature
is looked at (RFC 8725 sections 3.1, 3.5 and 3.10).
"""

# compiled: every request asks for the token's memory

import json
import secrets
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

import jwt

from mk8s_agent.wire.memory import Memory
from mk8s_proxy.identity.federated_logins import FederatedLogins
from mk8s_proxy.identity.federation import is_federated_user
from mk8s_proxy.identity.identity import BoundCluster, Identity, Login, Unauthenticated
from mk8s_proxy.identity.locks import Locks
from mk8s_proxy.identity.lost_groups import LostGroups, is_lost_group
from mk8s_proxy.identity.revocations import Revocations
from mk8s_proxy.identity.service_token import BEARER, ServiceTokens, is_service_user
from mk8s_proxy.identity.signing_keys import SigningKey, SigningKeys
from mk8s_proxy.identity.token_claims import (
    EXPIRED,
    INVALID,
    LEEWAY,
    bearer_token,
    check_times,
    identity_of,
    key_id,
    refusal_of,
)

__all__ = [
    "AUDIENCE",
    "LEEWAY",
    "SigningKey",
    "SigningKeys",
    "TokenAuthenticator",
    "latest_end",
    "mint",
]

AUDIENCE = "mk8s"
"""Claim aud of every access token: not good for any other program that trusts our keys."""

CACHE_SIZE = 16384
"""Verified tokens that are remembered at most."""

TOKEN_BYTES: Final = 4096
"""What a token of ours may hold in memory, all that is kept with it included."""
_IDENTITY_BYTES: Final = 1024
"""What the objects of a verified token take, beside its bytes and, as long at most, its texts."""

_REQUIRED_CLAIMS = ["iss", "aud", "sub", "jti", "iat", "nbf", "exp"]


class TokenUser(Protocol):
    """The part of a user's record that goes into a token."""

    @property
    def id(self) -> str:
        """Claim sub."""

    @property
    def email(self) -> str:
        """Claim email, the user name everywhere."""

    @property
    def name(self) -> str:
        """Claim name, for people."""

    @property
    def token_epoch(self) -> int:
        """Claim epoch: the tokens of earlier epochs are refused."""


class TokenUsers(Protocol):
    """Whom tokens may still speak for; `directory.UserDirectory` is one."""

    @property
    def generation(self) -> int:
        """Grows with every change that could turn a good token into a bad one."""

    def __call__(self, uid: str) -> int | None:
        """Return the token epoch of the user, None when deleted or disabled."""


class _Utf8(json.JSONEncoder):
    """Names of groups as they are: escaped, a token of many would be three times as long."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options | {"ensure_ascii": False})


def mint(
    keys: SigningKeys,
    *,
    user: TokenUser,
    cluster: BoundCluster | None,
    issuer: str,
    lifetime: float,
    now: float,
    login: Login | None = None,
) -> tuple[str, float]:
    """Sign a token for the user, bound to `cluster` unless that is None.

    Args:
        keys: The active one signs.
        user: Whom the token speaks for.
        cluster: The only cluster the token will be good for, and what it is made for there.
        issuer: Claim iss, the public URL of this central.
        lifetime: Seconds from `now`; the login's end is the token's, too.
        now: Epoch seconds.
        login: Claims sid and sid_exp, the login that the token comes of and ends with.

    Returns:
        The token, and its end in epoch seconds.

    Raises:
        LookupError: There is no signing key.
    """
    key = keys.signing(now)
    issued, expires = int(now), int(now + lifetime)
    if login is not None and login.ends:
        expires = min(expires, int(login.ends))
    claims: dict[str, Any] = {
        "iss": issuer,
        "aud": AUDIENCE,
        "sub": user.id,
        "email": user.email,
        "name": user.name,
        "jti": secrets.token_urlsafe(16),
        "iat": issued,
        "nbf": issued,
        "exp": expires,
        "epoch": user.token_epoch,
    }
    if cluster is not None:
        claims |= {"cluster": cluster.name, "cluster_id": cluster.id}
        if cluster.command:
            claims["command"] = cluster.command
    if login is not None:
        claims |= {"sid": login.id, "sid_exp": int(login.ends)}
        said = {"groups": list(login.groups), "narrow": login.narrowing, "delegate": login.delegate}
        claims |= {name: value for name, value in said.items() if value}
    token = jwt.encode(
        claims, key.private_key, "RS256", headers={"kid": key.kid}, json_encoder=_Utf8
    )
    return token, float(expires)


class TokenAuthenticator:
    """Verifies `Authorization` values, remembering those already verified: access tokens, and
    service tokens as they are.

    Not thread-safe: it belongs to one event loop. A hit costs one lookup and a few
    comparisons; expiry, revocation, retired keys and changed users are looked at on each hit.
    """

    def __init__(
        self,
        keys: SigningKeys,
        *,
        issuer: str,
        valid_epochs: TokenUsers,
        clock: Callable[[], float] = time.time,
        cache_size: int = CACHE_SIZE,
        service_tokens: ServiceTokens | None = None,
    ) -> None:
        self.service_tokens = service_tokens or ServiceTokens(clock)
        """Those that are good, and what comes of them."""
        self.federated = FederatedLogins()
        """Which jobs may go on that were let in by tokens of their own."""
        self.locks = Locks()
        """Who is refused although the credential is good."""
        self.lost_groups = LostGroups()
        """What tokens still name, and their logins have no more."""
        self._keys = keys
        self._issuer = issuer
        self._valid_epochs = valid_epochs
        self._clock = clock
        self._revocations = Revocations()
        self._newly_revoked: list[str] = []
        self.when_revoked: Callable[[], object] = lambda: None
        """Called when there is something for `take_revoked` to return."""
        self.verified: Memory[bytes, _Verified] = Memory(cache_size, cache_size * TOKEN_BYTES)
        """Identities of good tokens, by the `Authorization` value. Buys more than the rest of a
        request: an RSA signature."""

    def authenticate(self, authorization: bytes) -> Identity:
        """Return who sent this `Authorization` value; equal values may give one object.

        Raises:
            Unauthenticated: No token, or one that is not valid now.
        """
        known = self.verified.find(authorization)
        if known is None:
            identity = self._verify(bearer_token(authorization))
        else:
            identity = known[0]
            if self.vouches(identity, known[1]):
                return identity
            self.verified.forget(authorization)
            identity = self._verify_again(known, authorization)
        size = 2 * len(authorization) + _IDENTITY_BYTES
        identity = self.lost_groups.without(identity)
        known = (identity, self.stamp, self._keys.generation)
        self.verified.keep(authorization, known, size)
        return identity

    def revoke(self, ended: str, expires: float) -> None:
        """Refuse the token with this jti, or all tokens of the login with this sid; or take from
        those of a login a group that it has lost (`lost_groups.lost_ids`).

        Kept until `expires` (epoch seconds), when they are dead anyway. Nobody else's token is
        looked at for it. Other processes read it in the database, those of this machine are told
        at once, and so hear of it twice.
        """
        if is_lost_group(ended):
            self.lost_groups.add(ended, expires)
        elif self._revocations.add(ended, expires):
            self._newly_revoked.append(ended)
            if len(self._newly_revoked) == 1:
                self.when_revoked()

    def take_revoked(self) -> list[str]:
        """Return what was revoked since the last call: the open streams of these must end."""
        taken, self._newly_revoked = self._newly_revoked, []
        return taken

    def second(self) -> None:
        """Once a second: give up a bounded number of what has expired."""
        self.verified.sweep(self._is_over)
        self.service_tokens.second()
        self._revocations.forget(self._clock() - LEEWAY)
        self.lost_groups.forget(self._clock() - LEEWAY)

    def __len__(self) -> int:
        """Return how many verified tokens are remembered."""
        return len(self.verified)

    def _is_over(self, known: "_Verified") -> bool:
        return self._clock() >= known[0].expires + LEEWAY or self._is_revoked(known[0])

    def _is_revoked(self, identity: Identity) -> bool:
        end_of = self._revocations.end_of
        return end_of(identity.token_id) is not None or end_of(identity.login) is not None

    @property
    def stamp(self) -> int:
        """A number that grows when many verified tokens may have become bad, not just one's."""
        jobs = self.service_tokens.generation + self.federated.generation
        people = self._valid_epochs.generation + self.locks.generation
        return self._keys.generation + people + jobs + self.lost_groups.generation

    def vouches(self, identity: Identity, stamp: int) -> bool:
        """Say whether an identity that was good at `stamp` is good now, without a doubt.

        The rules are those of a remembered token; after a no, `authenticate` knows more.
        """
        end_of = self._revocations.end_of
        return (
            stamp
            == self._keys.generation
            + self._valid_epochs.generation
            + self.service_tokens.generation
            + self.federated.generation
            + self.locks.generation
            + self.lost_groups.generation
            and self._clock() < identity.expires + LEEWAY
            and not 0 < identity.login_ends <= self._clock()
            and end_of(identity.token_id) is None
            and end_of(identity.login) is None
        )

    def _verify_again(self, known: "_Verified", authorization: bytes) -> Identity:
        """The signature is as good as it was, unless the keys have changed."""
        if not known[0].key_id:  # a service token has none
            return self._verify(bearer_token(authorization))
        if known[2] != self._keys.generation:
            return self._verify(bearer_token(authorization))
        if self._clock() >= known[0].expires + LEEWAY:
            raise Unauthenticated("TOKEN_EXPIRED", EXPIRED)
        return self.recheck(known[0])

    def _verify(self, token: bytes) -> Identity:
        if token.startswith(BEARER):
            identity = self.service_tokens.identify(token)
            self._check_user(identity)
            return identity
        kid = key_id(token)
        key = self._keys.public(kid)
        if key is None:
            raise Unauthenticated("TOKEN_KEY", f"{INVALID} (unknown signing key)")
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=["RS256"],
                audience=AUDIENCE,
                issuer=self._issuer,
                # Times are compared below, by the same clock as the cache.
                options={
                    "require": _REQUIRED_CLAIMS,
                    "strict_aud": True,
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except jwt.InvalidTokenError as error:
            raise Unauthenticated(*refusal_of(error)) from None
        identity = identity_of(claims, kid)
        check_times(claims, self._clock())
        self._check_user(identity)
        return identity

    def recheck(self, identity: Identity) -> Identity:
        """Look again at an identity whose stream is still open, and return what it is by now.

        The token opened it; from then on the login counts, which lives on in newer tokens.

        Raises:
            Unauthenticated: The login has ended, the token's key is retired, which takes along what
                was opened with it, its user changed, or it is locked.
        """
        if identity.key_id and self._keys.public(identity.key_id) is None:
            raise Unauthenticated("TOKEN_KEY", f"{INVALID} (unknown signing key)")
        self._check_user(identity)
        return self.lost_groups.without(identity)

    def _check_user(self, identity: Identity) -> None:
        ended = self._is_revoked(identity)
        if is_service_user(identity.user):
            self.service_tokens.require_live("" if ended else identity.login)
            self.locks.require_open(identity)
            return
        if self._clock() >= latest_end(identity):
            raise Unauthenticated("LOGIN_EXPIRED", "the login has expired: run mk8s login")
        if ended:
            raise Unauthenticated("TOKEN_REVOKED", "logged out: run mk8s login")
        if is_federated_user(identity.user):
            self.federated.require_live(identity)
            self.locks.require_open(identity)
            return
        epoch = self._valid_epochs(identity.uid)
        if epoch is None:
            raise Unauthenticated("USER_DISABLED", "this account is disabled: ask your admin")
        if epoch != identity.epoch:
            raise Unauthenticated(
                "TOKEN_EPOCH", "the login was ended by a change of the account: run mk8s login"
            )
        self.locks.require_open(identity)


def latest_end(identity: Identity) -> float:
    """Return when an identity is refused at the latest, in epoch seconds.

    A login ends to the second, by the clock of whoever looks; only a token that comes of none has
    the leeway.
    """
    return identity.login_ends or identity.expires + LEEWAY


_Verified = tuple[Identity, int, int]
"""An identity, and the authenticator's stamp and the keys' generation when it was found good."""
