"""Where the refresh token goes: a keyring that works, one that breaks, none at all."""

import json
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import keyring
import keyring.backend
import keyring.errors
import pytest

from mk8s_cli.login import config, credentials, keyring_access
from mk8s_cli.terminal.errors import CliError, UnsafeFile
from tests.cli.conftest import Run
from tests.cli.fake_central import EMAIL, PASSWORD, FakeCentral
from tests.cli.test_cli_login import WORDS, pin_of

URL = "https://central.example"


class Memory(keyring.backend.KeyringBackend):
    """A keyring that lives as long as a test; `broken` makes it refuse as a locked one does."""

    priority = 1  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[tuple[str, str], str] = {}
        self.broken = False

    def _check(self) -> None:
        if self.broken:
            raise keyring.errors.KeyringLocked("locked\x1b[2J")

    def get_password(self, service: str, username: str) -> str | None:
        self._check()
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._check()
        self.entries[(service, username)] = password

    def delete_password(self, service: str, username: str) -> None:
        self._check()
        del self.entries[(service, username)]


@pytest.fixture
def memory() -> Iterator[Memory]:
    before = keyring.get_keyring()
    backend = Memory()
    keyring.set_keyring(backend)
    yield backend
    keyring.set_keyring(before)


def token_in(entry: str) -> str:
    token, attempt = entry.split(" ")
    assert len(attempt) == 43
    return token


def log_in(run: Run, central: FakeCentral) -> str:
    words = ("login", central.url, *WORDS, "--ca-pin", pin_of(central))
    result = run(*words, stdin=f"{PASSWORD}\n")
    assert result.code == 0
    return result.err


def test_keyring_holds_the_token_and_no_file_does(
    run: Run, central: FakeCentral, memory: Memory, home: Path
) -> None:
    assert log_in(run, central) == ""
    account = ("mk8s", f"{central.url} {EMAIL}")
    assert token_in(memory.entries[account]) == central.refresh_token
    words = ("get-token", "--cluster", "prod", "--central", central.url)
    assert run(*words).code == 0
    assert token_in(memory.entries[account]) == central.refresh_token, "the rotated one"
    assert not (home / ".mk8s" / "credentials.json").exists()
    assert run("logout").code == 0
    assert memory.entries == {}


def test_broken_keyring_falls_back_with_one_warning(
    run: Run, central: FakeCentral, memory: Memory, home: Path
) -> None:
    memory.broken = True
    warning = log_in(run, central)
    assert len(warning.splitlines()) == 1
    assert r"KeyringLocked: locked\x1b[2J" in warning
    path = home / ".mk8s" / "credentials.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert run("get-token", "--cluster", "prod", "--central", central.url).err == "", "only once"


def test_keyring_that_locks_later_is_one_line(
    run: Run, central: FakeCentral, memory: Memory
) -> None:
    log_in(run, central)
    memory.broken = True
    words = ("get-token", "--cluster", "prod", "--central", central.url)
    assert "unlock it and try again" in run(*words).line


