"""The fixtures of single sign-on: real providers, a real browser, and central that trusts them."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.sso import keycloak as keycloaks
from tests.sso import webdriver
from tests.sso.keycloak import Keycloak
from tests.sso.webdriver import Browser

PROVIDERS = "MK8S_TEST_PROVIDERS"


@pytest.fixture(scope="session")
def providers() -> Path:
    """What `build.py` made; tests of it are skipped without."""
    given = os.environ.get(PROVIDERS, "")
    if not given:
        pytest.skip(f"{PROVIDERS} not set: see deploy/docs/development.md")
    return Path(given)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for all workers of this session."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "sso"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def issuers_ca(shared_folder: Path) -> trustme.CA:
    """Who signs the issuers' certificates; all workers of a session have the same."""
    kept, key = shared_folder / "ca.pem", shared_folder / "ca.key"
    with (shared_folder / "ca.turn").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not kept.exists():
            made = trustme.CA()
            key.write_bytes(made.private_key_pem.bytes())
            kept.write_bytes(made.cert_pem.bytes())
    return trustme.CA.from_pem(kept.read_bytes(), key.read_bytes())


@pytest.fixture(scope="session")
def keycloak(providers: Path, shared_folder: Path, issuers_ca: trustme.CA) -> Iterator[Keycloak]:
    """The session's Keycloak."""
    with keycloaks.running(providers, shared_folder, issuers_ca) as running:
        yield running


@pytest.fixture(scope="session")
def chromedriver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The driver of this worker's browser."""
    with webdriver.driver(tmp_path_factory.mktemp("browser")) as address:
        yield address


@pytest.fixture
def browser(chromedriver: tuple[str, str]) -> Iterator[Browser]:
    """A window that nobody is signed in with."""
    with webdriver.window(chromedriver) as opened:
        yield opened
