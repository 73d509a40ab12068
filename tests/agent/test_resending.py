"""What the API server did not take goes to it again, unseen by the client, and once only."""

import pytest

from mk8s_agent.apiserver.resending import MOST_KEPT
from mk8s_agent.wire.http2.frames import ErrorCode
from tests.support.agent_side import HEAD, AgentSide, Dialled
from tests.support.memory import (
    Frame,
    bodies,
    data,
    ended,
    goaway,
    headers,
    rst_stream,
    status,
    window_update,
)

OK = [(b":status", b"200")]
POST = [(b":method", b"POST"), *HEAD[1:]]
HTTP1_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def served() -> AgentSide:
    """A connection that has answered before."""
    side = AgentSide().open()
    await side.ask(3)
    first = side.dialled[0]
    first.greet()
    first.send(headers(1, OK, end=True))
    assert answered(side, 3) == 200
    return side


def answered(side: AgentSide, number: int) -> int:
    [head] = [it for it in side.central.read() if it.kind == "HEADERS" and it.stream == number]
    return status(head)


async def on_next(side: AgentSide) -> tuple[Dialled, list[Frame]]:
    await side.settle()
    dialled = side.dialled[-1]
    return dialled, dialled.greet()


async def send(side: AgentSide, number: int, *pieces: bytes) -> None:
    """A POST with a body in pieces."""
    side.central.send(headers(number, POST, end=False))
    for at, piece in enumerate(pieces):
        side.central.send(data(number, piece, end=at == len(pieces) - 1))
    await side.settle()


async def test_a_get_above_the_last_stream_of_a_goaway() -> None:
    side = await served()
    await side.ask(5)
    side.dialled[0].send(goaway(1))
    second, seen = await on_next(side)
    assert len(side.dialled) == 2
    assert ended(seen) == {1}
    second.send(headers(1, OK, end=True))
    assert answered(side, 5) == 200


@pytest.mark.parametrize("pieces", [(b"",), (b"body",), (b"one ", b"two ", b"three"), (b"x", b"")])
async def test_a_post_is_sent_again_with_its_whole_body(pieces: tuple[bytes, ...]) -> None:
    side = await served()
    await send(side, 5, *pieces)
    assert side.budget.used == sum(map(len, pieces))
    side.dialled[0].send(goaway(1))
    second, seen = await on_next(side)
    assert bodies(seen).get(1, b"") == b"".join(pieces)
    assert ended(seen) == {1}
    second.send(headers(1, OK, end=True))
    assert answered(side, 5) == 200
    assert side.budget.used == 0


async def test_the_rest_of_a_body_follows_what_was_kept() -> None:
    side = await served()
    side.central.send(headers(5, POST, end=False), data(5, b"first "))
    await side.settle()
    side.dialled[0].send(goaway(1))
    side.central.send(data(5, b"second", end=True))
    _, seen = await on_next(side)
    assert bodies(seen) == {1: b"first second"}
    assert ended(seen) == {1}


async def test_many_bodies_go_again_over_one_new_connection() -> None:
    side = await served()
    for number in range(5, 25, 2):
        await send(side, number, b"%d" % number)
    side.dialled[0].send(goaway(1))
    _, seen = await on_next(side)
    assert len(side.dialled) == 2
    assert sorted(bodies(seen).values()) == sorted(b"%d" % number for number in range(5, 25, 2))


async def test_a_stream_that_was_refused() -> None:
    side = await served()
    await send(side, 5, b"body")
    first = side.dialled[0]
    first.peer.read()
    seen = first.send(rst_stream(3, ErrorCode.REFUSED_STREAM))
    assert bodies(seen) == {5: b"body"}
    first.send(headers(5, OK, end=True))
    assert answered(side, 5) == 200


async def test_what_is_refused_twice_is_an_answer() -> None:
    side = await served()
    await send(side, 5, b"body")
    side.dialled[0].send(rst_stream(3, ErrorCode.REFUSED_STREAM))
    side.dialled[0].send(rst_stream(5, ErrorCode.REFUSED_STREAM))
    assert answered(side, 5) == 503
    assert side.budget.used == 0
    await side.ask(7)
    side.dialled[0].send(rst_stream(7, ErrorCode.REFUSED_STREAM))
    side.dialled[0].send(rst_stream(9, ErrorCode.REFUSED_STREAM))
    assert answered(side, 7) == 503


async def test_attack_a_request_that_is_executed_twice() -> None:
    """It was taken, for all that is known: below the last stream, or reset for another reason."""
    side = await served()
    await send(side, 5, b"a")
    await send(side, 7, b"b")
    side.dialled[0].send(goaway(5), rst_stream(3, ErrorCode.INTERNAL_ERROR))
    assert answered(side, 5) == 502
    side.dialled[0].connection.connection_lost()
    assert answered(side, 7) == 502
    await side.settle()
    assert len(side.dialled) == 1
    assert side.budget.used == 0


