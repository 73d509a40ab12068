"""One person with read access: watches without end, answers unread, uploads that stall."""

import struct
import time
from typing import Any

from mk8s_agent.wire import hpack_codec
from mk8s_agent.wire.http2 import frames
from tests.attacks.attack import Attack, Load, must
from tests.attacks.report import answers
from tests.attacks.stage import HTTP1, Stage
from tests.attacks.wire import SMALL, Attacker, Gone, Http2, request_frames

_WATCH = "/api/v1/namespaces/default/pods?watch=true&resourceVersion=1"
_BULK = "/api/v1/namespaces/default/configmaps/bulk-1024"
_UPLOAD = "/api/v1/namespaces/default/configmaps/silence-1"
_WIDE = {frames.INITIAL_WINDOW_SIZE: frames.MAX_WINDOW}
_STREAMS = 100
_FULL = (("MK8S_LIMITS_STREAMS_PER_IDENTITY", "60000"),)


def _watches(attacker: Attacker, connections: int, cluster: str = "") -> list[Http2]:
    """Watches, a hundred on a connection; those that central takes."""
    block = hpack_codec.block(attacker.head(_WATCH, "reader", cluster=cluster))
    held: list[Http2] = []
    for number in range(connections):
        if not attacker.pace(25, "connections"):
            break
        try:
            made = attacker.http2(source=f"127.0.9.{1 + number % 60}")
            made.send(*(request_frames(made.stream(), block) for _ in range(_STREAMS)))
            attacker.counts.requests += _STREAMS
            made.drain(0.05)
            held.append(made)
        except OSError as error:
            attacker.counts.ends[str(error)] += 1
    return held


def _stay(attacker: Attacker, held: list[Http2]) -> None:
    """Reads what comes until the time is over."""
    while attacker.pace(4, "looks"):
        for made in list(held):
            try:
                made.drain()
            except OSError as error:
                held.remove(made)
                attacker.counts.ends[str(error)] += 1


def watches(attacker: Attacker) -> None:
    """40,000 watches."""
    _stay(attacker, _watches(attacker, 20 if attacker.world.quick else 400))


def watches_retried(attacker: Attacker) -> None:
    """As a client that is told 429 and asks again at once."""
    held = _watches(attacker, 25)
    block = hpack_codec.block(attacker.head(_WATCH, "reader"))
    while attacker.pace(200, "again"):
        made = held[attacker.counts.requests % len(held)]
        try:
            made.request_again = True  # type: ignore[attr-defined]
            made.send(request_frames(made.stream(), block))
            attacker.counts.requests += 1
            made.drain()
        except OSError as error:
            held.remove(made)
            attacker.counts.ends[str(error)] += 1
            if not held:
                return


def share_is_bounded(stage: Stage, counts: dict[str, Any]) -> str:
    """2,000 were taken, the others got 429."""
    taken = counts["answers"].get("200", 0)
    if not stage.quick:
        must(counts["answers"].get("429"), f"nobody was told 429: {answers(counts)}")
    must(taken <= 2_000, f"{taken} watches were taken")
    return answers(counts)


def informers(attacker: Attacker) -> None:
    """A controller with 300 watches that also reads: not an attack."""
    held = _watches(attacker, 3)
    get = hpack_codec.block(attacker.head("/api/v1/namespaces/default/configmaps/item", "reader"))
    extra = attacker.http2()
    while attacker.pace(50, "reads"):
        extra.send(request_frames(extra.stream(), get))
        attacker.counts.requests += 1
        extra.drain()
    extra.drain(1.0)
    for made in held:
        made.drain(0.2)


def untouched(stage: Stage, counts: dict[str, Any]) -> str:
    """All of it was answered 200."""
    must(not counts["ends"] and set(counts["answers"]) == {"200"}, answers(counts))
    return f"untouched: {answers(counts)}"


def full_tunnels(attacker: Attacker) -> None:
    """Where an installation lets one person have more: the tunnels are filled."""
    _stay(attacker, _watches(attacker, 40 if attacker.world.quick else 450))


def stalled(attacker: Attacker) -> None:
    """22 connections of 100 answers of 64 MiB each; windows wide open, and nothing is read."""
    _stall(attacker, "")


def stalled_http1(attacker: Attacker) -> None:
    """The same, from a cluster that speaks HTTP/1.1."""
    _stall(attacker, HTTP1, connections=6)


def _stall(attacker: Attacker, cluster: str, connections: int = 22) -> None:
    block = hpack_codec.block(attacker.head(_BULK, "reader", cluster=cluster))
    held = []
    for number in range(2 if attacker.world.quick else connections):
        source = f"127.0.9.{1 + number % 60}"
        made = attacker.http2(_WIDE, source=source, receive_buffer=4096)
        made.send(frames.window_update(0, frames.MAX_WINDOW - frames.DEFAULT_WINDOW))
        made.send(*(request_frames(made.stream(), block) for _ in range(_STREAMS)))
        attacker.counts.requests += _STREAMS
        held.append(made)
        time.sleep(0.1)
    while attacker.pace(0.7, "waits"):
        _somebody_reads(attacker, cluster)
    _count_those_that_live(attacker, held)


def _somebody_reads(attacker: Attacker, cluster: str) -> None:
    """Another user's answer of 4 MiB meanwhile: a slow one must not be cut either."""
    made = attacker.http2({frames.INITIAL_WINDOW_SIZE: 1 << 20}, source="127.0.8.1")
    path = "/api/v1/namespaces/other/configmaps/bulk-64"
    try:
        made.send(frames.window_update(0, 1 << 24))
        number = made.request(attacker.head(path, "neighbour", cluster=cluster))
        how = made.wait(number, 20.0)
    except OSError as error:
        how = str(error)
    finally:
        made.close()
    attacker.counts.answers[f"4 MiB of another user: {how}"] += 1


