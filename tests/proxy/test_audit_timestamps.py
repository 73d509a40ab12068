"""Times of audit rows, whatever order they come in."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from mk8s_proxy.audit.rows import Timestamps

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def reference(moment: float) -> str:
    time = EPOCH + timedelta(microseconds=int(moment * 1_000_000))
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def test_timestamps_within_and_across_seconds() -> None:
    timestamps = Timestamps()
    made = [timestamps.format(at) for at in (59.5, 59.75, 59.999999, 60, 59, 0)]
    assert made == [
        "1970-01-01T00:00:59.500000Z",
        "1970-01-01T00:00:59.750000Z",
        "1970-01-01T00:00:59.999999Z",
        "1970-01-01T00:01:00.000000Z",
        "1970-01-01T00:00:59.000000Z",
        "1970-01-01T00:00:00.000000Z",
    ]


@given(st.lists(st.floats(0, 4_000_000_000), max_size=5), st.floats(0, 2))
def test_every_time_is_its_own(moments: list[float], step: float) -> None:
    timestamps = Timestamps()
    for moment in moments:
        for near in (moment, moment + step, moment):
            assert timestamps.format(near) == reference(near)
