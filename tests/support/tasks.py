"""Tasks of parts that a test builds before there is a loop, or without a program around them."""

import asyncio
from typing import Any

from mk8s_agent.wire.background import Background


class Unreachable(Background):
    """Runs tasks where they are started, without a loop, so that whatever dials fails at once."""

    def start(self, _name: str, work: Any, *, failed: Any = None, **_: Any) -> None:
        try:
            work.send(None)
        except StopIteration:
            pass
        except RuntimeError as error:
            failed(error)


class LooseBackground(Background):
    """Takes tasks without being opened; who started them ends them, or the loop does."""

    def _start(self, *args: Any) -> Any:
        loop: Any = asyncio.get_running_loop()
        self._group = self._group or loop  # both make tasks
        return super()._start(*args)

    async def idle(self) -> None:
        """Waits until no task is left."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Cancels what was started."""
        for task in self._tasks:
            task.cancel()
        await self.idle()
