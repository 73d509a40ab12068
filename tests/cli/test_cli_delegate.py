"""`mk8s delegate`: a command, or a directory, with a login of its own."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from mk8s_cli.commands import delegate_home
from tests.cli.conftest import CHECKOUT, Result, Run
from tests.cli.fake_central import EMAIL, PASSWORD, FakeCentral, cluster

PRINT = (
    "import json, os, sys; json.dump(dict(os.environ), open(sys.argv[1], 'w')); "
    "open(sys.argv[1] + '.yaml', 'w').write(open(os.environ['KUBECONFIG']).read())"
)
REFRESH = "refresh-delegated"


@pytest.fixture
def logged_in(central: FakeCentral, run: Run, tmp_path: Path) -> FakeCentral:
    pem = tmp_path / "ca.pem"
    pem.write_text(central.authority_pem)
    words = ("login", central.url, "--email", EMAIL, "--password-stdin", "--ca-file", str(pem))
    assert run(*words, stdin=PASSWORD).code == 0
    central.calls.clear()
    return central


def asked(central: FakeCentral) -> Any:
    return central.body("POST", "/delegations")


def ended(central: FakeCentral) -> list[str]:
    calls = [body for method, path, body in central.calls if path == "/auth/logout"]
    return [body["refresh_token"] for body in calls]


def left_over(runtime: Path) -> list[Path]:
    return list(runtime.glob("mk8s-delegate-*"))


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where private directories are made."""
    directory = tmp_path / "runtime"
    directory.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
    return directory


def test_a_command_has_a_login_of_its_own(
    logged_in: FakeCentral, run: Run, runtime: Path, tmp_path: Path
) -> None:
    out = tmp_path / "environment"
    result = run(
        "delegate", "--for", "45m", "--cluster", "d*", "--verb", "get,list", "--verb", "watch",
        "--namespace", "shop", "--resource", "pods,services", "--label", "robot",
        "--", sys.executable, "-c", PRINT, str(out),
    )  # fmt: skip
    assert result.code == 0, result.err
    assert asked(logged_in) == {
        "seconds": 45 * 60,
        "label": "robot",
        "clusters": ["d*"],
        "namespaces": ["shop"],
        "verbs": ["get", "list", "watch"],
        "resources": ["pods", "services"],
    }
    assert "delegated to robot/0198 until" in result.line
    assert "get,list of pods, namespaces shop, on dev, prod; ends with the command" in result.line
    seen = json.loads(out.read_text())
    home = Path(seen["MK8S_HOME"])
    assert home.parent == runtime
    assert seen["KUBECONFIG"] == str(home / "kubeconfig")
    assert seen["MK8S_CENTRAL"] == logged_in.url
    written = yaml.safe_load(Path(f"{out}.yaml").read_text())
    assert [it["name"] for it in written["contexts"]] == ["dev", "prod"]
    assert written["current-context"] == "dev"
    (plugin,) = {json.dumps(it["user"]["exec"]["env"]) for it in written["users"]}
    assert {"name": "MK8S_HOME", "value": str(home)} in json.loads(plugin)
    assert REFRESH not in Path(f"{out}.yaml").read_text()
    assert ended(logged_in) == [REFRESH]
    assert left_over(runtime) == []


def test_the_owners_own_credentials_stay_away_from_the_command(
    logged_in: FakeCentral, run: Run, runtime: Path, tmp_path: Path
) -> None:
    script = (
        "import os, pathlib, sys; home = pathlib.Path(os.environ['MK8S_HOME']); "
        "print(sorted(it.name for it in home.iterdir())); "
        "print(*(it.stat().st_mode & 0o777 for it in [home, *home.glob('*.json')])); "
        "print((home / 'credentials.json').read_text())"
    )
    result = run("delegate", "--", sys.executable, "-c", script)
    assert result.code == 0, result.err
    assert REFRESH in result.out
    assert "refresh-1" not in result.out.replace(REFRESH, "")
    assert str(0o755) not in result.out.splitlines()[1].split()
    stored = json.loads((tmp_path / ".mk8s" / "credentials.json").read_text())
    assert all(not value.startswith(REFRESH) for value in stored.values())


