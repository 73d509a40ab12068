"""The exec plugin: what kubectl gets, when central is asked, what is said without a token."""

import base64
import datetime
import errno
import json
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from mk8s_cli.central.access_token import AccessToken
from mk8s_cli.kubeconfig import exec_version
from mk8s_cli.login import access_tokens, config, exec_credential, exec_versions, token_cache
from mk8s_cli.terminal.errors import CliError
from mk8s_cli.terminal.private_files import locked
from tests.cli.conftest import Result, Run
from tests.cli.fake_central import EMAIL, FakeCentral, error
from tests.support import kubectl as kubectls

REFRESH = ("POST", "/auth/refresh")
V1 = "client.authentication.k8s.io/v1"
BETA = "client.authentication.k8s.io/v1beta1"


def words(central: FakeCentral, cluster: str = "prod") -> tuple[str, ...]:
    return ("get-token", "--cluster", cluster, "--central", central.url)


def cached_file(home: Path, central: FakeCentral, cluster: str = "prod") -> Path:
    return home / ".mk8s" / "cache" / f"127.0.0.1_{central.port}" / f"{cluster}.json"


@pytest.fixture(autouse=True)
def _logged_in(logged_in: Result) -> None:
    """Every test here starts logged in."""


def test_the_credential_has_the_shape_kubectl_wants(run: Run, central: FakeCentral) -> None:
    before = time.time()
    result = run(*words(central))
    document = json.loads(result.out)
    assert (result.code, result.err) == (0, "")
    assert document["apiVersion"] == exec_versions.named_for(central.url, "prod")
    assert document["kind"] == "ExecCredential"
    assert document["status"]["token"].startswith("access-prod-")
    ends = datetime.datetime.fromisoformat(document["status"]["expirationTimestamp"]).timestamp()
    assert before + 900 - 45 - 1 <= ends <= time.time() + 900 - 45
    assert central.body(*REFRESH)["cluster"] == "prod"


def test_a_second_call_is_answered_from_the_cache(run: Run, central: FakeCentral) -> None:
    assert run(*words(central)).out == run(*words(central)).out
    assert central.count(*REFRESH) == 1


def test_each_cluster_has_its_own_token(run: Run, central: FakeCentral) -> None:
    assert "access-prod-" in run(*words(central)).out
    assert "access-dev-" in run(*words(central, "dev")).out
    assert central.count(*REFRESH) == 2, "and the rotated refresh token served the second time"


