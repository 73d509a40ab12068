"""``/livez`` and ``/readyz`` for the kubelet, ``/metrics`` for Prometheus, and nothing else.

Started by ``mk8s_agent.main`` when there is an address to listen on. Readiness means that the agent
can serve: a tunnel is open and its own credential is there. The answers name no address and no
user, since a probe needs no authentication.
"""

from collections.abc import Callable, Sequence

from aiohttp import web

from mk8s_agent.settings import Address
from mk8s_agent.wire.exposition import exposition
from mk8s_agent.wire.metrics import Metric, Snapshot


class HealthError(Exception):
    """The health address cannot be listened on; the sentence says why."""


class HealthServer:
    """Serves the three paths.

    Args:
        unready: gives why the agent cannot serve now, "" when it can.
        metrics: gives the values of the metrics in `shown`.
        shown: the metrics that the agent has.
    """

    def __init__(
        self,
        unready: Callable[[], str],
        metrics: Callable[[], Snapshot] = dict,
        shown: Sequence[Metric] = (),
    ) -> None:
        self._unready = unready
        self._metrics = metrics
        self._shown = shown
        self._runner: web.AppRunner | None = None
        self.port = 0
        """The port that is listened on, after `start`."""

    async def start(self, address: Address) -> None:
        """Listen.

        Raises:
            HealthError: the address is taken or not this machine's.
        """
        application = web.Application()
        application.router.add_get("/livez", self._livez)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_get("/metrics", self._show_metrics)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, address.host, address.port)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise HealthError(
                f"cannot listen on {address} for health: {error.strerror}; "
                "give another --health-listen"
            ) from error
        self.port = int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _livez(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        reason = self._unready()
        return web.Response(text=f"{reason or 'ok'}\n", status=503 if reason else 200)

    async def _show_metrics(self, request: web.Request) -> web.Response:
        accept = request.headers.get("Accept", "")
        body, content_type = exposition(self._shown, self._metrics(), accept)
        return web.Response(body=body, headers={"Content-Type": content_type})
