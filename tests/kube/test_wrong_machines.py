"""A person's machine that is not as it should be: its clock, its kubeconfig, its login.

Each command says so in one line and leaves everything as it was.
"""

import json
import re
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import kubectl as kubectls
from tests.support.processes import run, with_clock
from tests.support.world import MK8S, PASSWORDS, Person, World

pytestmark = [pytest.mark.kube, pytest.mark.usefixtures("undisturbed")]

LogIn = Callable[[str], Person]
DEV = "dev@example.com"
TEN_MINUTES = 600.0


def one_line(text: str) -> str:
    """The one line that a person was shown."""
    (line,) = [line for line in text.splitlines() if line.strip()]
    assert "Traceback" not in line
    return line


def kubeconfig_of(person: Person) -> Path:
    return person.home / ".kube" / "config"


@pytest.fixture
def person(newcomer: LogIn) -> Person:
    """The developer at a machine of their own, with prod chosen."""
    made = newcomer(DEV)
    made.use("prod")
    return made


@pytest.mark.parametrize("ahead", [TEN_MINUTES, -TEN_MINUTES])
def test_clock_ten_minutes_off(world: World, person: Person, ahead: float) -> None:
    """It costs a warning only: the life of a token is counted from when it came."""
    mk8s = with_clock("mk8s_cli", ahead=ahead)
    listed = run([*mk8s, "clusters", "list", "-o", "name"], person.environment)
    assert listed.stdout.split() == ["prod", "staging"]
    line = one_line(listed.stderr)
    assert re.search(r"clock is (59\d|60\d) s", line), line
    assert ("ahead of" if ahead > 0 else "behind") in line
    assert "set the clock right" in line
    command = ["get-token", "--cluster", "prod", "--central", world.url]
    shown = run([*mk8s, *command], person.environment)
    ends = json.loads(shown.stdout)["status"]["expirationTimestamp"]
    by_its_clock = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + ahead))
    assert ends > by_its_clock, "kubectl would ask again for each request"
    status = run([*mk8s, "status"], person.environment)
    assert "set the clock right" in status.stdout


def test_login_with_a_clock_ten_minutes_off(world: World, tmp_path: Path, person: Person) -> None:
    mk8s = with_clock("mk8s_cli", ahead=TEN_MINUTES)
    command = [*mk8s, "login", world.url, "--ca-pin", world.pin, "--email", DEV]
    environment = {**person.environment, "HOME": str(tmp_path)}
    done = run([*command, "--password-stdin"], environment, stdin=f"{PASSWORDS[DEV]}\n")
    assert "logged in" in done.stdout
    assert "set the clock right" in done.stderr


KUBECONFIGS = {
    "broken": "clusters: [",
    "text": "just text",
    "list": "[1, 2]",
    "contexts-is-text": "contexts: many\n",
    "nameless": "contexts: [{context: {}}]\n",
    "twice": "contexts: []\ncontexts: []\n",
    "binary": "\x00\x01\x02",
    "two-documents": "kind: Config\n---\nkind: Config\n",
}


@pytest.mark.parametrize("content", KUBECONFIGS.values(), ids=KUBECONFIGS.keys())
def test_malformed_kubeconfig_is_named_and_left_alone(person: Person, content: str) -> None:
    path = kubeconfig_of(person)
    path.write_text(content)
    for command in (("use", "staging"), ("kubeconfig", "sync")):
        done = person.mk8s(*command, code=None)
        if done.returncode == 0:
            continue  # what kubectl can read too
        assert done.returncode == 1
        assert str(path) in one_line(done.stderr)
        assert path.read_text() == content, "a file that is not understood is not ours to mend"
    assert not list(path.parent.glob("*.lock"))


def test_logout_with_a_malformed_kubeconfig_still_ends_the_login(person: Person) -> None:
    path = kubeconfig_of(person)
    path.write_text("clusters: [")
    assert str(path) in one_line(person.mk8s("logout", code=1).stderr)
    assert "mk8s login" in one_line(person.mk8s("status", code=1).stderr)


def test_login_that_has_ended_at_central(world: World, person: Person) -> None:
    """The refresh token's time is over: kubectl and mk8s say how to get another one."""
    _end_every_login(world, person)
    for command in (("status",), ("use", "staging"), ("clusters", "list")):
        assert "mk8s login" in one_line(person.mk8s(*command, code=1).stderr)
    kubectl = person.kubectl(kubectls.binaries()[0])
    refused = kubectl("-n", "shop", "get", "pods", code=1)
    assert f"mk8s login {world.url}" in refused.stderr
    assert refused.stdout == ""


def _end_every_login(world: World, person: Person) -> None:
    """Let the newest login of this person be over, and forget the tokens it has given."""
    for cached in (person.home / ".mk8s").rglob("*.json"):
        cached.unlink()
    with sqlite3.connect(world.data / "central.db") as database:
        newest = "(SELECT id FROM logins ORDER BY opened_at DESC LIMIT 1)"
        database.execute("UPDATE logins SET ends_at = opened_at WHERE id IN " + newest)
    database.close()


def test_password_that_is_wrong_and_then_right(world: World, person: Person) -> None:
    command = [*MK8S, "login", world.url, "--email", DEV, "--password-stdin"]
    refused = run(command, person.environment, stdin="wrong\n", code=1)
    assert "password" in one_line(refused.stderr)
    rows = [row for row in world.audit(requestURI="/auth/login") if row["user"]["username"] == DEV]
    assert rows[-1]["responseStatus"]["code"] == 401
    # The login of before is still good.
    assert "web" in person.kubectl(kubectls.binaries()[0])("-n", "shop", "get", "pods").stdout
    run(command, person.environment, stdin=f"{PASSWORDS[DEV]}\n")
