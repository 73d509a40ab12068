"""Tokens of a real API server's ServiceAccounts let jobs in; a rule that goes ends what is open."""

import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.support import kubectl as kubectls
from tests.support.kubectl import Kubectl
from tests.support.world import PASSWORDS, World

pytestmark = pytest.mark.kube

FORM = "application/x-www-form-urlencoded"
JWT = "urn:ietf:params:oauth:token-type:jwt"
GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
WATCH = ("-n", "shop", "get", "pods", "-w")
SHELL = ("-n", "shop", "exec", "web", "--", "sh", "-c", "while sleep 1; do echo here; done")


@pytest.fixture(params=kubectls.few(), ids=kubectls.name_of)
def binary(request: pytest.FixtureRequest) -> Path:
    """A few stock kubectls: the answers come from central."""
    found: Path = request.param
    return found


def ask(
    world: World, method: str, path: str, body: bytes, kind: str, token: str = ""
) -> tuple[int, Any]:
    request = urllib.request.Request(world.url + path, body or None, method=method)
    request.add_header("Content-Type", kind)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    strange = ssl._create_unverified_context()
    try:
        with urllib.request.urlopen(request, context=strange, timeout=30) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def rule(world: World, method: str, name: str, body: Any = None) -> int:
    who = {"email": "admin@example.com", "password": PASSWORDS["admin@example.com"]}
    login = ask(world, "POST", "/auth/login", json.dumps(who).encode(), "application/json")[1]
    sent = json.dumps(body).encode() if body else b""
    path = f"/federation/rules/{name}"
    return ask(world, method, path, sent, "application/json", login["access_token"])[0]


def exchange(world: World, shown: str) -> tuple[int, Any]:
    form = {"grant_type": GRANT, "subject_token": shown, "subject_token_type": JWT}
    return ask(world, "POST", "/auth/token", urlencode(form).encode(), FORM)


@pytest.fixture
def rule_name(world: World, namespace: str) -> Iterator[str]:
    """A rule for one ServiceAccount of a namespace, and the keys of its cluster."""
    keys = world.direct("get", "--raw", "/openid/v1/jwks").stdout
    Path(world.federation["jwks_file"]).write_text(keys)
    world.direct("-n", namespace, "create", "serviceaccount", "deploy")
    name = world.fresh_name("rule")
    claims = {
        "kubernetes.io/namespace": [namespace],
        "kubernetes.io/serviceaccount/name": ["deploy"],
    }
    body = {"issuer": "prod", "claims": claims, "roles": ["developer"]}
    assert rule(world, "PUT", name, body) == 200
    yield name
    rule(world, "DELETE", name)


def token_of(world: World, namespace: str, account: str = "deploy", audience: str = "mk8s") -> str:
    """A projected token, as a pod finds it in its file."""
    review = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"audiences": [audience], "expirationSeconds": 600},
    }
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
    made = world.direct("create", "--raw", path, "-f", "-", stdin=json.dumps(review)).stdout
    return str(json.loads(made)["status"]["token"])


def kubectl_of(binary: Path, world: World, access: str, home: Path) -> Kubectl:
    entry = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "job",
        "clusters": [
            {
                "name": "prod",
                "cluster": {"server": f"{world.url}/k8s/prod", "insecure-skip-tls-verify": True},
            }
        ],
        "users": [{"name": "job", "user": {"token": access}}],
        "contexts": [{"name": "job", "context": {"cluster": "prod", "user": "job"}}],
    }
    path = home / "kubeconfig"
    path.write_text(json.dumps(entry))
    return Kubectl(binary, {"PATH": "/bin", "HOME": str(home), "KUBECONFIG": str(path)})


def test_a_pods_token_lets_it_in_until_its_rule_goes(
    world: World, namespace: str, rule_name: str, binary: Path, tmp_path: Path
) -> None:
    status, told = exchange(world, token_of(world, namespace))
    assert status == 200, told
    user = f"federated:prod:system:serviceaccount:{namespace}:deploy"
    assert (told["user"], told["roles"]) == (user, ["developer"])
    assert 500 < told["expires_in"] <= 600
    kubectl = kubectl_of(binary, world, told["access_token"], tmp_path)
    made = world.fresh_name("made")
    kubectl("-n", namespace, "create", "configmap", made)
    row = next(it for it in world.upstream_audit() if it.get("objectRef", {}).get("name") == made)
    assert row["impersonatedUser"]["username"] == user
    assert f"federated:{rule_name}" in row["impersonatedUser"]["groups"]
    with kubectl.start(*WATCH) as watch, kubectl.start(*SHELL) as shell:
        watch.wait_for_line("web")
        shell.wait_for_line("here")
        began = time.monotonic()
        assert rule(world, "DELETE", rule_name) == 204
        assert shell.wait() != 0, shell.output
        watch.wait()
        assert "is gone" in shell.output or "logged out" in shell.output
        print(f"ended within {time.monotonic() - began:.2f} s")
    kubectl("-n", "shop", "get", "pods", code=1)


def test_attack_tokens_of_other_accounts_and_for_others(
    world: World, namespace: str, rule_name: str
) -> None:
    assert rule_name
    world.direct("-n", namespace, "create", "serviceaccount", "evil")
    assert exchange(world, token_of(world, namespace, "evil"))[0] == 403
    world.direct("-n", "shop", "create", "serviceaccount", "deploy", code=None)
    assert exchange(world, token_of(world, "shop"))[0] == 403
    assert exchange(world, token_of(world, namespace, audience="vault"))[0] == 400
