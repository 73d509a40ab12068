"""Requests written by hand to central: what no kubectl would send."""

import http.client
import json
import ssl
from dataclasses import dataclass
from typing import Any

import yaml

from tests.support.world import Person, World


@dataclass(frozen=True, slots=True)
class Answer:
    """One response, whole."""

    code: int
    headers: dict[str, str]
    body: bytes

    @property
    def status(self) -> dict[str, Any]:
        """The body as a Kubernetes Status; AssertionError when it is none."""
        document: dict[str, Any] = json.loads(self.body)
        assert document["kind"] == "Status", document
        assert document["apiVersion"] == "v1"
        assert document["code"] == self.code
        return document


def authority_of(person: Person) -> str:
    """The CA that `mk8s login` pinned, as PEM."""
    config = yaml.safe_load((person.home / ".mk8s" / "config.yaml").read_text())
    pem: str = config["centrals"][0]["certificate_authority"]
    return pem


def token_of(person: Person, world: World, cluster: str) -> str:
    """What the exec plugin hands to kubectl for this cluster."""
    shown = person.mk8s("get-token", "--cluster", cluster, "--central", world.url)
    token: str = json.loads(shown.stdout)["status"]["token"]
    return token


def send(
    world: World,
    target: str,
    *,
    token: str = "",
    method: str = "GET",
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
) -> Answer:
    """One HTTP/1.1 request with exactly this target."""
    tls = ssl.create_default_context(cadata=authority_of(world.people["admin"]))
    connection = http.client.HTTPSConnection("localhost", world.port, context=tls, timeout=30)
    try:
        credential = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request(method, target, body, credential | (headers or {}))
        response = connection.getresponse()
        named = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, named, response.read())
    finally:
        connection.close()
