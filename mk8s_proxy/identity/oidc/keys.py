"""An issuer's public keys, RFC 7517, and which of them a token may be verified by; pure.

Made by `token_issuer` of what it fetched or read, used by `id_token`. Only keys of asymmetric
algorithms exist here, so that no token can be verified by a secret that is public.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt.algorithms import AllowedPublicKeys

from mk8s_proxy.identity.oidc.errors import Unreachable

PublicKey: TypeAlias = AllowedPublicKeys

_KINDS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = MappingProxyType(
    {
        **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", ("",))),
        "ES256": ("EC", ("P-256",)),
        "ES384": ("EC", ("P-384",)),
        "ES512": ("EC", ("P-521",)),
        "EdDSA": ("OKP", ("Ed25519", "Ed448")),
    }
)
"""Key type and curves of each algorithm, RFC 7518 section 3.1 and RFC 8037."""
ALGORITHMS: Final = frozenset(_KINDS)
"""All that are taken. None of them can be checked by what is public alone and made by it, too."""

MOST_KEYS: Final = 64
"""Of one issuer; the rest is not looked at."""
MOST_CANDIDATES: Final = 4
"""Keys that one token is tried with."""
_RSA_BITS: Final = (2048, 8192)
"""Below, RFC 7518 section 3.3 forbids it; above, one check takes milliseconds."""
_LONGEST_KID: Final = 512


@dataclass(frozen=True, slots=True)
class Key:
    """One public key, and what it may be used for."""

    kid: str
    """"" where it has none."""
    kind: tuple[str, str]
    """Key type and curve."""
    algorithm: str
    """The only one it is for; "" for any that fits."""
    public: PublicKey


class KeySet:
    """The keys of one issuer at one moment."""

    def __init__(self, keys: list[Key]) -> None:
        self.keys = tuple(keys)

    @classmethod
    def parse(cls, document: object) -> "KeySet":
        """Read a JWK set. What is not for signatures, or unusable, is left out.

        Raises:
            Unreachable: It is no JWK set.
        """
        listed = document.get("keys") if isinstance(document, dict) else None
        if not isinstance(listed, list):
            raise Unreachable("the issuer's keys are no JWK set")
        return cls([key for it in listed[:MOST_KEYS] if (key := _key(it)) is not None])

    def candidates(self, kid: str | None, algorithm: str) -> list[PublicKey]:
        """Return the keys that a token of this header may be verified by.

        A token without a key's id is only taken where a single key fits.
        """
        fitting = [key for key in self.keys if _fits(key, algorithm)]
        if kid is None:
            return [fitting[0].public] if len(fitting) == 1 else []
        return [key.public for key in fitting if key.kid == kid][:MOST_CANDIDATES]


def _fits(key: Key, algorithm: str) -> bool:
    kind, curves = _KINDS[algorithm]
    return key.kind[0] == kind and key.kind[1] in curves and key.algorithm in ("", algorithm)


def _key(document: object) -> Key | None:
    if not isinstance(document, dict) or not _is_for_signatures(document):
        return None
    kind, curve = document.get("kty"), document.get("crv", "")
    algorithm, kid = document.get("alg", ""), document.get("kid", "")
    texts = (kind, curve, algorithm, kid)
    if not all(isinstance(text, str) and len(text) <= _LONGEST_KID for text in texts):
        return None
    kind_and_curve = (str(kind), "" if kind == "RSA" else str(curve))
    public = _public(document, kind_and_curve)
    return None if public is None else Key(str(kid), kind_and_curve, str(algorithm), public)


def _is_for_signatures(document: dict[str, Any]) -> bool:
    """A published private key is everybody's, so that it proves nothing."""
    operations = document.get("key_ops", ["verify"])
    return (
        document.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
        and "d" not in document
    )


def _public(document: dict[str, Any], kind: tuple[str, str]) -> PublicKey | None:
    algorithms = [
        name for name, (it, curves) in _KINDS.items() if it == kind[0] and kind[1] in curves
    ]
    if not algorithms:
        return None
    try:
        key = jwt.PyJWK(document, algorithms[0]).key
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError):
        return None
    if isinstance(key, rsa.RSAPublicKey):
        return key if _RSA_BITS[0] <= key.key_size <= _RSA_BITS[1] else None
    is_public = isinstance(
        key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey
    )
    return key if is_public else None
