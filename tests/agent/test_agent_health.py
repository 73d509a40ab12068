"""The probes of the kubelet."""

import aiohttp
import pytest

from mk8s_agent.health import HealthError, HealthServer
from mk8s_agent.settings import Address


async def get(port: int, path: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as client,
        client.get(f"http://127.0.0.1:{port}{path}") as it,
    ):
        return it.status, await it.text()


async def test_probes() -> None:
    reason = "no tunnel to central is open"
    health = HealthServer(lambda: reason)
    await health.start(Address("127.0.0.1", 0))
    try:
        assert await get(health.port, "/livez") == (200, "ok\n")
        assert await get(health.port, "/readyz") == (503, "no tunnel to central is open\n")
        reason = ""
        assert await get(health.port, "/readyz") == (200, "ok\n")
        assert (await get(health.port, "/other"))[0] == 404
    finally:
        await health.stop()


async def test_port_in_use() -> None:
    first, second = HealthServer(str), HealthServer(str)
    await first.start(Address("127.0.0.1", 0))
    try:
        with pytest.raises(
            HealthError, match=f"cannot listen on 127.0.0.1:{first.port} for health"
        ):
            await second.start(Address("127.0.0.1", first.port))
    finally:
        await first.stop()


async def test_stop_without_start() -> None:
    await HealthServer(str).stop()
