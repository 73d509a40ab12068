"""exec and port-forward over WebSocket channels: the demo's pods and a real node's say the same."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.api_places import Place, both

pytestmark = pytest.mark.kube

BOX = {
    "metadata": {"name": "box"},
    "spec": {
        "automountServiceAccountToken": False,
        "containers": [
            {
                "name": "c",
                "image": "lab/busybox:1",
                "imagePullPolicy": "Never",
                "command": ["httpd", "-f", "-p", "8080", "-h", "/www"],
                "ports": [{"containerPort": 8080}],
            }
        ],
    },
}
V4, V5 = "v4.channel.k8s.io", "v5.channel.k8s.io"
OFFERS: dict[str, list[str]] = {
    "v5": [V5],
    "v4": [V4],
    "v4 base64": ["v4.base64.channel.k8s.io"],
    "unversioned": ["channel.k8s.io"],
    "unversioned base64": ["base64.channel.k8s.io"],
    "none": [],
    "unknown first": ["unknown.example.com", V4],
}
"""Protocols that a client offers, most wanted first."""
COMMANDS: dict[str, str] = {
    "both outputs": "command=sh&command=-c&command=echo+out%3B+nope%3B+exit+3&stdout=1&stderr=1",
    "success": "command=echo&command=out&stdout=1",
    "only errors": "command=true&stderr=1",
}
PORTS: dict[str, str] = {
    "one": "ports=8080",
    "two": "ports=8080&ports=81",
    "in one": "ports=8080,81",
    "refused": "ports=81",
}
SECONDS = 30


@pytest.fixture
async def places(kube_cluster: Path) -> AsyncIterator[tuple[Place, Place]]:
    """The real one and the demo, each with a pod that runs."""
    async with both(kube_cluster) as found:
        for place in found:
            code, _, body, _ = await place.create("{pods}", BOX)
            assert code == 201, body
            while not await is_ready(place):  # noqa: ASYNC110
                await asyncio.sleep(0.2)  # the test's own time limit ends this otherwise
        yield found


async def is_ready(place: Place) -> bool:
    status = json.loads((await place.ask("GET {pods}/box", {}))[2])["status"]
    return any(
        it["type"] == "Ready" and it["status"] == "True" for it in status.get("conditions", ())
    )


def unpacked(message: aiohttp.WSMessage) -> tuple[int, bytes]:
    if message.type is aiohttp.WSMsgType.TEXT:
        return int(message.data[0]), base64.b64decode(message.data[1:])
    return message.data[0], message.data[1:]


async def executed(place: Place, offered: list[str], query: str) -> Any:
    """What is agreed on and the first message; by channel what was said; the Status of the end."""
    try:
        socket = await place.session.ws_connect(
            place.at(f"{{pods}}/box/exec?{query}"), protocols=offered
        )
    except aiohttp.WSServerHandshakeError as error:
        return error.status
    async with socket:
        messages = [(message.type.name, *unpacked(message)) async for message in socket]
    said: dict[int, bytes] = {}
    for _, channel, raw in messages:
        said[channel] = said.get(channel, b"") + raw
    status = said.pop(3, b"")
    said.pop(2, None)  # each shell has its own words for what it does not find
    if status.startswith(b"{"):
        document = json.loads(status)
        causes = document.get("details", {}).get("causes")
        return (
            socket.protocol,
            messages[0],
            said,
            document["status"],
            document.get("reason"),
            causes,
        )
    # Before v4 the end is a sentence, which goes on in the words of the container runtime.
    return socket.protocol, messages[0], said, status.partition(b":")[0]


@pytest.mark.parametrize("offer", OFFERS)
async def test_exec(places: tuple[Place, Place], offer: str) -> None:
    real, demo = places
    for query in COMMANDS.values():
        wanted = await executed(real, OFFERS[offer], query)
        assert await executed(demo, OFFERS[offer], query) == wanted, query


async def forwarded(place: Place, offered: list[str], query: str) -> Any:
    """What is agreed on; how each channel begins, and what kind of thing it says then."""
    ask = b"GET / HTTP/1.0\r\n\r\n"
    try:
        socket = await place.session.ws_connect(
            place.at(f"{{pods}}/box/portforward?{query}"), protocols=offered
        )
    except aiohttp.WSServerHandshakeError as error:
        return error.status
    said: dict[int, bytes] = {}
    async with socket:
        with contextlib.suppress(ConnectionError):  # refused, it may be over already
            if socket.protocol and "base64" in socket.protocol:
                await socket.send_str("0" + base64.b64encode(ask).decode())
            else:
                await socket.send_bytes(b"\0" + ask)
        async for message in socket:
            channel, raw = unpacked(message)
            said[channel] = said.get(channel, b"") + raw
    kinds = {
        channel: (raw[:2], raw[2:9] == b"HTTP/1.", b"connection refused" in raw)
        for channel, raw in said.items()
    }
    return socket.protocol, kinds


@pytest.mark.parametrize("offer", ["v4", "v4 base64", "none", "unknown first"])
async def test_port_forward(places: tuple[Place, Place], offer: str) -> None:
    real, demo = places
    for query in PORTS.values():
        async with asyncio.timeout(SECONDS):
            wanted = await forwarded(real, OFFERS[offer], query)
            assert await forwarded(demo, OFFERS[offer], query) == wanted, query
