"""A disk that does not answer: it stops nobody else, and requests do not wait for ever."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mk8s_proxy.audit import journal as journal_module
from mk8s_proxy.audit.event import AuditEntry
from mk8s_proxy.audit.journal import Journal
from mk8s_proxy.audit.writer import BatchWriter
from tests.support.disks import write_files_by
from tests.support.front_door import Central, refusal_of
from tests.support.memory import ping


class Disk:
    """A disk whose writes can be held up."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.answers.set()
        self.fails = False
        self._write = os.write

    def write(self, descriptor: int, data: bytes) -> int:
        """As `os.write`, once the disk answers."""
        assert self.answers.wait(30)
        if self.fails:
            raise OSError("broken")
        return self._write(descriptor, data)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    made = Disk()
    write_files_by(monkeypatch, made.write)
    yield made
    made.answers.set()


@pytest.fixture
def central(tmp_path: Path, disk: Disk) -> Iterator[Central]:
    made = Central(tmp_path)
    made.journal.real.close()
    made.journal.real = Journal(made.path, max_bytes=1 << 30, keep=1, patience=0.001)
    yield made
    disk.answers.set()
    made.journal.real.close()


class Late:
    """Hears when a batch that nobody waited for is through."""

    def __init__(self, journal: Any) -> None:
        self._through = threading.Event()
        journal.when_late(self._through.set)

    def wait(self) -> None:
        assert self._through.wait(30)


def row(name: str) -> AuditEntry:
    return AuditEntry(name, 0.0)  # type: ignore[arg-type]


def test_attack_disk_stall_requests_wait_and_then_leave(central: Central, disk: Disk) -> None:
    late = Late(central.journal)
    agent, person = central.agent(), central.http2()
    disk.answers.clear()
    person.ask()
    second = person.ask()
    assert agent.requests() == []
    assert [frame.kind for frame in person.send(ping())] == ["PING ACK"]
    disk.answers.set()
    late.wait()
    assert central.chain.commit()
    heads = [frame for frame in agent.requests() if frame.kind == "HEADERS"]
    assert len(heads) == 2
    assert second
    assert [r["stage"] for r in central.rows()] == ["RequestReceived"] * 2


def test_attack_disk_stall_requests_are_refused_in_the_end(
    central: Central, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = Late(central.journal)
    agent, person = central.agent(), central.http2()
    disk.answers.clear()
    first = person.ask()
    with monkeypatch.context() as patch:
        patch.setattr(journal_module, "STALL_SECONDS", -1.0)
        assert not central.chain.commit()
        assert person.answer(first).code == 503
        assert person.get().code == 503
        assert not central.journal.healthy
    disk.answers.set()
    late.wait()
    assert central.chain.commit()
    assert [refusal_of(r) for r in central.outcomes()] == ["AUDIT_UNAVAILABLE"] * 2
    assert agent.requests() == []
    person.ask()
    assert agent.request()


def test_a_late_write_that_fails_refuses(central: Central, disk: Disk) -> None:
    late = Late(central.journal)
    agent, person = central.agent(), central.http2()
    disk.answers.clear()
    number = person.ask()
    disk.fails = True
    disk.answers.set()
    late.wait()
    assert not central.chain.commit()
    assert person.answer(number).code == 503
    assert agent.requests() == []


def test_a_crash_while_it_waits_refuses(
    central: Central, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, person = central.agent(), central.http2()
    disk.answers.clear()
    number = person.ask()

    def crash() -> bool:
        raise RuntimeError("a bug")

    central.journal.finish = crash
    central.ticks.schedule()
    assert person.answer(number).code == 503
    assert agent.requests() == []


def test_outcomes_of_a_late_batch_that_fails_are_kept(tmp_path: Path, disk: Disk) -> None:
    journal = Journal(tmp_path / "a" / "j.jsonl", max_bytes=1 << 20, keep=1, patience=0.001)
    late = Late(journal)
    disk.answers.clear()
    journal.outcome(row("a"))
    assert not journal.commit()
    assert journal.waiting
    assert journal.finish() is None
    journal.outcome(row("b"))
    assert not journal.commit()
    disk.fails = True
    disk.answers.set()
    late.wait()
    assert journal.finish() is False
    disk.fails = False
    assert journal.close()
    assert (tmp_path / "a" / "j.jsonl").read_bytes().count(b"\n") == 2


def test_closing_does_not_wait_for_ever(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "STALL_SECONDS", 0.01)
    journal = Journal(tmp_path / "a" / "j.jsonl", max_bytes=1 << 20, keep=1, patience=0.001)
    disk.answers.clear()
    journal.outcome(row("a"))
    assert not journal.close()
    assert not journal.healthy


def test_a_sync_that_does_not_end_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "a" / "j.jsonl", max_bytes=1 << 20, keep=1, patience=60.0)
    seen: list[tuple[bool, bool]] = []

    def sync(_: int) -> None:
        journal.intent(row("a"))
        seen.append((journal.commit(), journal.healthy))
        monkeypatch.setattr(journal_module, "SYNC_SECONDS", -1.0)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", sync)
        assert journal.sync()
    assert seen == [(True, True), (False, False)]  # of the file and of its folder
    assert journal.close()


def test_nothing_is_waited_for_where_nothing_waits(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a" / "j.jsonl", max_bytes=1 << 20, keep=1, patience=60.0)
    assert journal.finish() is True
    journal.outcome(row("a"))
    assert journal.commit()
    assert journal.finish() is True
    assert journal.close()


def test_a_writer_that_raises_something_else_has_not_written() -> None:
    def write(_: bytes) -> None:
        raise ValueError("a bug")

    writer = BatchWriter(write, 60.0)
    with pytest.raises(OSError, match="ValueError: a bug"):
        writer.write(b"x")
    assert writer.close(10)


class LatePoll:
    """Gives up waiting in the moment in which there is nothing to wait for any more."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def poll(self, milliseconds: float) -> list[tuple[int, int]]:
        ready: list[tuple[int, int]] = self._real.poll(30_000 if milliseconds else 0)
        return [] if milliseconds else ready


def test_a_writer_that_is_through_at_the_last_look() -> None:
    written: list[bytes] = []
    writer = BatchWriter(written.append, 60.0)
    late: Any = LatePoll(writer._ends)
    writer._ends = late
    writer.write(b"x")
    assert not writer.busy
    assert written == [b"x"]
    assert writer.close(10)
