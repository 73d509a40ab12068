"""Passwords at the command line: changed by their owners, and first ones that must be."""

import pytest

from mk8s_cli.central import certificate
from mk8s_cli.login import token_cache
from tests.cli.conftest import Run
from tests.cli.fake_central import EMAIL, PASSWORD, FakeCentral

NEW = "another good password"


@pytest.mark.usefixtures("logged_in")
def test_passwd_changes_the_password(run: Run, central: FakeCentral) -> None:
    done = run("passwd", "--password-stdin", stdin=f"{PASSWORD}\n{NEW}\n")
    assert "your password is changed" in done.out
    assert central.password == NEW
    assert central.body("POST", "/auth/password")["email"] == EMAIL
    wrong = run("passwd", "--password-stdin", stdin=f"{PASSWORD}\n{NEW}\n")
    assert "wrong email or password" in wrong.line
    assert "the password is empty" in run("passwd", "--password-stdin", stdin="x\n").line
    assert "--password-stdin" in run("passwd").line


@pytest.mark.usefixtures("logged_in")
def test_passwd_asks_for_the_new_one_twice(
    run: Run, central: FakeCentral, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = iter([PASSWORD, NEW, "different", PASSWORD, NEW, NEW])
    monkeypatch.setattr("mk8s_cli.terminal.screen.is_interactive", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda *_, **__: next(typed))
    assert "differ" in run("passwd").line
    assert central.password == PASSWORD
    assert run("passwd").code == 0
    assert central.password == NEW


@pytest.mark.usefixtures("logged_in")
def test_passwd_after_the_login_has_ended(run: Run, central: FakeCentral) -> None:
    token_cache.clear(central.url)
    central.refresh_token = ""
    assert run("passwd", "--password-stdin", stdin=f"{PASSWORD}\n{NEW}\n").code == 0
    assert central.password == NEW


def login(central: FakeCentral) -> tuple[str, ...]:
    pin = certificate.pin(central.authority_pem)
    return ("login", central.url, "--email", EMAIL, "--ca-pin", pin)


def test_a_first_password_is_changed_at_the_first_login(
    run: Run, central: FakeCentral, monkeypatch: pytest.MonkeyPatch
) -> None:
    central.must_change = True
    typed = iter([PASSWORD, NEW, NEW])
    monkeypatch.setattr("mk8s_cli.terminal.screen.is_interactive", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda *_, **__: next(typed))
    done = run(*login(central))
    assert done.code == 0, done.err
    assert "choose one of your own" in done.err
    assert central.password == NEW


def test_a_first_password_is_changed_by_a_script(run: Run, central: FakeCentral) -> None:
    central.must_change = True
    refused = run(*login(central), "--password-stdin", stdin=f"{PASSWORD}\n")
    assert refused.err.endswith("the password is empty\n")
    assert central.password == PASSWORD
    done = run(*login(central), "--password-stdin", stdin=f"{PASSWORD}\n{NEW}\n")
    assert done.code == 0, done.err
    assert central.password == NEW
