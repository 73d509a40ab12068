"""Strangers without a credential: endless refusals, idle and slow connections, washed audits."""

import socket
import time
from collections import deque
from typing import Any

from mk8s_agent.wire import hpack_codec
from tests.attacks.attack import Attack, Load, must
from tests.attacks.report import answers
from tests.attacks.stage import HTTP2, PASSWORD, Stage, wait_until
from tests.attacks.wire import Attacker, Gone, Http2, Tls, ask, indexed, request_frames

_LONG = 3850
_MIB = 1 << 20
FEW = (("MK8S_LIMITS_CONNECTIONS", "500"), ("MK8S_LIMITS_CONNECTIONS_PER_ADDRESS", "200"))
"""Limits that a test reaches with its own file descriptors."""
SLOW = (("MK8S_LIMITS_HEADER_SECONDS", "3"), ("MK8S_LIMITS_HANDSHAKE_SECONDS", "3"))


def _same_again(attacker: Attacker, connection: Http2, target: bytes) -> None:
    """One head again and again, its target by an index of one byte; 20 in flight."""
    base = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a")]
    first = hpack_codec.block(base) + indexed(b":path", target)
    again = hpack_codec.block(base) + b"\xbe"
    block, flying = first, 0
    while attacker.pace(1500, "requests"):
        connection.send(request_frames(connection.stream(), block))
        attacker.counts.requests += 1
        block, flying = again, flying + 1
        answered = len(connection.ended)
        connection.drain(0.05 if flying - answered >= 20 else 0.0)
        if answered > 1000:
            flying -= answered
            connection.ended.clear()
            connection.statuses.clear()
            connection.bodies.clear()


def _long_query(attacker: Attacker, piece: bytes) -> None:
    target = b"/api/v1/pods?%" + piece * (_LONG // len(piece))
    attacker.rounds(lambda it: _same_again(it, it.http2(), target), rate=20)


def long_query_and(attacker: Attacker) -> None:
    _long_query(attacker, b"&")


def long_query_semicolon(attacker: Attacker) -> None:
    _long_query(attacker, b";")


def long_query_names(attacker: Attacker) -> None:
    _long_query(attacker, b"&%74oken=a")


def refusals(attacker: Attacker) -> None:
    def one(it: Attacker) -> None:
        connection = it.http2()
        while it.going:
            for _ in range(50):
                connection.send(request_frames(connection.stream(), block))
                it.counts.requests += 1
            connection.drain(0.02)

    block = hpack_codec.block(attacker.head("/api/v1/pods"))
    attacker.rounds(one)


def refusals_http1(attacker: Attacker) -> None:
    def one(it: Attacker) -> None:
        connection = it.tls()
        while it.going:
            connection.send(head)
            it.counts.requests += 1
            status, _ = connection.answer()
            it.counts.answers[status] += 1
            if status == "closed":
                raise Gone("closed")

    head = attacker.head1("/api/v1/pods", None)
    attacker.rounds(one)


def large_heads(attacker: Attacker) -> None:
    def one(it: Attacker) -> None:
        connection = it.http2()
        while it.going:
            connection.send(request_frames(connection.stream(), block))
            it.counts.requests += 1
            connection.drain(0.0)

    more = [(b"x%d" % number, b"y" * 400) for number in range(180)]
    block = hpack_codec.block(attacker.head("/api/v1/pods", more=more))
    attacker.rounds(one, rate=20)


def large_heads_http1(attacker: Attacker) -> None:
    def one(it: Attacker) -> None:
        connection = it.tls()
        connection.send(head)
        it.counts.requests += 1
        it.counts.answers[connection.answer()[0]] += 1
        connection.close()

    lines = [f"X{number}: {'y' * 400}" for number in range(180)]
    head = attacker.head1("/api/v1/pods", None, *lines)
    attacker.rounds(one, rate=60)


def drip(attacker: Attacker) -> None:
    """HTTP/1.1 heads byte by byte, in front of 8 KB that are there already."""
    connections = [attacker.tls(source=f"127.0.9.{1 + n % 60}") for n in range(100)]
    for connection in connections:
        connection.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 8000)
    while attacker.going:
        for connection in list(connections):
            if not attacker.pace(3000, "bytes"):
                break
            try:
                connection.send(b"a")
            except OSError:
                connections.remove(connection)
                attacker.counts.ends["closed"] += 1
                attacker.counts.answers[connection.answer(0.1)[0]] += 1
        if not connections:
            return


