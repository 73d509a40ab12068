"""Which ids are idle, open, closed, or reset here a moment ago."""

import pytest

from mk8s_agent.wire.http2 import stream_table
from mk8s_agent.wire.http2.frames import ErrorCode, RemoteProtocolError
from mk8s_agent.wire.http2.stream_table import StreamTable


def code_of(check: object, stream_id: int) -> ErrorCode:
    with pytest.raises(RemoteProtocolError) as refusal:
        check(stream_id)  # type: ignore[operator]
    return refusal.value.code


def test_a_client_owns_odd_ids_and_a_server_even_ones() -> None:
    client, server = StreamTable(1), StreamTable(2)
    assert [client.is_own(n) for n in (1, 2, 3)] == [True, False, True]
    assert [server.is_own(n) for n in (1, 2, 3)] == [False, True, False]


def test_idle_is_what_nobody_has_opened() -> None:
    table = StreamTable(1)
    table.next_own, table.last_peer = 5, 4
    for opened in (1, 2, 3, 4):
        table.check_not_idle(opened)
    for idle in (5, 6, 7, 100):
        assert code_of(table.check_not_idle, idle) is ErrorCode.PROTOCOL_ERROR


def test_a_peer_opens_ids_that_only_grow() -> None:
    table = StreamTable(2)
    assert table.peer_opens(1)
    assert table.peer_opens(7)
    assert table.last_peer == 7
    assert code_of(table.peer_opens, 2) is ErrorCode.PROTOCOL_ERROR
    assert code_of(table.peer_opens, 7) is ErrorCode.STREAM_CLOSED
    assert code_of(table.peer_opens, 5) is ErrorCode.STREAM_CLOSED
    table.expect_strays(7)
    assert not table.peer_opens(7)
    assert table.peer_opens(9)


def test_data_without_a_stream_is_fine_only_behind_a_reset_of_ours() -> None:
    table = StreamTable(2)
    table.peer_opens(3)
    assert code_of(table.check_stray, 0) is ErrorCode.PROTOCOL_ERROR
    assert code_of(table.check_stray, 5) is ErrorCode.PROTOCOL_ERROR
    assert code_of(table.check_stray, 3) is ErrorCode.STREAM_CLOSED
    table.expect_strays(3)
    table.check_stray(3)


def test_attack_resets_without_end_are_remembered_up_to_a_limit() -> None:
    table = StreamTable(2)
    table.last_peer = 1_000_001
    for number in range(1, 2 * stream_table.STRAYS + 6, 2):
        table.expect_strays(number)
    assert len(table._reset_here) == stream_table.STRAYS
    table.check_stray(2 * stream_table.STRAYS + 5)
    assert code_of(table.check_stray, 1) is ErrorCode.STREAM_CLOSED
