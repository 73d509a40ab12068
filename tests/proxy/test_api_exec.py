"""`POST /clusters/{id}/exec`: who may, what is written down, what is answered.

kubectl is a stand-in that says how it was called; tests/demo/test_exec.py has the stock one.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from mk8s_agent.wire.background import Background
from mk8s_proxy.api import exec_runner, exec_sinks
from mk8s_proxy.api.errors import ApiError
from mk8s_proxy.api.exec_process import Gone
from mk8s_proxy.api.exec_runner import CommandRunner, Unavailable
from mk8s_proxy.db import roles
from mk8s_proxy.db.engine import Database
from mk8s_proxy.identity.identity import Unauthenticated
from mk8s_proxy.settings.model import ExecSettings
from tests.support.management_api import AUTHORITIES, NOW, Answer, Central

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="commands are run on Linux only")
KUBECTL = r"""#!/bin/sh
case "$1" in
version) echo '{"clientVersion": {"gitVersion": "v1.33.1"}}' ;;
get) for word in "$@"; do echo "$word"; done; read -r line < config; echo "config $line" ;;
apply) while read -r line; do echo "in $line"; done; echo oops >&2; exit 3 ;;
logs) while :; do echo more; done ;;
wait) echo waiting; while :; do :; done ;;
explain) printf 'Gr\303'; printf '\266\303\237e\303' ;;
esac
"""


def install(folder: Path, text: str = KUBECTL) -> Path:
    """A kubectl that is a script, and beside it what reads scripts, under a sibling's name."""
    folder.mkdir(exist_ok=True)
    program = folder / "kubectl"
    program.write_text(text)
    program.chmod(0o700)
    (folder / "kubectl.0").symlink_to(os.path.realpath("/bin/sh"))
    return program


async def with_commands(
    database: Database, folder: Path, background: Background, **settings: Any
) -> Central:
    chosen = {"kubectl": install(folder / "bin"), "seconds": 20} | settings
    central = await Central.start(database, folder, exec=ExecSettings(**chosen))
    ca_pem = AUTHORITIES.server_ca.certificate_pem
    runner = CommandRunner(central.context.settings.exec, folder / "exec", lambda: ca_pem)
    runner.port = 12345
    runner.start(background)
    central.context.commands = runner
    server: Any = central.client.server.runner
    server.server.handler_cancellation = False  # as in production; aiohttp's tests have it on
    await central.add_cluster("dev-1")
    return central


@pytest.fixture
async def background() -> AsyncIterator[Background]:
    async with Background() as background:
        yield background


@pytest.fixture
async def central(
    sqlite_database: Database, tmp_path: Path, background: Background
) -> AsyncIterator[Central]:
    central = await with_commands(sqlite_database, tmp_path, background)
    yield central
    await central.close()


async def asked(central: Central, *command: str, **options: Any) -> Answer:
    token = options.pop("token", None) or await central.token()
    body = {"command": list(command)} | options.pop("body", {})
    path = options.pop("path", "/clusters/dev-1/exec")
    return await central.call("POST", path, body, token=token, **options)


def rows(central: Central) -> list[dict[str, Any]]:
    return [row for row in central.rows() if row["objectRef"]["resource"] == "commands"]


async def test_the_answer_has_output_exit_code_and_more(central: Central) -> None:
    answer = await asked(central, "apply", "-f", "-", body={"stdin": "a\nb\n"})
    assert answer.status == 200, answer.raw
    told = answer.json
    assert told.pop("duration_ms") > 0
    assert told == {
        "output": "in a\nin b\n", "errors": "oops\n", "exit_code": 3, "truncated": False,
        "ended_by": "exit", "id": answer.headers["x-request-id"],
    }  # fmt: skip