def test_keyring_that_breaks_between_read_and_write_loses_nothing(
    run: Run, central: FakeCentral, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in(run, central)

    def refuses(*_: str) -> None:
        raise RuntimeError("gone")

    monkeypatch.setattr(memory, "set_password", refuses)
    words = ("get-token", "--cluster", "prod", "--central", central.url)
    result = run(*words)
    assert result.code == 0
    assert "the keyring refused (RuntimeError: gone)" in result.line
    assert config.profile_for().secrets == "file"
    assert credentials.load(central.url, EMAIL, "file").refresh_token == central.refresh_token
    assert run("get-token", "--cluster", "dev", "--central", central.url).code == 0


def test_keyring_that_is_gone_says_login(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring_access, "_keyring", lambda: None)
    with pytest.raises(CliError, match=f"run: mk8s login {URL}"):
        credentials.load(URL, EMAIL, "keyring")


def test_keyring_that_cannot_even_be_imported_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise RuntimeError("no backend")

    monkeypatch.setattr(keyring, "get_keyring", fails)
    assert keyring_access._keyring() is None


def test_keyring_that_will_not_forget_is_a_warning(
    memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    memory.broken = True
    credentials.delete(URL, EMAIL)
    told = capsys.readouterr().err
    assert "the keyring refused" in told
    assert "it may still hold the login" in told


def test_deleting_what_is_nowhere_is_fine(memory: Memory) -> None:
    credentials.delete(URL, EMAIL)


def test_other_accounts_in_the_file_stay(home: Path) -> None:
    assert credentials.save(URL, "a@x", "one", prefer="file") == "file"
    credentials.save(URL, "b@x", "two", prefer="file")
    credentials.delete(URL, "a@x")
    assert credentials.load(URL, "a@x", "file").refresh_token == ""
    assert credentials.load(URL, "b@x", "file").refresh_token == "two"


@pytest.mark.parametrize("content", ["{", "[]", '{"https://central.example dev@example.com": 7}'])
def test_damaged_file_holds_nothing(home: Path, content: str) -> None:
    credentials.save(URL, EMAIL, "x", prefer="file")
    (home / ".mk8s" / "credentials.json").write_text(content)
    assert credentials.load(URL, EMAIL, "file").refresh_token == ""


class Blocking(Memory):
    """A keyring that waits for somebody to unlock it."""

    def __init__(self) -> None:
        super().__init__()
        self.unlocked = threading.Event()
        self.asked = 0

    def _check(self) -> None:
        self.asked += 1
        self.unlocked.wait(30)


@pytest.fixture
def blocking() -> Iterator[Blocking]:
    before = keyring.get_keyring()
    backend = Blocking()
    keyring.set_keyring(backend)
    yield backend
    backend.unlocked.set()
    keyring.set_keyring(before)


def test_keyring_that_blocks_is_left_for_the_file_with_one_warning(
    run: Run, central: FakeCentral, blocking: Blocking, home: Path
) -> None:
    keyring_access._patience.left = 0.2
    warning = log_in(run, central)
    assert len(warning.splitlines()) == 1
    assert "the keyring does not answer (it may be locked); the refresh token is kept in" in warning
    assert config.profile_for().secrets == "file"
    words = ("get-token", "--cluster", "prod", "--central", central.url)
    assert run(*words).err == "", "and it is not asked again"
    assert blocking.asked == 1


def test_keyring_that_blocks_later_costs_its_time_once(
    run: Run, central: FakeCentral, blocking: Blocking
) -> None:
    blocking.unlocked.set()
    log_in(run, central)
    blocking.unlocked.clear()
    keyring_access._patience.left = 0.2
    asked = blocking.asked
    words = ("get-token", "--cluster", "prod", "--central", central.url)
    line = run(*words).line
    assert "the keyring does not answer (it may be locked); unlock it and try again" in line
    assert f"run: mk8s login {central.url}" in line
    with pytest.raises(keyring_access.KeyringUnusable):
        keyring_access.read("any")
    assert keyring_access._patience.left <= 0
    assert blocking.asked <= asked + 2


def test_file_is_used_where_the_keyring_blocks_and_it_has_the_login(
    run: Run, central: FakeCentral, memory: Memory
) -> None:
    log_in(run, central)
    memory.broken = True
    credentials.save(central.url, EMAIL, central.refresh_token, prefer="file")
    words = ("get-token", "--cluster", "prod", "--central", central.url)
    assert "the login kept in" in run(*words).line
    assert config.profile_for().secrets == "file", "and it stays there"
    assert run("get-token", "--cluster", "dev", "--central", central.url).err == ""


def test_login_that_moves_into_the_keyring_leaves_no_copy(
    run: Run, central: FakeCentral, memory: Memory, home: Path
) -> None:
    memory.broken = True
    log_in(run, central)
    memory.broken = False
    log_in(run, central)
    assert not (home / ".mk8s" / "credentials.json").exists()


def test_file_that_others_can_read_is_refused(home: Path) -> None:
    credentials.save(URL, EMAIL, "x", prefer="file")
    path = home / ".mk8s" / "credentials.json"
    path.chmod(0o644)
    with pytest.raises(UnsafeFile, match="chmod 600"):
        credentials.load(URL, EMAIL, "file")


def test_planted_file_is_refused(home: Path, tmp_path: Path) -> None:
    credentials.save(URL, EMAIL, "x", prefer="file")
    path = home / ".mk8s" / "credentials.json"
    planted = tmp_path / "planted"
    planted.write_text(json.dumps({f"{URL} {EMAIL}": "evil"}))
    path.unlink()
    path.symlink_to(planted)
    with pytest.raises(UnsafeFile, match="symbolic link"):
        credentials.load(URL, EMAIL, "file")
    path.unlink()
    path.mkdir(0o700)
    with pytest.raises(UnsafeFile, match="not a file of yours"):
        credentials.load(URL, EMAIL, "file")
