"""Rows of requests that ended wait a moment for those of the next ones; heads never wait for more
than their own rows, and nothing leaves before them.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.disks import write_files_by
from tests.support.front_door import Central, refusal_of
from tests.support.memory import data, headers


class Later:
    """The loop's clock."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def call_later(self, _seconds: float, call: Callable[[], None]) -> None:
        self.calls.append(call)

    def pass_by(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call()


@pytest.fixture
def central(tmp_path: Path) -> Iterator[Central]:
    made = Central(tmp_path)
    yield made
    made.journal.real.close()


@pytest.fixture
def later(central: Central) -> Later:
    made = Later()
    central.ticks.call_later = made.call_later
    return made


def stages(central: Central) -> list[str]:
    return [row["stage"] for row in central.rows()]


RECEIVED, COMPLETE = "RequestReceived", "ResponseComplete"


def test_the_end_of_a_request_is_written_with_the_next_one(
    central: Central, later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[bytes] = []
    write = os.write

    def note(descriptor: int, rows: bytes) -> int:
        writes.append(rows)
        return write(descriptor, rows)

    write_files_by(monkeypatch, note)
    agent, person = central.agent(), central.http2()
    for number in range(1, 4):
        stream = person.ask()
        back, _ = agent.request()
        agent.send(headers(back, [(b":status", b"200")]), data(back, b"x", end=True))
        assert person.answer(stream).ended
        assert len(writes) == number
    assert stages(central) == [RECEIVED, RECEIVED, COMPLETE, RECEIVED, COMPLETE]
    assert len(later.calls) == 1
    later.pass_by()
    assert stages(central).count(COMPLETE) == 3
    assert len(writes) == 4


def test_a_refusal_alone_is_written_a_moment_later(central: Central, later: Later) -> None:
    person = central.http2()
    assert person.get(b"/k8s/prod/api/v1/namespaces/kube-system/secrets").code == 403
    assert central.rows() == []
    later.pass_by()
    assert [row["annotations"]["authorization.k8s.io/decision"] for row in central.rows()] == [
        "forbid"
    ]
    assert later.calls == []


def test_nothing_noted_puts_nothing_off(central: Central, later: Later) -> None:
    central.ticks.schedule()
    assert central.rows() == []
    assert later.calls == []


def test_requests_of_a_full_disk_are_refused_at_once(
    central: Central, later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, person = central.agent(), central.http2()

    def full(_descriptor: int, _rows: bytes) -> int:
        raise OSError("no space")

    with monkeypatch.context() as patch:
        write_files_by(patch, full)
        assert person.get().code == 503
        assert agent.requests() == []
        later.pass_by()
    assert central.chain.commit()
    assert [refusal_of(row) for row in central.rows()] == ["AUDIT_UNAVAILABLE"]
