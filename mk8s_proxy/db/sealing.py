"""Secrets in the database, sealed under a key that is not in it.

A :class:`Vault` is made by `process.vault` from a file or the environment and carried by
:class:`~mk8s_proxy.db.engine.Database`; the stores that keep a secret seal it on its way in and
open it on its way out. Whoever reads the database, or a backup of it, has nothing without the key.
Each secret is bound to the place that it is kept at, so that no row can stand in for another one.

Several keys let the key itself be changed: the first one seals, all of them open.
"""

import base64
import binascii
import hashlib
import re
import secrets
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mk8s_proxy.db.errors import StoreError

KEY_BYTES: Final = 32
"""AES-256."""
MOST_KEYS: Final = 8
"""At once: two while one follows the other, and some to spare."""

_NONCE_BYTES: Final = 12
"""Random; for AES-GCM good for 2**32 secrets under one key (NIST SP 800-38D, 8.3)."""
_SEALED: Final = re.compile(r"sealed:v1:([0-9a-f]{12}):([A-Za-z0-9_-]+={0,2})")
_PREFIX: Final = "sealed:"
_PURPOSE: Final = b"mk8s sealed v1\0"


class SealError(StoreError):
    """A secret cannot be sealed or opened; the message is one line that says what to do."""


class Vault:
    """The keys in use. Without any, nothing can be sealed or opened.

    Args:
        keys: of 32 bytes; the first one seals.
    """

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        self._keys = {_key_id(key): AESGCM(key) for key in keys}
        self.key_ids = tuple(self._keys)
        """Names of the keys, which tell nothing about them; the one that seals comes first."""

    def __repr__(self) -> str:
        return f"<Vault {', '.join(self.key_ids) or 'without a key'}>"

    def seal(self, place: str, secret: str) -> str:
        """Seal a secret for one place, such as "signing_keys/KID".

        Raises:
            SealError: there is no key.
        """
        if not self.key_ids:
            raise SealError(f"there is no key to seal {place} with: set secrets.key_file")
        first, nonce = self.key_ids[0], secrets.token_bytes(_NONCE_BYTES)
        sealed = self._keys[first].encrypt(nonce, secret.encode(), _bound(place))
        return f"sealed:v1:{first}:{base64.urlsafe_b64encode(nonce + sealed).decode()}"

    def open(self, place: str, text: str) -> str:
        """Give back what `seal` took.

        Raises:
            SealError: it is not sealed, by another key, for another place, or damaged.
        """
        key, content = self._parts(place, text)
        try:
            nonce, sealed = content[:_NONCE_BYTES], content[_NONCE_BYTES:]
            return key.decrypt(nonce, sealed, _bound(place)).decode()
        except (InvalidTag, ValueError):
            raise SealError(
                f"{place} was damaged, or put there from another place: restore the database"
            ) from None

    def is_current(self, text: str) -> bool:
        """Whether a secret is sealed by the key that seals now."""
        found = _SEALED.fullmatch(text)
        return found is not None and found[1] == self.key_ids[0]

    def sealed_again(self, place: str, text: str) -> str | None:
        """What is to be kept in place of a secret, sealed or not yet; None if it may stay.

        Raises:
            SealError: it cannot be opened, or there is no key.
        """
        if not is_sealed(text):
            return self.seal(place, text)
        clear = self.open(place, text)  # also where it stays: a wrong key is found out at once
        return None if self.is_current(text) else self.seal(place, clear)

    def _parts(self, place: str, text: str) -> tuple[AESGCM, bytes]:
        found = _SEALED.fullmatch(text)
        if found is None:
            what = "damaged" if is_sealed(text) else "not sealed: an older mk8s-central wrote it"
            raise SealError(f"{place} is {what}; restore the database, or restart mk8s-central")
        key = self._keys.get(found[1])
        if key is None:
            raise SealError(
                f"{place} is sealed by the key {found[1]}, which is not among those given "
                f"({', '.join(self.key_ids) or 'none'}): put the right one into secrets.key_file "
                "or MK8S_SECRETS_KEY"
            )
        try:
            return key, base64.urlsafe_b64decode(found[2])
        except (binascii.Error, ValueError):
            return key, b""


def is_sealed(text: str) -> bool:
    """Whether a text is a sealed secret, or says that it is."""
    return text.startswith(_PREFIX)


def new_key() -> str:
    """A key as it stands in a file or in the environment."""
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def parse_keys(text: str) -> list[bytes]:
    """Read keys: base64 of 32 bytes each, white space or commas between; "#" begins a comment.

    Raises:
        ValueError: there is none, there are too many, or one is no key. No key is quoted.
    """
    lines = [line.partition("#")[0] for line in text.splitlines()]
    words = " ".join(lines).replace(",", " ").split()
    if not 0 < len(words) <= MOST_KEYS:
        raise ValueError(f"holds {len(words)} keys; it must be 1 to {MOST_KEYS}")
    keys = [_parse_key(word, number) for number, word in enumerate(words, 1)]
    if len(set(keys)) < len(keys):
        raise ValueError("holds the same key twice")
    return keys


def _parse_key(word: str, number: int) -> bytes:
    try:
        key = base64.b64decode(word.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(
            f"key {number} is not base64 of {KEY_BYTES} bytes; make one: openssl rand -base64 32"
        )
    return key


def _key_id(key: bytes) -> str:
    return hashlib.sha256(b"mk8s sealing key\0" + key).hexdigest()[:12]


def _bound(place: str) -> bytes:
    return _PURPOSE + place.encode()
