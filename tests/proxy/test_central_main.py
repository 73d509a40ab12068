"""`mk8s-central`: what an operator types, what comes back, and what each mistake says."""

import asyncio
import re
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mk8s_proxy.db import keys, roles, users
from mk8s_proxy.db.engine import Database
from mk8s_proxy.identity import passwords
from mk8s_proxy.process.main import main
from mk8s_proxy.settings.model import Settings
from tests.support.databases import vault_of
from tests.support.postgres import PostgresServer

PASSWORD = "correct horse battery"
RBAC = """
roles:
  - name: developer
    clusters:
      - name: "dev-*"
        namespaces: ["*"]
        verbs: ["get", "list", "logs", "exec"]
        resources: ["pods", "services", "deployments"]
users:
  - email: "dev@example.com"
    roles: ["developer"]
"""

Central = Callable[..., Result]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def central(data: Path, monkeypatch: pytest.MonkeyPatch) -> Central:
    """Run the command in a clean environment; bcrypt is as quick as it goes."""
    monkeypatch.setattr(passwords.hash_password, "__kwdefaults__", {"rounds": 4})
    for name in ("MK8S_CONFIG", "MK8S_LISTEN", "MK8S_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MK8S_DATA_DIR", str(data))

    def run(*arguments: str | Path, stdin: str = "", code: int = 0, **variables: str) -> Result:
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(f"MK8S_{name}", value)
            result = CliRunner().invoke(main, [str(word) for word in arguments], input=stdin)
        assert result.exit_code == code, result.output
        return result

    return run


def refused(result: Result) -> str:
    """The one line of a refusal; anything else on standard error fails the test."""
    (line,) = result.stderr.splitlines()
    assert line.startswith("mk8s-central: ")
    return line.removeprefix("mk8s-central: ")


def stored(data: Path) -> tuple[dict[str, users.UserRecord], int]:
    """The users by email, and how many signing keys there are."""

    async def read() -> tuple[list[users.UserRecord], int]:
        database = Database(Settings(data_dir=data).database_url)
        database.vault = vault_of(data)
        await database.start()
        try:
            return await users.list_users(database), len(await keys.list_keys(database))
        finally:
            await database.close()

    found, key_count = asyncio.run(read())
    return {user.email: user for user in found}, key_count


def test_init_makes_everything_and_tells_the_next_commands(
    central: Central, data: Path, tmp_path: Path
) -> None:
    rbac = tmp_path / "rbac.yaml"
    rbac.write_text(RBAC)

    result = central(
        *("init", "-f", rbac, "--admin", "Root@Example.com", "--password-stdin"), stdin=PASSWORD
    )

    pin = re.search(r"CA pin: (sha256:[0-9a-f]{64})\n", result.stdout)
    assert pin
    for line in (
        "database: created",
        "signing key: created",
        "certificate authorities: created",
        "admin: created root@example.com",
        "rbac.yaml: role developer: created",
        "rbac.yaml: user dev@example.com: created (roles: developer)",
        "  mk8s-central serve\n",
        f"  mk8s login https://localhost:8443 --ca-pin {pin[1]}\n",
        "  mk8s admin clusters add <name>\n",
    ):
        assert line in result.stdout
    assert PASSWORD not in result.output
    found, key_count = stored(data)
    admin = found["root@example.com"]
    assert admin.roles == (roles.ADMIN_ROLE,)
    assert passwords.check_password(PASSWORD, admin.password_hash)
    assert key_count == 1
    assert found["dev@example.com"].password_hash is None


def test_init_again_keeps_everything(central: Central, tmp_path: Path) -> None:
    rbac = tmp_path / "rbac.yaml"
    rbac.write_text(RBAC)
    arguments = ("init", "-f", rbac, "--password-stdin")
    first = central(*arguments, stdin=f"{PASSWORD}\r\n").stdout

    again = central(*arguments, stdin=PASSWORD).stdout

    for line in (
        "database: is current",
        "signing key: kept",
        "certificate authorities: kept",
        "admin: kept admin@localhost",
        "rbac.yaml: 2 unchanged",
    ):
        assert line in again
    assert re.findall("sha256:.*", first) == re.findall("sha256:.*", again)
    assert "admin: kept admin@localhost" in central("init").stdout


def test_init_gives_a_new_password_and_a_second_admin(central: Central, data: Path) -> None:
    central("init", "--password-stdin", stdin=PASSWORD)

    changed = central("init", "--password-stdin", stdin="another good password")
    second = central("init", "--admin", "two@x.io", "--password-stdin", stdin=PASSWORD)

    assert "admin: admin@localhost has a new password" in changed.stdout
    assert "admin: created two@x.io" in second.stdout
    admin = stored(data)[0]["admin@localhost"]
    assert passwords.check_password("another good password", admin.password_hash)
    assert admin.token_epoch == 1


