"""Every request has its rows: who, what, where, the decision and how it ended."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.kubectl import Kubectl
from tests.support.world import Person, World, wait_until

pytestmark = [pytest.mark.kube, pytest.mark.oldest]


def rows_of(world: World, count: int, **wanted: Any) -> list[dict[str, Any]]:
    """The rows, once there are `count`: the outcome may be written just after the client's end."""
    wait_until(
        lambda: len(world.audit(**wanted)) >= count,
        10,
        lambda: f"{len(world.audit(**wanted))} rows, not {count}, of {wanted}",
    )
    return world.audit(**wanted)


def test_an_allowed_request_has_intent_and_outcome(
    world: World, kubectl: Kubectl, namespace: str
) -> None:
    name = world.fresh_name("audited")
    kubectl("-n", namespace, "create", "configmap", name)
    wanted = {"objectRef__namespace": namespace, "verb": "create"}
    intent, outcome = rows_of(world, 2, **wanted)
    assert (intent["stage"], outcome["stage"]) == ("RequestReceived", "ResponseComplete")
    assert intent["auditID"] == outcome["auditID"]
    assert intent["user"]["username"] == "dev@example.com"
    assert intent["objectRef"]["resource"] == "configmaps"
    assert intent["annotations"]["authorization.k8s.io/decision"] == "allow"
    assert intent["annotations"]["mk8s.io/cluster"] == "prod"
    assert "developer" in intent["annotations"]["authorization.k8s.io/reason"]
    assert intent["sourceIPs"] == ["127.0.0.1"]
    assert intent["userAgent"].startswith("kubectl")
    assert outcome["responseStatus"]["code"] == 201


def test_a_refused_request_has_one_row_with_the_reason(
    world: World, binary: Path, viewer: Person, namespace: str
) -> None:
    viewer.kubectl(binary)("-n", namespace, "delete", "configmap", "any", code=1)
    (row,) = rows_of(world, 1, objectRef__namespace=namespace, verb="delete")
    assert row["stage"] == "ResponseComplete"
    assert row["user"]["username"] == "viewer@example.com"
    assert row["annotations"]["authorization.k8s.io/decision"] == "forbid"
    assert "viewer" in row["annotations"]["authorization.k8s.io/reason"]
    assert row["responseStatus"] == {"metadata": {}, "code": 403, "status": "Failure"}


def test_an_upgraded_request_has_intent_and_outcome(world: World, kubectl: Kubectl) -> None:
    mark = world.fresh_name("mark")
    kubectl("-n", "shop", "exec", "web", "--", "echo", mark)

    def rows() -> list[dict[str, Any]]:
        return [
            row for row in world.audit(objectRef__subresource="exec") if mark in row["requestURI"]
        ]

    wait_until(
        lambda: any(row.get("responseStatus", {}).get("code") == 101 for row in rows()),
        10,
        lambda: f"no outcome of the exec: {rows()}",
    )
    # A kubectl that tries WebSocket first may leave the rows of that attempt too.
    carried = [row for row in rows() if row.get("responseStatus", {}).get("code") == 101]
    assert len(carried) == 1
    stages = [row["stage"] for row in rows() if row["auditID"] == carried[0]["auditID"]]
    assert stages == ["RequestReceived", "ResponseComplete"]


def test_rows_of_both_logs_lead_to_each_other(world: World, kubectl: Kubectl) -> None:
    name = world.fresh_name("traced")
    kubectl("-n", "shop", "get", "configmap", name, code=1)
    outcome = rows_of(world, 2, objectRef__name=name)[1]
    (upstream,) = [
        row for row in world.upstream_audit() if row.get("objectRef", {}).get("name") == name
    ]
    assert outcome["annotations"]["mk8s.io/upstream-audit-id"] == upstream["auditID"]
    assert outcome["responseStatus"]["code"] == 404


def test_a_failed_login_has_a_row_and_no_password(world: World) -> None:
    person = world.people["viewer"]
    command = ("login", world.url, "--email", person.email, "--password-stdin")
    before = len(world.audit())
    secret = world.fresh_name("not-the-password")
    person.mk8s(*command, stdin=f"{secret}\n", code=1)
    rows = world.audit()[before:]
    assert any("/auth/login" in row["requestURI"] for row in rows)
    assert secret not in str(world.audit())
    assert secret not in world.output()
