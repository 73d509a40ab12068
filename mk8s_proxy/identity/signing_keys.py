"""The RSA keys that access tokens are signed with, in memory.

Filled from the database by `app.py`; used by `access_token` and by `/.well-known/jwks.json`.
The newest key signs. A retired key signs nothing and verifies until the tokens it signed before
have ended; then `usable_keys` leaves it out, and every token that names it is refused.
"""

import base64
import dataclasses
import re
import secrets
from collections.abc import Iterable

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mk8s_proxy.db.keys import KeyRecord

KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What a `kid` may look like (use fullmatch): it never reaches a path or a query anyway."""

RSA_BITS = 2048
"""Smallest and usual size: 128 bits of security until 2030, NIST SP 800-57 part 1."""


@dataclasses.dataclass(frozen=True, slots=True)
class SigningKey:
    """One RSA key pair and the name that tokens call it by."""

    kid: str
    private_key: rsa.RSAPrivateKey = dataclasses.field(repr=False)
    retired: bool = False
    """It still verifies, but signs no more."""

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
    def from_pem(cls, kid: str, private_pem: str | bytes, *, retired: bool = False) -> "SigningKey":
        """Read a key as `private_pem` wrote it.

        Raises:
            ValueError: The PEM cannot be read, or the key is too short.
            TypeError: It is not an RSA key.
        """
        pem = private_pem.encode() if isinstance(private_pem, str) else private_pem
        key = serialization.load_pem_private_key(pem, password=None)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise TypeError(f"signing key {kid}: must be an RSA private key")
        return cls(kid, key, retired)

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


def usable_keys(
    records: Iterable[KeyRecord], *, now: float, access_seconds: float
) -> list[SigningKey]:
    """Read the stored keys that may still verify, oldest first, as `SigningKeys.replace` wants.

    Args:
        records: All keys of the database.
        now: Epoch seconds.
        access_seconds: Life of an access token: how long a retired key verifies.
    """
    oldest_first = sorted(records, key=lambda record: record.created_at)
    return [
        SigningKey.from_pem(record.kid, record.private_pem, retired=record.retired_at is not None)
        for record in oldest_first
        if record.retired_at is None or record.retired_at.timestamp() + access_seconds > now
    ]


class SigningKeys:
    """All keys in use, the last one signing. It starts empty: then nothing verifies."""

    def __init__(self, keys: Iterable[SigningKey] = ()) -> None:
        self.generation = 0
        """Grows when a key is gone or new; verified-token caches compare it."""
        self._usable: list[SigningKey] = []
        self._signing: SigningKey | None = None
        self._public: dict[str, rsa.RSAPublicKey] = {}
        self.replace(keys)

    def replace(self, keys: Iterable[SigningKey]) -> None:
        """Take the keys that may verify, oldest first."""
        usable = list(keys)
        signing = [key for key in usable if not key.retired]
        self._usable = usable
        self._signing = signing[-1] if signing else None
        public = {key.kid: key.private_key.public_key() for key in usable}
        if public != self._public:
            self._public = public
            self.generation += 1

    @property
    def active(self) -> tuple[str, rsa.RSAPrivateKey]:
        """The key that signs new tokens.

        Raises:
            LookupError: There is none.
        """
        if self._signing is None:
            raise LookupError("no signing key: run mk8s-central init")
        return self._signing.kid, self._signing.private_key

    def derive(self, purpose: bytes) -> list[bytes]:
        """Make a secret of each key, of the one that signs first: what all replicas share.

        It lives as long as the key verifies, so whatever is made with it must be short-lived, too.
        """
        signing_first = sorted(self._usable, key=lambda key: key is not self._signing)
        return [key.derive(purpose) for key in signing_first]

    def public(self, kid: str) -> rsa.RSAPublicKey | None:
        """Return the public key called `kid`, None when unknown or retired."""
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