@pytest.mark.parametrize("code", [0, 1, 7])
def test_the_exit_code_is_the_commands(
    logged_in: FakeCentral, run: Run, runtime: Path, code: int
) -> None:
    assert run("delegate", "--", sys.executable, "-c", f"raise SystemExit({code})").code == code
    assert ended(logged_in) == [REFRESH]


def test_a_command_that_dies_of_a_signal(logged_in: FakeCentral, run: Run, runtime: Path) -> None:
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert run("delegate", "--", sys.executable, "-c", kill).code == 128 + signal.SIGKILL


def test_the_label_is_the_commands_name(logged_in: FakeCentral, run: Run, runtime: Path) -> None:
    assert run("delegate", "true").code == 0
    assert asked(logged_in) == {"seconds": 1800, "label": "true"}


def test_options_behind_the_command_are_its_own(
    logged_in: FakeCentral, run: Run, runtime: Path
) -> None:
    result = run("delegate", "echo", "--for", "never", "--help")
    assert result.out == "--for never --help\n"


def test_a_program_that_is_not_there_costs_no_login(
    logged_in: FakeCentral, run: Run, runtime: Path
) -> None:
    result = run("delegate", "--", "no-such-program")
    assert (result.code, result.line) == (1, "mk8s: no-such-program is not on PATH")
    assert logged_in.count("POST", "/delegations") == 0


def test_a_program_that_cannot_be_run_ends_the_login(
    logged_in: FakeCentral, run: Run, runtime: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF")
    broken.chmod(0o755)
    result = run("delegate", "--", str(broken))
    assert result.code == 1
    assert f"cannot run {broken}" in result.err
    assert ended(logged_in) == [REFRESH]
    assert left_over(runtime) == []


def test_a_delegation_that_covers_nothing_ends_at_once(
    logged_in: FakeCentral, run: Run, runtime: Path
) -> None:
    logged_in.clusters = []
    result = run("delegate", "--cluster", "x", "--", "true")
    assert result.line == "mk8s: the delegation covers no cluster of yours: look at --cluster"
    assert ended(logged_in) == [REFRESH]


def test_a_refusal_is_one_line(logged_in: FakeCentral, run: Run, runtime: Path) -> None:
    problem = {"detail": "seconds: must be at most 28800 here"}
    logged_in.overrides["POST /delegations"] = [(422, problem)]
    result = run("delegate", "--for", "9h", "--", "true")
    assert (result.code, result.line) == (1, "mk8s: seconds: must be at most 28800 here")
    assert ended(logged_in) == []


def test_attack_an_answer_that_names_a_directory_elsewhere(
    logged_in: FakeCentral, run: Run, tmp_path: Path
) -> None:
    logged_in.delegation["id"] = "../../evil"
    result = run("delegate")
    assert result.line == "mk8s: central's answer is refused: it names no delegation"
    assert not (tmp_path / "evil").exists()


def test_an_end_that_central_cannot_be_told_is_a_warning(
    logged_in: FakeCentral, run: Run, runtime: Path
) -> None:
    logged_in.overrides["POST /auth/logout"] = [(500, {"detail": "broken"})] * 9
    result = run("delegate", "--", "true")
    assert result.code == 0
    assert "the delegation could not be ended at central" in result.err
    assert left_over(runtime) == []


def test_wrong_usage(logged_in: FakeCentral, run: Run, tmp_path: Path) -> None:
    assert run("delegate", "--for", "x").code == 2
    assert run("delegate", "--out", str(tmp_path / "d"), "--", "true").code == 2
    assert logged_in.calls == []


def test_nobody_is_logged_in(central: FakeCentral, run: Run, runtime: Path) -> None:
    result = run("delegate", "--", "true")
    assert (result.code, result.line) == (1, "mk8s: not logged in; run: mk8s login URL")
    assert left_over(runtime) == []


def test_it_begins_where_its_owner_works(
    logged_in: FakeCentral, run: Run, runtime: Path, tmp_path: Path
) -> None:
    assert run("use", "prod").code == 0
    out = tmp_path / "seen"
    assert run("delegate", "--", sys.executable, "-c", PRINT, str(out)).code == 0
    assert yaml.safe_load(Path(f"{out}.yaml").read_text())["current-context"] == "prod"


# -- signals


@contextmanager
def delegating(*command: str) -> "Iterator[subprocess.Popen[bytes]]":
    words = [sys.executable, "-m", "mk8s_cli", "delegate", "--", *command]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, cwd=CHECKOUT) as process:
        try:
            yield process
        finally:
            process.kill()  # one that a failing test leaves


