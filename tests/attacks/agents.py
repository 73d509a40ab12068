"""Hostile agents: whoever holds the certificate of one cluster ends its own tunnel, and no other.

An attacker dials as the agent of the cluster "evil", whose certificate `stage` has had signed; over
a tunnel the agent is HTTP/2's server.
"""

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mk8s_agent.wire import control, pki, tls
from mk8s_agent.wire.http2 import frames
from mk8s_proxy.db import clusters, tokens
from mk8s_proxy.identity import join_token
from tests.attacks.attack import Attack, Check, Load, must
from tests.attacks.report import answers
from tests.attacks.stage import HTTP1, HTTP2, Stage, wait_until
from tests.attacks.wire import Attacker, Gone, Tls, ask

Flood = Callable[[Attacker], Iterator[bytes]]


def dial(attacker: Attacker, identity: str = "evil") -> Tls:
    """A tunnel of an identity in the stage's folder, its handshake done and nothing said."""
    folder = Path(attacker.world.folder)
    chain, key = (
        (folder / f"{identity}.crt").read_bytes(),
        (folder / f"{identity}.key").read_bytes(),
    )
    context = tls.tunnel_client_context(Path(attacker.world.authority).read_bytes(), chain, key)
    plain = attacker.tcp()
    try:
        made = context.wrap_socket(plain, server_hostname=tls.TUNNEL_SERVER_NAME)
    except OSError:
        plain.close()
        raise
    return Tls(made, attacker.counts)


def _tunnel(flood: Flood) -> Callable[[Attacker], None]:
    """Tunnel after tunnel, each with a flood."""

    def act(attacker: Attacker) -> None:
        def one(it: Attacker) -> None:
            made = dial(it)
            made.send(frames.settings({frames.MAX_CONCURRENT_STREAMS: 100}))
            for piece in flood(it):
                made.send(piece)
                if not it.going:
                    break
            _until_closed(it, made)
            made.close()

        attacker.rounds(one, rate=5)

    return act


def _until_closed(attacker: Attacker, made: Tls) -> None:
    """Reads what central says last."""
    said, deadline = b"", time.monotonic() + 5.0
    while time.monotonic() < deadline:
        try:
            piece = made.receive(0.2)
        except TimeoutError:
            continue
        except OSError as error:
            raise Gone(type(error).__name__) from None
        said += piece
        if not piece:
            at = said.find(b"\x07\x00\x00\x00\x00\x00")
            raise Gone(
                f"GOAWAY {said[at + 14 : at + 80].decode('latin-1')!r}" if at > 0 else "closed"
            )
    attacker.counts.answers["still open after 5 s"] += 1


def junk(attacker: Attacker) -> Iterator[bytes]:
    yield bytes(range(256)) * 64


def pings(attacker: Attacker) -> Iterator[bytes]:
    while True:
        yield frames.frame(frames.PING, 0, 0, b"12345678") * 2000


def bomb(attacker: Attacker) -> Iterator[bytes]:
    """A head of 4 MB for the control stream."""
    yield frames.frame(frames.HEADERS, 0, 1, b"\0\1x" + b"\x7f\x81\x7d" + b"y" * 15_000)
    for _ in range(256):
        yield frames.frame(frames.CONTINUATION, 0, 1, b"y" * 16_000)


def unasked(attacker: Attacker) -> Iterator[bytes]:
    """Answers on streams that nobody opened."""
    number = 3
    while True:
        yield frames.frame(frames.HEADERS, 5, number, b"\x88")
        number += 2


def windows(attacker: Attacker) -> Iterator[bytes]:
    yield frames.window_update(0, frames.MAX_WINDOW)
    yield frames.window_update(0, frames.MAX_WINDOW)


def control_junk(attacker: Attacker) -> Iterator[bytes]:
    """A control message that claims 4 GiB, on an answered control stream."""
    yield frames.frame(frames.HEADERS, 4, 1, b"\x88")
    yield frames.frame(frames.DATA, 0, 1, b"\xff\xff\xff\xff" + b"{" * 1000)


