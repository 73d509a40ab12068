"""Runs an exec credential plugin of a kubeconfig; the protocol is client.authentication.k8s.io.

Called by ``mk8s_agent.credentials.sources``. The agent has no terminal, so a plugin is told that it
is not interactive and gets no standard input; one that wants to ask something fails, and its last
line on standard error is shown. Source of the protocol: client-go
``plugin/pkg/client/auth/exec/exec.go``.
"""

import asyncio
import base64
import contextlib
import dataclasses
import datetime
import os
import signal
from collections.abc import Mapping
from typing import Final

import orjson

from mk8s_agent.credentials.kubeconfig import Cluster, ExecPlugin

EXEC_SECONDS: Final = 30.0
"""How long a plugin may take. Those of the clouds ask the network and need some seconds."""

_MAX_OUTPUT_BYTES: Final = 1024 * 1024
_MAX_COMPLAINT_BYTES: Final = 64 * 1024
_PIECE_BYTES: Final = 64 * 1024
_MAX_SHOWN: Final = 300


class ExecPluginError(Exception):
    """The plugin gave no credential; the sentence says why and what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class ExecCredential:
    """What a plugin printed."""

    token: str = dataclasses.field(repr=False)
    client_certificate_pem: bytes
    client_key_pem: bytes = dataclasses.field(repr=False)
    expires: float | None
    """Seconds since the epoch; None when it may be kept as long as the process runs."""


async def run_exec_plugin(
    plugin: ExecPlugin,
    cluster: Cluster,
    environment: Mapping[str, str],
    *,
    seconds: float = EXEC_SECONDS,
) -> ExecCredential:
    """Run the plugin once and give its credential.

    Raises:
        ExecPluginError: it is missing, fails, takes longer than ``seconds`` or prints anything but
            an ExecCredential of the right version.
    """
    process = await _start(plugin, cluster, environment)
    complete = False
    try:
        async with asyncio.timeout(seconds):
            # both at once; the second ends with the process, which is killed if the first fails
            output, complaints = await asyncio.gather(
                _read_output(process.stdout, plugin), _read_end(process.stderr)
            )
            await process.wait()
            complete = True
    except TimeoutError:
        raise ExecPluginError(
            f"the credential plugin {plugin.command} gave no answer in {seconds:g} seconds; "
            "it must not prompt: log in with it by hand first"
        ) from None
    finally:
        if not complete:
            await _kill(process)
    if process.returncode != 0:
        raise ExecPluginError(
            f"the credential plugin {plugin.command} failed with exit code {process.returncode}"
            f"{_last_line(complaints)}"
        )
    return parse_exec_credential(output, plugin)


async def _read_output(stream: asyncio.StreamReader | None, plugin: ExecPlugin) -> bytes:
    """What a plugin prints.

    Raises:
        ExecPluginError: it does not end.
    """
    assert stream is not None
    kept = bytearray()
    while piece := await stream.read(_PIECE_BYTES):
        kept += piece
        if len(kept) > _MAX_OUTPUT_BYTES:
            raise ExecPluginError(
                f"the credential plugin {plugin.command} printed more than "
                f"{_MAX_OUTPUT_BYTES} bytes"
            )
    return bytes(kept)


async def _read_end(stream: asyncio.StreamReader | None) -> bytes:
    """The last of what it complains about."""
    assert stream is not None
    kept = b""
    while piece := await stream.read(_PIECE_BYTES):
        kept = (kept + piece)[-_MAX_COMPLAINT_BYTES:]
    return kept


async def _start(
    plugin: ExecPlugin, cluster: Cluster, environment: Mapping[str, str]
) -> asyncio.subprocess.Process:
    variables = {**environment, **dict(plugin.environment)}
    variables["KUBERNETES_EXEC_INFO"] = exec_info(plugin, cluster)
    try:
        return await asyncio.create_subprocess_exec(
            plugin.command,
            *plugin.arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=variables,
            start_new_session=True,  # so that its children end with it, and it has no terminal
        )
    except (OSError, ValueError) as error:
        hint = f"; {_one_line(plugin.install_hint)}" if plugin.install_hint else "; install it"
        reason = error.strerror if isinstance(error, OSError) else "bad arguments"
        raise ExecPluginError(
            f"cannot run the credential plugin {plugin.command}: {reason}{hint}"
        ) from error


async def _kill(process: asyncio.subprocess.Process) -> None:
    # The group, since a child of the plugin may be what keeps the pipes open.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    # First our ends: the wait is also for the pipes, and one whose reader has stopped shows no end.
    # Nor does one that is held by somebody who has left the group. Nothing public closes them.
    process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001
    await process.wait()


def exec_info(plugin: ExecPlugin, cluster: Cluster) -> str:
    """Give the value of ``KUBERNETES_EXEC_INFO``: what the plugin is asked."""
    spec: dict[str, object] = {"interactive": False}
    if plugin.provide_cluster_info:
        described: dict[str, object] = {"server": cluster.server, "config": plugin.config}
        if cluster.tls_server_name != cluster.host:
            described["tls-server-name"] = cluster.tls_server_name
        if cluster.insecure_skip_tls_verify:
            described["insecure-skip-tls-verify"] = True
        if cluster.proxy_url:
            described["proxy-url"] = cluster.proxy_url
        if authority := cluster.authority.content:
            described["certificate-authority-data"] = base64.b64encode(authority).decode()
        spec["cluster"] = described
    request = {"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": spec}
    return orjson.dumps(request).decode()


def parse_exec_credential(output: bytes, plugin: ExecPlugin) -> ExecCredential:
    """Check what a plugin printed.

    Raises:
        ExecPluginError: it is no ExecCredential. The output itself is never quoted.
    """
    where = f"the credential plugin {plugin.command} printed"
    status = _status(output, plugin, where)
    token, certificate, key = (
        _string(status, name, where) for name in ("token", "clientCertificateData", "clientKeyData")
    )
    if bool(certificate) != bool(key):
        raise ExecPluginError(f"{where} a client certificate without its key, or the reverse")
    if not token and not certificate:
        raise ExecPluginError(f"{where} neither a token nor a client certificate")
    timestamp = _string(status, "expirationTimestamp", where)
    return ExecCredential(token, certificate.encode(), key.encode(), _seconds(timestamp, where))


def _status(output: bytes, plugin: ExecPlugin, where: str) -> Mapping[str, object]:
    try:
        credential = orjson.loads(output)
    except orjson.JSONDecodeError:
        raise ExecPluginError(f"{where} no JSON; is it an exec credential plugin?") from None
    if not isinstance(credential, dict) or credential.get("kind") != "ExecCredential":
        raise ExecPluginError(f"{where} no ExecCredential; is it an exec credential plugin?")
    if credential.get("apiVersion") != plugin.api_version:
        raise ExecPluginError(f"{where} another apiVersion than {plugin.api_version}; update it")
    status = credential.get("status")
    if not isinstance(status, dict):
        raise ExecPluginError(f"{where} an ExecCredential without a status")
    return status


def _string(status: Mapping[str, object], name: str, where: str) -> str:
    value = status.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ExecPluginError(f"{where} a {name} that is not a string")
    return value


def _seconds(timestamp: str, where: str) -> float | None:
    if not timestamp:
        return None
    try:
        moment = datetime.datetime.fromisoformat(timestamp)
    except ValueError:
        raise ExecPluginError(f"{where} an expirationTimestamp that is no time") from None
    if moment.tzinfo is None:
        raise ExecPluginError(f"{where} an expirationTimestamp without a time zone")
    return moment.timestamp()


def _last_line(complaints: bytes) -> str:
    lines = complaints.decode("utf-8", "replace").split("\n")
    last = next((line for line in reversed(lines) if line.strip()), "")
    return f": {_one_line(last)}" if last else ""


def _one_line(text: str) -> str:
    shown = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(shown.split())[:_MAX_SHOWN]