async def test_kubectl_gets_what_was_composed_and_a_token_of_the_caller_for_this_cluster(
    central: Central,
) -> None:
    answer = await asked(central, "get", "po", "-Aojson")
    *words, config_line = answer.json["output"].splitlines()
    assert words == ["get", "--all-namespaces=true", "--output=json", "po"]
    config = json.loads(config_line.removeprefix("config "))
    assert config["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:12345/k8s/dev-1"
    token = config["users"][0]["user"]["token"]
    with pytest.raises(Unauthenticated, match="logged out"):  # it died with the command
        central.authenticator.authenticate(f"Bearer {token}".encode())


async def test_the_token_is_short_ends_with_the_login_and_names_the_command(
    central: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(central.authenticator, "revoke", lambda *_: None)
    login = await central.login()
    answer = await asked(central, "get", token=login["access_token"])
    config = json.loads(answer.json["output"].splitlines()[-1].removeprefix("config "))
    token = config["users"][0]["user"]["token"]
    identity = central.authenticator.authenticate(f"Bearer {token}".encode())
    caller = central.authenticator.authenticate(f"Bearer {login['access_token']}".encode())
    assert identity.expires == NOW + 20 + 30
    assert (identity.login, identity.login_ends) == (caller.login, caller.login_ends)
    assert (identity.user, identity.cluster) == ("dev@example.com", "dev-1")
    assert identity.command == answer.headers["x-request-id"]
    refused = await central.call("GET", "/clusters", token=token)
    assert refused.status == 401, "it is good for the cluster only"


async def test_a_cluster_is_named_or_numbered(central: Central) -> None:
    number = (await central.call("GET", "/clusters", token=await central.token())).json
    for name in ("dev-1", number["clusters"][0]["id"]):
        answer = await asked(central, "get", path=f"/clusters/{name}/exec")
        assert answer.status == 200
        assert rows(central)[-1]["objectRef"]["name"] == "dev-1"


@pytest.mark.parametrize("name", ["prod", "nobody", "00000000-0000-4000-8000-000000000000"])
async def test_attack_a_cluster_that_is_not_the_callers_is_not_there(
    central: Central, name: str
) -> None:
    await central.add_cluster("prod")
    answer = await asked(central, "get", path=f"/clusters/{name}/exec")
    assert answer.status == 404
    stored = await central.call("GET", "/clusters", token=await central.admin())
    by_id = {item["name"]: item["id"] for item in stored.json["clusters"]}
    if name in by_id:
        assert (await asked(central, "get", path=f"/clusters/{by_id[name]}/exec")).status == 404


async def test_a_token_of_a_cluster_is_no_token_for_this(central: Central) -> None:
    body = {"cluster": "dev-1"}
    bound = await central.call("POST", "/auth/token", body, token=await central.token())
    assert (await asked(central, "get", token=bound.json["access_token"])).status == 401
    assert (await central.call("POST", "/clusters/dev-1/exec", {"command": ["get"]})).status == 401


# -- the audit


async def test_a_command_has_one_row_before_and_one_after_it(central: Central) -> None:
    answer = await asked(central, "get", "pods", "-n", "shop")
    intent, outcome = rows(central)
    assert (intent["stage"], outcome["stage"]) == ("RequestReceived", "ResponseComplete")
    assert intent["auditID"] == outcome["auditID"] == answer.json["id"]
    assert intent["annotations"]["mk8s.io/cluster"] == "dev-1"
    assert intent["annotations"]["authorization.k8s.io/reason"] == "a role on the cluster"
    query = parse_qs(outcome["requestURI"].partition("?")[2])
    assert query == {"command": ["get", "--namespace=shop", "pods"]}


async def test_attack_a_secret_in_a_command_is_not_written_down(central: Central) -> None:
    literal = "--from-literal=password=hunter2"
    await asked(central, "create", "secret", "generic", "x", literal)
    await asked(central, "create", "secret", "tls", "x", "--key=hunter2")
    await asked(central, "apply", "-f", "-", body={"stdin": "hunter2"})
    assert "hunter2" not in central.journal_path.read_text()


async def test_a_refused_command_is_one_row_with_the_reason(central: Central) -> None:
    answer = await asked(central, "get", "--kubeconfig=/x", "pods")
    assert answer.status == 422
    assert [it["field"] for it in answer.json["errors"]] == ["command"]
    assert "--kubeconfig is not taken" in answer.message
    (row,) = rows(central)
    assert row["annotations"]["authorization.k8s.io/decision"] == "forbid"
    assert "--kubeconfig" in row["annotations"]["authorization.k8s.io/reason"]


async def test_acting_as_somebody_else_is_for_policy_to_allow(central: Central) -> None:
    answer = await asked(central, "get", "--as=jo@example.com")
    assert answer.status == 403
    assert 'cannot impersonate resource "users"' in answer.message
    await roles.put_role(
        central.database, "developer",
        [{"name": "dev-*", "namespaces": ["*"], "verbs": ["get"], "resources": ["pods"],
          "impersonate": {"users": ["jo@example.com"], "groups": ["a"]}}],
    )  # fmt: skip
    await central.feed.refresh()
    assert (await asked(central, "get", "--as=jo@example.com", "--as-group=a")).status == 200
    answer = await asked(central, "get", "--as=jo@example.com", "--as-group=b")
    assert answer.status == 403
    assert 'cannot impersonate resource "groups"' in answer.message


@pytest.mark.parametrize(
    "body",
    [{"command": []}, {"command": "get pods"}, {"command": ["get"], "stdin": 1}, {},
     {"command": ["get"], "as": "x"}, {"command": ["get", 1]}, {"command": ["x"] * 513}],
)  # fmt: skip
async def test_bodies_that_are_none(central: Central, body: Any) -> None:
    path, token = "/clusters/dev-1/exec", await central.token()
    assert (await central.call("POST", path, body, token=token)).status == 422


# -- events


async def events(central: Central, *command: str) -> list[tuple[str, Any]]:
    answer = await asked(central, *command, headers={"Accept": "text/event-stream"})
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    found = []
    for block in answer.raw.decode().strip().split("\n\n"):
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


async def test_output_comes_as_events(central: Central) -> None:
    *said, (name, told) = await events(central, "apply", "-f", "-")
    assert said == [("stderr", {"text": "oops\n"})]
    assert name == "exit"
    assert told["exit_code"] == 3
    assert told["id"] == rows(central)[-1]["auditID"]
    assert rows(central)[-1]["responseStatus"]["code"] == 200


async def test_a_character_in_two_pieces_is_sent_whole(central: Central) -> None:
    *said, _ = await events(central, "explain", "x")
    assert "".join(data["text"] for _, data in said) == "Größe\ufffd"


async def test_a_caller_who_leaves_ends_the_command(central: Central) -> None:
    headers = {"Accept": "text/event-stream", "Authorization": f"Bearer {await central.token()}"}
    async with central.client.post(
        "/clusters/dev-1/exec", json={"command": ["wait", "x"]}, headers=headers
    ) as response:
        first = await response.content.readline() + await response.content.readline()
        assert first == b'event: stdout\ndata: {"text": "waiting\\n"}\n'
        response.close()
    while len(rows(central)) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    assert rows(central)[-1]["responseStatus"]["code"] == 499
    runner = central.context.commands
    assert runner is not None
    assert not runner._running
    assert list((central.journal_path.parent.parent / "exec").iterdir()) == []


async def test_a_failure_within_events_is_no_whole_answer(
    central: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(CommandRunner, "run", fail)
    with pytest.raises(Exception, match=r"payload|closed|disconnected"):
        await events(central, "get")
    assert rows(central)[-1]["responseStatus"]["code"] == 500


class Written:
    """A response, or a request, of which only this is looked at."""

    def __init__(self, fails: bool = False) -> None:
        self.transport: Any = self
        self.data = b""
        self._fails = fails

    def is_closing(self) -> bool:
        return False

    async def write(self, data: bytes) -> None:
        if self._fails:
            raise ConnectionResetError
        self.data += data


async def test_silence_is_filled_with_comments() -> None:
    written: Any = Written()
    sink = exec_sinks.EventSink(written, written)
    for _ in range(int(exec_sinks.KEEPALIVE_SECONDS / exec_sinks.LOOK_SECONDS)):
        assert written.data == b""
        await sink.look()
    assert written.data == b": keepalive\n\n"


async def test_who_cannot_be_written_to_has_gone() -> None:
    written: Any = Written(fails=True)
    with pytest.raises(Gone):
        await exec_sinks.EventSink(written, written).take("stdout", b"x")
    written.transport = None
    for sink in (exec_sinks.EventSink(written, written), exec_sinks.Collector(written)):
        with pytest.raises(Gone):
            await sink.look()


# -- limits


async def test_output_is_cut_and_says_so(
    sqlite_database: Database, tmp_path: Path, background: Background
) -> None:
    central = await with_commands(sqlite_database, tmp_path, background, output_bytes=64 << 10)
    told = (await asked(central, "logs", "x")).json
    assert (told["truncated"], told["ended_by"], told["exit_code"]) == (True, "output_limit", 137)
    assert len(told["output"]) == 64 << 10
    await central.close()


async def test_a_command_has_its_time(
    sqlite_database: Database, tmp_path: Path, background: Background
) -> None:
    central = await with_commands(sqlite_database, tmp_path, background, seconds=1)
    told = (await asked(central, "wait", "x")).json
    assert (told["ended_by"], told["exit_code"], told["output"]) == ("time_limit", 124, "waiting\n")
    await central.close()


async def test_attack_one_caller_does_not_take_all_places(central: Central) -> None:
    runner = central.context.commands
    assert runner is not None
    token = await central.token()
    caller = central.authenticator.authenticate(f"Bearer {token}".encode()).uid
    with runner.place(caller), runner.place(caller):
        answer = await asked(central, "get", token=token)
        assert (answer.status, answer.headers["Retry-After"]) == (429, "5")
        assert "you have 2 commands running" in answer.message
        assert (await asked(central, "get", token=await central.admin())).status == 200
    assert (await asked(central, "get", token=token)).status == 200


async def test_all_callers_together_have_so_many_places(central: Central) -> None:
    runner = central.context.commands
    assert runner is not None
    places = [runner.place(f"user {number}") for number in range(8)]
    for place in places:
        place.__enter__()
    with pytest.raises(ApiError, match="too many commands"), runner.place("another"):
        pass
    for place in places:
        place.__exit__(None, None, None)
    assert not runner._running


# -- no kubectl


async def test_where_it_is_switched_off(sqlite_database: Database, tmp_path: Path) -> None:
    central = await Central.start(sqlite_database, tmp_path)
    answer = await asked(central, "get")
    assert (answer.status, "exec.enabled" in answer.message) == (501, True)
    await central.close()


async def test_without_kubectl_the_answer_says_what_to_install(
    sqlite_database: Database, tmp_path: Path, background: Background
) -> None:
    none = tmp_path / "none"
    central = await with_commands(sqlite_database, tmp_path, background, kubectl=none)
    answer = await asked(central, "get")
    assert answer.status == 501
    assert f"there is no program {none}; ask your admin to install kubectl 1." in answer.message
    assert rows(central)[-1]["annotations"]["authorization.k8s.io/decision"] == "forbid"
    await central.close()


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("hello", "does not say its version as kubectl does"),
        ("{}", "does not say its version"),
        ('{"clientVersion": {"gitVersion": "1.33"}}', "does not say its version"),
        ('{"clientVersion": {"gitVersion": 1}}', "does not say its version"),
        ('{"clientVersion": {"gitVersion": "v1.9.0"}}', "or newer"),
    ],
)
def test_programs_that_are_no_kubectl_for_this(said: str, message: str) -> None:
    with pytest.raises(Unavailable, match=message):
        exec_runner.check_version(said.encode(), Path("/bin/kubectl"))


@pytest.mark.parametrize("version", ["v1.33.1", "v1.99.0-rc.1", "v1.32.4-dispatcher", "v2.0.0+x"])
def test_versions_that_are_as_good(version: str) -> None:
    said = json.dumps({"clientVersion": {"gitVersion": version}}).encode()
    assert exec_runner.check_version(said, Path("kubectl")) == version


async def test_a_probe_that_fails_is_no_kubectl(
    tmp_path: Path, background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(exec_runner, "run", fail)
    chosen = ExecSettings(kubectl=install(tmp_path / "bin"))
    runner = CommandRunner(chosen, tmp_path / "exec", bytes)
    runner.start(background)
    with pytest.raises(Unavailable, match="cannot run"):
        await runner.kubectl()


async def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path, background: Background) -> None:
    (tmp_path / "file").touch()
    runner = CommandRunner(ExecSettings(), tmp_path / "file" / "exec", bytes)
    runner.start(background)
    with pytest.raises(Unavailable, match="Not a directory"):
        await runner.kubectl()


def test_kubectl_is_looked_for_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = install(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(program.parent))
    assert exec_runner.find_programs(None) == (program, program.with_name("kubectl.0"))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Unavailable, match="there is no kubectl on its PATH"):
        exec_runner.find_programs(None)
    monkeypatch.setattr(exec_runner.sys, "platform", "darwin")
    with pytest.raises(Unavailable, match="on Linux only"):
        exec_runner.find_programs(program)


def test_what_a_killed_central_left_is_removed(tmp_path: Path) -> None:
    old, new = tmp_path / "run-old", tmp_path / "run-new"
    for folder in (old, new):
        folder.mkdir()
    long_ago = time.time() - exec_runner.LEFTOVER_SECONDS - 1
    os.utime(old, (long_ago, long_ago))
    exec_runner._prepare(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run-new"]
    assert tmp_path.stat().st_mode & 0o777 == 0o700
