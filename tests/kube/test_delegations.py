"""`mk8s delegate` on a real cluster, in the hands of every stock kubectl."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.kubectl import Kubectl
from tests.support.world import Person

pytestmark = [pytest.mark.kube]

READING = ("delegate", "--for", "10m", "--cluster", "prod", "--namespace", "shop", "--verb",
           "get,list", "--")  # fmt: skip


def test_a_delegation_reads_and_does_nothing_else(
    newcomer: Callable[[str], Person], binary: Path
) -> None:
    person = newcomer("dev@example.com")
    person.use("prod")

    def delegated(*words: str, code: int = 0) -> str:
        done = person.mk8s(*READING, str(binary), *words, code=code)
        return done.stdout + done.stderr

    assert "pod/web\n" in delegated("get", "pods", "-n", "shop", "-o", "name")
    everywhere = delegated("get", "pods", "-A", "-o", "custom-columns=N:.metadata.namespace")
    assert {"shop", "kube-system", "default"}.intersection(everywhere.splitlines()) == {"shop"}
    for words in (
        ("delete", "pod", "web", "-n", "shop"),
        ("exec", "web", "-n", "shop", "--", "id"),
        ("get", "pods", "-n", "default"),
        ("get", "nodes"),
        ("get", "secrets", "-n", "shop"),
        ("get", "pods", "-n", "shop", "--as", "admin@example.com"),
        ("create", "token", "default", "-n", "shop"),
    ):
        said = delegated(*words, code=1)
        assert "orbidden" in said or "unknown command" in said, said
    assert "no" in delegated("auth", "can-i", "delete", "pods", "-n", "shop", code=1)
    assert "yes" in delegated("auth", "can-i", "list", "pods", "-n", "shop")
    assert person.kubectl(binary)("get", "pods", "-n", "shop", "-o", "name").stdout == "pod/web\n"


def test_what_a_delegation_has_open_ends_with_its_owners_login(
    newcomer: Callable[[str], Person], binary: Path, tmp_path: Path
) -> None:
    person = newcomer("dev@example.com")
    person.use("prod")
    out = tmp_path / "delegated"
    person.mk8s("delegate", "--out", str(out), "--verb", "logs,get", "--resource", "pods")
    lent = Kubectl(binary, {**person.environment, "KUBECONFIG": str(out / "kubeconfig")})
    with lent.start("-n", "shop", "logs", "-f", "web", "--tail=1") as follow:
        follow.wait_for_line("line")
        person.mk8s("logout")
        assert follow.wait() != 0, follow.output
    lent("-n", "shop", "get", "pods", "web", code=1)
