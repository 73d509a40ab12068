"""Keycloak as the tests' identity provider: one server for a test session, a realm for each user.

Opened by `conftest.py`. The server listens on loopback
with TLS, keeps everything in memory, and ends with the last worker that uses it (`keeper.py`).
Realms are imported and changed through its administration API.
"""

import html
import json
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import trustme

from tests.sso import keeper, keycloak_server
from tests.sso.calls import Caller
from tests.support.processes import own_port

REALM = json.loads(Path(__file__).with_name("realm.json").read_text())


@dataclass(frozen=True)
class Keycloak:
    """The running server, as its administrator."""

    url: str
    password: str
    caller: Caller

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """Call the administration API; AssertionError unless it succeeds."""
        form = {
            "grant_type": "password",
            "client_id": "admin-cli",
            "username": keycloak_server.ADMIN,
            "password": self.password,
        }
        got = self.caller.post_form(f"{self.url}/realms/master/protocol/openid-connect/token", form)
        token = got.json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        answer = self.caller.call(
            method, f"{self.url}/admin{path}", json_body=body, headers=headers
        )
        assert answer.status < 300, (method, path, answer.status, answer.text)
        return answer.json() if answer.body else None

    def realm(self, redirect_uris: list[str]) -> "Realm":
        """A realm of the caller's own, imported from `realm.json`."""
        name = f"mk8s-{secrets.token_hex(4)}"
        clients = [client | {"redirectUris": redirect_uris} for client in REALM["clients"]]
        self.admin("POST", "/realms", REALM | {"realm": name, "clients": clients})
        return Realm(self, name)


@dataclass(frozen=True)
class Realm:
    """One realm: an issuer, its clients and people."""

    server: Keycloak
    name: str

    @property
    def issuer(self) -> str:
        """The issuer's URL."""
        return f"{self.server.url}/realms/{self.name}"

    def sign_in(self, url: str, username: str, caller: Caller) -> str:
        """Fill the form of its login page; where it sends the browser with the code."""
        page = caller.get(url)
        found = re.search(r'id="kc-form-login"[^>]*action="([^"]+)"', page.text)
        assert found, page.text
        form = {"username": username, "password": password_of(username)}
        return caller.post_form(html.unescape(found[1]), form).location

    def user_id(self, username: str) -> str:
        """The id (claim `sub`) of somebody."""
        query = urlencode({"username": username, "exact": "true"})
        found = self.server.admin("GET", f"/realms/{self.name}/users?{query}")
        return str(found[0]["id"])

    def change_user(self, username: str, **fields: Any) -> None:
        """Change somebody, such as `enabled=False`."""
        path = f"/realms/{self.name}/users/{self.user_id(username)}"
        self.server.admin("PUT", path, self.server.admin("GET", path) | fields)

    def rotate_keys(self) -> None:
        """A new signing key that comes before the ones there are."""
        realm_id = self.server.admin("GET", f"/realms/{self.name}")["id"]
        config = {"priority": ["500"], "enabled": ["true"], "active": ["true"]}
        self.server.admin(
            "POST",
            f"/realms/{self.name}/components",
            {
                "name": f"newer-{secrets.token_hex(2)}",
                "providerId": "rsa-generated",
                "providerType": "org.keycloak.keys.KeyProvider",
                "parentId": realm_id,
                "config": config,
            },
        )


def password_of(username: str) -> str:
    """The password of somebody in `realm.json`."""
    [found] = [user for user in REALM["users"] if user["username"] == username]
    return str(found["credentials"][0]["value"])


@contextmanager
def running(providers: Path, folder: Path, ca: trustme.CA) -> Iterator[Keycloak]:
    """The session's server; `folder` is the same for all workers of a session.

    Args:
        providers: what `build.py` made.
        folder: for its log and certificate, and for what workers tell each other.
        ca: signs the certificate of whoever starts it.
    """
    port, plain = own_port(), own_port()
    tls = folder / f"keycloak-{port}"
    tls.mkdir()
    leaf = ca.issue_cert("127.0.0.1", "localhost")
    (tls / "tls.crt").write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
    (tls / "tls.key").write_bytes(leaf.private_key_pem.bytes())
    options = (
        f"--http-port={plain}",
        f"--https-port={port}",
        f"--https-certificate-file={tls / 'tls.crt'}",
        f"--https-certificate-key-file={tls / 'tls.key'}",
    )
    facts = {"url": f"https://127.0.0.1:{port}", "password": secrets.token_urlsafe(16)}
    words = keycloak_server.command(providers, *options)
    variables = keycloak_server.environment(folder, facts["password"])
    with keeper.kept(
        folder / "keycloak.log", words, variables, keycloak_server.READY, facts
    ) as told:
        yield Keycloak(told["url"], told["password"], Caller(ca))