def slow_messages(attacker: Attacker) -> Iterator[bytes]:
    """A registration whose JSON is 64 KB of brackets."""
    yield frames.frame(frames.HEADERS, 4, 1, b"\x88")
    body = b'{"type":"register","x":' + b"[" * 60_000
    yield frames.frame(frames.DATA, 0, 1, len(body).to_bytes(4, "big") + body[:16_000])
    for at in range(16_000, len(body), 16_000):
        yield frames.frame(frames.DATA, 0, 1, body[at : at + 16_000])


def closed_soon(stage: Stage, counts: dict[str, Any]) -> str:
    """Central ended the tunnels; those of others live."""
    must("still open after 5 s" not in counts["answers"], f"a tunnel stayed: {answers(counts)}")
    for cluster in (HTTP2, HTTP1):
        said = stage.get(f"/k8s/{cluster}{stage.probe}")
        must(said.startswith("200"), f"{cluster}: {said}")
    return answers(counts)


def herd(attacker: Attacker) -> None:
    """An agent that connects, registers and leaves, without end."""

    def one(it: Attacker) -> None:
        made = dial(it)
        made.send(frames.settings({}) + frames.frame(frames.HEADERS, 4, 1, b"\x88"))
        message = control.encode_message(
            control.Register("attack", "attack", "v1.30.0", (), time.time())
        )
        made.send(frames.frame(frames.DATA, 0, 1, message))
        it.counts.requests += 1
        made.close()

    attacker.rounds(one, rate=50)


def _refused(attacker: Attacker, identity: str) -> str:
    """How central ends a tunnel of this identity."""
    try:
        made = dial(attacker, identity)
        made.send(frames.settings({}) + frames.frame(frames.HEADERS, 4, 1, b"\x88"))
        message = control.encode_message(
            control.Register("attack", "attack", "v1.30.0", (), time.time())
        )
        made.send(frames.frame(frames.DATA, 0, 1, message))
        said, deadline = b"", time.monotonic() + 5
        while time.monotonic() < deadline:
            said += (piece := made.receive(5))
            if b"refused" in said or b"registered" in said or not piece:
                break
    except OSError as error:
        return type(error).__name__
    if b'"registered"' in said:
        return "registered"
    return "refused" if b"refused" in said else "closed"


def foreign_certificates(stage: Stage) -> str:
    """Certificates of another CA, of a cluster that is not there, one that central never noted."""
    attacker, told = Attacker(stage.world(), 60), []
    good = _refused(attacker, "evil")
    must(good == "registered", f"the tool's own good certificate: {good}")
    for identity in ("other-ca", "unknown-cluster", "unrecorded", "expired", "server"):
        how = _refused(attacker, identity)
        must(how != "registered", f"{identity}: central took it")
        told.append(f"{identity}: {how}")
    return "; ".join(told)


def no_certificate(stage: Stage) -> str:
    """The tunnel's name without a certificate, and a certificate on the front's name."""
    world = stage.world()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(world.authority)
    context.check_hostname = False
    context.set_alpn_protocols([tls.TUNNEL_PROTOCOL])
    how = "open"
    plain = socket.create_connection(("127.0.0.1", world.port), timeout=5)
    try:
        made = context.wrap_socket(plain, server_hostname=tls.TUNNEL_SERVER_NAME)
        made.sendall(frames.settings({}))
        how = "closed" if not made.recv(100) else "open"
    except OSError as error:
        how = type(error).__name__
    finally:
        plain.close()
    must(how != "open", "a tunnel without a certificate stays open")
    return f"without a certificate: {how}"


