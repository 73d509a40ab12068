"""h2spec's 146 cases against the servers, and h2specd's against the clients, of every end."""

import asyncio
from pathlib import Path

import pytest

from tests.support import h2spec

pytestmark = pytest.mark.skipif(
    not (h2spec.find("h2spec") and h2spec.find("h2specd")),
    reason="needs h2spec and h2specd: MK8S_TEST_H2SPEC names the folder that .ci/h2spec filled",
)
ALL = (146, 146, 0, 0)


async def test_the_front_passes_h2spec(tmp_path: Path) -> None:
    house = h2spec.House(tmp_path)
    port = await house.listen_front()
    report = await h2spec.run_client(
        port, "--tls", "--insecure", path=h2spec.FRONT_PATH, header=h2spec.FRONT_HEADER
    )
    house.listener.drain()
    house.listener.abort()
    await asyncio.sleep(0.01)
    assert h2spec.summary(report) == ALL, report
    codes = [row["responseStatus"]["code"] for row in house.central.outcomes()]
    assert codes.count(200) > 40  # admitted and answered, so nothing was hidden by a refusal


async def test_the_agent_s_end_of_a_tunnel_passes_h2spec(tmp_path: Path) -> None:
    house = h2spec.House(tmp_path)
    server, port = await house.listen_tunnel()
    report = await h2spec.run_client(
        port, path=h2spec.TUNNEL_PATH, header=h2spec.TUNNEL_HEADER, authority=False
    )
    server.close()
    await server.wait_closed()
    await asyncio.sleep(0.01)
    assert h2spec.summary(report) == ALL, report


@pytest.mark.parametrize("end", ["tunnel", "cluster"])
async def test_the_client_ends_pass_h2specd(end: str, tmp_path: Path) -> None:
    report = await h2spec.run_server(end, tmp_path)
    assert h2spec.summary(report) == (57, 57, 0, 0), report[:10_000]
