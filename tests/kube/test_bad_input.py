"""Each wrong input has one clear answer, leaves a row, and leaves everybody else alone."""

import base64
from pathlib import Path

import pytest

from tests.support.processes import own_port, private_environment, run
from tests.support.wire import send, token_of
from tests.support.world import CENTRAL, MK8S, Person, World

pytestmark = [pytest.mark.kube, pytest.mark.usefixtures("undisturbed")]

PODS = "/api/v1/namespaces/shop/pods"


def one_line(text: str) -> str:
    """The one line that a person was shown."""
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) == 1, text
    assert "Traceback" not in text
    return lines[0]


def test_no_credential(world: World) -> None:
    answer = send(world, f"/k8s/prod{PODS}")
    assert answer.code == 401
    assert answer.status["reason"] == "Unauthorized"


def test_token_of_one_cluster_at_the_address_of_another(world: World, developer: Person) -> None:
    token = token_of(developer, world, "staging")
    assert send(world, f"/k8s/prod{PODS}", token=token).code == 401
    assert send(world, f"/k8s/staging{PODS}", token=token).code == 200


@pytest.mark.parametrize(
    "target",
    [
        "/api/v1/namespaces/shop/pods/web%2Fexec",
        "/api%2Fv1%2Fsecrets",
        "/api/v1/namespaces//secrets",
        "/api/v1/namespaces/shop/services/x/proxy/../../../../secrets",
        "/api/v1/namespaces/shop/%2e%2e/kube-system/secrets",
    ],
)
def test_path_that_two_parsers_could_read_differently(
    world: World, viewer: Person, target: str
) -> None:
    before = len(world.upstream_audit())
    answer = send(world, f"/k8s/prod{target}", token=token_of(viewer, world, "prod"))
    assert answer.code == 400
    assert answer.status["reason"] == "BadRequest"
    reached = [row["requestURI"] for row in world.upstream_audit()[before:]]
    assert not [uri for uri in reached if "secrets" in uri or "exec" in uri]
    rows = [row for row in world.audit(responseStatus__code=400) if target in row["requestURI"]]
    assert len(rows) == 1, "a refusal is a row"


def test_two_credentials_at_once(world: World, viewer: Person) -> None:
    token = token_of(viewer, world, "prod")
    protocol = "base64url.bearer.authorization.k8s.io."
    protocol += base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(b"sixteen bytes ok").decode(),
        "Sec-WebSocket-Protocol": f"{protocol}, v4.channel.k8s.io",
    }
    target = f"/k8s/prod{PODS}/web/exec?command=true&stdout=true"
    assert send(world, target, token=token, headers=upgrade).code == 401


def test_impersonation_without_the_right_to_it(world: World, viewer: Person) -> None:
    token = token_of(viewer, world, "prod")
    headers = {"Impersonate-User": "admin", "Impersonate-Group": "system:masters"}
    assert send(world, f"/k8s/prod{PODS}", token=token, headers=headers).code in (400, 403)


def test_wrong_password(world: World, tmp_path: Path) -> None:
    command = [*MK8S, "login", world.url, "--ca-pin", world.pin, "--email", "dev@example.com"]
    environment = private_environment(tmp_path)
    refused = run([*command, "--password-stdin"], environment, stdin="wrong\n", code=1)
    assert "password" in one_line(refused.stderr)
    assert not (tmp_path / ".kube").exists()


def test_person_without_a_role(world: World, tmp_path: Path) -> None:
    email = f"{world.fresh_name('nobody')}@example.com"
    add = ("admin", "users", "add", email, "--password-stdin", "--no-must-change")
    world.people["admin"].mk8s(*add, stdin="a long enough password\n")
    command = [*MK8S, "login", world.url, "--ca-pin", world.pin, "--email", email]
    environment = private_environment(tmp_path)
    run([*command, "--password-stdin"], environment, stdin="a long enough password\n")
    assert run([*MK8S, "clusters", "list", "-o", "name"], environment).stdout == ""
    assert "prod" in one_line(run([*MK8S, "use", "prod"], environment, code=1).stderr)


def test_central_that_is_down(tmp_path: Path) -> None:
    url = f"https://localhost:{own_port()}"
    command = [*MK8S, "login", url, "--email", "dev@example.com", "--password-stdin"]
    refused = run(command, private_environment(tmp_path), stdin="x\n", code=1)
    assert url.removeprefix("https://") in one_line(refused.stderr)


def test_port_in_use(world: World, tmp_path: Path) -> None:
    environment = world.central_environment(
        MK8S_DATA_DIR=str(tmp_path / "other"), MK8S_ADMIN_LISTEN=""
    )
    run([*CENTRAL, "init", "--password-stdin"], environment, stdin="a long enough password\n")
    refused = run([*CENTRAL, "serve"], environment, code=1)
    assert str(world.port) in (refused.stdout + refused.stderr).strip().splitlines()[-1]
    assert "Traceback" not in refused.stderr


def test_second_central_on_the_same_data(world: World) -> None:
    environment = world.central_environment(
        MK8S_LISTEN=f"127.0.0.1:{own_port()}", MK8S_ADMIN_LISTEN=""
    )
    refused = run([*CENTRAL, "serve"], environment, code=1)
    assert "journal" in (refused.stdout + refused.stderr).strip().splitlines()[-1]
    assert "Traceback" not in refused.stderr


def test_cluster_whose_agent_is_absent(world: World, developer: Person) -> None:
    cluster = world.fresh_name("lonely")
    world.join_command(cluster)
    admin = world.people["admin"]
    answer = send(world, f"/k8s/{cluster}{PODS}", token=token_of(admin, world, cluster))
    assert answer.code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.status["reason"] == "ServiceUnavailable"
    assert cluster in answer.status["message"]
    admin.mk8s("admin", "clusters", "remove", cluster, "--yes")


def test_oversized_head(world: World, viewer: Person) -> None:
    token = token_of(viewer, world, "prod")
    answer = send(world, f"/k8s/prod{PODS}", token=token, headers={"X-Long": "x" * 200_000})
    assert answer.code == 431
