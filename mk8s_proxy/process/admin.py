"""/livez, /readyz and /metrics on the admin address, for whatever supervises this process."""

import asyncio
from collections.abc import Callable

from aiohttp import web

from mk8s_agent.wire.exposition import exposition
from mk8s_agent.wire.metrics import Snapshot
from mk8s_proxy.listener.server import cannot_listen
from mk8s_proxy.process.metrics import METRICS
from mk8s_proxy.settings.model import parse_address

Check = Callable[[], bool]


def create_health(
    checks: dict[str, Check],
    unready: Callable[[], list[str]],
    told: Callable[[], str] = str,
    metrics: Callable[[], Snapshot] = dict,
) -> web.Application:
    """The application behind `admin_listen`.

    Args:
        checks: by name; /readyz is 200 while all of them say True, and names those that do not.
        unready: gives the names of tasks that do not go on (`Background.unready`).
        told: gives a line that is worth knowing and decides nothing.
        metrics: gives the values of `METRICS`.
    """

    async def livez(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_request: web.Request) -> web.Response:
        stopped = unready()
        failed = [name for name, check in checks.items() if not check()] + stopped
        lines = [f"[{'-' if name in failed else '+'}]{name}" for name in (*checks, *stopped)]
        lines += [f"[+]{line}" for line in [told()] if line]
        return web.Response(text="\n".join(lines) + "\n", status=503 if failed else 200)

    async def show_metrics(request: web.Request) -> web.Response:
        accept = request.headers.get("Accept", "")
        values = metrics()  # thousands of clusters take a while to write down
        body, content_type = await asyncio.to_thread(exposition, METRICS, values, accept)
        return web.Response(body=body, headers={"Content-Type": content_type})

    application = web.Application()
    application.router.add_get("/livez", livez)
    application.router.add_get("/readyz", readyz)
    application.router.add_get("/metrics", show_metrics)
    return application


async def listen(runner: web.AppRunner, address: str) -> None:
    """Serve an application on an address. Raises OSError with what to do about one in use."""
    host, port = parse_address(address)
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise OSError(error.errno, cannot_listen(host, port, error)) from error
