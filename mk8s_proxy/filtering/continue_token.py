"""Page tokens of filtered lists, sealed; called by `request` and `filter_stage`.

The API server's `continue` token holds the namespace and name of the last object of a page in
base64, hidden objects included, and nothing protects it: a user could read names out of it, or
write tokens of their own to probe for names. So clients get it encrypted, bound to who asked what.
"""

import base64
import binascii
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE: Final = 12


class TokenExpired(Exception):
    """A token that was not sealed here, or for another request."""


class TokenSeal:
    """Seals page tokens.

    Args:
        key: 32 secret bytes. Replicas that shall continue each other's lists share it; with
            another key a token counts as expired, and clients begin their list anew.
    """

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, token: str, about: bytes) -> str:
        """The token that a client gets, good for the same `about` only."""
        nonce = os.urandom(_NONCE)
        sealed = nonce + self._cipher.encrypt(nonce, token.encode(), about)
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode("ascii")

    def unseal(self, token: bytes, about: bytes) -> bytes:
        """The API server's token.

        Raises:
            TokenExpired: this is none of ours.
        """
        try:
            sealed = base64.b64decode(token + b"=" * (-len(token) % 4), b"-_", validate=True)
            return self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], about)
        except (binascii.Error, ValueError, InvalidTag) as error:
            raise TokenExpired from error
