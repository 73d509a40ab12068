"""Logs, exec, attach and scale, and the reviews; called by `app`."""

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from mk8s_cli.demo_api import remote_command, writes
from mk8s_cli.demo_api.apply import track
from mk8s_cli.demo_api.catalogue import Document, data
from mk8s_cli.demo_api.errors import ApiError
from mk8s_cli.demo_api.reads import answer
from mk8s_cli.demo_api.state import Call
from mk8s_cli.demo_api.tables import dig

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


def _line(call: Call, number: int, moment: datetime) -> bytes:
    text = f'{call.name} demo[{number}]: "GET /healthz HTTP/1.1" 200'
    stamp = f"{moment:%Y-%m-%dT%H:%M:%S.%f}000Z "
    return f"{stamp if call.flag('timestamps') else ''}{text}\n".encode()


async def log(call: Call) -> web.StreamResponse:
    """The lines of a container; with follow one more each second until the client leaves."""
    check_container(call)
    start = datetime.now(UTC) - timedelta(seconds=PAST_LINES)
    lines = [_line(call, at, start + timedelta(seconds=at)) for at in range(1, PAST_LINES + 1)]
    for limit in ("sinceSeconds", "tailLines"):
        if call.request.query.get(limit):
            lines = lines[max(0, len(lines) - call.number(limit)) :]
    text = b"".join(lines)[: call.number("limitBytes") or None]
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(call.request)
    await response.write(text)
    for number in itertools.count(PAST_LINES + 1) if call.flag("follow") else ():
        await asyncio.sleep(call.request.app[LOG_SECONDS])
        await response.write(_line(call, number, datetime.now(UTC)))
    return response


async def execute(call: Call) -> web.StreamResponse:
    """exec: runs the shell's idea of the command; attach: a shell."""
    check_container(call)
    command = call.request.query.getall("command", [])
    if call.subresource == "attach":
        command = ["sh"]
    if not command:
        raise ApiError(400, "you must specify at least one command for the container")
    return await remote_command.serve(call, command)


async def scale(call: Call) -> web.StreamResponse:
    """GET, PUT or PATCH of .../scale."""
    before = call.current()
    body: Any = _scale_of(before)
    if call.request.method != "GET":
        given = await writes.read_body(call)
        is_patch = call.request.method == "PATCH"
        body = writes.patched(call, body, given) if is_patch else given
        replicas, version = dig(body, "spec.replicas", 0), dig(body, "metadata.resourceVersion")
        meta = {**before["metadata"], "resourceVersion": version}
        after = {**before, "metadata": meta, "spec": {**before["spec"], "replicas": replicas}}
        after = track(before, after, writes.manager_of(call))
        body = _scale_of(writes.replace(call, before, after))
    return answer(body)


def _scale_of(item: Document) -> Document:
    labels = dig(item, "spec.selector.matchLabels", {})
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    names = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {name: item["metadata"][name] for name in names},
        "spec": {"replicas": dig(item, "spec.replicas", 1)},
        "status": {"replicas": dig(item, "status.replicas", 0), "selector": selector},
    }


async def review(call: Call) -> web.StreamResponse:
    """The kinds of authentication.k8s.io and authorization.k8s.io: asked by POST, stored never."""
    kind, statuses = call.kind.entry["kind"], data("defaults")["reviews"]
    status = statuses.get(kind, {"userInfo": call.user.document()})
    spec = dig(await writes.read_body(call), "spec", {})
    head = {"kind": kind, "apiVersion": call.kind.api_version, "metadata": {}}
    return answer({**head, "spec": spec, "status": status}, 201)
