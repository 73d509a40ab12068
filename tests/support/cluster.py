"""Real Kubernetes clusters for the kube tests, started once for the session and always stopped.

MK8S_TEST_CLUSTER is the command that starts one (`COMMAND up NAME [--node]` prints a kubeconfig,
`COMMAND down NAME` ends it). Only one test session of a machine may have clusters at a time, since
only one kubelet fits: the others wait for the lock.
"""

import fcntl
import os
import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

COMMAND = "MK8S_TEST_CLUSTER"
OLDEST = "MK8S_TEST_OLDEST_ASSETS"
"""The folder with the programs of the oldest Kubernetes to test with, for `pytest --oldest`."""
START_SECONDS = 300
STOP_SECONDS = 60


def environment(oldest: bool) -> dict[str, str]:
    """What the command runs with: the programs of today's Kubernetes, or of the oldest."""
    return dict(os.environ) | ({"KUBEBUILDER_ASSETS": os.environ[OLDEST]} if oldest else {})


@contextmanager
def machine_lock() -> Iterator[None]:
    """Hold the machine's one place for test clusters (.ci/run knows this file too)."""
    path = Path(tempfile.gettempdir()) / "mk8s-test.lock"
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def running(name: str, *options: str, oldest: bool = False) -> Iterator[Path]:
    """A cluster of this name for the length of the block; the path of its admin kubeconfig."""
    command = shlex.split(os.environ[COMMAND])
    stop = [*command, "down", name]
    # A run that was killed may have left its cluster behind.
    subprocess.run(stop, stdin=subprocess.DEVNULL, check=True, timeout=STOP_SECONDS)
    try:
        started = subprocess.run(
            [*command, "up", name, *options],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            env=environment(oldest),
        )
        assert started.returncode == 0, f"no cluster:\n{started.stdout}{started.stderr}"
        yield Path(started.stdout.split()[-1])
    finally:
        subprocess.run(stop, stdin=subprocess.DEVNULL, check=True, timeout=STOP_SECONDS)


@pytest.fixture(scope="session")
def cluster_place(oldest: bool) -> Iterator[None]:
    """The right to start clusters on this machine."""
    needed = [COMMAND, OLDEST] if oldest else [COMMAND]
    if missing := [name for name in needed if not os.environ.get(name)]:
        pytest.skip(f"{', '.join(missing)} not set: see deploy/docs/development.md")
    with machine_lock():
        yield


@pytest.fixture(scope="session")
def kube_cluster(cluster_place: None, oldest: bool) -> Iterator[Path]:
    """The admin kubeconfig of a real cluster with one real node."""
    with running("mk8s-test", "--node", oldest=oldest) as kubeconfig:
        yield kubeconfig


@pytest.fixture(scope="session")
def second_cluster(cluster_place: None, oldest: bool) -> Iterator[Path]:
    """The admin kubeconfig of another real control plane, without a node."""
    with running("mk8s-test-2", oldest=oldest) as kubeconfig:
        yield kubeconfig
