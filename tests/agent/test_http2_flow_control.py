"""The windows given to a peer: never exceeded, given back in steps, wider over a distance."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_agent.wire.http2 import flow_control
from mk8s_agent.wire.http2.flow_control import ReceiveWindows
from mk8s_agent.wire.http2.frames import ErrorCode, RemoteProtocolError
from mk8s_agent.wire.limits import Limits
from mk8s_agent.wire.stream import Stream


def stream(window: int) -> Stream:
    return Stream(None, 1, 0, window)


def test_the_connection_gets_all_back_once_half_is_used() -> None:
    windows = ReceiveWindows(Limits(connection_window=100))
    assert [windows.take(None, size) for size in (20, 29, 1, 49, 1)] == [0, 0, 50, 0, 50]


@pytest.mark.parametrize("connection", [True, False])
def test_attack_more_than_a_window(connection: bool) -> None:
    windows = ReceiveWindows(Limits(connection_window=100 if connection else 1000))
    half = stream(1000 if connection else 100)
    assert windows.take(half, 50) in (0, 50)
    windows = ReceiveWindows(Limits(connection_window=99 if connection else 1000))
    half = stream(1000 if connection else 99)
    with pytest.raises(RemoteProtocolError) as refusal:
        windows.take(half, 100)
    assert refusal.value.code is ErrorCode.FLOW_CONTROL_ERROR


@given(st.lists(st.integers(0, 60), max_size=50))
def test_a_peer_that_keeps_to_its_windows_is_never_stopped(sizes: list[int]) -> None:
    windows, half = ReceiveWindows(Limits(connection_window=100)), stream(100)
    room = 100
    for wished in sizes:
        size = min(wished, room)
        room += windows.take(half, size) - size
        half.credit += size
        assert windows.give_back(half) == size
        assert half.receive_window == 100
        assert 50 < room <= 100


def test_a_window_grows_only_over_a_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [50.0]
    monkeypatch.setattr(flow_control.time, "monotonic", lambda: now[0])
    windows, half = ReceiveWindows(Limits(widest_window=10_000)), stream(1000)

    def handed_on(seconds: float) -> int:
        now[0] += seconds
        half.credit += half.window >> 1
        return windows.give_back(half) - (half.window >> 1)

    windows.round_trip = flow_control.FAR_SECONDS
    handed_on(0.001)
    assert half.window == 1000  # near
    windows.round_trip = 0.1
    handed_on(0.1)  # nothing is known of the time before
    handed_on(0.3)  # slower than two round trips: something else is the limit
    assert half.window == 1000
    handed_on(0.1)
    assert half.window == 4000
    handed_on(0.1)
    assert half.window == 10_000
    handed_on(0.1)
    assert half.window == 10_000
    other = stream(1000)
    windows.give_back(other)
    now[0] += 0.1
    windows.give_back(other)
    assert other.window == 10_000  # what one stream found out the next need not