def test_the_answer_has_the_version_of_the_question(
    run: Run, central: FakeCentral, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = {"apiVersion": BETA, "kind": "ExecCredential", "spec": {"interactive": False}}
    monkeypatch.setenv("KUBERNETES_EXEC_INFO", json.dumps(info))
    assert json.loads(run(*words(central)).out)["apiVersion"] == BETA
    assert json.loads(run(*words(central)).out)["apiVersion"] == BETA, "from the cache too"


@pytest.mark.parametrize("info", ["no json", "[]", '{"apiVersion": "v9"}', '{"apiVersion": 7}'])
def test_a_question_of_unknown_shape_is_one_line(
    run: Run, central: FakeCentral, monkeypatch: pytest.MonkeyPatch, info: str
) -> None:
    monkeypatch.setenv("KUBERNETES_EXEC_INFO", info)
    result = run(*words(central))
    assert (result.code, result.out) == (1, "")
    assert "kubectl" in result.line


def test_cached_token_is_private(run: Run, central: FakeCentral, home: Path) -> None:
    run(*words(central))
    path = cached_file(home, central)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for folder in (path.parent, path.parent.parent, home / ".mk8s"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_planted_link_is_neither_read_nor_followed(
    run: Run, central: FakeCentral, home: Path, tmp_path: Path
) -> None:
    planted = tmp_path / "planted.json"
    planted.write_text(json.dumps({"token": "evil", "obtained": 0, "expires": 9e12}))
    planted.chmod(0o600)
    path = cached_file(home, central)
    path.symlink_to(planted)
    assert "evil" not in run(*words(central)).out
    assert "evil" in planted.read_text()
    assert not path.is_symlink()


def test_cache_that_others_can_read_is_not_used(run: Run, central: FakeCentral, home: Path) -> None:
    run(*words(central))
    cached_file(home, central).chmod(0o644)
    run(*words(central))
    assert central.count(*REFRESH) == 2
    assert stat.S_IMODE(cached_file(home, central).stat().st_mode) == 0o600


@pytest.mark.parametrize("content", ["", "{", "[]", '{"token": 1}', '{"token": "", "obtained": 0}'])
def test_damaged_cache_is_made_anew(
    run: Run, central: FakeCentral, home: Path, content: str
) -> None:
    run(*words(central))
    cached_file(home, central).write_text(content)
    assert "access-prod-" in run(*words(central)).out


@pytest.mark.parametrize(
    ("obtained", "life", "fresh"),
    [
        (0, 900, True),
        (-830, 900, True),
        (-841, 900, False),
        (-900, 900, False),
        (4, 900, True),
        (6, 900, False),
        (-10, 30, True),
        (-21, 30, False),
    ],
    ids=["new", "late", "ending", "ended", "jitter", "clock-back", "short", "short-ending"],
)
def test_when_a_token_is_fresh(obtained: float, life: float, fresh: bool) -> None:
    now = 1_700_000_000.0
    token = AccessToken("t", now + obtained, now + obtained + life)
    assert token.fresh(now) is fresh


def test_token_near_its_end_is_refreshed(run: Run, central: FakeCentral, home: Path) -> None:
    run(*words(central))
    path = cached_file(home, central)
    entry = json.loads(path.read_text())
    path.write_text(
        json.dumps({**entry, "obtained": time.time() - 850, "expires": time.time() + 50})
    )
    run(*words(central))
    assert central.count(*REFRESH) == 2


def test_many_at_once_make_one_refresh(central: FakeCentral) -> None:
    command = [sys.executable, "-m", "mk8s_cli", *words(central)]
    programs = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(15)
    ]
    ended = [program.communicate(timeout=60) for program in programs]
    assert [program.returncode for program in programs] == [0] * 15, ended
    assert len({out for out, _ in ended}) == 1
    assert central.count(*REFRESH) == 1


@pytest.mark.skipif(not kubectls.binaries(), reason="no kubectl here")
def test_forty_kubectls_on_an_expired_token_make_one_refresh(
    run: Run, central: FakeCentral, home: Path
) -> None:
    central.admin = True  # then anything is answered 200
    run(*words(central))
    expire(cached_file(home, central))
    before = central.count(*REFRESH)
    command = [kubectls.binaries()[-1], "--context", "prod", "get", "--raw", "/version"]
    programs = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(40)
    ]
    ended = [program.communicate(timeout=110) for program in programs]
    assert [program.returncode for program in programs] == [0] * 40, ended
    # "--raw" is behind the server's path or not, and some kubectls look at the version beside it
    asked = central.count("GET", "/version") + central.count("GET", "/k8s/prod/version")
    assert asked >= 40
    assert central.count(*REFRESH) == before + 1


def expire(path: Path) -> None:
    """Make a cached token one that has ended an hour ago."""
    entry = json.loads(path.read_text())
    past = {"obtained": time.time() - 4500, "expires": time.time() - 3600}
    path.write_text(json.dumps({**entry, **past}))


def test_rotated_token_is_stored_before_the_answer_is_used(
    run: Run, central: FakeCentral, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object) -> None:
        raise CliError("the machine stopped here")

    with monkeypatch.context() as patched:
        patched.setattr(token_cache, "save", dies)
        assert run(*words(central)).code == 1
    assert central.refresh_token in (home / ".mk8s" / "credentials.json").read_text()
    assert run(*words(central)).code == 0


