"""Real Kubernetes clusters for the kube tests, started once for the session and always stopped.

MK8S_TEST_CLUSTER is the command that starts one (`COMMAND up NAME [--node]` prints a kubeconfig,
`COMMAND down NAME` ends it). Only one test session of a machine may have clusters at a time: the
others wait for the lock. The workers of one session (pytest-xdist) share it; each has clusters of
its own.
"""

import fcntl
import os
import shlex
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

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
def machine_lock(session: str = "") -> Iterator[None]:
    """Hold the machine's one place for test clusters (.ci/run knows this file too).

    Processes that give the same `session` hold it together.
    """
    path = Path(tempfile.gettempdir()) / "mk8s-test.lock"
    with path.open("a+") as lock:
        if not session:
            fcntl.flock(lock, fcntl.LOCK_EX)
        while session and not _took(lock, session):
            time.sleep(0.5)
        yield


def _took(lock: TextIO, session: str) -> bool:
    """Try to hold the lock: the first of a session writes its name, the others find it there."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock.truncate(0)
        lock.write(session)
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_SH)
    except BlockingIOError:
        return _joined(lock, session)
    return True


def _joined(lock: TextIO, session: str) -> bool:
    """Whether those who hold the lock together are of this session."""
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    lock.seek(0)
    if lock.read() == session:
        return True
    fcntl.flock(lock, fcntl.LOCK_UN)
    return False


def name_of(cluster: str) -> str:
    """The name of this worker's own cluster."""
    return "-".join(filter(None, (cluster, os.environ.get("PYTEST_XDIST_WORKER"))))


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
    with machine_lock(os.environ.get("PYTEST_XDIST_TESTRUNUID", "")):
        yield


@pytest.fixture(scope="session")
def kube_cluster(cluster_place: None, oldest: bool) -> Iterator[Path]:
    """The admin kubeconfig of a real cluster with one real node."""
    with running(name_of("mk8s-test"), "--node", oldest=oldest) as kubeconfig:
        yield kubeconfig


@pytest.fixture(scope="session")
def second_cluster(cluster_place: None, oldest: bool) -> Iterator[Path]:
    """The admin kubeconfig of another real control plane, without a node."""
    with running(name_of("mk8s-test-2"), oldest=oldest) as kubeconfig:
        yield kubeconfig
