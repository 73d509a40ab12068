"""Join tokens: what an agent shows once, to be admitted to one cluster.

Made and hashed here for the management API; that they work once is `mk8s_proxy.db.tokens`'s care.
"""

import hashlib
import secrets

PREFIX = "mk8s_jt_"
"""Makes a leaked token recognisable for scanners."""


def new_join_token() -> str:
    """Make a token of 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_join_token(token: str) -> str:
    """Return what the database knows a token by. 256 random bits need no slow hash."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
