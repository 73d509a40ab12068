"""Locks at the command line: made, listed, removed."""

import json

import pytest

from tests.cli.conftest import Run
from tests.cli.fake_central import FakeCentral

pytestmark = pytest.mark.usefixtures("logged_in")

LOCKED = {
    "id": "lock-1",
    "kind": "user",
    "target": "dev@example.com",
    "reason": "laptop \x1b[2Jlost",
    "created_by": "admin@example.com",
    "expires_at": None,
}


@pytest.fixture
def central(central: FakeCentral) -> FakeCentral:
    central.admin = True
    return central


def test_a_lock_is_made(run: Run, central: FakeCentral) -> None:
    words = ("admin", "lock", "user", "dev@example.com", "--reason", "laptop lost")
    assert run(*words).out == "user dev@example.com is locked until unlocked\n"
    assert central.body("POST", "/locks") == {
        "kind": "user",
        "target": "dev@example.com",
        "reason": "laptop lost",
        "expires_in": None,
    }
    central.lock_ends = "2026-03-02T03:04:05.123Z"
    assert run(*words, "--for", "12h").out.endswith("is locked until 2026-03-02T03:04:05Z\n")
    assert central.body("POST", "/locks")["expires_in"] == 12 * 3600
    assert json.loads(run(*words, "-o", "json").out)["id"] == "lock-1"
    assert run(*words, "-o", "name").out == "lock-1\n"


def test_locks_are_listed(run: Run, central: FakeCentral) -> None:
    central.locks = [LOCKED]
    shown = run("admin", "locks", "list").out
    assert "\x1b" not in shown
    row = shown.splitlines()[1].split()
    assert (row[:2], row[-3:]) == (
        ["user", "dev@example.com"],
        ["unlocked", "admin@example.com", "lock-1"],
    )


def test_all_locks_of_a_name_are_removed(run: Run, central: FakeCentral) -> None:
    central.locks = [LOCKED, LOCKED | {"id": "lock-2"}, LOCKED | {"id": "lock-3", "kind": "group"}]
    told = run("admin", "unlock", "user", "Dev@example.com").out
    assert told == "user Dev@example.com is unlocked\n"
    assert [central.count("DELETE", f"/locks/lock-{number}") for number in (1, 2, 3)] == [1, 1, 0]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("lock", "agent", "a", "--reason", "b"), "'agent' is not one of"),
        (("lock", "user", "dev@example.com"), "Missing option '--reason'"),
        (("lock", "user", "a", "--reason", "b", "--for", "soon"), "write 90m, 12h, 30d"),
        (("unlock", "user", "nobody@example.com"), "see: mk8s admin locks list"),
    ],
)
def test_mistakes_are_told(
    run: Run, central: FakeCentral, words: tuple[str, ...], told: str
) -> None:
    central.locks = [LOCKED]
    refused = run("admin", *words)
    assert refused.code
    assert told in refused.err
