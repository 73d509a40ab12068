"""A person's machine for the CLI tests: own home, no keyring, no proxy, a central to talk to."""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

# Imported before a test replaces what they import by name.
from mk8s_cli.central import certificate
from mk8s_cli.login import keyring_access
from mk8s_cli.main import main
from tests.cli.fake_central import EMAIL, PASSWORD, FakeCentral

CHECKOUT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line of an error, which is never a traceback."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory of its own and an environment in which nothing of this machine shows."""
    for name in (
        "MK8S_CENTRAL",
        "MK8S_TOKEN",
        "MK8S_CA_FILE",
        "MK8S_CA_PIN",
        "KUBECONFIG",
        "HTTPS_PROXY",
        "https_proxy",
        "KUBERNETES_EXEC_INFO",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("MK8S_HOME", raising=False)
    monkeypatch.setenv("MK8S_TOKEN_FILE", "")  # which `kubeconfig sync --token-file` sets
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    # As at the start of a process, of which a test runs several in one.
    monkeypatch.setattr(keyring_access, "_patience", keyring_access._Patience())
    return tmp_path


@pytest.fixture
def central() -> Iterator[FakeCentral]:
    with FakeCentral().running() as running:
        yield running


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run `mk8s` in this process; `stdin` is what is piped into it."""

    def run_once(*words: str, stdin: str = "") -> Result:
        reading, writing = os.pipe()
        os.write(writing, stdin.encode())
        os.close(writing)
        with os.fdopen(reading) as piped:
            monkeypatch.setattr(sys, "stdin", piped)
            capfd.readouterr()
            code = main(list(words))
        out, err = capfd.readouterr()
        return Result(code, out, err)

    return run_once


@pytest.fixture
def log_in(run: Run, central: FakeCentral) -> Callable[[], Result]:
    """Log in by password with the right pin; the warning about the keyring is expected."""

    def log_in_once() -> Result:
        pin = certificate.pin(central.authority_pem)
        command = ("login", central.url, "--email", EMAIL, "--ca-pin", pin, "--password-stdin")
        result = run(*command, stdin=f"{PASSWORD}\n")
        assert result.code == 0, result.err
        return result

    return log_in_once


@pytest.fixture
def logged_in(log_in: Callable[[], Result]) -> Result:
    return log_in()
