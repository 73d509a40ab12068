"""One process of central: its event loop, its signals, from the start to the drain.

`supervisor` calls `serve`, in its own process or in each of the workers that it forks.
"""

import asyncio
import gc
import logging
import signal
from collections.abc import Callable

from mk8s_agent.wire.heap import keep_heap
from mk8s_proxy.process.app import Central
from mk8s_proxy.process.worker import Worker
from mk8s_proxy.settings.model import Settings

log = logging.getLogger(__name__)


def serve(settings: Settings, worker: Worker | None = None) -> int:
    """Runs central until SIGTERM or SIGINT, a worker also until its supervisor is gone.

    Returns the exit code; not 0 when it ended because an endless task did.

    Raises:
        Whatever `Central.start` raises: the caller turns it into one line.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(settings, worker or Worker()))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop where it is installed, else the standard loop."""
    try:
        import uvloop  # noqa: PLC0415  optional: absent on some platforms
    except ImportError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _serve(settings: Settings, worker: Worker) -> int:
    central = Central(settings, worker)
    background = central.background
    _on_stop_signals(worker, background.ask_to_end)
    try:
        await central.start()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, central.reopen_journal)
        gc.freeze()  # what start-up made lives as long as the process
        gc.set_threshold(20_000, 50, 100)
        keep_heap()
        event = "central.ready" if worker.alone else "worker.ready"
        log.info(event, extra={"port": central.port, "public_url": settings.public_url})
        worker.tell_ready()
        if reason := await background.until_end():
            worker.tell_failed(reason)
        log.info("central.draining")
    finally:
        await central.stop()
    return 1 if background.reason else 0


def _on_stop_signals(worker: Worker, stop: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    channel = worker.channel
    if channel is not None:

        def look() -> None:
            if not worker.supervised():
                loop.remove_reader(channel)
                stop()

        loop.add_reader(channel, look)