def wait_for(path: Path) -> None:
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until, "the command does not begin"
        time.sleep(0.05)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_goes_to_the_command_and_the_login_ends(
    logged_in: FakeCentral, runtime: Path, tmp_path: Path, name: str
) -> None:
    script = (
        "import pathlib, signal, sys, time\n"
        f"signal.signal(signal.{name}, lambda *_: sys.exit(9))\n"
        "pathlib.Path(sys.argv[1]).touch()\n"
        "time.sleep(300)"
    )
    begun = tmp_path / "begun"
    with delegating(sys.executable, "-c", script, str(begun)) as process:
        wait_for(begun)
        process.send_signal(getattr(signal, name))
        assert process.wait(60) == 9
    assert ended(logged_in) == [REFRESH]
    assert left_over(runtime) == []


def test_a_command_that_a_signal_kills(
    logged_in: FakeCentral, runtime: Path, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    with delegating("sh", "-c", f"touch {begun}; exec sleep 300") as process:
        wait_for(begun)
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM
    assert ended(logged_in) == [REFRESH]


# -- without a command


def handed_out(run: Run, directory: Path, *words: str) -> Result:
    result = run("delegate", "--out", str(directory), *words)
    assert result.code == 0, result.err
    return result


def test_a_directory_for_somebody_else(
    logged_in: FakeCentral, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "bob"
    result = handed_out(run, directory, "--label", "bob")
    assert asked(logged_in) == {"seconds": 1800, "label": "bob"}
    assert f"use it: export KUBECONFIG={directory}/kubeconfig" in result.out
    assert f"end it: mk8s delegate --end {directory}" in result.out
    assert REFRESH not in result.out + result.err
    for path in [directory, *directory.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) in (0o600, 0o700), path
    monkeypatch.setenv("MK8S_HOME", str(directory))
    run("get-token", "--cluster", "dev", "--central", logged_in.url)
    used = logged_in.body("POST", "/auth/refresh")
    assert (used["refresh_token"], used["cluster"]) == (REFRESH, "dev")
    assert ended(logged_in) == []


def test_its_end(logged_in: FakeCentral, run: Run, tmp_path: Path) -> None:
    directory = tmp_path / "bob"
    handed_out(run, directory)
    (directory / "notes.txt").write_text("mine")
    result = run("delegate", "--end", str(directory))
    assert (result.code, result.out) == (0, "the delegation robot/0198 has ended\n")
    assert ended(logged_in) == [REFRESH]
    assert [it.name for it in directory.iterdir()] == ["notes.txt"]
    again = run("delegate", "--end", str(directory))
    assert again.line == f"mk8s: {directory} holds no delegation of mk8s"


def test_an_end_leaves_nothing(logged_in: FakeCentral, run: Run, tmp_path: Path) -> None:
    handed_out(run, tmp_path / "bob")
    run("delegate", "--end", str(tmp_path / "bob"))
    assert not (tmp_path / "bob").exists()


def test_a_directory_that_has_lost_its_token(
    logged_in: FakeCentral, run: Run, tmp_path: Path
) -> None:
    handed_out(run, tmp_path / "bob")
    (tmp_path / "bob" / "credentials.json").unlink()
    result = run("delegate", "--end", str(tmp_path / "bob"))
    assert result.line.endswith("holds a delegation that has ended; remove it")


def test_attack_the_home_of_a_person_is_ended_as_a_delegation(
    logged_in: FakeCentral, run: Run, tmp_path: Path
) -> None:
    home = tmp_path / ".mk8s"
    for mark in (b"", b"[]", b"{"):
        if mark:
            (home / delegate_home.MARK).write_bytes(mark)
            (home / delegate_home.MARK).chmod(0o600)
        assert run("delegate", "--end", str(home)).code == 1
        assert (home / "credentials.json").exists()


def test_nothing_of_others_is_written_over(
    logged_in: FakeCentral, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "config.yaml").write_text("mine")
    result = run("delegate", "--out", str(tmp_path / "full"))
    assert result.line.endswith("is not empty: choose another directory")
    assert logged_in.count("POST", "/delegations") == 0


def test_the_usual_place_is_tidied(logged_in: FakeCentral, run: Run, tmp_path: Path) -> None:
    places = tmp_path / ".mk8s" / "delegations"
    assert run("delegate").code == 0
    (first,) = places.iterdir()
    assert first.name == logged_in.delegation["id"]
    mark = first / delegate_home.MARK
    mark.write_text(json.dumps(json.loads(mark.read_text()) | {"ends_at": "2026-01-01T00:00:00Z"}))
    strange = places / "strange"
    strange.mkdir(mode=0o700)
    logged_in.delegation["id"] = "second"
    assert run("delegate").code == 0
    assert sorted(it.name for it in places.iterdir()) == ["second", "strange"]


def test_a_failure_on_the_way_ends_the_login(
    logged_in: FakeCentral, run: Run, tmp_path: Path
) -> None:
    logged_in.overrides["GET /clusters"] = [(500, {"detail": "broken"})] * 9
    assert run("delegate", "--out", str(tmp_path / "bob")).code == 1
    assert ended(logged_in) == [REFRESH]


def test_an_owner_with_several_centrals(
    logged_in: FakeCentral, run: Run, runtime: Path, tmp_path: Path
) -> None:
    """The delegation knows the one that it is of."""
    out = tmp_path / "seen"
    words = ("--central", logged_in.url, "delegate", "--")
    assert run(*words, sys.executable, "-c", PRINT, str(out)).code == 0
    assert json.loads(out.read_text())["MK8S_CENTRAL"] == logged_in.url


# -- status


def test_status_shows_to_whom_one_delegated(logged_in: FakeCentral, run: Run) -> None:
    logged_in.login = {"source": "password", "ends_at": "2126-01-02T03:04:05Z"}
    logged_in.logins = [
        {
            "id": "one", "label": "robot", "ends_at": "2126-01-02T03:04:05Z",
            "narrowing": logged_in.delegation["narrowing"],
        }
    ]  # fmt: skip
    out = run("status").out
    assert "delegated:   to robot (" in out
    assert "left): get,list of pods, namespaces shop, clusters d*" in out
    document = json.loads(run("status", "-o", "json").out)
    assert document["delegate"] is None
    assert [it["name"] for it in document["delegations"]] == ["robot"]


def test_status_shows_as_whose_delegate_one_is_here(logged_in: FakeCentral, run: Run) -> None:
    logged_in.login = {"source": "delegation", "ends_at": "2126-01-02T03:04:05Z"}
    logged_in.about = {
        "delegate": "robot/0198", "narrowing": logged_in.delegation["narrowing"]
    }  # fmt: skip
    out = run("status").out
    expected = f"delegate:    robot/0198, for {EMAIL}: get,list of pods, namespaces shop"
    assert expected in out
    assert logged_in.count("GET", "/logins") == 0


def test_status_of_an_older_central(logged_in: FakeCentral, run: Run) -> None:
    logged_in.login = {"source": "password", "ends_at": "2126-01-02T03:04:05Z"}
    logged_in.overrides["GET /logins"] = [(404, {"detail": "no such endpoint"})]
    result = run("status")
    assert result.code == 0
    assert "delegated" not in result.out
    logged_in.overrides["GET /logins"] = [(403, {"detail": "no"})]
    assert run("status").code == 1


def test_clusters_without_names_make_no_home(logged_in: FakeCentral, run: Run) -> None:
    logged_in.clusters = [cluster("../evil")]
    assert run("delegate").code == 1
    assert ended(logged_in) == [REFRESH]
    assert os.environ.get("MK8S_HOME") is None
