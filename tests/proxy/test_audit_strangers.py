"""Refusals without a verified identity: files of their own, short rows, a quota, a count."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from mk8s_proxy.audit import strangers as strangers_module
from mk8s_proxy.audit.event import AuditEntry, AuditFacts
from mk8s_proxy.audit.identifier import new_audit_id
from mk8s_proxy.audit.journal import Journal
from mk8s_proxy.audit.strangers import Strangers

NOON = 1_790_000_000.0
QUOTA = 5


@pytest.fixture
def strangers(tmp_path: Path) -> Iterator[Strangers]:
    made = Strangers(
        tmp_path / "audit" / "journal-strangers.jsonl",
        max_bytes=4096,
        keep=2,
        rows_per_second=QUOTA,
        clock=lambda: NOON,
    )
    yield made
    made.close()


@pytest.fixture
def journal(tmp_path: Path, strangers: Strangers) -> Iterator[Journal]:
    made = Journal(
        tmp_path / "audit" / "journal.jsonl",
        max_bytes=1 << 20,
        keep=1,
        strangers=strangers,
        patience=60.0,
    )
    yield made
    made.close()


def refusal(code: str = "NO_CREDENTIAL", **facts: Any) -> AuditEntry:
    entry = AuditEntry(new_audit_id(), NOON, "192.0.2.1", AuditFacts(**facts))
    entry.refusal, entry.code = code, 401
    return entry


def read(folder: Path, name: str) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in (folder / "audit" / name).read_bytes().splitlines()]


def test_attack_refusals_wash_the_audit_away(journal: Journal, tmp_path: Path) -> None:
    journal.intent(AuditEntry(new_audit_id(), NOON, facts=AuditFacts(user="dev")))
    assert journal.commit()
    for _ in range(30):
        for _ in range(1000):
            journal.outcome(refusal(request_uri="/" + "a" * 8000, user_agent="b" * 8000))
            assert journal.commit()
        assert journal.sync()
    assert [row["user"]["username"] for row in read(tmp_path, "journal.jsonl")] == ["dev"]
    files = list((tmp_path / "audit").glob("journal-strangers*.jsonl"))
    assert len(files) == 3
    assert sum(file.stat().st_size for file in files) < 3 * 8192
    *rows, count = read(tmp_path, "journal-strangers.jsonl")
    assert all(len(orjson.dumps(row)) < 1500 for row in rows)
    reason = count["annotations"]["authorization.k8s.io/reason"]
    assert reason == "995 refusals left out (NO_CREDENTIAL: 995)"
    assert (count["verb"], count["user"]["username"]) == ("summarize", "mk8s-central")


def test_refusals_of_identified_users_stay_in_the_journal(journal: Journal, tmp_path: Path) -> None:
    journal.outcome(refusal("FORBIDDEN", user="dev", uid="1"))
    journal.outcome(refusal(request_uri="/api", user="claimed@example.com"))
    assert journal.commit()
    assert journal.sync()
    assert [row["annotations"]["mk8s.io/refusal"] for row in read(tmp_path, "journal.jsonl")] == [
        "FORBIDDEN"
    ]
    [row] = read(tmp_path, "journal-strangers.jsonl")
    assert row["requestURI"] == "/api"
    assert row["annotations"]["mk8s.io/refusal"] == "NO_CREDENTIAL"


def test_reasons_are_counted_apart_within_bounds(
    strangers: Strangers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strangers_module, "_MAX_CODES", 2)
    for code in ["A"] * QUOTA + ["A", "B", "A", "C", "D"]:
        strangers.outcome(refusal(code), NOON)
    assert strangers.write(NOON)
    [count] = read(tmp_path, "journal-strangers.jsonl")[QUOTA:]
    reason = count["annotations"]["authorization.k8s.io/reason"]
    assert reason == "5 refusals left out (other: 2, A: 2, B: 1)"


def test_long_text_is_cut_and_shows_it(strangers: Strangers, tmp_path: Path) -> None:
    strangers.outcome(refusal(request_uri="/" * 300, user_agent="short"), NOON)
    assert strangers.write(NOON)
    [row] = read(tmp_path, "journal-strangers.jsonl")
    assert row["requestURI"] == "/" * 256 + "..."
    assert row["userAgent"] == "short"


def test_their_file_that_was_moved_begins_anew(strangers: Strangers, tmp_path: Path) -> None:
    path = tmp_path / "audit" / "journal-strangers.jsonl"
    path.rename(path.with_name("old.jsonl"))
    assert strangers.write(NOON)
    [row] = read(tmp_path, path.name)
    assert row["verb"] == "reopen"


def test_their_full_disk_is_nobody_elses(
    journal: Journal, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "audit" / "journal-strangers.jsonl"
    path.unlink()
    path.mkdir()
    journal.outcome(refusal())
    assert journal.sync()
    assert journal.healthy
    assert "journal.strangers_failed" in caplog.text
    path.rmdir()
