"""Journals read for the database: each row once, in order, none before it is there to stay."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from mk8s_proxy.audit import follower as follower_module
from mk8s_proxy.audit.event import AuditEntry, AuditFacts
from mk8s_proxy.audit.follower import JournalFollower, Piece, owned_by
from mk8s_proxy.audit.identifier import AuditId
from mk8s_proxy.audit.journal import Journal
from mk8s_proxy.audit.strangers import Strangers
from tests.support.audit_rows import NOON, open_journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit" / "journal.jsonl"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    opened = open_journal(path)
    yield opened
    opened.close()


def follow(
    journal: Journal | None, path: Path, worker: int = 1, workers: int = 1
) -> JournalFollower:
    journals = () if journal is None else (journal.durable,)
    return JournalFollower(path.parent, owned_by(path, worker, workers), journals)


def write(journal: Journal, *names: str, sync: bool = True) -> None:
    for name in names:
        journal.outcome(AuditEntry(AuditId(name), NOON, facts=AuditFacts(decision="allow")))
        assert journal.commit()
    if sync:
        assert journal.sync()


def ids(rows: bytes) -> list[str]:
    """The audit ids of rows; lines that are none are left out."""
    rows_only = [line for line in rows.splitlines() if line.startswith(b"{")]
    return [orjson.loads(line)["auditID"] for line in rows_only]


class Database:
    """What a database remembers."""

    def __init__(self) -> None:
        self.positions: dict[str, int] = {}
        self.rows: list[str] = []

    def take(self, follower: JournalFollower) -> list[str]:
        """All that is new; the audit ids, without those of the journal's own rows."""
        follower.place({key: self.positions.get(key, 0) for key in follower.look()})
        found: list[str] = []
        while (piece := follower.read()) is not None:
            assert self.positions.get(piece.file, 0) == piece.start
            self.positions[piece.file] = piece.end
            follower.shipped(piece, piece.end)
            found += ids(piece.rows)
        self.rows += found
        return [name for name in found if len(name) < 10]


@pytest.fixture
def database() -> Database:
    return Database()


def test_new_rows_come_once_and_in_order(journal: Journal, path: Path, database: Database) -> None:
    follower = follow(journal, path)
    assert database.take(follower) == []
    write(journal, "a", "b")
    assert database.take(follower) == ["a", "b"]
    assert database.take(follower) == []
    write(journal, "c")
    assert database.take(follower) == ["c"]
    assert follower.waiting == 0
    follower.close()


def test_rows_that_are_not_synced_wait(journal: Journal, path: Path, database: Database) -> None:
    follower = follow(journal, path)
    write(journal, "a", sync=False)
    assert database.take(follower) == []
    journal.sync()
    assert database.take(follower) == ["a"]
    follower.close()


