"""Central as a real process that trusts the tests' issuers, and people without a window.

Made by `conftest.py`. `Visitor` takes the parts of the browser and of the CLI in one: it keeps the
cookies, follows redirects by hand and redeems the code. Each comes from an address of its own, so
that what one test does wrong does not slow the next one down.
"""

import base64
import hashlib
import itertools
import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
import trustme

from tests.sso.calls import Answer, Caller, query_of
from tests.support.processes import own_port
from tests.support.world import PASSWORDS, World

ADMIN = "admin@example.com"
REDIRECT = "http://127.0.0.1:{port}/callback"
RBAC = """
roles:
  - name: viewer
    clusters: [{name: "*", namespaces: ["*"], verbs: ["get", "list"], resources: ["pods"]}]
users:
  - email: local@example.com
    roles: ["viewer"]
"""
_ADDRESSES = itertools.count(1)


class House(World):
    """Central alone, without clusters."""

    def __init__(
        self, folder: Path, port: int, ca: trustme.CA, issuers: Sequence[dict[str, Any]]
    ) -> None:
        ca_file, certificate, key = (folder / name for name in ("ca.pem", "tls.pem", "tls.key"))
        ca_file.write_bytes(ca.cert_pem.bytes())
        leaf = ca.issue_cert("localhost", "127.0.0.1")
        certificate.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
        key.write_bytes(leaf.private_key_pem.bytes())
        key.chmod(0o600)
        super().__init__(
            folder,
            {},
            MK8S_LOGIN_ISSUERS=json.dumps([{"ca_file": str(ca_file), **it} for it in issuers]),
            MK8S_TLS_CERTIFICATE=str(certificate),
            MK8S_TLS_KEY=str(key),
            MK8S_TRUSTED_PROXIES="127.0.0.1/32",
            MK8S_POLICY_POLL_SECONDS="0.2",
        )
        self.port = port
        self.url = f"https://localhost:{port}"
        self.ca = ca
        self.ca_file = ca_file

    def policy(self) -> str:
        """Local users, of whom strangers claim to be one."""
        return RBAC

    def visitor(self) -> "Visitor":
        """Somebody who comes from an address that nobody came from before."""
        return Visitor(self)

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """Call the management API as the administrator."""
        caller = self.visitor()
        answer = caller.call("POST", "/auth/login", {"email": ADMIN, "password": PASSWORDS[ADMIN]})
        assert answer.status == 200, answer.text
        done = caller.call(method, path, body, token=answer.json()["access_token"])
        assert done.status < 300, (done.status, done.text)
        return done.json() if done.body else None


class Visitor:
    """One person at one machine: a browser's cookies and a CLI that waits on loopback."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.caller = Caller(house.ca)
        number = next(_ADDRESSES)
        self.address = f"198.18.{number // 250}.{number % 250 + 1}"
        self.redirect_uri = REDIRECT.format(port=own_port())
        self.state = secrets.token_urlsafe(24)
        self.verifier = secrets.token_urlsafe(48)

    def call(self, method: str, path: str, body: Any = None, *, token: str = "") -> Answer:
        """Call central, by a path or by a whole address."""
        headers = {"X-Forwarded-For": self.address, "User-Agent": "mk8s/test"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        url = path if path.startswith("https:") else f"{self.house.url}{path}"
        return self.caller.call(method, url, json_body=body, headers=headers)

    def get(self, path: str, **parameters: str) -> Answer:
        """GET a page of central."""
        headers = {"X-Forwarded-For": self.address}
        url = path if path.startswith("https:") else f"{self.house.url}{path}"
        return self.caller.get(url, headers, **parameters)

    def start(self, issuer: str, **changes: str) -> Answer:
        """Come to central's first page, as the CLI has the browser do."""
        digest = hashlib.sha256(self.verifier.encode()).digest()
        asked = {
            "issuer": issuer,
            "redirect_uri": self.redirect_uri,
            "state": self.state,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        return self.get("/auth/sso/start", **(asked | changes))

    def listened(self, answer: Answer) -> dict[str, str]:
        """What the CLI's listener gets by this answer of central."""
        parts = urlsplit(answer.location)
        where = f"{parts.scheme}://{parts.netloc}{parts.path}"
        assert where == self.redirect_uri, answer.location
        return query_of(answer.location)

    def redeem(self, code: str, **changes: str) -> Answer:
        """What the CLI does with a code."""
        body = {"code": code, "code_verifier": self.verifier, "redirect_uri": self.redirect_uri}
        return self.call("POST", "/auth/sso/token", body | changes)

    def log_in(self, issuer: str, approve: "Approve") -> dict[str, Any]:
        """The whole way; AssertionError unless it ends with tokens."""
        told = self.listened(self.get(approve(self.start(issuer).location)))
        assert told.get("state") == self.state, told
        assert told.get("iss") == self.house.url, told
        answer = self.redeem(told["code"])
        assert answer.status == 200, answer.text
        return dict(answer.json())

    def refused(self, issuer: str, approve: "Approve") -> str:
        """The same, of one who is not let in: why not, in words."""
        start = self.start(issuer)
        if start.status >= 400 or start.location.startswith(self.redirect_uri):
            return refusal(start)
        return refusal(self.get(approve(start.location)))


Approve = Any
"""Takes the address of the issuer's page; where the issuer sends the browser in the end."""


def refusal(answer: Answer) -> str:
    """Why central lets nobody in; AssertionError if it does."""
    if 300 <= answer.status < 400:
        told = query_of(answer.location)
        assert "code" not in told, answer.location
        assert told["error"], answer.location
        return told["error_description"]
    assert 400 <= answer.status < 600, (answer.status, answer.text)
    assert "access_token" not in answer.text
    return answer.text


def claims(tokens: dict[str, Any]) -> dict[str, Any]:
    """What central's access token says."""
    told: dict[str, Any] = jwt.decode(tokens["access_token"], options={"verify_signature": False})
    return told


@contextmanager
def serving(
    folder: Path, port: int, ca: trustme.CA, issuers: Sequence[dict[str, Any]]
) -> Iterator[House]:
    """Central, until the end of the block."""
    house = House(folder, port, ca, issuers)
    try:
        house.initialise()
        house.start_central()
        yield house
    finally:
        house.close()
