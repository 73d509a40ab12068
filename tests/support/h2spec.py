"""h2spec, the conformance suite of HTTP/2, against every end that mk8s has.

`h2spec` plays a client, `h2specd` a server. Both are built by `.ci/h2spec` with one change: their
requests are POSTs and carry the header of H2SPEC_HEADER, so that no refusal of ours hides a case.
"""

import asyncio
import os
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mk8s_agent.apiserver.pool import ApiServer, ApiServerHttp2
from mk8s_agent.tunnel.session import AgentTunnel, answer
from mk8s_agent.wire import hpack_codec, pki, tls
from mk8s_agent.wire.control_channel import ControlChannel
from mk8s_agent.wire.http2.server import Http2Server
from mk8s_agent.wire.limits import FRONT, TUNNEL, BufferBudget
from mk8s_agent.wire.stream import Bytes, Fields, Stream, join
from mk8s_agent.wire.transport import SocketTransport
from mk8s_proxy.identity.ca import CertificateAuthority
from mk8s_proxy.listener.connection_limits import ConnectionLimits
from mk8s_proxy.listener.server import Contexts, Listener, Makers
from mk8s_proxy.tunnel.session import TunnelEvents, TunnelSession
from tests.support import h2spec_client
from tests.support.agent_side import WHO, Credentials
from tests.support.front_door import PODS, Central
from tests.support.tasks import LooseBackground

FRONT_PATH = "/k8s/prod" + PODS.decode()
FRONT_HEADER = "authorization: Bearer dev"
TUNNEL_PATH = PODS.decode()
TUNNEL_HEADER = "mk8s-identity: " + WHO.decode()


def find(program: str) -> str:
    """The path of h2spec or h2specd; "" when it is not there. Those on PATH send GETs only."""
    folder = os.environ.get("MK8S_TEST_H2SPEC", "")
    return (folder and shutil.which(program, path=folder)) or ""


class LoopTransport:
    """One end of a connection within the process; `other` gets what is written here."""

    peer_address = "192.0.2.7"
    clean_end = True

    def __init__(self) -> None:
        self.other: Any = None

    def write(self, data: bytes) -> bool:
        asyncio.get_running_loop().call_soon(self.other.receive, data)
        return False

    def close(self) -> None:
        asyncio.get_running_loop().call_soon(self.other.connection_lost)

    abort = close

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Cluster(Http2Server):
    """An API server that answers each request once it has all of it."""

    def on_request(self, stream: Stream, fields: Fields, end: bool) -> None:
        body = Upload()
        join(stream, Stream(body, 1, 0, 0))
        if end:
            body.answer(stream)


class Upload:
    """A leg that takes a request's body and answers behind its end."""

    def send_data(self, stream: Stream, data: Bytes, size: int, end: bool) -> None:
        front = stream.peer
        assert front is not None
        front.connection.grant(front, size)
        if end:
            self.answer(front)

    def answer(self, front: Stream) -> None:
        head = hpack_codec.block([(b":status", b"200"), (b"content-type", b"application/json")])
        front.connection.relay_head(front, head, False)
        front.connection.send_data(front, b'{"kind":"PodList"}\n', 19, True)

    def grant(self, stream: Stream, size: int) -> None: ...

    def reset(self, stream: Stream, code: int) -> None:
        stream.peer = None


