"""`POST /clusters/{id}/exec` with a real central and stock kubectl, on the demo's API server."""

import json
import os
import shutil
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import kubectl as kubectls
from tests.support.processes import Program, private_environment

CHECKOUT = Path(__file__).parents[2]
PAGE = CHECKOUT / "deploy" / "docs" / "exec.md"
pytestmark = [
    pytest.mark.skipif(not kubectls.binaries(), reason="no kubectl: set MK8S_TEST_KUBECTLS"),
    pytest.mark.skipif(sys.platform != "linux", reason="commands are run on Linux only"),
]


@dataclass
class Demo:
    """A running demo, and what its developer may do by HTTP."""

    url: str
    folder: Path
    tls: ssl.SSLContext
    token: str = ""

    def ask(self, path: str, body: Any, **headers: str) -> Any:
        request = urllib.request.Request(self.url + path, json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        for name, value in headers.items():
            request.add_header(name, value)
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        try:
            return urllib.request.urlopen(request, context=self.tls, timeout=60)
        except urllib.error.HTTPError as refused:
            return refused

    def run(self, *command: str, stdin: str = "") -> Any:
        body = {"command": list(command), "stdin": stdin}
        return json.load(self.ask("/clusters/demo/exec", body))

    def rows(self) -> list[dict[str, Any]]:
        journal = self.folder / "data" / "central" / "audit" / "journal.jsonl"
        return [json.loads(line) for line in journal.read_text().splitlines()]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("exec")
    newest = max(kubectls.binaries(), key=kubectls.version_of)
    environment = private_environment(
        folder, PYTHONPATH=str(CHECKOUT), TMPDIR=str(folder), PATH=os.defpath
    )
    (folder / "bin").mkdir()
    (folder / "bin" / "kubectl").symlink_to(newest)
    environment["PATH"] = f"{folder / 'bin'}{os.pathsep}{environment['PATH']}"
    command = [sys.executable, "-m", "mk8s_cli", "demo", "--data-dir", str(folder / "data")]
    with Program("mk8s demo", command, environment) as program:
        url = program.wait_for_line(r"central at (https://127\.0\.0\.1:\d+)", seconds=90)[1]
        program.wait_for_line("Ctrl-C ends it", seconds=90)
        strange = ssl._create_unverified_context()
        with urllib.request.urlopen(f"{url}/ca.pem", context=strange, timeout=30) as answer:
            (folder / "ca.pem").write_bytes(answer.read())
        demo = Demo(url, folder, ssl.create_default_context(cafile=str(folder / "ca.pem")))
        passwords = dict(
            line.split() for line in (folder / "data" / "passwords").read_text().splitlines()
        )
        email = "dev@example.com"
        login = demo.ask("/auth/login", {"email": email, "password": passwords[email]})
        demo.token = json.load(login)["token"]
        yield demo


def test_looking(demo: Demo) -> None:
    told = demo.run("get", "pods", "-n", "shop", "-oname")
    assert (told["exit_code"], told["errors"]) == (0, "")
    assert told["output"].count("pod/web-") == 3
    told = demo.run("get", "--raw", "/version")
    assert json.loads(told["output"])["major"] == "1"


def test_changing_what_stdin_says(demo: Demo) -> None:
    objects = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {b: c}\n"
    told = demo.run("apply", "-f", "-", "-n", "shop", stdin=objects)
    assert told["output"] == "configmap/a created\n", told["errors"]
    told = demo.run("get", "cm", "a", "-n", "shop", "-o", "jsonpath={.data.b}")
    assert told["output"] == "c"


def test_commands_in_pods_and_their_logs(demo: Demo) -> None:
    told = demo.run("exec", "deployment/web", "-n", "shop", "--", "echo", "-n", "hi")
    assert (told["exit_code"], "hi" in told["output"]) == (0, True), told
    told = demo.run("exec", "-i", "deployment/web", "-n", "shop", "--", "cat", stdin="Größe")
    assert told["output"] == "Größe"
    told = demo.run("logs", "deployment/web", "-n", "shop", "--tail=2")
    assert told["output"].count("\n") == 2


def test_policy_decides_as_ever(demo: Demo) -> None:
    told = demo.run("get", "secrets", "-n", "shop")
    assert told["exit_code"] == 1
    assert 'User "dev@example.com" cannot list resource "secrets"' in told["errors"]


def test_attack_the_management_api_is_not_reached_by_raw_requests(demo: Demo) -> None:
    """From central's own address, guesses of passwords would not be slowed down."""
    guess = json.dumps({"email": "admin@example.com", "password": "guess"})
    told = demo.run("create", "--raw", "/auth/login", "-f", "-", stdin=guess)
    assert told["exit_code"] == 1
    assert 'cannot post path "/auth/login" of cluster "demo"' in told["errors"]
    told = demo.run("get", "--raw", "/../../auth/whoami")
    assert "only a path is taken" in told["detail"]


@pytest.mark.parametrize(
    "command",
    ["get pods --kubeconfig=/etc/passwd", "apply -f /etc/passwd", "cp a:b c", "config view",
     "exec -it deployment/web -- sh", "get pods -v9", "get pods --as=admin@example.com"],
)  # fmt: skip
def test_refusals_are_problems(demo: Demo, command: str) -> None:
    refused = demo.run(*command.split())
    assert refused["status"] in (403, 422), refused
    assert refused["detail"]


def test_a_command_is_one_row_with_its_requests_under_it(demo: Demo) -> None:
    told = demo.run("get", "configmaps", "-n", "shop")
    rows = demo.rows()
    own = [row for row in rows if row["auditID"] == told["id"]]
    assert [row["stage"] for row in own] == ["RequestReceived", "ResponseComplete"]
    parent = "mk8s.io/parent-audit-id"
    below = [row for row in rows if row["annotations"].get(parent) == told["id"]]
    assert {row["user"]["username"] for row in below} == {"dev@example.com"}
    lists = [row for row in below if row.get("objectRef", {}).get("resource") == "configmaps"]
    assert [row["stage"] for row in lists] == ["RequestReceived", "ResponseComplete"]


def test_a_stream_ends_with_its_reader(demo: Demo) -> None:
    body = {"command": ["logs", "-f", "deployment/web", "-n", "shop", "--tail=1"]}
    with demo.ask("/clusters/demo/exec", body, Accept="text/event-stream") as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        names = {answer.readline(), *(answer.readline() for _ in range(3))}
        assert b"event: stdout\n" in names or b"event: stderr\n" in names
        began = answer.headers["x-request-id"]
    while True:  # the test's own time limit ends this
        ended = [row for row in demo.rows() if row["auditID"] == began][-1]
        if ended["stage"] == "ResponseComplete":
            break
    assert ended["responseStatus"]["code"] == 499
    while list((demo.folder / "data" / "central" / "exec").iterdir()):
        pass


def examples() -> Iterator[str]:
    """The command lines of the page."""
    lines = iter(PAGE.read_text().splitlines())
    for line in lines:
        if line.startswith("$ "):
            command = line.removeprefix("$ ")
            while command.endswith("\\") or command.count("'") % 2:
                command += "\n" + next(lines)
            yield command


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl")
def test_the_examples_of_the_page(demo: Demo) -> None:
    commands = list(examples())
    assert len(commands) == 4
    environment = os.environ | {"CENTRAL": demo.url, "TOKEN": demo.token}
    for command in commands:
        done = subprocess.run(
            ["bash", "-c", command.replace("/clusters/prod/", "/clusters/demo/")],
            cwd=demo.folder, env=environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert '"exit_code":0' in done.stdout, done.stdout
