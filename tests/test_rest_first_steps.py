"""The REST API as it was first described: its curl lines, by the real curl on a started central.

The lines are those of deploy/docs/rest.md. Only host and password are put in.
"""

import json
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_lines import CHECKOUT, blocks
from tests.support.processes import private_environment, run
from tests.support.world import PASSWORDS, World

PAGE = CHECKOUT / "deploy" / "docs" / "rest.md"
LINES = [
    line
    for block in blocks(PAGE.read_text())
    for line in block.text.splitlines()
    if line.startswith("curl ")
]
CURL = shutil.which("curl")

pytestmark = pytest.mark.skipif(CURL is None, reason="curl is not on PATH")


class Caller:
    """Somebody with a shell and curl."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.environment = private_environment(folder)

    def line(self, number: int) -> str:
        password = PASSWORDS["admin@example.com"]
        line = LINES[number].replace("https://mk8s.example.com", self.world.url)
        return line.replace("your password", password)

    def shell(self, line: str) -> str:
        folder = self.environment["HOME"]
        return run(["sh", "-c", f'cd "{folder}" && {line}'], self.environment, code=0).stdout

    def json(self, line: str) -> Any:
        return json.loads(self.shell(line))


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    folder = tmp_path_factory.mktemp("rest")
    world = World(folder, {})
    try:
        world.initialise()
        world.start_central()
        yield Caller(world, folder)
    finally:
        world.close()


def test_the_lines_of_the_description_work_as_they_are(caller: Caller) -> None:
    assert len(LINES) == 7
    caller.shell(caller.line(0))
    login = caller.json(caller.line(1))
    assert login["token"].count(".") == 2
    expires_at = datetime.fromisoformat(login["expires_at"])
    assert expires_at.tzinfo == UTC
    assert login["expires_at"].endswith("Z")
    assert expires_at > datetime.now(UTC)
    caller.environment |= {"TOKEN": login["token"], "REFRESH": login["refresh_token"]}
    assert caller.json(caller.line(2))["clusters"] == []
    before = caller.json(caller.line(3))["users"]
    made = caller.json(caller.line(4))
    assert (made["email"], made["roles"]) == ("new@example.com", ["developer"])
    assert made not in before
    assert caller.json(caller.line(5))["roles"] == ["viewer"]
    users = {user["id"]: user["roles"] for user in caller.json(caller.line(3))["users"]}
    assert users[made["id"]] == ["viewer"]
    refreshed = caller.json(caller.line(6))
    assert refreshed["token"] != login["token"]
    assert datetime.fromisoformat(refreshed["expires_at"]) >= expires_at


def test_a_cluster_is_listed_with_name_and_status(caller: Caller) -> None:
    token = caller.json(caller.line(1))["token"]
    bearer = f'-H "Authorization: Bearer {token}" {caller.world.url}/clusters'
    kind = '-H "Content-Type: application/json"'
    caller.shell(f"""curl -k -sS -X POST {kind} -d '{{"name": "prod"}}' {bearer}""")
    [cluster] = caller.json(f"curl -k -sS {bearer}")["clusters"]
    assert (cluster["name"], cluster["status"]) == ("prod", "pending")


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_what_central_refuses_is_told_as_a_problem(caller: Caller, version: str) -> None:
    """Whoever refuses, the API or the listener before it."""
    url, kind = caller.world.url, '-H "Content-Type: application/json"'
    for code, line in {
        400: f"-X POST {kind} -d '{{' {url}/auth/login",
        401: f"{url}/users",
        403: f'-H "Impersonate-User: x" {url}/users',
        404: f"{url}/users/a/b/c",
        405: f"-X PUT {kind} -d '{{}}' {url}/auth/login",
        413: f"-X POST {kind} --data-binary @big {url}/auth/login",
        415: f"-X POST -d x=y {url}/auth/login",
        422: f"""-X POST {kind} -d '{{"email": "a", "colour": 1}}' {url}/auth/login""",
    }.items():
        caller.shell("head -c 2000000 /dev/zero > big")
        told = caller.shell(f"curl -k -sS -i {version} {line}")
        head, _, body = told.rpartition("\n\n")
        problem = json.loads(body)
        assert re.search(rf"^HTTP/[0-9.]+ {code}", head, re.MULTILINE), told
        assert "application/problem+json" in head, told
        assert problem["status"] == code
        assert problem["title"]
        assert problem["detail"]
        assert problem["type"].startswith("tag:")
        request_id = re.search(r"^x-request-id: (\S+)", head, re.MULTILINE | re.IGNORECASE)
        assert request_id is not None
        assert problem["instance"] == f"urn:uuid:{request_id[1]}"
        if code == 422:
            assert {it["field"] for it in problem["errors"]} == {"password", "colour"}
