"""`mk8s delegate` with real programs: the demo's central and agent, and stock kubectl."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support import kubectl as kubectls
from tests.support.kubectl import Kubectl
from tests.support.processes import Program, private_environment, run

CHECKOUT = str(Path(__file__).parents[2])
MK8S = (sys.executable, "-m", "mk8s_cli")
READING = ("delegate", "--namespace", "shop", "--verb", "get,list,watch")

pytestmark = pytest.mark.skipif(
    not kubectls.binaries(), reason="no kubectl: set MK8S_TEST_KUBECTLS"
)


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The environment of the demo's person, who is logged in."""
    folder = tmp_path_factory.mktemp("delegate")
    data = folder / "data"
    environment = private_environment(folder, PYTHONPATH=CHECKOUT, TMPDIR=str(folder))
    with Program("mk8s demo", [*MK8S, "demo", "--data-dir", str(data)], environment) as program:
        program.wait_for_line("Ctrl-C ends it", seconds=120)
        yield {
            **environment,
            "MK8S_HOME": str(data / "home"),
            "KUBECONFIG": str(data / "kubeconfig"),
        }


@pytest.fixture
def binary() -> Path:
    return max(kubectls.binaries(), key=kubectls.version_of)


def test_a_command_may_do_less(owner: Mapping[str, str], binary: Path) -> None:
    def delegated(*words: str, code: int = 0) -> str:
        done = run([*MK8S, *READING, "--", str(binary), *words], owner, code=code)
        return done.stdout + done.stderr

    seen = delegated("get", "pods", "-A", "-o", "name")
    assert seen.count("pod/web-") == 3
    for words in (
        ("delete", "pod", "--all", "-n", "shop"),
        ("exec", "deployment/web", "-n", "shop", "--", "id"),
        ("get", "pods", "-n", "default"),
        ("logs", "deployment/web", "-n", "shop"),
        ("get", "nodes"),
    ):
        said = delegated(*words, code=1)
        assert "the delegation allows get, list, watch of * in shop, and no more" in said, said
    refused = "no - mk8s: the delegation allows get, list, watch of * in shop, and no more"
    assert refused in delegated("auth", "can-i", "delete", "pods", "-n", "shop", code=1)
    assert "web" in Kubectl(binary, owner)("get", "pods", "-n", "shop").stdout


def test_attack_a_command_delegates_to_itself(owner: Mapping[str, str]) -> None:
    again = [*MK8S, *READING, "--", *MK8S, "delegate", "--verb", "*", "--", "true"]
    said = run(again, owner, code=1).stderr
    assert "a delegation reads what it may use, and does nothing else here" in said


def test_the_audit_and_the_status_name_both(owner: Mapping[str, str]) -> None:
    status = [*MK8S, *READING, "--label", "robot", "--", *MK8S, "status"]
    shown = run(status, owner).stdout
    assert "delegate:    robot/" in shown
    assert "for dev@example.com: get,list,watch of *, namespaces shop" in shown
    assert "by delegation, valid until" in shown


def test_what_somebody_else_has_open_ends_with_it(
    owner: Mapping[str, str], binary: Path, tmp_path: Path
) -> None:
    out = tmp_path / "lent"
    run([*MK8S, "delegate", "--label", "bob", "--out", str(out)], owner)
    assert "delegated:   to bob" in run([*MK8S, "status"], owner).stdout
    nobody = private_environment(tmp_path, KUBECONFIG=str(out / "kubeconfig"), PYTHONPATH=CHECKOUT)
    lent = Kubectl(binary, nobody)
    with lent.start("get", "pods", "-n", "shop", "-w") as watch:
        watch.wait_for_line("web-")
        run([*MK8S, "delegate", "--end", str(out)], owner)
        watch.wait()
    assert not out.exists()
    assert "delegated" not in run([*MK8S, "status"], owner).stdout


def test_a_command_of_central_is_narrowed_too(owner: Mapping[str, str], tmp_path: Path) -> None:
    """`POST /clusters/{id}/exec` runs kubectl with the delegation's rights."""
    call = (
        "import json, os, sys\n"
        "from mk8s_cli.login import access_tokens, config\n"
        "central = access_tokens.connect(config.profile_for())\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    done = central.call('POST', '/clusters/demo/exec', {'command': words})\n"
        "    print(done['exit_code'], done['output'], done['errors'])\n"
    )
    words = '[["get","pods","-n","shop","-o","name"],["delete","pod","--all","-n","shop"]]'
    done = run([*MK8S, *READING, "--", sys.executable, "-c", call, words], owner)
    assert done.stdout.startswith("0 pod/web-")
    assert "the delegation allows get, list, watch of * in shop, and no more" in done.stdout