def test_init_makes_an_admin_of_a_present_user(
    central: Central, data: Path, tmp_path: Path
) -> None:
    rbac = tmp_path / "rbac.yaml"
    rbac.write_text(RBAC)
    central("init", "-f", rbac, "--password-stdin", stdin=PASSWORD)

    result = central("init", "--admin", "dev@example.com", "--password-stdin", stdin=PASSWORD)

    assert "dev@example.com has the role admin now" in result.stdout
    assert stored(data)[0]["dev@example.com"].roles == ("admin", "developer")


def test_a_generated_password_is_shown_once(central: Central) -> None:
    first = central("init")

    shown = re.findall(r"password of admin@localhost, shown only now, is (\S+)\n", first.stdout)
    assert len(shown[0]) >= passwords.SHORTEST
    assert "shown only now" not in central("init").stdout


def test_password_is_asked_for_on_a_terminal(
    central: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mk8s_proxy.process.main._is_terminal", lambda: True)

    result = central("init", stdin=f"{PASSWORD}\n{PASSWORD}\n")

    assert "Password for admin@localhost" in result.output
    assert "shown only now" not in result.output
    assert PASSWORD not in result.output


@pytest.mark.parametrize(
    ("password", "reason"),
    [("short", "12 characters at least"), ("", "12 characters at least"), ("x" * 1025, "at most")],
)
def test_unsuitable_passwords_are_refused_before_anything_is_made(
    central: Central, data: Path, password: str, reason: str
) -> None:
    result = central("init", "--password-stdin", stdin=password, code=1)

    assert reason in refused(result)
    assert not data.exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (RBAC.replace("logs", "lugs"), ':7: roles[0].clusters[0].verbs[2]: unknown verb "lugs"'),
        (RBAC.replace('"developer"]', '"tester"]'), ":11: users[0].roles[0]: there is no role"),
        ("roles: [", ":2:1: did not find expected node content"),
        ("users:\n  - roles: []\n", ":2: users[0].email: must be a string"),
        ("rules: []", ":1: rules: unknown key"),
    ],
)
def test_mistakes_in_the_rbac_file_are_one_line_with_the_place(
    central: Central, tmp_path: Path, text: str, reason: str
) -> None:
    rbac = tmp_path / "rbac.yaml"
    rbac.write_text(text)

    result = central("init", "-f", rbac, "--password-stdin", stdin=PASSWORD, code=1)

    assert refused(result).startswith(f"{rbac}{reason}")
    assert "admin: created" not in result.stdout


def test_an_rbac_file_that_contradicts_the_database_is_refused(
    central: Central, tmp_path: Path
) -> None:
    rbac = tmp_path / "rbac.yaml"
    rbac.write_text(RBAC.replace("name: developer", "name: admin").replace('"developer"', "admin"))

    assert "built in" in refused(central("init", "-f", rbac, code=1))


def test_an_empty_rbac_file_changes_nothing(central: Central, tmp_path: Path) -> None:
    rbac = tmp_path / "rbac.yaml"
    rbac.write_text("# later\n")

    assert "rbac.yaml" not in central("init", "-f", rbac).stdout


def test_a_data_folder_that_others_can_write_is_refused(central: Central, data: Path) -> None:
    data.mkdir()
    data.chmod(0o777)

    assert f"run: chmod go-w {data}" in refused(central("init", code=1))


def test_a_data_folder_that_cannot_be_made_is_one_line(central: Central, data: Path) -> None:
    data.touch()

    assert "cannot make the folder" in refused(central("init", code=1))


def test_files_that_cannot_be_written_are_one_line(central: Central, data: Path) -> None:
    central("init")
    tls = data / "tls"
    (tls / "server.pem").unlink()
    tls.rmdir()
    tls.touch()

    assert str(tls) in refused(central("init", code=1))


@pytest.mark.parametrize("command", ["init", "serve", "migrate", "check-config"])
def test_every_mistake_in_the_settings_is_a_line(
    central: Central, tmp_path: Path, command: str
) -> None:
    config = tmp_path / "central.yaml"
    config.write_text("listn: x\ntokens: {access_seconds: 1}\n")

    result = central(command, "--config", config, code=1)

    assert result.stderr.splitlines() == [
        f'mk8s-central: {config}:1: unknown setting "listn" (did you mean "listen"?)',
        f"mk8s-central: {config}:2: tokens.access_seconds: must be at least 60",
    ]


