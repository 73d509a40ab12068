"""Service tokens on real clusters: as static bearers in the hands of every stock kubectl."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kubectl import Kubectl
from tests.support.processes import private_environment, run
from tests.support.world import MK8S, World

pytestmark = [pytest.mark.kube]

WATCH = ("-n", "shop", "get", "pods", "-w")
FOLLOW = ("-n", "shop", "logs", "-f", "web", "--tail=1")
SHELL = ("-n", "shop", "exec", "web", "--", "sh", "-c", "while sleep 1; do echo here; done")


@pytest.fixture
def name(world: World) -> Iterator[str]:
    """The name of a service token for the developer's role on prod alone."""
    made = world.fresh_name("job")
    yield made
    world.people["admin"].mk8s("admin", "tokens", "revoke", made, "--yes", code=None)


@pytest.fixture
def job(world: World, name: str, binary: Path, tmp_path: Path) -> Kubectl:
    """A static kubeconfig in a kubectl's hands, and neither home nor plugin."""
    options = ("--role", "developer", "--cluster", "prod", "--for", "1h")
    create = ("admin", "tokens", "create", name, *options)
    token, kubeconfig = tmp_path / "token", tmp_path / "kubeconfig"
    token.write_text(world.people["admin"].mk8s(*create).stdout)
    environment = private_environment(tmp_path, MK8S_CENTRAL=world.url, MK8S_CA_PIN=world.pin)
    sync = ("kubeconfig", "sync", "--token-file", str(token), "--out", str(kubeconfig), "--static")
    run([*MK8S, *sync], environment)
    return Kubectl(binary, {"PATH": "/bin", "HOME": str(tmp_path), "KUBECONFIG": str(kubeconfig)})


def test_what_a_revoked_token_has_open_ends(world: World, job: Kubectl, name: str) -> None:
    kubectl = job
    assert kubectl("-n", "shop", "get", "pods", "-o", "name").stdout == "pod/web\n"
    with (
        kubectl.start(*WATCH) as watch,
        kubectl.start(*FOLLOW) as follow,
        kubectl.start(*SHELL) as shell,
    ):
        watch.wait_for_line("web")
        follow.wait_for_line("line")
        shell.wait_for_line("here")
        world.people["admin"].mk8s("admin", "tokens", "revoke", name, "--yes")
        assert follow.wait() != 0, follow.output
        assert shell.wait() != 0, shell.output
        assert "the service token is unknown, was revoked" in shell.output
        watch.wait()
    refused = kubectl("-n", "shop", "get", "pods", code=1).stderr
    assert "must be logged in" in refused or "Unauthorized" in refused


def test_attack_a_service_token_at_another_cluster_than_its_glob(
    world: World, job: Kubectl
) -> None:
    """Whoever has the file may write another address beside it."""
    elsewhere = f"--server={world.url}/k8s/staging"
    refused = job("-n", "shop", "get", "pods", elsewhere, code=1).stderr
    # An old kubectl tells of discovery that was refused in its own words.
    assert "orbidden" in refused or "have a resource type" in refused
    job("-n", "shop", "get", "pods", f"--server={world.url}", code=1)  # which is no cluster's