def handshakes(attacker: Attacker) -> None:
    def one(it: Attacker) -> None:
        it.tls("h2", source=f"127.0.9.{1 + it.counts.connections % 60}").close()

    attacker.rounds(one, rate=100)


def half_handshakes(attacker: Attacker) -> None:
    """The first bytes of a ClientHello, and nothing more."""
    held: list[socket.socket] = []
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    while attacker.pace(60, "connections"):
        try:
            made = attacker.tcp(source=f"127.0.9.{1 + len(held) % 60}")
            made.sendall(hello)
        except OSError as error:
            attacker.counts.ends[type(error).__name__] += 1
            continue
        attacker.counts.sent += len(hello)
        held.append(made)
    attacker.counts.answers["ended by central"] = sum(map(_is_closed, held))


def _is_closed(made: socket.socket) -> bool:
    made.settimeout(0.001)
    try:
        return not made.recv(100)
    except TimeoutError:
        return False
    except OSError:
        return True


def idle(attacker: Attacker) -> None:
    """TLS, and not one byte more: more connections than central takes, from 60 addresses."""
    held: list[Tls] = []
    while attacker.pace(80, "connections"):
        try:
            held.append(attacker.tls("h2", source=f"127.0.9.{1 + len(held) % 60}"))
        except OSError as error:
            attacker.counts.ends[type(error).__name__] += 1
    attacker.counts.answers["still open"] = sum(it.is_open() for it in held)


def idle_one_address(attacker: Attacker) -> None:
    """As `idle`, all from one address."""
    held: list[Tls] = []
    while attacker.pace(60, "connections"):
        try:
            held.append(attacker.tls("h2"))
        except OSError as error:
            attacker.counts.ends[type(error).__name__] += 1
    attacker.counts.answers["still open"] = sum(it.is_open() for it in held)


def agent_gets_in(stage: Stage, counts: dict[str, Any]) -> str:
    """While the port is full an agent starts: it must get in."""
    stage.agents.pop(HTTP2).stop()
    start = time.monotonic()
    stage.start_agent(HTTP2, stage.kubeconfigs[HTTP2])
    took = time.monotonic() - start
    return f"{answers(counts)}; an agent that started then was in after {took:.1f} s"


def short_lives(stage: Stage, counts: dict[str, Any]) -> str:
    """Most connections of 3 s and older were ended."""
    if not stage.quick:
        must(counts["answers"].get("ended by central"), "none of the handshakes was ended")
    return answers(counts)


def wash(attacker: Attacker) -> None:
    target = b"/api/v1/pods?x=" + b"a" * _LONG
    attacker.rounds(lambda it: _same_again(it, it.http2(), target), rate=40)


def rows_bounded(stage: Stage, counts: dict[str, Any]) -> str:
    """The strangers' rows have files of their own, a quota, and a row that counts the rest."""
    time.sleep(1.5)
    size = sum(it.stat().st_size for it in stage.audit.glob("journal-strangers*.jsonl"))
    mine = [row for row in stage.rows("aaaaaaaa", strangers=False) if not row.get("user")]
    must(not mine, f"{len(mine)} rows of strangers are in the journal of everybody")
    summaries = list(stage.rows("refusals left out", strangers=True))
    must(summaries, "no row counts the refusals that were left out")
    must(size < _MIB, f"the strangers' rows take {size} bytes")
    rate = size / max(1, counts["sent"])
    return (
        f"{counts['requests']:,} refusals, {size // 1024} KB of rows in the strangers' own files "
        f"({rate:.2f} x what was sent), {len(summaries)} rows count the rest; {answers(counts)}"
    )


def login_guesses(attacker: Attacker) -> None:
    """Logins with wrong passwords of unknown people, from 60 addresses; 40 are waited for."""
    body = '{"email":"nobody-%d@example.com","password":"a wrong password %d"}'
    waiting: deque[Tls] = deque()

    def one(it: Attacker) -> None:
        number = it.counts.requests
        connection = it.tls(source=f"127.0.9.{1 + number % 60}")
        told = (body % (number, number)).encode()
        lines = ("Content-Type: application/json", f"Content-Length: {len(told)}")
        connection.send(it.head1("/auth/login", None, *lines, method="POST") + told)
        it.counts.requests += 1
        waiting.append(connection)
        if len(waiting) > 40:
            oldest = waiting.popleft()
            it.counts.answers[oldest.answer(0.01)[0]] += 1
            oldest.close()

    attacker.rounds(one, rate=40)