class House:
    """Central and an agent in this process: the front and the agent's end of a tunnel listen."""

    def __init__(self, folder: Path) -> None:
        self.loop = asyncio.get_running_loop()
        self.central = Central(folder)
        self.ticks = self.central.ticks
        self.ticks._call_soon = self.loop.call_soon
        self.budget = BufferBudget()
        self._reach_cluster()
        self._connect_tunnel()
        authority = CertificateAuthority.create("server")
        key = pki.new_key()
        chain, key_pem = (
            authority.issue_server(["localhost", "127.0.0.1"], key),
            pki.key_to_pem(key),
        )
        contexts = Contexts(
            tls.server_context(chain, key_pem),
            tls.tunnel_server_context(chain, key_pem, authority.certificate_pem),
            tls.server_context(chain, key_pem),
        )
        accept: Any = self.central.accept
        self.listener = Listener(
            contexts,
            Makers(accept, accept, lambda _: None),
            limits=ConnectionLimits(100, 100),
            handshake_seconds=5.0,
        )

    def _reach_cluster(self) -> None:
        credentials: Any = Credentials()
        self.apiserver = ApiServer(credentials, self.ticks, self.budget, answer, LooseBackground())
        near, far = LoopTransport(), LoopTransport()
        upstream = ApiServerHttp2(near, self.apiserver)
        near.other = Cluster(far, self.ticks, FRONT, self.budget)
        far.other = upstream
        self.apiserver._connections.append(upstream)

    def agent_tunnel(self, transport: Any) -> AgentTunnel:
        return AgentTunnel(
            transport,
            self.ticks,
            self.budget,
            self.apiserver,
            on_control=lambda _: None,
            on_closed=lambda _: None,
        )

    def _connect_tunnel(self) -> None:
        near, far = LoopTransport(), LoopTransport()
        events = TunnelEvents(self.central.chain.refuse, lambda _: None, lambda _: None)
        session = TunnelSession(
            near, self.ticks, self.central.budget, cluster_id="id-prod", events=events
        )
        near.other, far.other = self.agent_tunnel(far), session
        session.cluster, session.registered = "prod", True
        self.central.registry.add(session, "1.0", "v1.31.0")

    def _bare_tunnel(self, transport: Any) -> AgentTunnel:
        """An agent's end past its first stream: what comes next are requests."""
        tunnel = AgentTunnel(
            transport,
            self.ticks,
            self.budget,
            self.apiserver,
            on_control=lambda _: None,
            on_closed=lambda _: None,
            limits=replace(TUNNEL, table_size=4096, max_frame=16_384, max_streams=100),
        )
        tunnel.ready = True  # or it would measure: h2spec takes any PING for the answer to its own
        tunnel._control = ControlChannel(Stream(tunnel, 0, 0, 0))
        return tunnel

    async def listen_front(self) -> int:
        return await self.listener.listen("127.0.0.1", 0)

    async def listen_tunnel(self) -> tuple[asyncio.Server, int]:
        server = await self.loop.create_server(
            lambda: SocketTransport(self._bare_tunnel), "127.0.0.1", 0
        )
        return server, server.sockets[0].getsockname()[1]


async def run_client(
    port: int, *options: str, path: str, header: str, authority: bool = True
) -> str:
    """h2spec's report."""
    command = [
        find("h2spec"),
        "--port",
        str(port),
        "--path",
        path,
        "--strict",
        "--timeout",
        "3",
        *options,
    ]
    return await _report(
        command, H2SPEC_HEADER=header, H2SPEC_AUTHORITY="" if authority else "none"
    )


async def run_server(end: str, folder: Path) -> str:
    """h2specd's report about a client end (see `tests.support.h2spec_client`)."""

    async def knock(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        url = (await reader.readline()).decode().strip()
        try:
            await h2spec_client.request(end, urlsplit(url).port or 0, folder)
        finally:
            writer.close()

    door = await asyncio.start_server(knock, "127.0.0.1", 0)
    port = door.sockets[0].getsockname()[1]
    script = Path(__file__).with_name("h2spec_knock.py")
    client = f"{sys.executable} -S -I {script} {port}"
    first = 10_000 + os.getpid() * 61 % 20_000  # it takes a port for each case, from this one on
    options = ["--from-port", str(first), "--timeout", "1", "--exec", client]
    report = await _report([find("h2specd"), *options])
    door.close()
    await door.wait_closed()
    return report


async def _report(command: list[str], **environment: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=os.environ | environment,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), 110)
    except TimeoutError:
        process.kill()
        raise
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", output.decode(errors="replace"))


def summary(report: str) -> tuple[int, int, int, int]:
    """(tests, passed, skipped, failed) of the last line."""
    found = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", report)
    assert found is not None, report
    tests, passed, skipped, failed = map(int, found.groups())
    return tests, passed, skipped, failed
