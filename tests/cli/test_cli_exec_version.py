"""Which version of the plugin API an entry names, by the kubectl that is found and the cluster."""

import os
import subprocess
from pathlib import Path

import pytest

from mk8s_cli.kubeconfig import exec_version

V1 = "client.authentication.k8s.io/v1"
BETA = "client.authentication.k8s.io/v1beta1"


@pytest.mark.parametrize(
    ("asked", "cluster", "kubectl", "chosen"),
    [
        ("", "v1.32.4", "v1.22.0", V1),
        ("", "v1.22.0-eks-1", "v1.37.0+x", V1),
        ("", "", "v1.32.4", V1),
        ("", "v1.21.14", "v1.32.4", BETA),
        ("", "v1.32.4", "v1.21.0", BETA),
        ("", "v1.32.4", "", BETA),
        ("", "v1.32.4", "unknown", BETA),
        ("", "v2.0.0", "v2.1.0", V1),
        ("v1", "v1.20.0", "v1.20.0", V1),
        ("v1beta1", "v1.32.4", "v1.32.4", BETA),
    ],
)
def test_v1_where_both_are_new_enough(asked: str, cluster: str, kubectl: str, chosen: str) -> None:
    assert exec_version.choose(asked, cluster, kubectl) == chosen


@pytest.mark.parametrize(
    ("script", "version"),
    [
        ('echo \'{"clientVersion": {"gitVersion": "v1.32.4"}}\'', "v1.32.4"),
        ("echo no", ""),
        ("echo '[]'", ""),
        ("echo '{\"clientVersion\": {}}'", ""),
        ("exit 1", ""),
    ],
)
def test_kubectl_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, version: str
) -> None:
    program = tmp_path / "bin" / "kubectl"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    assert exec_version.kubectl_version() == version


def test_kubectl_is_asked_without_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some builds choose their version by the cluster, and would run our plugin for it."""
    program = tmp_path / "bin" / "kubectl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$KUBECONFIG" > {tmp_path}/asked\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    exec_version.kubectl_version()
    assert (tmp_path / "asked").read_text() == f"{os.devnull}\n"


def test_kubectl_that_hangs_or_is_absent_is_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("kubectl", 3)

    monkeypatch.setattr(subprocess, "run", hangs)
    assert exec_version.kubectl_version() == ""
    monkeypatch.setenv("PATH", "/nonexistent")
    assert exec_version.kubectl_version() == ""
