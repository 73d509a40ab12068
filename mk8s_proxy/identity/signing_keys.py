"""The RSA keys that access tokens are signed with, in memory.

Filled by `process.key_feed`; used by `access_token` and by `/.well-known/jwks.json`. A new key
verifies at once and signs later (`key_rotation` says when); a key that is not here is unknown, and
every token that names it is refused.
"""

import base64
import dataclasses
import re
import secrets
from collections.abc import Iterable

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What a `kid` may look like (use fullmatch): it never reaches a path or a query anyway."""

RSA_BITS = 2048
"""Smallest and usual size: 128 bits of security until 2030, NIST SP 800-57 part 1."""


@dataclasses.dataclass(frozen=True, slots=True)
class SigningKey:
    """One RSA key pair and the name that tokens call it by."""

    kid: str
    private_key: rsa.RSAPrivateKey = dataclasses.field(repr=False)
    signs_from: float = 0.0
    """Epoch seconds. Before, some replica may not know it yet."""

    def __post_init__(self) -> None:
        if not KEY_ID.fullmatch(self.kid):
            raise ValueError(f"signing key id {self.kid!r}: must match {KEY_ID.pattern}")
        if not isinstance(self.private_key, rsa.RSAPrivateKey):
            raise TypeError(f"signing key {self.kid}: must be an RSA private key")
        if self.private_key.key_size < RSA_BITS:
            raise ValueError(f"signing key {self.kid}: must have at least {RSA_BITS} bits")

    @classmethod
    def generate(cls) -> "SigningKey":
        """Make a new key with a random id."""
        private_key = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
        return cls(secrets.token_urlsafe(12), private_key)

    @classmethod
    def from_pem(
        cls, kid: str, private_pem: str | bytes, *, signs_from: float = 0.0
    ) -> "SigningKey":
        """Read a key as `private_pem` wrote it.

        Whether the numbers are primes is not asked: that takes 50 ms on the event loop, and a key
        that is damaged in the database makes signatures that nobody accepts.

        Raises:
            ValueError: The PEM cannot be read, or the key is too short.
            TypeError: It is not an RSA key.
        """
        pem = private_pem.encode() if isinstance(private_pem, str) else private_pem
        key = serialization.load_pem_private_key(
            pem, password=None, unsafe_skip_rsa_key_validation=True
        )
        if not isinstance(key, rsa.RSAPrivateKey):
            raise TypeError(f"signing key {kid}: must be an RSA private key")
        return cls(kid, key, signs_from)

    def derive(self, purpose: bytes) -> bytes:
        """Make 32 secret bytes of the private key (HKDF, RFC 5869), others for each purpose."""
        exponent = self.private_key.private_numbers().d
        secret = exponent.to_bytes(self.private_key.key_size // 8, "big")
        return HKDF(hashes.SHA256(), 32, salt=None, info=purpose).derive(secret)

    def private_pem(self) -> str:
        """Return the key as unencrypted PKCS #8 PEM, for the database."""
        return self.private_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()


class SigningKeys:
    """All keys in use. It starts empty: then nothing verifies."""

    def __init__(self, keys: Iterable[SigningKey] = ()) -> None:
        self.generation = 0
        """Grows when a key is gone or new; verified-token caches compare it."""
        self._usable: list[SigningKey] = []
        self._public: dict[str, rsa.RSAPublicKey] = {}
        self.replace(keys)

    def replace(self, keys: Iterable[SigningKey]) -> None:
        """Take the keys that may verify, oldest first."""
        self._usable = list(keys)
        public = {key.kid: key.private_key.public_key() for key in self._usable}
        if public != self._public:
            self._public = public
            self.generation += 1

    def signing(self, now: float) -> SigningKey:
        """The key that signs at `now` (epoch seconds): the newest whose time has come.

        Where no key's has, as after the first was made, the oldest signs.

        Raises:
            LookupError: There is none.
        """
        if not self._usable:
            raise LookupError("no signing key: run mk8s-central init")
        return next(
            (key for key in reversed(self._usable) if key.signs_from <= now), self._usable[0]
        )

    def derive(self, purpose: bytes, now: float) -> list[bytes]:
        """Make a secret of each key, of the one that signs first: what all replicas share.

        It lives as long as the key verifies, so whatever is made with it must be short-lived, too.
        """
        if not self._usable:
            return []
        signing = self.signing(now)
        return [
            key.derive(purpose) for key in sorted(self._usable, key=lambda it: it is not signing)
        ]

    def public(self, kid: str) -> rsa.RSAPublicKey | None:
        """Return the public key called `kid`, None when it is unknown."""
        return self._public.get(kid)

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """Return the public keys as a JWK set, RFC 7517 section 5."""
        return {"keys": [_jwk(kid, key) for kid, key in self._public.items()]}


def _jwk(kid: str, key: rsa.RSAPublicKey) -> dict[str, str]:
    numbers = key.public_numbers()
    return {
        "kty": "RSA",
        "use": "sig",
        "alg": "RS256",
        "kid": kid,
        "n": _base64url(numbers.n),
        "e": _base64url(numbers.e),
    }


def _base64url(number: int) -> str:
    """Encode as Base64urlUInt, RFC 7518 section 2: no leading zero bytes, no padding."""
    octets = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
