"""What differs from worker to worker, and what a worker and its supervisor say to each other."""

import socket
from pathlib import Path

import pytest

from mk8s_proxy.process.worker import Worker, settings_of
from mk8s_proxy.settings.model import AuditSettings, Settings


def test_each_worker_has_a_journal_and_an_address_of_health_of_its_own(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, workers=2)
    first, second = (settings_of(settings, number) for number in (1, 2))
    assert first.journal_path == tmp_path / "audit" / "journal-1.jsonl"
    assert second.journal_path == tmp_path / "audit" / "journal-2.jsonl"
    assert (first.admin_listen, second.admin_listen) == ("127.0.0.1:8081", "127.0.0.1:8082")
    assert first.listen == second.listen
    assert first.database_url == second.database_url == settings.database_url


@pytest.mark.parametrize(
    ("given", "second"),
    [("[::1]:9000", "[::1]:9001"), ("127.0.0.1:0", "127.0.0.1:0"), ("", "")],
)
def test_addresses_of_health(tmp_path: Path, given: str, second: str) -> None:
    settings = Settings(data_dir=tmp_path, admin_listen=given)
    assert settings_of(settings, 2).admin_listen == second


def test_the_named_journal_keeps_its_suffix(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, audit=AuditSettings(path=tmp_path / "a.log"))
    assert settings_of(settings, 3).journal_path == tmp_path / "a-3.log"


def test_a_worker_hears_that_its_supervisor_is_gone() -> None:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with ours, theirs:
        worker = Worker(1, 2, channel=theirs)
        assert worker.supervised()
        worker.tell_ready()
        assert ours.recv(10) == b"r"
        worker.tell_failed("the journal is not ours")
        assert ours.recv(100) == b"fthe journal is not ours"
        ours.close()
        assert not worker.supervised()
        worker.tell_ready()  # nobody is there to hear it, and nothing breaks
        theirs.close()
        assert not worker.supervised()


def test_the_only_process_has_nobody_to_tell() -> None:
    worker = Worker()
    worker.tell_ready()
    assert worker.alone
    assert worker.instance != Worker().instance
