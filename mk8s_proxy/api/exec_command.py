"""`POST /clusters/{id}/exec`: kubectl for callers that have none.

A command is read and judged first (`mk8s_proxy.kubectl`), then central runs its own kubectl with
what came out of it (`exec_runner`), as the caller: every request of it is decided and written down
like any other of that person on that cluster, and names this call as its parent.
"""

import contextlib
import logging
from dataclasses import dataclass
from typing import Final

from aiohttp import hdrs, web

from mk8s_proxy.api.endpoint import Access, Audit, Call, Endpoint
from mk8s_proxy.api.errors import ApiError
from mk8s_proxy.api.exec_process import Ended, Gone, Sink
from mk8s_proxy.api.exec_runner import CommandRunner, Unavailable
from mk8s_proxy.api.exec_schemas import ExecEnded, ExecRequest, ExecResponse
from mk8s_proxy.api.exec_sinks import EVENT_STREAM, Collector, EventSink
from mk8s_proxy.api.middleware import harden
from mk8s_proxy.api.schemas import Model
from mk8s_proxy.api.visibility import viewer_of, visible_cluster
from mk8s_proxy.authz.attributes import Attributes
from mk8s_proxy.authz.messages import forbidden_message
from mk8s_proxy.db.clusters import ClusterRecord
from mk8s_proxy.identity import access_token
from mk8s_proxy.identity.identity import BoundCluster, Unauthenticated
from mk8s_proxy.kubectl.check import Checked, check
from mk8s_proxy.kubectl.refusal import CommandRefused

log = logging.getLogger(__name__)

CALLER_GONE: Final = 499
"""The status of a call whose caller left before the end, as web servers have it in their logs."""
SPARE_SECONDS: Final = 30
"""A token lives so much longer than its command may run."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A command that may be run."""

    runner: CommandRunner
    cluster: ClusterRecord
    checked: Checked
    stdin: bytes


async def prepare_command(call: Call) -> None:
    """Judge a command before the row that allows it."""
    call.granted_by = "a role on the cluster"
    runner = call.context.commands
    if runner is None:
        raise ApiError(501, "this central runs no commands: exec.enabled is false there")
    cluster = await visible_cluster(call.context, viewer_of(call), call.path["id"])
    call.cluster = call.subject = cluster.name
    body = call.read(ExecRequest)
    try:
        checked = check(body.command, f"/k8s/{cluster.name}")
    except CommandRefused as refused:
        raise ApiError.invalid("command", refused.message) from None
    call.command = checked.shown
    _check_acting(call, checked)
    try:
        await runner.kubectl()
    except Unavailable as missing:
        raise ApiError(501, str(missing)) from None
    call.prepared = Prepared(runner, cluster, checked, body.stdin.encode())


async def run_command(call: Call) -> Model | web.StreamResponse:
    """Run a command of kubectl on a cluster."""
    prepared = call.prepared
    assert isinstance(prepared, Prepared)
    _, user = call.caller()
    with prepared.runner.place(user.id):
        try:
            if _wants_events(call):
                return await _stream(call, prepared)
            return await _collect(call, prepared)
        except Gone:
            call.reason = "CallerGone"
            return web.Response(status=CALLER_GONE)  # which nobody gets; it is for log and audit


def _check_acting(call: Call, checked: Checked) -> None:
    """Refuse at once what the handler chain would refuse of each request: acting as another."""
    user, narrowing = viewer_of(call)
    policy = call.context.policy_feed.current
    asked = [("users", name) for name in checked.users]
    asked += [("groups", name) for name in checked.groups]
    for resource, name in asked:
        attributes = Attributes("impersonate", resource=resource, name=name)
        decision = policy.decide(
            user.email, user.groups, call.cluster, attributes, narrowing=narrowing
        )
        if not decision.allowed:
            raise ApiError(403, forbidden_message(user.email, call.cluster, attributes, decision))


def _wants_events(call: Call) -> bool:
    assert call.request is not None
    accepted = call.request.headers.get(hdrs.ACCEPT, "")
    return EVENT_STREAM in (part.partition(";")[0].strip() for part in accepted.split(","))


async def _collect(call: Call, prepared: Prepared) -> ExecResponse:
    """All output in one answer."""
    sink = Collector(call.request)
    ended = await _run(call, prepared, sink)
    texts = {name: kept.decode("utf-8", "replace") for name, kept in sink.kept.items()}
    return ExecResponse(output=texts["stdout"], errors=texts["stderr"], **dict(_told(call, ended)))


async def _stream(call: Call, prepared: Prepared) -> web.StreamResponse:
    """Output as it comes."""
    assert call.request is not None
    response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: EVENT_STREAM})
    harden(response, call)
    await response.prepare(call.request)
    sink = EventSink(call.request, response)
    try:
        ended = await _run(call, prepared, sink)
        await sink.finish(_told(call, ended))
    except BaseException:
        if call.request.transport is not None:  # what was begun must not look complete
            call.request.transport.abort()
        raise
    return response


async def _run(call: Call, prepared: Prepared, sink: Sink) -> Ended:
    """Run it with a token that dies with it."""
    token = await _mint(call, prepared)
    try:
        ended = await prepared.runner.run(
            prepared.checked, sink,
            cluster=prepared.cluster.name, token=token, stdin=prepared.stdin,
        )  # fmt: skip
    finally:
        _end_token(call, token)
    fields = {
        "request_id": call.request_id, "user": call.actor, "cluster": call.cluster,
        "exit_code": ended.exit_code, "ended_by": ended.ending, "output": ended.output_bytes,
        "ms": round(ended.seconds * 1000, 1),
    }  # fmt: skip
    log.info("exec.ended", extra=fields)
    return ended


async def _mint(call: Call, prepared: Prepared) -> str:
    """A token of the caller's login, for this cluster and as long as the command may run.

    The caller's own may end sooner: as with a watch, what it began may go on until the login ends.
    """
    context, (identity, user) = call.context, call.caller()
    now = context.clock()
    token, _ = access_token.mint(
        context.keys,
        user=user,
        cluster=BoundCluster(prepared.cluster.name, prepared.cluster.id, str(call.request_id)),
        issuer=context.settings.public_url,
        lifetime=min(prepared.runner.seconds + SPARE_SECONDS, identity.ends - now),
        now=now,
        login=identity.of_login,
    )
    return token


def _end_token(call: Call, token: str) -> None:
    """Refuse it from now on, and end what a command that was killed has left open."""
    authenticator = call.context.authenticator
    with contextlib.suppress(Unauthenticated):  # then it has ended already
        identity = authenticator.authenticate(f"Bearer {token}".encode())
        authenticator.revoke(identity.token_id, identity.expires)


def _told(call: Call, ended: Ended) -> ExecEnded:
    return ExecEnded(
        exit_code=ended.exit_code,
        truncated=ended.ending == "output_limit",
        ended_by=ended.ending,
        duration_ms=round(ended.seconds * 1000, 1),
        id=str(call.request_id),
    )


ENDPOINTS = (
    Endpoint(
        "POST",
        "/clusters/{id}/exec",
        run_command,
        "Run a command of kubectl on a cluster; with Accept: text/event-stream as it comes",
        Access.USER,
        Audit.CHANGE,
        request=ExecRequest,
        response=ExecResponse,
        streamed_as="text/event-stream",
        refusals=(403, 404, 429, 501),
        verb="create",
        resource="commands",
        prepare=prepare_command,
        delegates=True,
    ),
)
