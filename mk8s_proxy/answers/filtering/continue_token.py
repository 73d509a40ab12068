"""Page tokens of filtered lists, sealed; called by `request` and `interceptor`.

The API server's `continue` token holds the namespace and name of the last object of a page in
base64, hidden objects included, and nothing protects it: a user could read names out of it, or
write tokens of their own to probe for names. So clients get it encrypted, bound to who asked what.

All replicas of central hold the same keys (`app` derives them from those that sign access tokens),
so one goes on with another's list. A token whose key is gone has expired: clients then begin their
list anew, as they do when the API server's own tokens expire after some minutes.
"""

import base64
import binascii
import contextlib
import os
from collections.abc import Iterable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE: Final = 12


class TokenExpired(Exception):
    """A token that was not sealed here, or for another request."""


class TokenSeal:
    """Seals page tokens.

    Args:
        keys: 32 secret bytes each; without any, a key that nobody else has.
    """

    def __init__(self, *keys: bytes) -> None:
        self.replace(keys)

    def replace(self, keys: Iterable[bytes]) -> None:
        """Takes the keys that are good from now on: the first one seals, each of them unseals."""
        self._ciphers = [AESGCM(key) for key in keys] or [AESGCM(os.urandom(32))]

    def seal(self, token: str, about: bytes) -> str:
        """The token that a client gets, good for the same `about` only."""
        nonce = os.urandom(_NONCE)
        sealed = nonce + self._ciphers[0].encrypt(nonce, token.encode(), about)
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode("ascii")

    def unseal(self, token: bytes, about: bytes) -> bytes:
        """The API server's token.

        Raises:
            TokenExpired: this is none of ours.
        """
        try:
            sealed = base64.b64decode(token + b"=" * (-len(token) % 4), b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise TokenExpired from error
        for cipher in self._ciphers:
            with contextlib.suppress(InvalidTag, ValueError):
                return cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], about)
        raise TokenExpired
