"""oidc-provider as an issuer: `provider.mjs` in a process of its own, ordered about by tests."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trustme

from tests.sso.calls import Answer, Caller
from tests.support.processes import Program, private_environment

PROGRAM = Path(__file__).with_name("provider.mjs")
CLIENT = {
    "client_id": "mk8s",
    "client_secret": "the secret of mk8s at oidc-provider",
    "grant_types": ["authorization_code", "refresh_token"],
}
PERSON = {"email": "nora@example.com", "email_verified": True, "name": "Nora", "groups": ["devs"]}


class NodeProvider:
    """The running provider; everybody who comes is signed in as the account that is chosen."""

    def __init__(self, issuer: str, ca: trustme.CA) -> None:
        self.issuer = issuer
        self._ca = ca

    def order(self, **orders: Any) -> None:
        """Change what it does: see `provider.mjs`."""
        Caller(self._ca).post_json(f"{self.issuer}/-/control", orders)

    def behave(self) -> None:
        """As any other provider again, with Nora signed in."""
        self.order(
            accounts={"nora": PERSON},
            account="nora",
            algorithm="RS256",
            clientChanges={},
            stall=[],
            broken={},
            garbage=[],
            deny=False,
            refreshes=True,
        )

    def asked(self, path: str) -> int:
        """How often somebody came for this path."""
        told = Caller(self._ca).get(f"{self.issuer}/-/asked").json()
        return int(told.get(path, 0))

    def sign_in(self, url: str, caller: Caller) -> str:
        """Follow the pages of the provider; where it sends the browser with the code."""
        answer: Answer = caller.get(url)
        while (location := answer.location).startswith(self.issuer):
            answer = caller.get(location)
        return location


@contextmanager
def running(
    providers: Path, folder: Path, port: int, ca: trustme.CA, redirect_uri: str
) -> Iterator[NodeProvider]:
    """The provider, until the end of the block."""
    leaf = ca.issue_cert("127.0.0.1")
    facts = {
        "port": port,
        "cert": b"".join(pem.bytes() for pem in leaf.cert_chain_pems).decode(),
        "key": leaf.private_key_pem.bytes().decode(),
        "clients": [CLIENT | {"redirect_uris": [redirect_uri]}],
    }
    words = ["node", PROGRAM, providers, json.dumps(facts)]
    with Program("oidc-provider", words, private_environment(folder)) as program:
        program.wait_for_line("^ready")
        provider = NodeProvider(f"https://127.0.0.1:{port}", ca)
        provider.behave()
        yield provider
