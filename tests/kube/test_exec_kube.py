"""`POST /clusters/{id}/exec` on a real cluster: kubectl on central, as the caller."""

import json
import ssl
import sys
import urllib.request
from typing import Any

import pytest

from tests.support.world import PASSWORDS, World

pytestmark = [
    pytest.mark.kube,
    pytest.mark.skipif(sys.platform != "linux", reason="commands are run on Linux only"),
]


def post(world: World, path: str, body: Any, token: str = "") -> Any:
    strange = ssl._create_unverified_context()
    request = urllib.request.Request(world.url + path, json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, context=strange, timeout=90) as answer:
        return json.load(answer)


def test_a_caller_without_kubectl_applies_looks_runs_and_is_refused(
    world: World, namespace: str
) -> None:
    def run(email: str, *command: str, stdin: str = "") -> Any:
        login = post(world, "/auth/login", {"email": email, "password": PASSWORDS[email]})
        body = {"command": list(command), "stdin": stdin}
        return post(world, "/clusters/prod/exec", body, login["token"])

    objects = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {b: c}\n"
    told = run("dev@example.com", "apply", "-n", namespace, "-f", "-", stdin=objects)
    assert (told["exit_code"], told["output"]) == (0, "configmap/a created\n"), told
    told = run("viewer@example.com", "get", "cm", "a", "-n", namespace, "-ojsonpath={.data.b}")
    assert (told["exit_code"], told["output"]) == (0, "c"), told
    told = run("dev@example.com", "exec", "-i", "-n", "shop", "web", "--", "cat", stdin="Größe")
    assert (told["exit_code"], told["output"]) == (0, "Größe"), told
    told = run("viewer@example.com", "delete", "cm", "a", "-n", namespace)
    assert told["exit_code"] == 1
    assert 'User "viewer@example.com" cannot delete resource "configmaps"' in told["errors"]
    below = [
        row for row in world.audit()
        if row["annotations"].get("mk8s.io/parent-audit-id") == told["id"]
    ]  # fmt: skip
    assert below
    assert {row["user"]["username"] for row in below} == {"viewer@example.com"}