def test_ended_login_says_login_and_is_forgotten(
    run: Run, central: FakeCentral, home: Path
) -> None:
    central.refresh_token = "another"
    result = run(*words(central))
    assert result.out == ""
    assert result.line == (f"mk8s: this login has ended; run: mk8s login {central.url}")
    assert not (home / ".mk8s" / "credentials.json").exists()
    calls = central.count(*REFRESH)
    assert f"run: mk8s login {central.url}" in run(*words(central)).line
    assert central.count(*REFRESH) == calls


def test_cluster_that_is_not_yours_is_centrals_line(run: Run, central: FakeCentral) -> None:
    told = "mk8s: cluster absent is unknown or not yours; run: mk8s clusters list"
    assert run(*words(central, "absent")).line == told
    assert run(*words(central)).code == 0, "and the login survived it"


@pytest.mark.parametrize("name", ["../prod", "Prod", "a" * 64, "", "x\n"])
def test_cluster_name_that_is_a_path_is_refused(run: Run, central: FakeCentral, name: str) -> None:
    assert "is not a valid name" in run(*words(central, name)).line


@pytest.mark.parametrize("url", ["https://x/../..", "file:///etc/passwd", "../..", "https://x\n"])
def test_central_that_is_a_path_is_refused(run: Run, url: str) -> None:
    result = run("get-token", "--cluster", "prod", "--central", url)
    assert result.code == 1
    assert result.out == ""


def test_central_never_seen_says_login(run: Run) -> None:
    result = run("get-token", "--cluster", "prod", "--central", "https://new.example")
    assert result.line == "mk8s: not logged in; run: mk8s login https://new.example"


