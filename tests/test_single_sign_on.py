"""A login at an issuer with the programs themselves: `mk8s-central serve`, `mk8s`, a browser.

The issuer is a small one on loopback (`tests.support.oidc_provider`), the browser a program that
keeps cookies and sends forms. Real providers and a real browser are in `tests/sso`.
"""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support import browsing, oidc_provider
from tests.support.processes import private_environment, run
from tests.support.world import MK8S, PASSWORDS, World

EMAIL = "ann@example.com"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("sso")
    provider = oidc_provider.Provider()
    with browsing.serving(provider):
        issuer = {
            "name": "acme",
            "issuer": provider.url,
            "client_id": oidc_provider.CLIENT,
            "client_secret": oidc_provider.SECRET,
            "allow_http": True,
            "title": "Acme",
        }
        world = World(folder, {}, MK8S_LOGIN_ISSUERS=json.dumps([issuer]))
        world.initialise()
        world.start_central()
        try:
            yield world
        finally:
            world.close()


@pytest.fixture
def desk(world: World, tmp_path: Path) -> dict[str, str]:
    """The environment of somebody who has a browser, and central's authority to trust it by."""
    return browsing.desk(tmp_path, (world.folder / "ca.pem").read_text())


@pytest.fixture(autouse=True, scope="module")
def authority(world: World) -> None:
    """Central's authority, as the administrator's login has pinned it."""
    pinned = [*MK8S, "login", world.url, "--ca-pin", world.pin, "--password-stdin"]
    home = world.folder / "first"
    home.mkdir()
    environment = private_environment(home)
    password = PASSWORDS["admin@example.com"]
    run([*pinned, "--email", "admin@example.com"], environment, stdin=f"{password}\n")
    config = (home / ".mk8s" / "config.yaml").read_text()
    pem = yaml.safe_load(config)["centrals"][0]["certificate_authority"]
    (world.folder / "ca.pem").write_text(pem)


def test_in_the_browser(world: World, desk: dict[str, str]) -> None:
    done = run([*MK8S, "login", world.url, "--ca-pin", world.pin, "--browser"], desk)
    assert f"logged in to {world.url} as {EMAIL}" in done.stdout, done.stderr
    assert f"{world.url}/auth/sso/start?issuer=acme" in done.stderr
    assert "You may close this window" in Path(desk["TEST_PAGES"]).read_text()
    (login,) = json.loads(run([*MK8S, "logins", "list", "-o", "json"], desk).stdout)
    assert (login["source"], login["issuer"], login["current"]) == ("oidc", "acme", True)
    assert login["address"] == "127.0.0.1"
    status = run([*MK8S, "status"], desk).stdout
    assert "by oidc" in status
    run([*MK8S, "logout"], desk)
    again = run([*MK8S, "status"], desk, code=1).stderr
    assert again.strip().endswith(f"run: mk8s login {world.url} --issuer acme")


def test_by_a_code(world: World, desk: dict[str, str]) -> None:
    command = [*MK8S, "login", world.url, "--ca-pin", world.pin, "--device"]
    with subprocess.Popen(
        command, env=desk, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as waiting:
        assert waiting.stderr is not None
        told = ""
        while "user_code=" not in told:
            line = waiting.stderr.readline()
            assert line, told
            told += line
        (page,) = re.findall(r"https://\S+user_code=\S+", told)
        browser = [sys.executable, str(Path(desk["TEST_PAGES"]).with_name("browser.py")), page]
        run(browser, desk)
        out, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, err
    assert f"logged in to {world.url} as {EMAIL}" in out
    pages = Path(desk["TEST_PAGES"]).read_text()
    assert socket.gethostname() in pages, "the page names the machine that asks"
    assert "You may close this window" in pages
    listed = json.loads(run([*MK8S, "logins", "list", "-o", "json"], desk).stdout)
    assert [it["source"] for it in listed if it["current"]] == ["oidc"]
