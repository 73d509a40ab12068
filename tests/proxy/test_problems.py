"""Problem details: whoever refuses what is for the management API writes the same form."""

import json
from pathlib import Path

import pytest

from mk8s_proxy.api import errors
from mk8s_proxy.api.problem_schemas import MEDIA_TYPE, Problem
from mk8s_proxy.chain import problem
from mk8s_proxy.kube.status import status_error
from tests.support.front_door import Central

ID = "0192a8b0-0000-7000-8000-000000000000"


@pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 413, 429, 500, 503])
def test_the_listener_writes_what_the_api_writes(code: int) -> None:
    fields, body = problem.problem_answer(status_error(code, "say what to do", retry_after=3), ID)
    ours = errors.ApiError(code, "say what to do").body(f"urn:uuid:{ID}")
    assert json.loads(body) == ours.model_dump(mode="json")
    headers = dict(fields)
    assert headers[b"content-type"].decode() == MEDIA_TYPE
    assert headers[b"retry-after"] == b"3"
    assert (b"www-authenticate" in headers) is (code == 401)


def test_what_utf_8_cannot_carry_does_not_break_the_answer() -> None:
    _, body = problem.problem_answer(status_error(400, "bad \udc80 byte"), ID)
    assert json.loads(body)["detail"] == "bad ? byte"


@pytest.mark.parametrize(
    ("target", "fields", "code"),
    [
        (b"/users/%2e%2e/x", (), 400),
        (b"/users", ((b"impersonate-user", b"x"),), 403),
        (b"/auth/login", ((b"origin", b"https://evil.example.com"),), 403),
    ],
)
async def test_refusals_at_the_door_of_management_paths_are_problems(
    tmp_path: Path, target: bytes, fields: tuple[tuple[bytes, bytes], ...], code: int
) -> None:
    central = Central(tmp_path)
    person = central.http2()
    answer = person.answer(person.ask(target, *fields, token=b""))
    assert answer.code == code
    assert answer.fields[b"content-type"] == MEDIA_TYPE.encode()
    told = Problem.model_validate_json(answer.body)
    assert told.status == code
    assert told.instance == f"urn:uuid:{central.rows()[-1]['auditID']}"


async def test_refusals_of_kubernetes_paths_stay_statuses(tmp_path: Path) -> None:
    person = Central(tmp_path).http2()
    for target in (b"/k8s/dev/users", b"/api/v1/pods"):
        answer = person.answer(person.ask(target, token=b""))
        assert json.loads(answer.body)["kind"] == "Status"
