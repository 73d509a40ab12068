"""Stock kubectl binaries: every one that MK8S_TEST_KUBECTLS lists, or the one on PATH."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import Program, run

LISTED = "MK8S_TEST_KUBECTLS"
FOR_ALL_OF_THEM = ("--exec-version", "v1beta1")
"""For `mk8s login` and `kubeconfig sync`: kubectl before 1.22 knows no other credential plugins."""


def binaries() -> list[Path]:
    """Every kubectl to test with, each once; empty when the machine has none."""
    listed = [Path(word) for word in os.environ.get(LISTED, "").split(os.pathsep) if word]
    if not listed and (found := shutil.which("kubectl")):
        listed = [Path(found)]
    return list(dict.fromkeys(listed))


def few() -> list[Path]:
    """Some of `binaries`, far apart: for tests of what hardly depends on the client."""
    found = binaries()
    return [found[at] for at in sorted({0, len(found) // 2, len(found) - 1})] if found else []


def write_entries_for_all(environment: Mapping[str, str]) -> None:
    """Writes the kubeconfig of a login again, so that the oldest kubectl understands it, too."""
    command = (sys.executable, "-m", "mk8s_cli", "kubeconfig", "sync", *FOR_ALL_OF_THEM)
    run(command, environment)


def version_of(binary: Path) -> tuple[int, int]:
    """Its major and minor version, e.g. (1, 33)."""
    done = subprocess.run(
        [binary, "version", "--client", "-o", "json"], capture_output=True, text=True, timeout=30
    )
    found = re.search(r'"gitVersion": "v(\d+)\.(\d+)', done.stdout)
    assert found, f"{binary} tells no version: {done.stdout}{done.stderr}"
    return int(found[1]), int(found[2])


def name_of(binary: Path) -> str:
    """Short and telling, for test names: the folder too, since many are just `kubectl`."""
    return f"{binary.parent.name}-{binary.name}"


@dataclass(frozen=True, slots=True)
class Kubectl:
    """One binary used by one person: their home, their kubeconfig."""

    binary: Path
    environment: Mapping[str, str]

    def __call__(
        self, *arguments: str, stdin: str = "", seconds: float = 60, code: int | None = 0
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end; AssertionError unless it exits with `code` (None: any)."""
        command = [self.binary, *arguments]
        return run(command, self.environment, stdin=stdin, seconds=seconds, code=code)

    def start(self, *arguments: str) -> Program:
        """Run it in the background: a context manager that shows its output and ends it."""
        return Program(f"kubectl {arguments[0]}", [self.binary, *arguments], self.environment)
