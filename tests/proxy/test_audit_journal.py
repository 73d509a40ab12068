"""The journal's file: whole rows or none, on full disks too; private; rotated by size."""

import errno
import logging
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from mk8s_proxy.audit import journal as journal_module
from mk8s_proxy.audit import journal_file, unfinished
from mk8s_proxy.audit.event import AuditEntry, AuditFacts
from mk8s_proxy.audit.journal import Journal, JournalUnsafeError
from tests.support.audit_rows import NOON, open_journal
from tests.support.disks import write_files_by


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit" / "journal.jsonl"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    opened = open_journal(path)
    yield opened
    opened.close()


def entry(name: str = "a", **changes: Any) -> AuditEntry:
    return AuditEntry(name, NOON, **changes)


def rows(path: Path) -> list[tuple[str, str]]:
    """Audit id and stage of each line; every line must be a whole row."""
    text = path.read_bytes()
    assert text == b"" or text.endswith(b"\n")
    decoded = [orjson.loads(line) for line in text.splitlines()]
    return [(row["auditID"], row["stage"]) for row in decoded]


def is_healthy(journal: Journal) -> bool:
    return journal.healthy


def open_descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def archives(path: Path) -> list[Path]:
    return sorted(path.parent.glob("journal-*.jsonl"))


def fail_write(monkeypatch: pytest.MonkeyPatch, *, number: int = errno.ENOSPC) -> None:
    def failing(descriptor: int, data: bytes) -> int:
        raise OSError(number, os.strerror(number))

    write_files_by(monkeypatch, failing)


def test_intent_then_outcome(journal: Journal, path: Path) -> None:
    request = entry()
    assert not journal.has_noted
    journal.intent(request)
    assert journal.has_noted
    assert rows(path) == []
    assert journal.commit()
    assert not journal.has_noted
    assert rows(path) == [("a", "RequestReceived")]
    journal.outcome(request)
    assert journal.has_noted
    assert journal.commit()
    assert rows(path) == [("a", "RequestReceived"), ("a", "ResponseComplete")]


def test_one_write_for_a_tick_and_none_for_an_idle_one(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    write = os.write

    def counting(descriptor: int, data: bytes) -> int:
        sizes.append(len(data))
        return write(descriptor, data)

    write_files_by(monkeypatch, counting)
    journal.outcome(entry("refused"))
    for name in ("a", "b"):
        journal.intent(entry(name))
    journal.outcome(entry("a"))
    assert journal.commit()
    assert journal.commit()
    assert sizes == [path.stat().st_size]
    # A request that ends within its first tick must not end before it began.
    assert rows(path) == [
        ("a", "RequestReceived"),
        ("b", "RequestReceived"),
        ("refused", "ResponseComplete"),
        ("a", "ResponseComplete"),
    ]


# --- failing appends ---


def test_a_failed_append_drops_intents_and_keeps_outcomes(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        fail_write(patch)
        journal.intent(entry("unsent"))
        journal.outcome(entry("ended"))
        assert not journal.commit()
        assert not is_healthy(journal)
        assert "FAILING" in repr(journal)
        assert "waiting=1" in repr(journal)
    assert rows(path) == []
    assert journal.commit()
    assert is_healthy(journal)
    assert rows(path) == [("ended", "ResponseComplete")]
    assert "healthy waiting=0 lost=0" in repr(journal)


@pytest.mark.parametrize("fitting", [0, 1, 100])
def test_a_short_write_leaves_nothing_half_written(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch, fitting: int
) -> None:
    journal.intent(entry("before"))
    assert journal.commit()
    write = os.write
    with monkeypatch.context() as patch:
        write_files_by(patch, lambda target, data: write(target, data[:fitting]))
        journal.intent(entry("cut"))
        assert not journal.commit()
    assert rows(path) == [("before", "RequestReceived")]
    journal.intent(entry("after"))
    assert journal.commit()
    assert rows(path) == [("before", "RequestReceived"), ("after", "RequestReceived")]


def test_nothing_is_appended_behind_a_row_that_could_not_be_cut_back(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    with monkeypatch.context() as patch:
        write_files_by(patch, lambda target, data: write(target, data[:10]))
        patch.setattr(os, "ftruncate", refuse_truncation)
        journal.intent(entry("cut"))
        assert not journal.commit()
        write_files_by(patch, write)
        journal.intent(entry("still refused"))
        assert not journal.commit()
    assert path.stat().st_size == 10
    journal.intent(entry("after"))
    assert journal.commit()
    assert rows(path) == [("after", "RequestReceived")]


def refuse_truncation(descriptor: int, size: int) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


FULL_DISK = """
    import resource, sys
    from mk8s_proxy.audit.event import AuditEntry
    from mk8s_proxy.audit.journal import Journal

    journal = Journal(sys.argv[1], max_bytes=1 << 30, keep=1, patience=60)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    written = []
    for number in range(20):
        journal.intent(AuditEntry(f"row-{number}", 0.0))
        written.append(journal.commit())
    journal.outcome(AuditEntry("outcome", 0.0))
    written.append(journal.commit())
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    written.append(journal.commit())
    print(written)
"""


def test_a_disk_that_is_really_full(path: Path) -> None:
    checkout = Path(__file__).parent.parent.parent
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL_DISK), str(path)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(checkout)},
    )
    said = [word == "True" for word in done.stdout.strip("[]\n").split(", ")]
    accepted = said.index(False)
    assert 0 < accepted < 20
    assert said == [True] * accepted + [False] * (21 - accepted) + [True]
    kept = [(f"row-{number}", "RequestReceived") for number in range(accepted)]
    assert rows(path) == [*kept, ("outcome", "ResponseComplete")]
    assert done.stderr.count("journal.append_failed") == 1


