"""Access reviews through central on a newer API than the real one of the kube tests."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import kubectl as kubectls
from tests.support.kubectl import Kubectl
from tests.support.processes import Program, private_environment

CHECKOUT = str(Path(__file__).parents[2])
BINARIES = kubectls.binaries()

pytestmark = pytest.mark.skipif(not BINARIES, reason="no kubectl: set MK8S_TEST_KUBECTLS")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Of a person who is logged in to a running `mk8s demo`."""
    home = tmp_path_factory.mktemp("demo")
    directory = home / "data"
    made = private_environment(home, PYTHONPATH=CHECKOUT, TMPDIR=str(home))
    command = [sys.executable, "-m", "mk8s_cli", "demo", "--data-dir", directory]
    with Program("mk8s demo", command, made) as program:
        program.wait_for_line("Ctrl-C ends it", seconds=90)
        used = {"MK8S_HOME": str(directory / "home"), "KUBECONFIG": str(directory / "kubeconfig")}
        kubectls.write_entries_for_all(made | used)
        yield made | used


@pytest.fixture(params=BINARIES, ids=kubectls.name_of)
def through(request: pytest.FixtureRequest, environment: dict[str, str]) -> Kubectl:
    return Kubectl(request.param, environment)


def test_whoami_is_who_the_cluster_sees(through: Kubectl) -> None:
    if kubectls.version_of(through.binary) < (1, 28):
        return  # kubectl's whoami is alpha or missing
    shown = json.loads(through("auth", "whoami", "-o", "json").stdout)
    user = shown["status"]["userInfo"]
    assert user["username"] == "dev@example.com"
    told = {"mk8s:users", "mk8s:role:demo-developer", "system:authenticated"}
    assert set(user["groups"]) == told


def test_the_cluster_allows_all_and_mk8s_does_not(through: Kubectl) -> None:
    def answer(*question: str) -> str:
        return through("auth", "can-i", *question, code=None).stdout

    assert answer("get", "pods") == "yes\n"
    assert answer("create", "pods", "--subresource=exec") == "yes\n"
    assert answer("get", "secrets").startswith("no - mk8s: ")
    assert answer("*", "*").startswith("no - mk8s: ")


def test_list(through: Kubectl) -> None:
    rows = through("auth", "can-i", "--list").stdout.splitlines()
    (pods,) = [row for row in rows if row.startswith("pods ")]
    assert "get" in pods
    assert "*" not in pods.split()[-1]
    assert not any(row.startswith(("secrets", "*.* ")) for row in rows)


def test_acting_as_somebody_is_refused_without_a_rule(through: Kubectl) -> None:
    refused = through("--as", "admin@example.com", "get", "pods", code=1).stderr
    assert 'cannot impersonate resource "users"' in refused
