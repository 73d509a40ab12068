"""What runs in pods: their logs, and which container is meant; called by `server`."""

import asyncio
import itertools
from datetime import UTC, datetime, timedelta

from aiohttp import web

from mk8s_cli.demo_api.call import Call
from mk8s_cli.demo_api.objects import ApiError

LOG_SECONDS: web.AppKey[float] = web.AppKey("log_seconds", float)
"""The pace of followed logs."""
PAST_LINES = 20
"""Lines that every container has already written."""


def check_container(call: Call) -> None:
    """Raises 400 unless the query names a container of the pod, or there is only one."""
    names = [entry["name"] for entry in call.current()["spec"]["containers"]]
    wanted = call.request.query.get("container", "")
    if not wanted and len(names) > 1:
        choices = f"choose one of: [{' '.join(names)}]"
        raise ApiError(400, f"a container name must be specified for pod {call.name}, {choices}")
    if wanted and wanted not in names:
        raise ApiError(400, f"container {wanted} is not valid for pod {call.name}")


async def log(call: Call) -> web.StreamResponse:
    """The lines of a container; with follow one more each second until the client leaves."""
    check_container(call)

    def line(number: int, moment: datetime) -> bytes:
        stamp = f"{moment:%Y-%m-%dT%H:%M:%S.%f}000Z " if call.flag("timestamps") else ""
        return f'{stamp}{call.name} demo[{number}]: "GET /healthz HTTP/1.1" 200\n'.encode()

    start = datetime.now(UTC) - timedelta(seconds=PAST_LINES)
    lines = [line(at, start + timedelta(seconds=at)) for at in range(1, PAST_LINES + 1)]
    for limit in ("sinceSeconds", "tailLines"):
        if call.request.query.get(limit):
            lines = lines[max(0, len(lines) - call.number(limit)) :]
    text = b"".join(lines)[: call.number("limitBytes") or None]
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(call.request)
    await response.write(text)
    for number in itertools.count(PAST_LINES + 1) if call.flag("follow") else ():
        await asyncio.sleep(call.request.app[LOG_SECONDS])
        await response.write(line(number, datetime.now(UTC)))
    return response
