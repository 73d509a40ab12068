"""Keepalive, and what tells a reader that pauses from one that has vanished."""

import contextlib
import socket
import struct
from collections.abc import Iterator

import pytest

from mk8s_agent.wire.tcp import is_gone, prepare, vanished


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        prepare(listening)
        near = socket.create_connection(listening.getsockname())
        far, _ = listening.accept()
        with near, far:
            yield near, far


def test_both_ends_are_kept_alive(pair: tuple[socket.socket, socket.socket]) -> None:
    near, accepted = pair
    prepare(near)
    for tcp in (near, accepted):  # one inherits it from the socket that listens
        assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        told = [
            tcp.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        ]
        idle, interval, probes = told
        assert 15 <= idle <= 30
        assert idle + interval * probes <= 60


def test_what_is_no_tcp_socket_is_left_alone() -> None:
    prepare(None)
    near, far = socket.socketpair()
    with near, far:
        prepare(near)
        assert not is_gone(near)
    prepare(near)
    assert not is_gone(None)


def test_a_reader_that_pauses_is_there(pair: tuple[socket.socket, socket.socket]) -> None:
    near, _ = pair
    near.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            near.send(b"x" * 65536)
    assert not is_gone(near)
    near.close()
    assert not is_gone(near)


def told(retransmits: int, unacknowledged: int, last_ack: int) -> bytes:
    words = [0] * 13
    words[4], words[12] = unacknowledged, last_ack
    return bytes((1, 0, retransmits, 0, 0, 0, 0, 0)) + struct.pack("=13I", *words)


@pytest.mark.parametrize(
    ("info", "gone"),
    [
        (told(6, 3, 31_000), True),
        (told(0, 0, 3_600_000), False),  # nothing is under way
        (told(0, 3, 31_000), False),  # sent just now
        (told(6, 0, 31_000), False),  # a closed window
        (told(2, 3, 1_000), False),  # a short break
        (b"", False),
    ],
)
def test_a_vanished_peer_acknowledges_nothing(info: bytes, gone: bool) -> None:
    assert vanished(info) is gone
