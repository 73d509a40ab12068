"""The demo API for its tests: one in a thread for kubectl, one in the test's own loop for HTTP."""

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mk8s_cli.demo_api.server import DemoApi, running_demo_api
from tests.support import kubectl as kubectls
from tests.support.kubectl import Kubectl
from tests.support.processes import private_environment

BINARIES = kubectls.binaries()
NO_KUBECTL = pytest.param(None, marks=pytest.mark.skip("no kubectl: set MK8S_TEST_KUBECTLS"))


@pytest.fixture(scope="module")
def served() -> Iterator[DemoApi]:
    """A running demo API in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="demo API")
    thread.start()
    running = running_demo_api(log_seconds=0.01)
    try:
        yield asyncio.run_coroutine_threadsafe(running.__aenter__(), loop).result(30)
    finally:
        closing = running.__aexit__(None, None, None)
        asyncio.run_coroutine_threadsafe(closing, loop).result(30)
        asyncio.run_coroutine_threadsafe(loop.shutdown_asyncgens(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(
    params=BINARIES or [NO_KUBECTL], ids=lambda path: kubectls.name_of(path) if path else "none"
)
def binary(request: pytest.FixtureRequest) -> Path:
    """Each stock kubectl of this machine."""
    found: Path = request.param
    return found


@pytest.fixture
def kubectl(binary: Path, served: DemoApi, tmp_path: Path) -> Kubectl:
    """Each stock kubectl, in a home of its own, on the demo API."""
    (tmp_path / "kubeconfig").write_text(served.kubeconfig())
    environment = private_environment(tmp_path, KUBECONFIG=str(tmp_path / "kubeconfig"))
    return Kubectl(binary, environment)


@pytest.fixture
def namespace(kubectl: Kubectl, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"test-{abs(hash(request.node.name)) % 10**9}"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name)


@dataclass(frozen=True)
class Client:
    """An HTTP client of one demo API, as its administrator."""

    server: DemoApi
    session: aiohttp.ClientSession

    async def __call__(
        self, method: str, path: str, body: Any = None, *, code: int = 200, **headers: str
    ) -> Any:
        """The answer's document; header names are written with "_"."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.request(
            method, self.server.url + path, json=body, headers=sent
        ) as response:
            assert response.status == code, await response.text()
            return await response.json(content_type=None)


@pytest.fixture
async def demo() -> AsyncIterator[Client]:
    """A fresh demo API and its client."""
    async with running_demo_api(log_seconds=0.01) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=server.ca_pem.decode())
        connector = aiohttp.TCPConnector(ssl=context)
        bearer = {"Authorization": f"Bearer {server.token}"}
        async with aiohttp.ClientSession(connector=connector, headers=bearer) as session:
            yield Client(server, session)
