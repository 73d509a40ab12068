"""The fixtures of single sign-on: real providers, a real browser, and central that trusts them."""

import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from tests.sso import house as houses
from tests.sso import keycloak as keycloaks
from tests.sso import node_provider as node_providers
from tests.sso import odd_issuer, webdriver
from tests.sso.house import House
from tests.sso.keycloak import Keycloak, Realm
from tests.sso.node_provider import NodeProvider
from tests.sso.odd_issuer import CLIENT_ID, CLIENT_SECRET, OddIssuer
from tests.sso.webdriver import Browser
from tests.support.processes import own_port

PROVIDERS = "MK8S_TEST_PROVIDERS"
ISSUERS = ("odd", "other", "turning")
FAULTY = tuple(f"{kind}{number}" for kind in ("lame", "keyless") for number in range(10))
"""Central remembers what an issuer says and asks it rarely: each fault has one of its own."""


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


@dataclass(frozen=True)
class Organisation:
    """Central, and the realms of Keycloak whose people it lets in."""

    house: House
    acme: Realm
    """Of its issuer acme, where central has a secret."""
    public: Realm
    """Of its issuer public, where central has none."""


@pytest.fixture(scope="session")
def organisation(
    keycloak: Keycloak, issuers_ca: trustme.CA, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Organisation]:
    """Central with two realms of Keycloak."""
    port = own_port()
    back = f"https://localhost:{port}/auth/sso/callback"
    acme, public = keycloak.realm([f"{back}/acme"]), keycloak.realm([f"{back}/public"])
    rules = [{"match": "k8s-*", "to": "*"}]
    secret = keycloaks.REALM["clients"][0]["secret"]
    issuers = [
        {
            "name": "acme",
            "title": "Acme Incorporated",
            "issuer": acme.issuer,
            "client_id": "mk8s",
            "client_secret": secret,
            "groups": rules,
        },
        {"name": "public", "issuer": public.issuer, "client_id": "mk8s-public", "groups": rules},
    ]
    folder = tmp_path_factory.mktemp("organisation")
    with houses.serving(folder, port, issuers_ca, issuers) as house:
        yield Organisation(house, acme, public)


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


@pytest.fixture(scope="session")
def ports() -> dict[str, int]:
    """Where central and the issuers listen that it is told of before they run."""
    return {name: own_port() for name in ("central", "odd", "absent", "node")}


@pytest.fixture(scope="session")
def odd_issuers(ports: dict[str, int], issuers_ca: trustme.CA) -> Iterator[dict[str, OddIssuer]]:
    """Issuers that do what a test says, each run by somebody else."""
    with odd_issuer.serving(ports["odd"], issuers_ca, ISSUERS, FAULTY) as issuers:
        yield issuers


@pytest.fixture(scope="session")
def house(
    ports: dict[str, int], issuers_ca: trustme.CA, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """Central that trusts the odd issuers and oidc-provider, whether they run or not."""
    known = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    issuers = [
        {"name": name, "issuer": odd_issuer.url_of(ports["odd"], name), **known}
        for name in (*ISSUERS, *FAULTY)
    ]
    absent = {"name": "absent", "issuer": f"https://127.0.0.1:{ports['absent']}", **known}
    node = {
        "name": "node",
        "issuer": f"https://127.0.0.1:{ports['node']}",
        "client_id": node_providers.CLIENT["client_id"],
        "client_secret": node_providers.CLIENT["client_secret"],
        "scopes": ["openid", "email", "profile", "groups", "offline_access"],
    }
    folder = tmp_path_factory.mktemp("house")
    with houses.serving(folder, ports["central"], issuers_ca, [*issuers, absent, node]) as running:
        yield running


@pytest.fixture
def odd(odd_issuers: dict[str, OddIssuer]) -> Iterator[OddIssuer]:
    """The issuer of most tests, behaving until the test says otherwise."""
    yield from _lent(odd_issuers["odd"])


@pytest.fixture
def other(odd_issuers: dict[str, OddIssuer]) -> Iterator[OddIssuer]:
    """A second one, of somebody else."""
    yield from _lent(odd_issuers["other"])


@pytest.fixture
def turning(odd_issuers: dict[str, OddIssuer]) -> Iterator[OddIssuer]:
    """One for tests that change its keys: central does not ask for them again at once."""
    yield from _lent(odd_issuers["turning"])


def _lent(issuer: OddIssuer) -> Iterator[OddIssuer]:
    yield issuer
    issuer.reset()


@pytest.fixture(scope="session")
def node_server(
    providers: Path,
    ports: dict[str, int],
    issuers_ca: trustme.CA,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[NodeProvider]:
    """Oidc-provider, running."""
    back = f"https://localhost:{ports['central']}/auth/sso/callback/node"
    folder = tmp_path_factory.mktemp("node")
    with node_providers.running(providers, folder, ports["node"], issuers_ca, back) as running:
        yield running


@pytest.fixture
def node(node_server: NodeProvider) -> Iterator[NodeProvider]:
    """Oidc-provider with Nora signed in, behaving until the test says otherwise."""
    yield node_server
    node_server.behave()