def test_central_that_is_down_is_one_line(
    run: Run, central: FakeCentral, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mk8s_cli.central.transport.FIRST_PAUSE_SECONDS", 0.0)
    gone = config.profile_for()
    down = config.Profile("https://127.0.0.1:1", gone.email, secrets="file")
    config.update(lambda stored: stored.with_profile(down))
    (token_cache.home_directory() / "credentials.json").write_text(
        json.dumps({f"https://127.0.0.1:1 {gone.email}": "refresh"})
    )
    result = run("get-token", "--cluster", "prod", "--central", "https://127.0.0.1:1")
    assert "cannot reach central at https://127.0.0.1:1: connection refused" in result.line


def test_lost_answer_is_asked_for_again(run: Run, central: FakeCentral) -> None:
    central.lost_answers = 1
    assert "access-prod-" in run(*words(central)).out
    first, second = (body for *call, body in central.calls if tuple(call) == REFRESH)
    assert first == second
    assert len(first["attempt"]) == 43


def test_answer_lost_for_good_is_given_to_the_next_command(run: Run, central: FakeCentral) -> None:
    """Ctrl-C, a laptop that sleeps: another process asks for what this one has not got."""
    central.lost_answers = 3
    assert "cannot reach central" in run(*words(central)).line
    assert "access-prod-" in run(*words(central)).out
    assert "access-dev-" in run(*words(central, "dev")).out


def test_lost_answer_to_a_login_stored_without_an_attempt_is_not_asked_for_again(
    run: Run, central: FakeCentral, home: Path
) -> None:
    """A second try would look like theft and end the login."""
    path = home / ".mk8s" / "credentials.json"
    path.write_text(json.dumps({f"{central.url} {EMAIL}": central.refresh_token}))
    central.lost_answers = 1
    assert run(*words(central)).code == 1
    assert central.count(*REFRESH) == 1
    assert "attempt" not in central.body(*REFRESH)


def test_each_use_of_a_login_has_an_attempt_of_its_own(run: Run, central: FakeCentral) -> None:
    run(*words(central))
    first = central.body(*REFRESH)["attempt"]
    run(*words(central, "dev"))
    assert central.body(*REFRESH)["attempt"] != first


def test_a_copied_login_ends_and_says_what_to_do(
    run: Run, central: FakeCentral, home: Path
) -> None:
    path = home / ".mk8s" / "credentials.json"
    assert run(*words(central)).code == 0
    copied = path.read_text()
    assert run(*words(central, "dev")).code == 0
    # The other machine has stored the same token with an attempt of its own.
    ((account, value),) = json.loads(copied).items()
    path.write_text(json.dumps({account: f"{value.split()[0]} {'x' * 43}"}))
    cached_file(home, central).unlink()
    assert f"run: mk8s login {central.url}" in run(*words(central)).line


@pytest.fixture
def unwritable(home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let everything that is written from now on fail with an error number."""

    def fails(number: int) -> None:
        def refuse(path: object, flags: int, *more: int, **_: object) -> int:
            if flags & (os.O_WRONLY | os.O_RDWR) and str(path).startswith(str(home)):
                raise OSError(number, os.strerror(number), path)
            return real(path, flags, *more)  # type: ignore[arg-type]

        real = os.open
        monkeypatch.setattr(os, "open", refuse)

    return fails


def test_a_read_only_home_gives_tokens_without_a_word(
    run: Run, central: FakeCentral, unwritable: Callable[[int], None]
) -> None:
    unwritable(errno.EROFS)
    for _ in range(3):
        result = run(*words(central))
        assert (result.code, result.err) == (0, "")
        assert "access-prod-" in result.out
    assert len({str(body) for *call, body in central.calls if tuple(call) == REFRESH}) == 1


def test_a_full_disk_gives_tokens_with_a_word(
    run: Run, central: FakeCentral, unwritable: Callable[[int], None]
) -> None:
    unwritable(errno.ENOSPC)
    result = run(*words(central))
    assert "access-prod-" in result.out
    assert "No space left on device; make room and try again" in result.line


def test_a_read_only_home_with_a_login_of_before_is_one_line(
    run: Run, central: FakeCentral, home: Path, unwritable: Callable[[int], None]
) -> None:
    path = home / ".mk8s" / "credentials.json"
    path.write_text(json.dumps({f"{central.url} {EMAIL}": central.refresh_token}))
    unwritable(errno.EROFS)
    assert "set MK8S_HOME to a folder that you can write to" in run(*words(central)).line


def test_the_answer_without_a_question_has_the_version_of_the_kubeconfig(
    run: Run, central: FakeCentral, home: Path
) -> None:
    """fabric8 sets no KUBERNETES_EXEC_INFO and takes no other version than its entry's."""
    for asked in ("v1", "v1beta1"):
        assert run("kubeconfig", "sync", "--exec-version", asked).code == 0
        kubeconfig = yaml.safe_load((home / ".kube" / "config").read_text())
        (named,) = {user["user"]["exec"]["apiVersion"] for user in kubeconfig["users"]}
        assert named == f"client.authentication.k8s.io/{asked}"
        shutil.rmtree(home / ".mk8s" / "cache")
        assert json.loads(run(*words(central)).out)["apiVersion"] == named
        assert json.loads(run(*words(central)).out)["apiVersion"] == named, "from the cache too"


def test_the_chosen_version_is_remembered_until_auto(
    run: Run, central: FakeCentral, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exec_version, "kubectl_version", lambda: "v1.32.0")
    run("kubeconfig", "sync", "--exec-version", "v1beta1")
    run("kubeconfig", "sync")
    assert exec_versions.named_for(central.url, "prod") == BETA
    run("kubeconfig", "sync", "--exec-version", "auto")
    assert exec_versions.named_for(central.url, "prod") == V1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"prod": "v9"}', '{"prod": 7}'])
def test_unknown_versions_are_the_oldest(
    run: Run, central: FakeCentral, home: Path, content: str
) -> None:
    path = home / ".mk8s" / "exec-versions" / f"127.0.0.1_{central.port}"
    assert path.exists()
    path.write_text(content)
    assert json.loads(run(*words(central)).out)["apiVersion"] == BETA


def test_the_token_alone_for_other_tools(
    run: Run, central: FakeCentral, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBERNETES_EXEC_INFO", "not asked")
    result = run(*words(central), "--output", "token")
    assert (result.code, result.err) == (0, "")
    assert result.out == token_cache.load(central.url, "prod").token + "\n"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {},
        {"access_token": "a b", "refresh_token": "r", "expires_in": 9},
        {"access_token": "a", "refresh_token": "", "expires_in": 9},
        {"access_token": "a", "refresh_token": "r\n", "expires_in": 9},
        {"access_token": "a", "refresh_token": "r", "expires_in": "9"},
        {"access_token": "a", "refresh_token": "r", "expires_in": True},
        {"access_token": "a", "refresh_token": "r", "expires_in": 1e300},
        {"access_token": "a" * 20000, "refresh_token": "r", "expires_in": 9},
    ],
)
def test_strange_grant_is_refused(run: Run, central: FakeCentral, answer: object) -> None:
    central.overrides["POST /auth/refresh"] = [(200, answer)]
    assert "central's answer is refused" in run(*words(central)).line