async def test_an_answer_that_has_begun_is_not_asked_for_again() -> None:
    side = await served()
    await side.ask(5)
    side.dialled[0].send(headers(3, OK))
    side.dialled[0].connection.connection_lost()
    await side.settle()
    assert [it.kind for it in side.central.read() if it.stream == 5] == ["HEADERS", "RST_STREAM"]
    assert len(side.dialled) == 1


async def test_a_body_that_is_too_long_is_not_kept() -> None:
    side = await served()
    first = side.dialled[0]
    first.send(window_update(0, 1 << 20))
    await send(side, 5, *[b"x" * 16_000] * (MOST_KEPT // 16_000))
    first.send(window_update(3, 1 << 20))
    assert side.budget.used == MOST_KEPT // 16_000 * 16_000
    await send(side, 7, *[b"x" * 16_000] * (MOST_KEPT // 16_000 + 2))
    first.send(window_update(5, 1 << 20))
    first.send(goaway(1))
    assert answered(side, 7) == 503
    _, seen = await on_next(side)
    assert len(bodies(seen)[1]) == MOST_KEPT // 16_000 * 16_000


async def test_nothing_is_kept_while_memory_is_scarce() -> None:
    side = await served()
    side.budget.limit = 10
    await send(side, 5, b"123456")
    await send(side, 7, b"123")
    assert side.budget.used == 6
    side.dialled[0].send(goaway(1))
    assert answered(side, 7) == 503


async def test_a_client_that_goes_frees_what_was_kept() -> None:
    side = await served()
    await send(side, 5, b"body")
    side.central.send(rst_stream(5))
    assert side.budget.used == 0


async def test_a_connection_that_dies_under_a_get() -> None:
    """The server's end of an idle connection crossed with the request."""
    side = await served()
    await side.ask(5)
    side.dialled[0].connection.connection_lost()
    second, seen = await on_next(side)
    assert ended(seen) == {1}
    second.send(headers(1, OK, end=True))
    assert answered(side, 5) == 200


async def test_a_connection_that_dies_under_everything_else() -> None:
    side = await served()
    await send(side, 5, b"")
    side.central.send(headers(7, [(b":method", b"DELETE"), *HEAD[1:]], end=True))
    side.central.send(headers(9, HEAD, end=False))
    await side.settle()
    side.dialled[0].connection.connection_lost()
    seen = [it for it in side.central.read() if it.kind == "HEADERS"]
    assert {it.stream: status(it) for it in seen} == {5: 502, 7: 502, 9: 502}


async def test_a_get_whose_second_connection_dies_too() -> None:
    side = await served()
    await side.ask(5)
    side.dialled[0].connection.connection_lost()
    second, _ = await on_next(side)
    second.connection.connection_lost()
    assert answered(side, 5) == 502


async def test_a_connection_that_we_end_ourselves_is_no_reason_to_ask_again() -> None:
    side = await served()
    await side.ask(5)
    side.dialled[0].send(data(3, b"before the head"))
    assert answered(side, 5) == 502


async def test_a_body_for_which_nobody_can_be_asked_any_more() -> None:
    side = await served()
    await send(side, 5, b"body")
    side.credentials.token = None
    side.dialled[0].send(rst_stream(3, ErrorCode.REFUSED_STREAM))
    assert answered(side, 5) == 502
    assert side.budget.used == 0


# -- HTTP/1.1


async def served_http1() -> AgentSide:
    side = AgentSide(protocol="http/1.1").open()
    await side.ask(3)
    side.dialled[0].connection.receive(HTTP1_OK)
    assert answered(side, 3) == 200
    return side


async def test_an_idle_connection_that_is_closed_as_a_get_comes() -> None:
    side = await served_http1()
    await side.ask(5)
    assert len(side.dialled) == 1
    side.dialled[0].connection.connection_lost()
    await side.settle()
    assert len(side.dialled) == 2
    side.dialled[1].connection.receive(HTTP1_OK)
    assert answered(side, 5) == 200


async def test_what_broke_off_is_not_asked_for_again() -> None:
    side = await served_http1()
    await side.ask(5)
    side.dialled[0].connection.receive(b"HTTP/1.1 2")
    side.dialled[0].connection.connection_lost()
    assert answered(side, 5) == 502


async def test_a_first_request_on_a_connection_is_not_sent_again() -> None:
    side = AgentSide(protocol="http/1.1").open()
    await side.ask(3)
    side.dialled[0].connection.connection_lost()
    assert answered(side, 3) == 502
    assert len(side.dialled) == 1


async def test_a_post_on_an_idle_connection_that_is_closed() -> None:
    side = await served_http1()
    await send(side, 5, b"body")
    side.dialled[0].connection.connection_lost()
    await side.settle()
    assert answered(side, 5) == 502
    assert len(side.dialled) == 1