def nobody_cut(stage: Stage, counts: dict[str, Any]) -> str:
    """The other user's large answers came whole."""
    others = {name for name in counts["answers"] if name.startswith("4 MiB of another user")}
    must(others <= {"4 MiB of another user: 200"}, answers(counts))
    return answers(counts)


def drip_readers(attacker: Attacker) -> None:
    """800 answers of 64 MiB, each read at a byte a second."""
    block = hpack_codec.block(attacker.head(_BULK, "reader"))
    held = []
    for number in range(2 if attacker.world.quick else 8):
        made = attacker.http2({frames.INITIAL_WINDOW_SIZE: 1}, source=f"127.0.9.{1 + number}")
        made.reads_windows = False
        made.send(*(request_frames(made.stream(), block) for _ in range(_STREAMS)))
        attacker.counts.requests += _STREAMS
        held.append(made)
    one = struct.pack(">I", 1)
    while attacker.pace(1, "bytes"):
        for made in list(held):
            updates = [frames.frame(8, 0, 1 + 2 * n, one) for n in range(_STREAMS)]
            try:
                made.send(*updates)
                made.drain()
            except OSError as error:
                held.remove(made)
                attacker.counts.ends[str(error)] += 1
    _count_those_that_live(attacker, held)


def _count_those_that_live(attacker: Attacker, held: list[Http2]) -> None:
    for made in held:
        try:
            made.send(frames.frame(frames.PING, 0, 0, b"12345678"))
            attacker.counts.answers["connections that stayed"] += 1
        except (OSError, Gone) as error:
            attacker.counts.ends[str(error)] += 1


def uploads(attacker: Attacker) -> None:
    """200 uploads to an API server that does not answer: bodies as far as windows let them."""
    fields = attacker.head(_UPLOAD, "dev", method=b"POST")
    block = hpack_codec.block([*fields, (b"content-length", b"100000000")])
    held = []
    for number in range(2 if attacker.world.quick else 4):
        made = attacker.http2(source=f"127.0.9.{1 + number}")
        for _ in range(50):
            stream = made.stream()
            made.send(request_frames(stream, block, 0))
            attacker.counts.requests += 1
            made.send(*(frames.frame(frames.DATA, 0, stream, bytes(16_000)) for _ in range(4)))
            made.drain()
        held.append(made)
    _stay(attacker, held)


def requests(attacker: Attacker) -> None:
    """Small requests as fast as they are answered, 50 at a time on each of two connections."""
    block = hpack_codec.block(attacker.head(SMALL, "reader"))
    held = [attacker.http2(source=f"127.0.9.{1 + number}") for number in range(2)]
    sent = [0, 0]
    while attacker.going:
        for number, made in enumerate(held):
            count = 50 - sent[number] + len(made.ended)
            made.send(*(request_frames(made.stream(), block) for _ in range(count)))
            sent[number] += count
            attacker.counts.requests += count
            made.drain(0.005)


def bulk_readers(attacker: Attacker) -> None:
    """Four answers of 64 MiB at a time, read as fast as they come, again and again."""
    block = hpack_codec.block(attacker.head(_BULK, "reader"))
    made = attacker.http2({frames.INITIAL_WINDOW_SIZE: 1 << 20}, source="127.0.9.1")
    made.send(frames.window_update(0, 1 << 26))
    while attacker.going:
        streams = []
        for _ in range(4):
            streams.append(made.stream())
            made.send(request_frames(streams[-1], block))
            attacker.counts.requests += 1
        while attacker.going and not all(it in made.ended for it in streams):
            made.drain(0.2)
    attacker.counts.answers["MiB read"] = made.received >> 20


ATTACKS: tuple[Attack, ...] = (
    Load(
        "reader-informers",
        "10",
        "no attack: a controller with 300 watches",
        informers,
        judge=untouched,
    ),
    Load(
        "reader-watches",
        "10, D9",
        "one person opens 40,000 watches",
        watches,
        seconds=24,
        judge=share_is_bounded,
    ),
    Load(
        "reader-watches-again",
        "10",
        "2,500 watches, and again at once after each 429",
        watches_retried,
        judge=share_is_bounded,
    ),
    Load(
        "reader-zero-reads",
        "11, D6",
        "22 x 100 answers of 64 MiB that nobody reads",
        stalled,
        seconds=14,
        judge=nobody_cut,
    ),
    Load(
        "reader-drips",
        "11, D6",
        "800 answers of 64 MiB at a byte a second",
        drip_readers,
        seconds=12,
    ),
    Load(
        "reader-zero-reads-h1",
        "11, D6",
        "6 x 100 such answers of a cluster that speaks HTTP/1.1",
        stalled_http1,
        seconds=12,
        judge=nobody_cut,
    ),
    Load(
        "reader-uploads",
        "11, D8",
        "200 uploads to an API server that takes nothing",
        uploads,
        seconds=10,
    ),
    Load("reader-requests", "10", "small requests, 100 at a time, as fast as answered", requests),
    Load("reader-bulk", "D8", "answers of 64 MiB, read as fast as they come", bulk_readers),
    Load(
        "reader-full-tunnels",
        "10",
        "45,000 watches where one person may have 60,000",
        full_tunnels,
        seconds=26,
        settings=_FULL,
        alone=True,
    ),
)
