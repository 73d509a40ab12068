"""Watches over WebSocket, as programs and dashboards open them, on a real API server."""

import base64
import ssl
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.support.cast import enrol
from tests.support.wire import authority_of, token_of
from tests.support.world import Person, World

pytestmark = [pytest.mark.kube, pytest.mark.oldest]

SECONDS = 30
RULE = {"name": "prod", "namespaces": ["*"], "verbs": ["watch"], "resources": ["configmaps"]}


class Dashboard:
    """A WebSocket client in somebody's hands."""

    def __init__(self, world: World) -> None:
        self._world = world
        tls = ssl.create_default_context(cadata=authority_of(world.people["admin"]))
        self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls))

    def watch(
        self, person: Person, namespace: str, *, subprotocol: bool = False, origin: str = ""
    ) -> Any:
        """A watch of all config maps of a namespace."""
        token = token_of(person, self._world, "prod")
        headers = {"Origin": origin} if origin else {}
        offered: tuple[str, ...] = ()
        if subprotocol:
            encoded = base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")
            offered = (f"base64url.bearer.authorization.k8s.io.{encoded}", "binary.k8s.io")
        else:
            headers["Authorization"] = f"Bearer {token}"
        return self.session.ws_connect(
            f"{self._world.url}/k8s/prod/api/v1/namespaces/{namespace}/configmaps?watch=1",
            headers=headers,
            protocols=offered,
        )


@pytest.fixture
async def dashboard(world: World) -> AsyncIterator[Dashboard]:
    """Trusts central's CA."""
    made = Dashboard(world)
    yield made
    await made.session.close()


async def seen(socket: aiohttp.ClientWebSocketResponse, name: str) -> dict[str, Any]:
    """The event of the object of this name."""
    while True:
        event: dict[str, Any] = await socket.receive_json(timeout=SECONDS)
        if event["object"]["metadata"]["name"] == name:
            return event


@pytest.mark.parametrize("form", ["plain", "subprotocol", "own origin"])
async def test_events_come_as_messages(
    dashboard: Dashboard, world: World, developer: Person, namespace: str, form: str
) -> None:
    """Without an Origin the API server refuses: the agent gives it one."""
    options: dict[str, Any] = {
        "plain": {},
        "subprotocol": {"subprotocol": True},
        "own origin": {"origin": world.url},
    }[form]
    async with dashboard.watch(developer, namespace, **options) as socket:
        assert socket.protocol == ("binary.k8s.io" if form == "subprotocol" else None)
        world.direct("-n", namespace, "create", "configmap", "colours")
        assert (await seen(socket, "colours"))["type"] == "ADDED"
        world.direct("-n", namespace, "delete", "configmap", "colours")
        assert (await seen(socket, "colours"))["type"] == "DELETED"


async def test_the_verb_watch_is_enough(dashboard: Dashboard, world: World, namespace: str) -> None:
    person = enrol(world, world.fresh_name("watcher"), [RULE])
    world.direct("-n", namespace, "create", "configmap", "colours")
    async with dashboard.watch(person, namespace) as socket:
        assert (await seen(socket, "colours"))["type"] == "ADDED"


async def test_attack_a_watch_of_some_names_shows_all_of_them_over_websocket(
    dashboard: Dashboard, world: World, namespace: str
) -> None:
    person = enrol(world, world.fresh_name("team"), [RULE | {"names": ["web-*"]}])
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await dashboard.watch(person, namespace)
    assert refused.value.status == 403


async def test_attack_a_page_of_another_site_opens_a_watch(
    dashboard: Dashboard, developer: Person, namespace: str
) -> None:
    """It can send the token in a subprotocol; beside Authorization an Origin proves nothing."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await dashboard.watch(developer, namespace, subprotocol=True, origin="https://evil.example")
    assert refused.value.status == 403
