"""An issuer of tokens for CI jobs: a key of the test's, which central has from a file."""

import json
import time
from collections.abc import Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def keys() -> str:
    """What the file of `jwks_file` holds."""
    public = json.loads(RSAAlgorithm.to_jwk(_KEY.public_key()))
    return json.dumps({"keys": [public | {"kid": "k1", "alg": "RS256", "use": "sig"}]})


def token(claims: Mapping[str, Any], seconds: int = 600) -> str:
    """A token of these claims that is good for so long (negative: that has ended)."""
    now = int(time.time())
    said = {"iat": now - 600, "exp": now + seconds, **claims}
    return jwt.encode(said, _KEY, algorithm="RS256", headers={"kid": "k1"})
