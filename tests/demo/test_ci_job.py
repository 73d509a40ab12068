"""A CI job: an empty environment but for a service token, and stock kubectl and helm.

Real programs: the demo's central, agent and in-memory API. helm is used where there is one (on
PATH, by MK8S_TEST_HELM4, or built by the conformance runner): what it does to a cluster through
mk8s is compared there, and here only that it gets in as kubectl does.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.conformance.helm_client import VERSIONS
from tests.conformance.installing import cache_folder
from tests.support import kubectl as kubectls
from tests.support.kubectl import Kubectl
from tests.support.processes import Program, private_environment, run

CHECKOUT = str(Path(__file__).parents[2])
MK8S = (sys.executable, "-m", "mk8s_cli")
CONFIG_MAP = """
apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}-colours}
data: {sky: blue}
"""

pytestmark = pytest.mark.skipif(
    not kubectls.binaries(), reason="no kubectl: set MK8S_TEST_KUBECTLS"
)


@dataclass(frozen=True)
class Demo:
    """A running demo and its administrator."""

    folder: Path
    url: str
    administrator: dict[str, str]

    def mk8s(self, *words: str) -> str:
        return run([*MK8S, *words], self.administrator).stdout

    def job(self, **more: str) -> dict[str, str]:
        """All that a container without a home has."""
        return {
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), "/usr/bin", "/bin")),
            "PYTHONPATH": CHECKOUT,
            "MK8S_CENTRAL": self.url,
            "MK8S_CA_FILE": str(self.folder / "ca.pem"),
            "HOME": "/proc/nobody",
            **more,
        }


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("ci")
    data = folder / "data"
    environment = private_environment(folder, PYTHONPATH=CHECKOUT, TMPDIR=str(folder))
    command = [*MK8S, "demo", "--data-dir", str(data)]
    with Program("mk8s demo", command, environment) as program:
        url = program.wait_for_line(r"central at (https://127\.0\.0\.1:\d+)", seconds=90)[1]
        program.wait_for_line("Ctrl-C ends it", seconds=90)
        passwords = dict(line.split() for line in (data / "passwords").read_text().splitlines())
        shutil.copytree(data / "home", folder / ".mk8s")  # which trusts this central
        login = [*MK8S, "login", url, "--email", "admin@example.com", "--password-stdin"]
        run(login, environment, stdin=f"{passwords['admin@example.com']}\n")
        (folder / "ca.pem").write_text(_authority(folder))
        yield Demo(folder, url, environment)


def _authority(home: Path) -> str:
    config = yaml.safe_load((home / ".mk8s" / "config.yaml").read_text())
    return str(config["centrals"][0]["certificate_authority"])


def newest() -> Path:
    return max(kubectls.binaries(), key=kubectls.version_of)


def helm() -> str | None:
    version, listed = VERSIONS[4]
    built = cache_folder() / f"helm-{version}" / "helm"
    found = os.environ.get(listed) or shutil.which("helm")
    return found or (str(built) if built.exists() else None)


def test_a_job_with_nothing_but_a_token(demo: Demo, tmp_path: Path) -> None:
    create = ("admin", "tokens", "create", "ci", "--role", "demo-developer", "--for", "1h")
    token = demo.mk8s(*create).strip()
    kubeconfig = tmp_path / "kubeconfig"
    job = demo.job(MK8S_TOKEN=token, KUBECONFIG=str(kubeconfig))
    run([*MK8S, "kubeconfig", "sync", "--out", str(kubeconfig)], job)
    assert token not in kubeconfig.read_text()
    kubectl = Kubectl(newest(), job)
    assert kubectl("get", "pods", "-n", "shop").stdout.count("Running") == 3
    assert "token:ci" in kubectl("auth", "whoami").stdout
    assert 'User "token:ci" cannot list' in kubectl("get", "secrets", "-n", "shop", code=1).stderr
    assert "token:ci" in run([*MK8S, "status"], job).stdout
    _use_helm(job, tmp_path)
    demo.mk8s("admin", "tokens", "revoke", "ci", "--yes")
    assert "revoked" in kubectl("get", "pods", "-n", "shop", code=1).stderr
    rows = [line for line in demo.mk8s("audit", "list", "--user", "token:ci").splitlines() if line]
    assert rows


def _use_helm(job: dict[str, str], folder: Path) -> None:
    binary = helm()
    if binary is None:
        return
    chart = folder / "colours"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: colours\nversion: 0.1.0\n")
    (chart / "templates" / "colours.yaml").write_text(CONFIG_MAP)
    job = {**job, "HELM_DRIVER": "configmap", "HELM_CACHE_HOME": str(folder / "cache")}
    installed = run([binary, "-n", "shop", "install", "first", str(chart)], job).stdout
    assert "STATUS: deployed" in installed
    run([binary, "-n", "shop", "uninstall", "first"], job)


def test_a_static_kubeconfig_needs_no_mk8s_at_all(demo: Demo, tmp_path: Path) -> None:
    """What is open with it ends when the token is revoked."""
    create = ("admin", "tokens", "create", "cd", "--role", "demo-developer", "--for", "1h")
    token_file = tmp_path / "token"
    token_file.write_text(demo.mk8s(*create))
    kubeconfig = tmp_path / "kubeconfig"
    options = ("--token-file", str(token_file), "--out", str(kubeconfig), "--static")
    run([*MK8S, "kubeconfig", "sync", *options], demo.job())
    kubectl = Kubectl(
        newest(), {"PATH": "/bin", "HOME": str(tmp_path), "KUBECONFIG": str(kubeconfig)}
    )
    assert kubectl("get", "pods", "-n", "shop").stdout.count("Running") == 3
    with kubectl.start("get", "pods", "-n", "shop", "-w") as watching:
        watching.wait_for_line("Running")
        with kubectl.start("logs", "-n", "shop", "-f", "deployment/web") as following:
            following.wait_for_line("GET")
            demo.mk8s("admin", "tokens", "revoke", "cd", "--yes")
            following.wait()
        watching.wait()
    assert "must be logged in" in kubectl("get", "pods", "-n", "shop", code=1).stderr


def test_rotation_reaches_a_static_kubeconfig_by_its_file(demo: Demo, tmp_path: Path) -> None:
    create = ("admin", "tokens", "create", "nightly", "--role", "demo-developer", "--for", "1h")
    token_file = tmp_path / "token"
    token_file.write_text(demo.mk8s(*create))
    kubeconfig = tmp_path / "kubeconfig"
    options = ("--token-file", str(token_file), "--out", str(kubeconfig), "--static")
    run([*MK8S, "kubeconfig", "sync", *options], demo.job())
    kubectl = Kubectl(
        newest(), {"PATH": "/bin", "HOME": str(tmp_path), "KUBECONFIG": str(kubeconfig)}
    )
    following = demo.mk8s("admin", "tokens", "rotate", "nightly", "--overlap", "0s")
    assert "must be logged in" in kubectl("get", "pods", code=1).stderr
    token_file.write_text(following)
    assert kubectl("get", "pods", "-n", "shop").stdout.count("Running") == 3
