"""Whom single sign-on means by a user: `mk8s admin users link/unlink/links`."""

import pytest

from tests.cli.conftest import Result, Run
from tests.cli.fake_central import FakeCentral

PATH = "/users/dev@example.com/identities"


@pytest.fixture(autouse=True)
def _administrator(logged_in: Result, central: FakeCentral) -> None:
    central.admin = True
    central.identities = [
        {"issuer": "acme", "subject": "u-1", "last_used": "2026-01-31T08:00:00Z"},
        {"issuer": "acme", "subject": "", "last_used": "2026-01-31T08:00:00Z"},
    ]


def test_link(run: Run, central: FakeCentral) -> None:
    out = run("admin", "users", "link", "dev@example.com", "--issuer", "acme").out
    assert "whoever proves that address at acme" in out
    assert central.body("PUT", PATH) == {"issuer": "acme", "subject": ""}
    run("admin", "users", "link", "dev@example.com", "--issuer", "acme", "--subject", "u-2")
    assert central.body("PUT", PATH) == {"issuer": "acme", "subject": "u-2"}


def test_links(run: Run) -> None:
    lines = run("admin", "users", "links", "dev@example.com").out.splitlines()
    assert lines[1].split()[:2] == ["acme", "u-1"]
    assert "(at the next login)" in lines[2]


def test_unlink(run: Run, central: FakeCentral) -> None:
    out = run("admin", "users", "unlink", "dev@example.com", "--issuer", "acme", "--yes").out
    assert "not linked to acme any more" in out
    assert central.count("DELETE", PATH) == 1
    assert (PATH, {"issuer": "acme"}) in central.queries


@pytest.mark.parametrize(
    ("user", "issuer"), [("a b", "acme"), ("", "acme"), ("a\n", "acme"), ("a@b", "../x")]
)
def test_what_is_no_user_and_no_issuer(
    run: Run, central: FakeCentral, user: str, issuer: str
) -> None:
    assert run("admin", "users", "link", user, "--issuer", issuer).code == 1
    assert central.count("PUT", PATH) == 0
