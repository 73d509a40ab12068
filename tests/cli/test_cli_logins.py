"""Logins at the command line: listed, and ended."""

import json
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.cli.fake_central import EMAIL, FakeCentral

FIRST = "1b7c2d0e-3f6a-4d0b-8a51-90c4f5b1a7de"
SECOND = "1b7c2d0f-3f6a-4d0b-8a51-90c4f5b1a7de"


def login(login_id: str, **more: Any) -> dict[str, Any]:
    return {
        "id": login_id,
        "user": EMAIL,
        "source": "password",
        "issuer": "",
        "label": "",
        "client": "mk8s-cli",
        "address": "192.0.2.1",
        "status": "active",
        "opened_at": "2026-01-02T03:04:05Z",
        "last_seen": "2026-01-02T03:04:05Z",
        "ends_at": "2126-01-02T03:04:05Z",
        "ended_why": "",
        "current": False,
        **more,
    }


@pytest.fixture(autouse=True)
def logins(central: FakeCentral) -> None:
    central.logins = [
        login(FIRST, current=True),
        login(SECOND, source="oidc", issuer="acme", address="\x1b[2J", client="\u202emk8s"),
    ]


@pytest.mark.usefixtures("logged_in")
def test_ones_own_are_listed(run: Run, central: FakeCentral) -> None:
    lines = run("logins", "list").out.splitlines()
    assert lines[0].split() == [
        "ID", "SOURCE", "ADDRESS", "CLIENT", "OPENED", "LAST", "SEEN", "ENDS", "IN",
        "CURRENT",
    ]  # fmt: skip
    assert lines[1].startswith("1b7c2d0e")
    assert lines[1].endswith("*")
    assert "oidc (acme)" in lines[2]
    assert central.queries[-1] == ("/logins", {"status": "active"})
    assert json.loads(run("logins", "list", "-o", "json").out) == central.logins
    assert run("logins", "list", "-o", "name").out.split() == [FIRST, SECOND]


@pytest.mark.usefixtures("logged_in")
def test_attack_a_client_that_calls_itself_by_escape_sequences(run: Run) -> None:
    for form in ("table", "json", "yaml"):
        shown = run("logins", "list", "-o", form).out
        assert "\x1b" not in shown
        assert "\u202e" not in shown


@pytest.mark.usefixtures("logged_in")
def test_ended_ones_say_why(run: Run, central: FakeCentral) -> None:
    central.logins = [
        login(FIRST, status="ended", ended_why="password changed"),
        login(SECOND, status="ended"),
    ]
    lines = run("logins", "list", "--ended").out.splitlines()
    assert "password changed" in lines[1]
    assert "expired" in lines[2]
    assert central.queries[-1] == ("/logins", {})


@pytest.mark.usefixtures("logged_in")
def test_one_is_ended_by_its_id_or_its_beginning(run: Run, central: FakeCentral) -> None:
    assert run("logins", "end", SECOND).out == f"login {SECOND} has ended\n"
    assert run("logins", "end", SECOND[:8]).out == f"login {SECOND} has ended\n"
    assert central.count("DELETE", f"/logins/{SECOND}") == 2


@pytest.mark.usefixtures("logged_in")
@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "Which one?"),
        ((FIRST, "--all"), "Which one?"),
        (("1b7c",), "2 logins begin with 1b7c"),
        (("ffff",), "no login that is good begins with ffff"),
        (("../users/x",), "is no id of a login"),
    ],
)
def test_what_is_no_login_of_ones_own_is_told(
    run: Run, central: FakeCentral, words: tuple[str, ...], told: str
) -> None:
    refused = run("logins", "end", *words)
    assert refused.code
    assert told in refused.err
    assert not [call for call in central.calls if call[0] == "DELETE"]


@pytest.mark.usefixtures("logged_in")
def test_attack_an_id_of_centrals_is_a_path(run: Run, central: FakeCentral) -> None:
    central.logins = [login("1b7c/../../users/x")]
    assert "no login that is good begins" in run("logins", "end", "1b7c").line
    assert not [call for call in central.calls if call[0] == "DELETE"]


@pytest.mark.usefixtures("logged_in")
def test_all_others_are_ended(run: Run, central: FakeCentral) -> None:
    told = run("logins", "end", "--all").out
    assert told == "your other logins have ended, this one goes on (2)\n"
    assert central.queries[-1] == ("/logins", {})


@pytest.mark.usefixtures("logged_in")
def test_administrators_see_and_end_everybodys(run: Run, central: FakeCentral) -> None:
    central.admin = True
    lines = run("admin", "logins", "list").out.splitlines()
    assert lines[0].split()[:2] == ["ID", "USER"]
    assert central.queries[-1] == ("/logins", {"all": "true", "status": "active"})
    run("admin", "logins", "list", "--user", "token:ci", "--ended")
    assert central.queries[-1] == ("/logins", {"user": "token:ci"})
    assert run("admin", "logins", "end", SECOND[:9]).out == f"login {SECOND} has ended\n"
    told = run("admin", "logins", "end", "--user", EMAIL).out
    assert told == f"the logins of {EMAIL} have ended (3)\n"
    assert central.count("DELETE", f"/users/{EMAIL}/logins") == 1
    assert "Which one?" in run("admin", "logins", "end").err
    assert "Which one?" in run("admin", "logins", "end", FIRST, "--user", EMAIL).err


@pytest.mark.usefixtures("logged_in")
def test_pages_keep_their_filters(run: Run, central: FakeCentral) -> None:
    page = {"logins": central.logins[:1], "next_cursor": "on"}
    central.overrides["GET /logins"] = [(200, page)]
    assert run("logins", "list", "-o", "name").out.split() == [FIRST, FIRST, SECOND]
    assert central.queries[-1] == ("/logins", {"status": "active", "cursor": "on"})
