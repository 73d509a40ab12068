"""The leg of an interceptor: what passes, what ends, and what an exception in it does."""

from typing import Any

import pytest
from chain_for_tests import UNREAD

from mk8s_agent.wire.http2.frames import ErrorCode
from mk8s_agent.wire.stream import Fields, Stream
from mk8s_proxy.answers.interceptor import InterceptionRefused, Interceptor
from mk8s_proxy.kube.status import StatusError, bad_gateway
from mk8s_proxy.listener.exchange import Exchange, new_entry
from tests.support.legs import NotingLeg

OK: Fields = [(b":status", b"200")]


class Broken(Interceptor):
    """Raises where it is told to."""

    where = ""
    last = b""
    error: Exception = ZeroDivisionError("secret-value")

    def head(self, fields: Fields) -> Fields:
        if self.where == "head":
            raise self.error
        return super().head(fields)

    def body(self, data: bytes, end: bool) -> bytes:
        if self.where == "body":
            raise self.error
        return super().body(data, end) + (self.last if end else b"")


class Scene:
    """A client, an interceptor and a tunnel's stream."""

    def __init__(self) -> None:
        self.client, self.tunnel = NotingLeg(), NotingLeg()
        self.refused: list[StatusError] = []
        front = Stream(self.client, 1, 0, 0)
        exchange = Exchange(front, UNREAD, new_entry("192.0.2.1"))
        self.interceptor = Broken(exchange, self._refuse)
        self.front, self.back = front, Stream(self.tunnel, 3, 0, 0)
        self.interceptor.insert(self.back)

    def _refuse(self, exchange: Exchange, error: StatusError) -> None:
        self.refused.append(error)

    def head(self, *, end: bool = False) -> None:
        leg = self.back.peer
        assert leg is not None
        leg.connection.relay_head(leg, b"", end, OK)

    def body(self, data: bytes, *, end: bool = False) -> None:
        leg = self.back.peer
        assert leg is not None
        leg.connection.send_data(leg, data, len(data), end)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_what_is_not_overridden_passes_as_it_is(scene: Scene) -> None:
    scene.head()
    scene.body(b"a")
    scene.body(b"b", end=True)
    assert scene.client.heads[0][2] == OK
    assert (scene.client.body, scene.client.ended) == (b"ab", True)
    assert scene.tunnel.granted == 2


def test_a_head_without_a_body_ends_the_answer(scene: Scene) -> None:
    scene.head(end=True)
    assert (scene.client.body, scene.client.ended) == (b"", True)


def test_the_request_passes_with_its_credit(scene: Scene) -> None:
    down = scene.front.peer
    assert down is not None
    down.connection.send_data(down, b"asked", 5, True)
    assert (scene.tunnel.body, scene.tunnel.ended) == (b"asked", True)
    assert scene.client.granted == 5


def test_a_request_behind_a_tunnel_that_is_gone_goes_nowhere(scene: Scene) -> None:
    down, up = scene.front.peer, scene.back.peer
    assert down is not None
    assert up is not None
    up.connection.reset(up, ErrorCode.CANCEL)
    down.connection.send_data(down, b"late", 4, False)
    assert scene.tunnel.body == b""
    assert scene.client.resets == [ErrorCode.CANCEL]


def test_a_client_that_leaves_ends_the_tunnels_stream_once(scene: Scene) -> None:
    down = scene.front.peer
    assert down is not None
    down.connection.reset(down, ErrorCode.CANCEL)
    down.connection.reset(down, ErrorCode.CANCEL)
    assert scene.tunnel.resets == [ErrorCode.CANCEL]


def test_a_tunnel_that_ends_after_the_client_left_tells_nobody(scene: Scene) -> None:
    up = scene.back.peer
    assert up is not None
    scene.front.peer = None
    up.connection.reset(up, ErrorCode.INTERNAL_ERROR)
    assert scene.client.resets == []


def test_a_body_that_appears_at_the_end_follows_its_head(scene: Scene) -> None:
    scene.interceptor.last = b"appendix"
    scene.head(end=True)
    assert (scene.client.body, scene.client.ended) == (b"appendix", True)
    assert scene.client.heads[0][1] is False


def test_what_comes_after_the_client_left_gets_no_credit(scene: Scene) -> None:
    scene.head()
    scene.body(b"x")
    up = scene.back.peer
    assert up is not None
    up.peer = None
    up.connection.send_data(up, b"late", 4, False)
    assert scene.tunnel.granted == 1


@pytest.mark.parametrize("where", ["head", "body"])
def test_an_exception_is_a_refusal_and_its_words_stay_inside(scene: Scene, where: str) -> None:
    scene.interceptor.where = where
    scene.head()
    if where == "body":
        scene.body(b"x")
    [error] = scene.refused
    assert error.code == 502
    assert "secret-value" not in error.message
    assert scene.tunnel.resets == [ErrorCode.CANCEL]
    assert scene.client.body == b""


def test_a_refusal_says_what_it_says(scene: Scene) -> None:
    refusal: Any = InterceptionRefused(bad_gateway("not JSON"))
    scene.interceptor.where, scene.interceptor.error = "body", refusal
    scene.head()
    scene.body(b"x")
    assert [error.message for error in scene.refused] == ["not JSON"]


def test_a_slow_client_keeps_the_tunnels_credit(scene: Scene) -> None:
    scene.head()
    scene.front.pending_bytes = 1 << 20
    scene.body(b"waits")
    assert scene.tunnel.granted == 0
    scene.front.pending_bytes = 0
    down = scene.front.peer
    assert down is not None
    down.connection.grant(down, 5)
    assert scene.tunnel.granted == 5


def test_an_interceptor_may_hold_back_a_piece(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.head()
    monkeypatch.setattr(scene.interceptor, "body", lambda data, end: b"all" if end else b"")
    scene.body(b"a")
    assert scene.client.pieces == []
    scene.body(b"b", end=True)
    assert (scene.client.body, scene.client.ended) == (b"all", True)