def test_error_cannot_drive_the_terminal(run: Run, central: FakeCentral) -> None:
    central.overrides["POST /auth/refresh"] = [error(403, "\x1b[2Jno\r\nmk8s: yes\u202e")]
    assert run(*words(central)).line == r"mk8s: \x1b[2Jno mk8s: yes\u202e"


def test_lock_that_stays_taken_is_one_line(
    run: Run, central: FakeCentral, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_tokens, "LOCK_SECONDS", 0.0)
    with locked(cached_file(home, central).parent / ".lock", 1):
        assert "has held" in run(*words(central)).line


def test_planted_lock_link_is_refused(run: Run, central: FakeCentral, home: Path) -> None:
    lock = cached_file(home, central).parent / ".lock"
    lock.unlink(missing_ok=True)
    lock.symlink_to(home / "elsewhere")
    assert "symbolic link" in run(*words(central)).line
    assert not (home / "elsewhere").exists()


def test_directory_that_others_can_write_is_refused(
    run: Run, central: FakeCentral, home: Path
) -> None:
    cached_file(home, central).parent.chmod(0o777)
    assert "can be changed by other users" in run(*words(central)).line


def test_it_never_prompts(central: FakeCentral, home: Path) -> None:
    (home / ".mk8s" / "credentials.json").unlink()
    done = subprocess.run(
        [sys.executable, "-m", "mk8s_cli", *words(central)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"mk8s: not logged in; run: mk8s login {central.url}\n"


def test_token_is_in_no_argument_and_no_environment(
    run: Run, central: FakeCentral, home: Path
) -> None:
    text = (home / ".kube" / "config").read_text()
    run(*words(central))
    assert central.refresh_token not in text
    assert not [name for name, value in os.environ.items() if central.refresh_token in value]


def test_expiry_is_reported_in_utc() -> None:
    document = json.loads(exec_credential.answer(BETA, "t", 1_700_000_045.0))
    assert document["status"]["expirationTimestamp"] == "2023-11-14T22:13:20Z"


@pytest.mark.parametrize(("now", "kept"), [("id-1", True), ("id-2", False)])
def test_a_token_of_a_cluster_that_was_added_again_is_dropped(
    run: Run, central: FakeCentral, home: Path, now: str, kept: bool
) -> None:
    """Central takes it no more, and kubectl would be given it until it ends."""
    claims = base64.urlsafe_b64encode(json.dumps({"cluster_id": "id-1"}).encode()).decode()
    grant = {**central._grant("prod"), "access_token": f"e30.{claims.rstrip('=')}.x"}
    central.used.clear()
    central.overrides["POST /auth/refresh"] = [(200, grant)]
    assert run(*words(central)).code == 0
    central.clusters[1]["id"] = now
    assert run("kubeconfig", "sync").code == 0
    assert cached_file(home, central).exists() is kept


# -- a process that asks again


def grow_old(home: Path, central: FakeCentral, seconds: float = 31) -> None:
    """The token came so long ago."""
    path = cached_file(home, central)
    entry = json.loads(path.read_text())
    path.write_text(json.dumps(entry | {"obtained": entry["obtained"] - seconds}))


def test_a_process_that_asks_again_gets_another_token(
    run: Run, central: FakeCentral, home: Path
) -> None:
    """kubectl does so after a 401, as when the key of its token was retired, and says no word."""
    first = run(*words(central)).out
    grow_old(home, central)
    second = run(*words(central)).out
    assert second != first
    assert run(*words(central)).out == second, "it has just come: nobody doubts that one yet"
    assert central.count(*REFRESH) == 2
    grow_old(home, central)
    assert run(*words(central)).out not in (first, second)
    assert stat.S_IMODE(cached_file(home, central).with_suffix(".asked").stat().st_mode) == 0o600


def test_another_process_gets_the_same_token(
    run: Run, central: FakeCentral, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(*words(central)).out
    grow_old(home, central)
    for number in range(7000, 7010):
        monkeypatch.setattr(os, "getppid", lambda number=number: number)
        assert run(*words(central)).out == first
    assert central.count(*REFRESH) == 1


def test_the_token_alone_may_be_asked_for_again(run: Run, central: FakeCentral, home: Path) -> None:
    """By one shell that asks for each of its calls."""
    first = run(*words(central), "-o", "token").out
    grow_old(home, central)
    assert run(*words(central), "-o", "token").out == first


def test_another_process_has_replaced_the_token_already(
    run: Run, central: FakeCentral, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(*words(central))
    grow_old(home, central)
    found = token_cache.load(central.url, "prod")
    assert found is not None
    new = AccessToken("new", found.obtained + 31, found.expires)
    answers = iter([found, new])
    monkeypatch.setattr(token_cache, "load", lambda *_: next(answers))
    monkeypatch.setattr(token_cache, "is_doubted", lambda *_: True)
    assert json.loads(run(*words(central)).out)["status"]["token"] == "new"
    assert central.count(*REFRESH) == 1


def test_a_login_that_has_ended_is_said_to_who_asks_again(
    run: Run, central: FakeCentral, home: Path
) -> None:
    run(*words(central))
    grow_old(home, central)
    central.refresh_token = ""
    result = run(*words(central))
    assert (result.code, result.out) == (1, "")
    assert "mk8s login" in result.line


def test_a_doubted_token_is_given_where_central_cannot_be_asked(
    run: Run, central: FakeCentral, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(*words(central)).out
    grow_old(home, central)

    def unreachable(*_: object) -> AccessToken:
        raise CliError("central is out of reach")

    monkeypatch.setattr(access_tokens, "_refresh", unreachable)
    assert run(*words(central)).out == first


def test_who_has_asked_is_neither_read_nor_written_through_a_link(
    run: Run, central: FakeCentral, home: Path, tmp_path: Path
) -> None:
    first = run(*words(central)).out
    asked = cached_file(home, central).with_suffix(".asked")
    planted = tmp_path / "planted"
    planted.write_text("")
    asked.unlink()
    asked.symlink_to(planted)
    grow_old(home, central)
    assert [run(*words(central)).out for _ in range(2)] == [first, first]
    assert planted.read_text() == ""


def test_who_has_asked_is_bounded_and_ends_with_the_token(
    run: Run, central: FakeCentral, home: Path
) -> None:
    run(*words(central))
    asked = cached_file(home, central).with_suffix(".asked")
    asked.write_bytes(b"1\n" * 40_000)
    run(*words(central))
    assert asked.stat().st_size == 80_000
    token_cache.save(central.url, "prod", AccessToken("t", time.time(), time.time() + 900))
    assert not asked.exists()
    run(*words(central))
    token_cache.clear(central.url)
    assert not asked.exists()
