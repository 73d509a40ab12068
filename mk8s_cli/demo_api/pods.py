"""log, exec and attach of pods; called by `app`."""

import asyncio
import itertools
from datetime import UTC, datetime, timedelta

from aiohttp import web

from mk8s_cli.demo_api import remote_command
from mk8s_cli.demo_api.catalogue import Document
from mk8s_cli.demo_api.state import Call
from mk8s_cli.demo_api.status import ApiError

LOG_SECONDS: web.AppKey[float] = web.AppKey("log_seconds", float)
"""The pace of followed logs."""
PAST_LINES = 20
"""Lines that every container has already written."""


def container_of(call: Call, pod: Document) -> str:
    """The container that the query names, or the only one; raises 400."""
    names = [entry["name"] for entry in pod["spec"]["containers"]]
    wanted = call.request.query.get("container", "")
    if not wanted and len(names) > 1:
        choices = f"choose one of: [{' '.join(names)}]"
        raise ApiError(400, f"a container name must be specified for pod {call.name}, {choices}")
    if wanted and wanted not in names:
        raise ApiError(400, f"container {wanted} is not valid for pod {call.name}")
    return wanted or names[0]


def _line(call: Call, number: int, moment: datetime) -> bytes:
    text = f'{call.name} demo[{number}]: "GET /healthz HTTP/1.1" 200'
    stamp = f"{moment:%Y-%m-%dT%H:%M:%S.%f}000Z "
    return f"{stamp if call.flag('timestamps') else ''}{text}\n".encode()


async def log(call: Call) -> web.StreamResponse:
    """The lines of a container; with follow one more each second until the client leaves."""
    container_of(call, call.current())
    if call.flag("previous"):
        raise ApiError(400, f'previous terminated container in pod "{call.name}" not found')
    present = datetime.now(UTC)
    moments = [present - timedelta(seconds=PAST_LINES - at) for at in range(PAST_LINES)]
    lines = [_line(call, at + 1, moment) for at, moment in enumerate(moments)]
    if call.request.query.get("sinceSeconds"):
        lines = lines[max(0, PAST_LINES - call.number("sinceSeconds")) :]
    if call.request.query.get("tailLines"):
        lines = lines[max(0, len(lines) - call.number("tailLines")) :]
    text = b"".join(lines)[: call.number("limitBytes") or None]
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(call.request)
    await response.write(text)
    if not call.flag("follow"):
        return response
    for number in itertools.count(PAST_LINES + 1):
        await asyncio.sleep(call.request.app[LOG_SECONDS])
        await response.write(_line(call, number, datetime.now(UTC)))
    return response


async def execute(call: Call) -> web.StreamResponse:
    """exec: runs the shell's idea of the command."""
    container_of(call, call.current())
    command = call.request.query.getall("command", [])
    if not command:
        raise ApiError(400, "you must specify at least one command for the container")
    return await remote_command.serve(call, command)


async def attach(call: Call) -> web.StreamResponse:
    """attach: every container runs a shell."""
    container_of(call, call.current())
    return await remote_command.serve(call, ["sh"])


async def port_forward(call: Call) -> web.StreamResponse:
    """Refused: there is nothing to connect to."""
    raise ApiError(400, "port forwarding is not supported by the demo API")