def test_outcomes_wait_within_bounds(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "MAX_KEPT_BYTES", 2500)
    with monkeypatch.context() as patch:
        fail_write(patch)
        for number in range(20):
            journal.outcome(entry(f"row-{number}"))
            assert not journal.commit()
    assert journal.commit()
    written = rows(path)
    assert written[-1] == ("row-19", "ResponseComplete")
    assert 0 < len(written) < 20
    assert journal.lost_outcomes == 20 - len(written)


def test_a_failing_disk_is_logged_once(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        fail_write(patch)
        for _ in range(3):
            journal.intent(entry())
            assert not journal.commit()
    journal.intent(entry())
    assert journal.commit()
    said = [record.getMessage().split(" ")[0] for record in caplog.records]
    assert said == ["journal.append_failed", "journal.recovered"]


# --- sync ---


def test_sync_reaches_the_file_and_its_folder(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda target: synced.append(os.fstat(target).st_ino))
    assert journal.sync()
    assert journal.sync()
    file, folder = path.stat().st_ino, path.parent.stat().st_ino
    assert synced == [file, folder, file]


def fail_sync(patch: pytest.MonkeyPatch) -> None:
    def failing(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    patch.setattr(os, "fsync", failing)


def test_no_request_is_admitted_after_a_failed_sync(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        fail_sync(patch)
        assert not journal.sync()
    assert not is_healthy(journal)
    journal.intent(entry())
    assert not journal.commit()
    assert rows(path) == []
    assert journal.sync()
    journal.intent(entry("after"))
    assert journal.commit()
    assert is_healthy(journal)
    assert rows(path)[1:] == [("after", "RequestReceived")]


def test_a_failed_sync_is_never_believed_later(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("synced", "unsure"):
        journal.intent(entry(name))
        assert journal.commit()
        with monkeypatch.context() as patch:
            if name == "unsure":
                fail_sync(patch)
            assert journal.sync() == (name == "synced")
    assert journal.sync()
    notice, *copied = rows(path)
    assert copied == [("unsure", "RequestReceived")]
    assert "could not be synced" in reason_of(path, notice[0])
    [aside] = path.parent.glob("journal-*.unsynced.jsonl")
    assert [name for name, _ in rows(aside)] == ["synced", "unsure"]
    assert journal.sync()
    assert rows(path)[1:] == copied


def test_a_sync_during_which_a_new_file_begins(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = open_journal(path, max_bytes=1000)
    for name in ("a", "b"):
        journal.intent(entry(name))
    assert journal.commit()

    def rotating(_: int) -> None:
        if archives(path) == []:
            journal.intent(entry("c"))
            assert journal.commit()

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", rotating)
        assert journal.sync()
        path.unlink()
        assert journal.sync()
    assert [name for name, _ in rows(path)][1:] == ["c"]  # it was never synced
    assert journal.close()


def test_files_that_could_not_be_synced_are_kept_as_long_as_others(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_journal(path, keep=2)
    for number in range(5):
        journal.intent(entry(f"row-{number}"))
        assert journal.commit()
        with monkeypatch.context() as patch:
            fail_sync(patch)
            assert not journal.sync()
        assert journal.sync()
    assert len(list(path.parent.glob("*.unsynced.jsonl"))) == 2
    assert journal.close()


def reason_of(path: Path, name: str) -> str:
    [row] = [row for row in map(orjson.loads, path.read_bytes().splitlines())
             if row["auditID"] == name]  # fmt: skip
    return str(row["annotations"]["authorization.k8s.io/reason"])


def test_the_folder_is_synced_again_after_a_failure(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def failing(target: Any, *arguments: Any) -> int:
        if target == path.parent:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return opened(target, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", failing)
        assert not journal.sync()
    asked: list[Any] = []

    def noting(target: Any, *arguments: Any) -> int:
        asked.append(target)
        return opened(target, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", noting)
        assert journal.sync()
    assert asked == [path.parent]


def test_closing(journal: Journal, path: Path) -> None:
    journal.intent(entry())
    assert journal.close()
    assert journal.close()
    assert rows(path) == [("a", "RequestReceived")]
    journal.intent(entry("late"))
    assert not journal.commit()
    assert not is_healthy(journal)


def test_closing_says_when_rows_may_be_lost(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = open_journal(path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda target: refuse_truncation(target, 0))
        assert not journal.close()
    assert journal.close()


# --- where it may be written ---


def test_the_file_and_its_folder_are_private(journal: Journal, path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_an_open_file_mode_is_tightened(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    path.touch(0o644)
    open_journal(path).close()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o702])
def test_journal_replacement_by_others_who_may_write_to_the_folder(path: Path, mode: int) -> None:
    path.parent.mkdir()
    path.parent.chmod(mode)
    with pytest.raises(JournalUnsafeError, match="chmod go-w"):
        open_journal(path)


def test_a_folder_of_another_user(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.parent.mkdir(mode=0o700)
    owner = path.parent.stat().st_uid
    os.chown(path.parent, owner or 12345, -1)
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    with pytest.raises(JournalUnsafeError, match="another user"):
        open_journal(path)


def test_symbolic_link_attack(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path.symlink_to(victim)
    with pytest.raises(JournalUnsafeError, match="symbolic link"):
        open_journal(path)
    assert victim.read_text() == "precious"


def test_only_plain_files(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(JournalUnsafeError, match="plain file"):
            open_journal(path)
    finally:
        os.close(reader)


def test_two_processes_do_not_share_a_journal(journal: Journal, path: Path) -> None:
    with pytest.raises(JournalUnsafeError, match="another process"):
        open_journal(path)


# --- starting again ---


def test_a_restart_appends(path: Path) -> None:
    for name in ("a", "b"):
        journal = open_journal(path)
        journal.intent(entry(name))
        assert journal.close()
    assert [name for name, _ in rows(path)] == ["a", "b"]


@pytest.mark.parametrize("whole", [0, 1, 3])
@pytest.mark.parametrize("torn", [1, 200_000])
def test_a_row_torn_by_a_crash_is_cut_off(
    path: Path, caplog: pytest.LogCaptureFixture, whole: int, torn: int
) -> None:
    path.parent.mkdir(mode=0o700)
    path.write_bytes(b"{}\n" * whole + b'{"torn":"' + b"x" * torn)
    open_journal(path).close()
    assert path.read_bytes() == b"{}\n" * whole
    assert "journal.torn_row_removed" in caplog.text


# --- rotation ---


def test_rotation_by_size_keeps_the_newest(path: Path) -> None:
    journal = open_journal(path, max_bytes=1000, keep=2)
    (path.parent / "journal-notes.jsonl").write_text("not ours to remove")
    for number in range(12):
        journal.intent(entry(f"row-{number:02}"))
        assert journal.commit()
    assert journal.close()
    found = [name for part in [*archives(path)[:2], path] for name, _ in rows(part)]
    assert len(archives(path)) == 3
    assert (path.parent / "journal-notes.jsonl").exists()
    assert found == [f"row-{number:02}" for number in range(12)][-len(found) :]
    assert archives(path)[0].name.startswith("journal-20260921T141320Z-")
    assert all(part.stat().st_size <= 1000 for part in [*archives(path)[:2], path])
    assert all(part.stat().st_mode & 0o777 == 0o600 for part in [*archives(path)[:2], path])


def test_a_batch_is_never_split_over_two_files(path: Path) -> None:
    journal = open_journal(path, max_bytes=100)
    for number in range(10):
        journal.intent(entry(f"row-{number}"))
    assert journal.commit()
    assert len(rows(path)) == 10
    assert archives(path) == []
    assert journal.close()


def test_rotation_does_not_overwrite_an_archive(path: Path) -> None:
    for name in ("a", "b", "c"):
        journal = open_journal(path, max_bytes=10)
        journal.intent(entry(name))
        assert journal.close()
    assert [rows(part)[0][0] for part in [*archives(path), path]] == ["a", "b", "c"]


def test_rotated_files_are_synced_and_closed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_descriptors()
    journal = open_journal(path, max_bytes=10, keep=100)
    opened = open_descriptors()
    for number in range(journal_file._MAX_RETIRED + 5):
        journal.intent(entry(f"row-{number}"))
        assert journal.commit()
    synced: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", synced.append)
        assert journal.sync()
    assert len(synced) == journal_file._MAX_RETIRED + 2
    assert open_descriptors() == opened
    assert journal.close()
    assert open_descriptors() == before


@pytest.mark.parametrize("failing_rename", [1, 2])
def test_a_rotation_that_fails_goes_on_in_the_old_file(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    failing_rename: int,
) -> None:
    journal = open_journal(path, max_bytes=1000)
    rename = Path.rename
    calls: list[Path] = []

    def failing(source: Path, target: Path) -> Path:
        calls.append(source)
        if len(calls) == failing_rename:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", failing)
        for number in range(3):
            journal.intent(entry(f"row-{number}"))
            assert journal.commit()
    assert "journal.rotation_failed" in caplog.text
    assert len(rows(path)) == 3
    assert archives(path) == []
    journal.intent(entry("row-3", facts=AuditFacts(user="x" * 200)))
    assert journal.commit()
    assert rows(path) == [("row-3", "RequestReceived")]
    assert len(archives(path)) == 1
    assert journal.close()


def test_a_rotation_that_cannot_open_a_new_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_journal(path, max_bytes=10)
    (path.parent / "journal.jsonl.next").mkdir()
    for name in ("a", "b"):
        journal.intent(entry(name))
        assert journal.commit()
    assert len(rows(path)) == 2
    assert journal.close()


def test_archives_that_cannot_be_removed_do_no_harm(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    journal = open_journal(path, max_bytes=10, keep=1)
    unlink = Path.unlink

    def failing(target: Path, missing_ok: bool = False) -> None:
        if target.name.startswith("journal-"):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        unlink(target, missing_ok)

    monkeypatch.setattr(Path, "unlink", failing)
    for number in range(3):
        journal.intent(entry(f"row-{number}"))
        assert journal.commit()
    assert len(archives(path)) == 2
    assert "journal.cleaning_failed" in caplog.text
    assert journal.close()


# --- a file that goes away ---


def remove(path: Path) -> None:
    path.unlink()


def move_away(path: Path) -> None:
    path.rename(path.with_name("old.jsonl"))


def replace(path: Path) -> None:
    other = path.with_name("other.jsonl")
    other.touch()
    other.rename(path)


def cut(path: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize("attack", [remove, move_away, replace, cut])
def test_attack_journal_goes_away(journal: Journal, path: Path, attack: Any) -> None:
    before = open_descriptors()
    journal.intent(entry("synced"))
    assert journal.commit()
    assert journal.sync()
    journal.intent(entry("young"))
    assert journal.commit()
    attack(path)
    assert journal.sync()
    assert is_healthy(journal)
    journal.intent(entry("after"))
    assert journal.commit()
    found = [name for name, _ in rows(path)]
    assert "a new journal begins" in reason_of(path, found[0])
    assert found[1:] == (["after"] if attack is cut else ["young", "after"])
    assert path.stat().st_mode & 0o777 == 0o600
    assert open_descriptors() == before


def test_attack_journal_removed_where_no_new_one_can_begin(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.intent(entry("young"))
    assert journal.commit()
    path.unlink()
    path.mkdir()
    assert not journal.sync()
    assert not is_healthy(journal)
    journal.intent(entry("refused"))
    assert not journal.commit()
    path.rmdir()
    assert journal.sync()
    journal.intent(entry("after"))
    assert journal.commit()
    assert is_healthy(journal)
    assert [name for name, _ in rows(path)][1:] == ["young", "after"]


def test_a_new_journal_that_cannot_be_written_is_not_one(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.unlink()
    with monkeypatch.context() as patch:
        fail_write(patch)
        assert not journal.sync()
    assert not is_healthy(journal)
    assert journal.sync()
    assert len(rows(path)) == 1


def test_a_file_that_was_moved_is_not_rotated_over(path: Path) -> None:
    journal = open_journal(path, max_bytes=1000)
    journal.intent(entry("before"))
    assert journal.commit()
    move_away(path)
    for number in range(3):
        journal.intent(entry(f"row-{number}", facts=AuditFacts(user="x" * 100)))
    assert journal.commit()
    assert [name for name, _ in rows(path)][1:] == ["before", "row-0", "row-1", "row-2"]
    assert archives(path) == []
    assert journal.close()


def test_rows_of_a_removed_file_that_cannot_be_read(
    journal: Journal,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    journal.intent(entry("young"))
    assert journal.commit()
    path.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", lambda *_: refuse_truncation(0, 0))
        patch.setattr(os, "ftruncate", refuse_truncation)
        assert journal.sync()
    assert len(rows(path)) == 1
    assert "journal.rows_lost" in caplog.text
    assert "journal.torn " in caplog.text


# --- after a crash ---


def crash(journal: Journal) -> None:
    """What kill -9 leaves behind: files as they are, and no lock."""
    file = journal._file
    os.close(file._descriptor)
    file._descriptor = os.open("/dev/null", os.O_WRONLY)


def test_requests_open_at_a_crash_are_closed_as_unknown(path: Path) -> None:
    journal = open_journal(path, max_bytes=1000)
    for name in ("a", "b", "c"):
        journal.intent(entry(name, facts=AuditFacts(user="u", decision="allow")))
        assert journal.commit()
    journal.outcome(entry("b"))
    assert journal.commit()
    crash(journal)
    journal = open_journal(path)
    closed = [row for row in map(orjson.loads, path.read_bytes().splitlines())
              if row["annotations"].get("mk8s.io/outcome") == "unknown"]  # fmt: skip
    assert [row["auditID"] for row in closed] == ["a", "c"]
    for row in closed:
        assert row["stage"] == "ResponseComplete"
        assert row["responseStatus"] == {"metadata": {}, "code": 0}
        assert row["user"] == {"username": "u"}
    size = path.stat().st_size
    crash(journal)
    assert open_journal(path).close()
    assert path.stat().st_size == size


def test_nothing_is_closed_after_an_orderly_end(path: Path) -> None:
    journal = open_journal(path)
    journal.intent(entry("a"))
    assert journal.close()
    assert open_journal(path).close()
    assert rows(path) == [("a", "RequestReceived")]


def test_unfinished_requests_of_files_that_are_no_journal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "x"
    other.write_bytes(b"nothing\n")
    assert unfinished.unfinished([tmp_path / "none", other]) == []
    assert "journal.unreadable" in caplog.text
    journal = open_journal(tmp_path / "audit" / "j.jsonl")
    for name in ("a", "b"):
        journal.intent(entry(name))
    assert journal.close()
    monkeypatch.setattr(unfinished, "MAX_UNFINISHED", 1)
    assert len(unfinished.unfinished([tmp_path / "audit" / "j.jsonl"])) == 1