def slow_body(attacker: Attacker) -> None:
    """Logins whose body comes byte by byte, on 100 connections."""
    connections = [attacker.tls(source=f"127.0.9.{1 + n % 60}") for n in range(100)]
    lines = ("Content-Type: application/json", "Content-Length: 60000")
    for connection in connections:
        connection.send(attacker.head1("/auth/login", None, *lines, method="POST"))
        attacker.counts.requests += 1
    while attacker.going and connections:
        for connection in list(connections):
            if not attacker.pace(400, "bytes"):
                break
            try:
                connection.send(b" ")
            except OSError:
                connections.remove(connection)
                attacker.counts.ends["closed"] += 1


def half_logins(attacker: Attacker) -> None:
    """Logins whose bodies never come, a hundred on a connection, more than files can be open."""
    fields = attacker.fields(b"/auth/login", None, method=b"POST")
    block = hpack_codec.block([*fields, (b"content-length", b"60000")])
    held: list[Http2] = []
    while attacker.pace(25, "connections"):
        made = attacker.http2(source=f"127.0.9.{1 + len(held) % 60}")
        held.append(made)
        try:
            made.send(*(request_frames(made.stream(), block, 0) for _ in range(100)))
            attacker.counts.requests += 100
            for one in held[-3:]:
                one.drain()
        except OSError as error:
            attacker.counts.ends[str(error)] += 1


def logins_go_on(stage: Stage, counts: dict[str, Any]) -> str:
    """Somebody with a password gets in right after it, and central had files to spare."""
    body = {"email": "victim@example.com", "password": PASSWORD}
    status, _, _ = ask(stage.world(), None, "POST", "/auth/login", body)
    must(status == 200, f"a login got {status}; {answers(counts)}")
    return answers(counts)


def still_reads(stage: Stage, counts: dict[str, Any]) -> str:
    """The management API answers within a second beside it."""
    answered = wait_until(lambda: stage.get("/.well-known/jwks.json").startswith("200"), 3)
    must(answered, "the management API does not answer")
    return answers(counts)


ATTACKS: tuple[Attack, ...] = (
    Load(
        "stranger-query-and",
        "8",
        "3.9 KB of & in a query, one byte a request",
        long_query_and,
        judge=None,
    ),
    Load(
        "stranger-query-semicolon",
        "8",
        "3.9 KB of ; in a query, one byte a request",
        long_query_semicolon,
    ),
    Load("stranger-query-names", "8, 18", "3.9 KB of encoded secret names", long_query_names),
    Load("stranger-refusals-h2", "8", "requests without a token over HTTP/2", refusals),
    Load("stranger-refusals-h1", "8", "requests without a token over HTTP/1.1", refusals_http1),
    Load("stranger-large-heads-h2", "8, 15", "heads of 75 KB over HTTP/2", large_heads),
    Load("stranger-large-heads-h1", "8, 15", "heads of 75 KB over HTTP/1.1", large_heads_http1),
    Load("stranger-drip", "15, D5", "100 heads of 8 KB that go on byte by byte", drip, seconds=12),
    Load("stranger-handshakes", "D5", "TLS handshakes and nothing else", handshakes),
    Load(
        "stranger-slow-body",
        "D5",
        "100 logins whose bodies come byte by byte",
        slow_body,
        judge=still_reads,
    ),
    Load(
        "stranger-half-logins",
        "D5, 9",
        "logins whose bodies never come, 100 on a connection",
        half_logins,
        judge=logins_go_on,
    ),
    Load(
        "stranger-guesses",
        "14, E6",
        "wrong passwords of many people from 60 addresses",
        login_guesses,
    ),
    Load(
        "stranger-audit-wash",
        "13",
        "refusals with targets of 3.9 KB, to push rows out",
        wash,
        judge=rows_bounded,
    ),
    Load(
        "stranger-idle",
        "9",
        "idle connections from 60 addresses, more than the limit (500)",
        idle,
        seconds=12,
        settings=FEW,
        judge=agent_gets_in,
    ),
    Load(
        "stranger-idle-one-address",
        "9",
        "idle connections from one address (limits 200 of 500)",
        idle_one_address,
        settings=FEW,
        judge=agent_gets_in,
    ),
    Load(
        "stranger-half-handshakes",
        "D5",
        "first bytes of a handshake, then nothing (3 s each)",
        half_handshakes,
        settings=SLOW,
        judge=short_lives,
    ),
)