def test_check_config_shows_what_is_in_force(central: Central, tmp_path: Path) -> None:
    config = tmp_path / "central.yaml"
    config.write_text("domain: k8s.example.com\n")

    result = central("check-config", CONFIG=str(config), TOKENS_ACCESS_SECONDS="600")

    assert "domain: k8s.example.com\n" in result.stdout
    assert "access_seconds: 600\n" in result.stdout
    assert result.stderr.endswith("no problems found\n")
    assert "run: mk8s-central init" in result.stderr


def test_check_config_changes_nothing(central: Central, data: Path) -> None:
    central("check-config")

    assert not data.exists()


def test_check_config_after_init_has_little_to_say(central: Central) -> None:
    central("init")

    result = central("check-config", LISTEN="127.0.0.1:8443")

    assert result.stderr == "no problems found\n"


def test_check_config_never_shows_the_database_password(central: Central) -> None:
    url = "postgresql://mk8s:hunter2hunter2@127.0.0.1:1/mk8s"

    result = central("check-config", DATABASE_URL=url, code=1)

    assert "hunter2" not in result.output
    assert "does not answer" in result.stderr


def test_check_config_finds_what_serve_would_stumble_over(
    central: Central, data: Path, tmp_path: Path
) -> None:
    data.mkdir()
    data.chmod(0o777)
    (tmp_path / "audit").touch()
    result = central(
        "check-config",
        code=1,
        ADMIN_LISTEN="0.0.0.0:8081",
        AUDIT_PATH=str(tmp_path / "audit" / "journal.jsonl"),
        DATABASE_URL="mysql://x/y",
        TLS_CERTIFICATE="/none.pem",
        TLS_KEY="/none.key",
    )

    for reason in (
        f"data_dir: others can write in {data}",
        f"audit.path: {tmp_path / 'audit'} is not a folder",
        '"mysql" is not supported',
        "cannot read /none.pem",
        "note: admin_listen: 0.0.0.0:8081 is not a loopback address",
        "note: public_url: https://localhost:8443 works on this machine only",
    ):
        assert reason in result.stderr
    assert "database_url: (unusable)" in result.stdout


def test_migrate_tells_what_it_did(central: Central) -> None:
    assert "went from empty to revision 0006" in central("migrate").stdout
    assert "is at revision 0006 already" in central("migrate").stdout


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """Stands for `mk8s_proxy.process.supervisor`: what was served, in order."""
    calls: list[Settings] = []

    def serve(settings: Settings) -> int:
        calls.append(settings)
        return 7

    supervisor = types.ModuleType("mk8s_proxy.process.supervisor")
    supervisor.serve = serve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mk8s_proxy.process.supervisor", supervisor)
    monkeypatch.setattr("mk8s_proxy.process.supervisor", supervisor, raising=False)
    monkeypatch.setattr("mk8s_agent.wire.log.configure", lambda *arguments: None)
    return calls


def test_serve_migrates_the_embedded_database(
    central: Central, served: list[Settings], data: Path
) -> None:
    central("serve", code=7)

    assert [settings.data_dir for settings in served] == [data]
    assert "already" in central("migrate").stdout


def test_serve_takes_the_workers_of_its_option_before_the_setting(
    central: Central, served: list[Settings]
) -> None:
    central("serve", code=7, WORKERS="2")
    central("serve", "--workers", "3", code=7, WORKERS="2")

    assert [settings.workers for settings in served] == [2, 3]
    assert "--workers" in central("serve", "--workers", "0", code=2).stderr


def test_serve_on_postgres_wants_migrate_first(
    central: Central, served: list[Settings], postgres_server: PostgresServer
) -> None:
    url = postgres_server.url(postgres_server.create())

    assert "run: mk8s-central migrate" in refused(central("serve", code=1, DATABASE_URL=url))
    checked = central("check-config", code=1, DATABASE_URL=url)
    assert "the schema is not current" in checked.stderr
    central("migrate", DATABASE_URL=url)
    central("serve", code=7, DATABASE_URL=url)
    assert len(served) == 1


def test_init_works_on_postgres(central: Central, postgres_server: PostgresServer) -> None:
    url = postgres_server.url(postgres_server.create())

    assert "admin: created" in central("init", DATABASE_URL=url).stdout
    assert "admin: kept" in central("init", DATABASE_URL=url).stdout


@pytest.mark.parametrize("command", ["init", "serve", "migrate", "check-config"])
def test_every_command_has_help_with_an_example(central: Central, command: str) -> None:
    assert "Example:" in central(command, "--help").stdout


def test_python_m_runs_the_same_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mk8s_proxy", "serve", "--help"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.startswith("Usage: mk8s-central serve")