def revoked(stage: Stage) -> str:
    """A revoked agent's tunnels end, and it does not come back."""
    import json  # noqa: PLC0415

    world = stage.world()
    listed = json.loads(ask(world, "admin", "GET", "/agents")[2])
    plain = next(it for it in listed["agents"] if it["cluster"] == HTTP1)
    start = time.monotonic()
    status, _, _ = ask(world, "admin", "POST", f"/agents/{plain['id']}/revoke")
    must(status == 200, f"revoke: {status}")
    target = world.target("/api/v1/namespaces/default/configmaps/item", HTTP1).decode()
    ended = wait_until(lambda: ask(world, "dev", "GET", target)[0] == 503, 10)
    took = time.monotonic() - start
    must(ended, "the tunnel is there 10 s after the agent was revoked")
    time.sleep(3)
    status = ask(world, "dev", "GET", target)[0]
    must(status == 503, f"3 s later the agent is back: {status}")
    return f"ended after {took:.1f} s, and did not come back"


def added_again(stage: Stage) -> str:
    """A cluster is removed and added again under its name: the old agent is not its agent."""
    world = stage.world()
    must(ask(world, "admin", "DELETE", f"/clusters/{HTTP1}")[0] in (200, 204), "not removed")
    must(ask(world, "admin", "POST", "/clusters", {"name": HTTP1})[0] in (200, 201), "not added")
    target = world.target("/api/v1/namespaces/default/configmaps/again", HTTP1).decode()
    start = time.monotonic()
    for _ in range(30):
        status = ask(world, "dev", "GET", target)[0]
        must(status in (503, 404), f"{time.monotonic() - start:.1f} s later: {status}")
        time.sleep(0.1)
    must(not stage.reached("configmaps/again", HTTP1), "a request reached the old agent's cluster")
    return f"{status} at once and for 3 s; nothing reached the old agent's cluster"


def join_replayed(stage: Stage) -> str:
    """A join token is used twice, and for another cluster."""
    world = stage.world()

    async def make(database: Any) -> tuple[str, str]:
        made = []
        for name in ("join-a", "join-b"):
            record = await clusters.create_cluster(database, name)
            token = join_token.new_join_token()
            hashed, end = (
                join_token.hash_join_token(token),
                datetime.now(UTC) + timedelta(minutes=5),
            )
            await tokens.store_join_token(database, record.id, hashed, "attack", end)
            made.append(token)
        return made[0], made[1]

    first, second = stage.work(make)
    csr = pki.csr(pki.new_key(), "attack").decode()

    def join(cluster: str, token: str) -> int:
        body = {"cluster": cluster, "token": token, "csr": csr}
        return ask(world, None, "POST", "/join", body, source="127.0.9.8")[0]

    statuses = [
        join("join-a", first),
        join("join-a", first),
        join("join-a", second),
        join("join-b", second),
    ]
    must(statuses[0] in (200, 201), f"the first use: {statuses[0]}")
    must(statuses[1:] == [403, 403, 403], f"again, for another cluster, after that: {statuses[1:]}")
    return (
        f"first use {statuses[0]}, again {statuses[1]}, another cluster's {statuses[2]}, "
        f"and that is then used up: {statuses[3]}"
    )


def _load(name: str, what: str, flood: Flood, point: str = "E13") -> Load:
    return Load(f"agent-{name}", point, what, _tunnel(flood), seconds=6, judge=closed_soon)


ATTACKS: tuple[Attack, ...] = (
    _load("junk", "bytes that are no frames", junk),
    _load("pings", "PINGs", pings, "D4, E13"),
    _load("head-bomb", "a head of 4 MB", bomb, "D3, E13"),
    _load("unasked", "answers on streams that nobody opened", unasked),
    _load("windows", "a window beyond all numbers", windows),
    _load("control-length", "a control message that claims 4 GiB", control_junk),
    _load("control-brackets", "a registration of 60,000 brackets", slow_messages),
    Load("agent-herd", "D9", "an agent that registers and leaves, 50 times a second", herd),
    Check("agent-certificates", "E11", "certificates of others", foreign_certificates),
    Check("agent-no-certificate", "E11", "no certificate at the tunnels' name", no_certificate),
    Check("agent-join-replayed", "E10", "a join token used twice", join_replayed),
    Check("agent-added-again", "3", "a cluster removed and added again", added_again, alone=True),
    Check("agent-revoked", "4, E12", "a revoked agent goes on", revoked, alone=True),
)