def test_what_a_failed_write_left_is_never_read(
    journal: Journal, path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = follow(journal, path)
    write(journal, "a")
    real = os.write

    def cut_short(descriptor: int, data: bytes) -> int:
        """The disk is full; pipes between threads are not."""
        return real(descriptor, data[:-5] if len(data) > 100 else data)

    monkeypatch.setattr(os, "write", cut_short)
    monkeypatch.setattr(os, "ftruncate", _broken)
    journal.intent(AuditEntry(AuditId("refused"), NOON))
    assert not journal.commit()
    assert b"refused" in path.read_bytes()
    assert database.take(follower) == ["a"]
    monkeypatch.undo()
    write(journal, "b")
    assert database.take(follower) == ["b"]
    follower.close()


def _broken(*_: object) -> None:
    raise OSError(errno.EIO, "broken")


def test_rotation_leaves_nothing_out(path: Path, database: Database) -> None:
    journal = open_journal(path, max_bytes=2000, keep=100)
    follower = follow(journal, path)
    names = [f"r{number:03}" for number in range(60)]
    seen = []
    for start in range(0, 60, 7):
        write(journal, *names[start : start + 7])
        seen += database.take(follower)
    assert seen == names
    assert len(list(path.parent.glob("journal-*.jsonl"))) > 10
    assert database.take(follower) == []
    follower.close()
    journal.close()


def test_a_new_process_goes_on_where_the_database_is(path: Path, database: Database) -> None:
    first = open_journal(path, max_bytes=2000, keep=100)
    write(first, *[f"a{number}" for number in range(9)])
    follower = follow(first, path)
    assert len(database.take(follower)) == 9
    write(first, *[f"b{number}" for number in range(9)])
    follower.close()
    first.close()
    again = open_journal(path, max_bytes=2000, keep=100)
    write(again, "c")
    second = follow(again, path)
    assert database.take(second) == [*[f"b{number}" for number in range(9)], "c"]
    assert database.take(second) == []
    second.close()
    again.close()


@pytest.mark.parametrize("how", ["unlink", "rename", "replace"])
def test_a_file_that_goes_away_is_read_to_its_end(
    journal: Journal, path: Path, database: Database, how: str
) -> None:
    follower = follow(journal, path)
    assert database.take(follower) == []
    write(journal, "a", "b")
    if how == "unlink":
        path.unlink()
    else:
        path.rename(path.with_name("elsewhere"))
    if how == "replace":
        path.write_bytes(b"")
    write(journal, "c")
    seen = database.take(follower)
    write(journal, "d")
    seen += database.take(follower)
    assert [name for name in dict.fromkeys(seen) if name in "abcd"] == ["a", "b", "c", "d"]
    assert follower.lost == 0
    follower.close()


def test_rows_of_a_file_that_could_not_be_synced_come_again_and_none_is_missing(
    journal: Journal, path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = follow(journal, path)
    write(journal, "a")
    assert database.take(follower) == ["a"]
    write(journal, "b", sync=False)
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", _broken)
        assert not journal.sync()
    assert journal.sync()
    write(journal, "c")
    seen = database.take(follower)
    assert set(seen) == {"b", "c"}
    assert seen[-1] == "c"
    assert database.take(follower) == []
    follower.close()


def test_a_backlog_of_removed_files_is_given_up_and_counted(path: Path, database: Database) -> None:
    journal = open_journal(path, max_bytes=1000, keep=1)
    follower = follow(journal, path)
    for number in range(12):
        write(journal, f"{number:02}a", f"{number:02}b")
        follower.look()
    assert follower.lost > 0
    seen = database.take(follower)
    assert seen == sorted(seen)
    assert seen[-1] == "11b"
    assert len(seen) >= 4
    follower.close()
    journal.close()


def test_many_files_are_read_some_at_a_time_and_in_order(
    path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower_module, "MAX_OPEN", 3)
    journal = open_journal(path, max_bytes=700, keep=100)
    names = [f"r{number:03}" for number in range(30)]
    write(journal, *names)
    follower = follow(journal, path)
    seen = []
    for _ in range(30):
        seen += database.take(follower)
    assert seen == names
    follower.close()
    journal.close()


def test_the_rest_is_read_when_the_journal_is_closed(path: Path, database: Database) -> None:
    journal = open_journal(path)
    follower = follow(journal, path)
    database.take(follower)
    write(journal, "a", sync=False)
    journal.close()
    follower.settle()
    assert database.take(follower) == ["a"]
    follower.close()


def test_a_failed_try_is_read_again(journal: Journal, path: Path) -> None:
    follower = follow(journal, path)
    write(journal, "a")
    follower.place(dict.fromkeys(follower.look(), 0))
    piece = follower.read()
    assert piece is not None
    assert follower.read() == piece
    assert follower.waiting == len(piece.rows)
    follower.shipped(piece, piece.end)
    follower.shipped(Piece("another file", 0, 5, b""), 5)
    assert follower.read() is None
    follower.close()


def test_strangers_have_a_file_of_their_own(path: Path, database: Database) -> None:
    strangers = Strangers(
        path.with_name("journal-strangers.jsonl"), max_bytes=1 << 20, keep=1, rows_per_second=5
    )
    owns = owned_by(path, 1, 1)
    follower = JournalFollower(path.parent, owns, (strangers.durable,))
    strangers.outcome(AuditEntry(AuditId("who"), NOON), NOON)
    assert strangers.write(NOON)
    assert database.take(follower) == ["who"]
    follower.close()
    strangers.close()


def test_files_of_workers_that_are_no_more_are_the_first_ones(
    path: Path, database: Database
) -> None:
    for number in (1, 2, 3):
        own = open_journal(path.with_name(f"journal-{number}.jsonl"))
        write(own, f"w{number}")
        own.close()
    alone = open_journal(path)
    write(alone, "alone")
    alone.close()
    seen = [
        database.take(follow(None, path.with_name(f"journal-{number}.jsonl"), number, 2))
        for number in (2, 1)
    ]
    assert seen == [[], ["w3", "alone"]], "those of 1 and 2 are read as what they write now"


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("journal-1-20261129T000000Z-000001.jsonl", 1),
        ("journal-2-20261129T000000Z-000001.jsonl", 2),
        ("journal-2-strangers-20261129T000000Z-000001.jsonl", 2),
        ("journal-2-20261129T000000Z-000001.unsynced.jsonl", 2),
        ("journal-3-20261129T000000Z-000001.jsonl", 1),
        ("journal-3.jsonl", 1),
        ("journal.jsonl", 1),
        ("journal-20261129T000000Z-000001.jsonl", 1),
        ("journal-strangers.jsonl", 1),
        ("journal-1.jsonl", 0),
        ("journal-2-strangers.jsonl", 0),
        ("journal-1.jsonl.open", 0),
        ("journal-1.jsonl.next", 0),
        ("other.jsonl", 0),
        ("journal-old.jsonl", 0),
    ],
)
def test_each_file_has_one_owner(name: str, owner: int) -> None:
    owners = [
        worker for worker in (1, 2) if owned_by(Path(f"/x/journal-{worker}.jsonl"), worker, 2)(name)
    ]
    assert owners == ([owner] if owner else [])


def test_what_is_no_journal_is_passed_over(
    journal: Journal, path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = "journal-20250101T000000Z-{:06}.jsonl"
    path.with_name(archive.format(1)).write_bytes(b"")
    path.with_name(archive.format(2)).write_bytes(b"no rows here\n" * 10)
    path.with_name(archive.format(3)).symlink_to("/etc/passwd")
    long = '{"kind":"Event","apiVersion":"x","auditID":"' + "x" * 100 + '","stage":"y"}\n'
    path.with_name(archive.format(4)).write_text(long)
    monkeypatch.setattr(follower_module, "PIECE_BYTES", 4096)
    torn = path.with_name(archive.format(5))
    write(journal, "a")
    torn.write_bytes(path.read_bytes().replace(b'"a"', b'"t"') + b"x" * 10000)
    follower = follow(journal, path)
    assert database.take(follower)[0] == "t"
    assert "a" in database.rows
    assert database.take(follower) == []
    follower.close()


def test_a_hard_link_to_the_current_file_is_the_same_file(
    journal: Journal, path: Path, database: Database
) -> None:
    write(journal, "a")
    path.with_name("journal-20250101T000000Z-000001.jsonl").hardlink_to(path)
    follower = follow(journal, path)
    write(journal, "b", sync=False)
    assert database.take(follower) == ["a"], "and not more of it than is synced"
    journal.sync()
    assert database.take(follower) == ["b"]
    follower.close()
