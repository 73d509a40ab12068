"""An issuer of our own that signs whatever a test wants: for tokens no real provider would make.

It listens on loopback with TLS and runs in threads of the test. There are no pages: the test takes
the part of the browser with `approve`.
"""

import base64
import hashlib
import json
import secrets
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jwt
import trustme
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.sso.calls import query_of, with_query

LONGEST_STALL = 60
PERSON = {"sub": "1001", "email": "olga@example.com", "email_verified": True, "name": "Olga"}
CLIENT_ID = "mk8s"
CLIENT_SECRET = "the secret of mk8s at the odd issuer"

Claims = dict[str, Any]


class Key:
    """A signing key of an issuer."""

    def __init__(self, kid: str = "") -> None:
        self.kid = kid or self.fresh_kid()
        self.private = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @staticmethod
    def fresh_kid() -> str:
        """A key's id that no other has."""
        return secrets.token_hex(8)

    @property
    def jwk(self) -> dict[str, Any]:
        """What is published of it."""
        return self.jwk_of(self.private.public_key(), self.kid)

    @staticmethod
    def jwk_of(public: rsa.RSAPublicKey, kid: str) -> dict[str, Any]:
        """A key as it is published."""
        numbers = jwt.algorithms.RSAAlgorithm.to_jwk(public, as_dict=True)
        return {**numbers, "kid": kid, "use": "sig", "alg": "RS256"}

    @property
    def pem(self) -> bytes:
        """The public half."""
        public = self.private.public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, claims: Claims, **header: Any) -> str:
        """A token of these claims."""
        return jwt.encode(claims, self.private, "RS256", {"kid": self.kid, **header})


@dataclass
class Code:
    """What a code of the issuer stands for."""

    asked: dict[str, str]
    claims: Claims
    used: bool = False


@dataclass
class Behaviour:
    """What a test has changed; a fresh one for each."""

    claims: Claims = field(default_factory=dict)
    """Over those of the person; None takes one away."""
    forge: Callable[[Claims], str] | None = None
    """Makes the token of the claims, in place of a signature with the published key."""
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    """By path, in place of what belongs there."""
    stalls: set[str] = field(default_factory=set)
    """Paths where no answer comes."""
    forgets_pkce: bool = False
    gone: bool = False
    """The person was removed: nothing is refreshed."""
    metadata: dict[str, Any] = field(default_factory=dict)


class OddIssuer:
    """The issuer, as its owner."""

    def __init__(self, url: str, key: Key) -> None:
        self.url = url
        self.key = key
        self.published = [self.key.jwk]
        self.behaviour = Behaviour()
        self.asked: Counter[str] = Counter()
        """Requests, by path behind the issuer's own."""
        self.closing = threading.Event()
        self._codes: dict[str, Code] = {}
        self._refresh: dict[str, Claims] = {}

    def reset(self) -> None:
        """Behave like any other issuer again."""
        self.behaviour = Behaviour()
        self.published = [self.key.jwk]
        self.asked.clear()

    def rotate(self) -> Key:
        """Sign by a new key; the old one is published no more."""
        self.key = Key()
        self.published = [self.key.jwk]
        return self.key

    def approve(self, url: str, **changes: str) -> str:
        """Sign the person in who came to this address; where the browser is sent back to."""
        assert url.startswith(f"{self.url}/authorize?"), url
        asked = query_of(url)
        code = secrets.token_urlsafe(16)
        self._codes[code] = Code(asked, PERSON | self.behaviour.claims)
        told = {"code": code, "state": asked["state"], "iss": self.url} | changes
        return with_query(asked["redirect_uri"], **told)

    # What is answered, by path.

    def metadata(self) -> dict[str, Any]:
        """OpenID Connect Discovery 1.0."""
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "HS256", "none"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
            "scopes_supported": ["openid", "email", "profile", "offline_access"],
            **self.behaviour.metadata,
        }

    def answer(self, path: str, form: Mapping[str, str]) -> tuple[int, bytes]:
        """Status and body."""
        self.asked[path] += 1
        if path in self.behaviour.stalls:
            self.closing.wait(LONGEST_STALL)
        if path in self.behaviour.answers:
            return self.behaviour.answers[path]
        if path == "/.well-known/openid-configuration":
            return 200, json.dumps(self.metadata()).encode()
        if path == "/jwks":
            return 200, json.dumps({"keys": self.published}).encode()
        if path == "/token":
            status, body = self.token(form)
            return status, json.dumps(body).encode()
        return 404, b"{}"

    def token(self, form: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        """RFC 6749 sections 4.1.3 and 6."""
        if form.get("grant_type") == "refresh_token":
            claims = self._refresh.pop(form["refresh_token"], None)
            if claims is None or self.behaviour.gone:
                return 400, {"error": "invalid_grant"}
            return 200, self._tokens(claims, None)
        code = self._codes.get(form.get("code", ""))
        if code is None or code.used or not self._proves(code, form):
            return 400, {"error": "invalid_grant"}
        code.used = True
        return 200, self._tokens(code.claims, code.asked.get("nonce"))

    def _proves(self, code: Code, form: Mapping[str, str]) -> bool:
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        proof = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        same = code.asked["redirect_uri"] == form.get("redirect_uri")
        return same and (self.behaviour.forgets_pkce or proof == code.asked["code_challenge"])

    def _tokens(self, person: Claims, nonce: str | None) -> dict[str, Any]:
        refresh = secrets.token_urlsafe(16)
        self._refresh[refresh] = person
        now = int(time.time())
        made = {"iss": self.url, "aud": CLIENT_ID, "iat": now, "exp": now + 300, "nonce": nonce}
        claims = made | person | self.behaviour.claims
        claims = {name: value for name, value in claims.items() if value is not None}
        forge = self.behaviour.forge or self.key.sign
        return {
            "access_token": secrets.token_urlsafe(16),
            "token_type": "Bearer",
            "expires_in": 60,
            "refresh_token": refresh,
            "id_token": forge(claims),
        }


def url_of(port: int, name: str) -> str:
    """Where the issuer of a name is."""
    return f"https://127.0.0.1:{port}/{name}"


@contextmanager
def serving(
    port: int, ca: trustme.CA, names: Iterable[str], faulty: Iterable[str]
) -> Iterator[dict[str, OddIssuer]]:
    """Issuers of these names, listening until the end of the block: each has a path of its own.

    Those that are faulty sign nothing good, so one key is enough for all of them.
    """
    issuers = {name: OddIssuer(url_of(port, name), Key()) for name in names}
    key = Key()
    issuers |= {name: OddIssuer(url_of(port, name), key) for name in faulty}

    class Handler(BaseHTTPRequestHandler):
        timeout = LONGEST_STALL

        def do_GET(self) -> None:
            self._answer({})

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            self._answer(dict(parse_qsl(self.rfile.read(length).decode())))

        def _answer(self, form: dict[str, str]) -> None:
            name, _, path = urlsplit(self.path).path.removeprefix("/").partition("/")
            issuer = issuers[name]
            status, body = issuer.answer(f"/{path}", form)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            if 300 <= status < 400:
                self.send_header("Location", f"{issuer.url}/elsewhere")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing: pytest shows what matters."""

    server = Server(("127.0.0.1", port), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="odd issuer")
    thread.start()
    try:
        yield issuers
    finally:
        for issuer in issuers.values():
            issuer.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


class Server(ThreadingHTTPServer):
    """Whoever breaks a connection off is no news."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing."""
