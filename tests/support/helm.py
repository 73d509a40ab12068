"""A helm for the tests of the charts: the one of MK8S_TEST_HELM4, or built from its module.

`python -m tests.support.helm` prints its path, for .ci/run; the build is kept in the cache of the
conformance clients, which use the same.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance import golang
from tests.conformance.helm_client import VERSIONS

CHARTS = Path(__file__).resolve().parents[2] / "deploy" / "helm"
VERSION, VARIABLE = VERSIONS[4]


def binary() -> str:
    """The helm that MK8S_TEST_HELM4 names; the test is skipped without one."""
    given = os.environ.get(VARIABLE, "")
    if not given:
        pytest.skip(f"{VARIABLE} not set: see deploy/docs/development.md")
    return given


def helm(*words: str, code: int | None = 0, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run helm to its end; AssertionError with its output unless it exits with `code`."""
    done = subprocess.run(
        [binary(), *words], capture_output=True, text=True, timeout=60, input=stdin
    )
    assert code is None or done.returncode == code, f"{words}: {done.stdout}{done.stderr}"
    return done


if __name__ == "__main__":
    path, problem = golang.program("helm.sh/helm/v4/cmd/helm", VERSION, VARIABLE)
    sys.exit(f"no helm: {problem}") if problem else print(path)
