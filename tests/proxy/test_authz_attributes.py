"""What must be allowed for a request, the sentence of a refusal, and scopes."""

import pytest
from hypothesis import given
from request_lines import CASES, request_lines

from mk8s_proxy.authz.attributes import Attributes, Decision, required_attributes
from mk8s_proxy.authz.messages import forbidden_message, refusal_details
from mk8s_proxy.authz.policy import PolicySource, parse_role
from mk8s_proxy.authz.scopes import Scope, scope_of
from mk8s_proxy.authz.snapshot import PolicySnapshot
from mk8s_proxy.kube.request_info import RequestInfo, parse_request_info
from mk8s_proxy.kube.request_target import TargetRefusal, parse_target

APPLY = b"application/apply-patch+yaml"
FORWARDED = [case for case in CASES if case["mk8s"] == "forward"]


def info_of(method: str, target: str) -> RequestInfo:
    raw = target.encode()
    return parse_request_info(method.encode(), parse_target(method.encode(), raw))


def questions(
    method: str, target: str, *, upgrade: bool = False, content_type: bytes = b""
) -> list[tuple[str, str]]:
    info = info_of(method, target)
    required = required_attributes(info, upgrade=upgrade, content_type=content_type)
    return [(one.verb, f"{one.resource}/{one.subresource}".rstrip("/")) for one in required]


def expected_of(case, *, upgrade: bool, content_type: bytes) -> list[tuple[str, str]]:
    """The `also_authorize` of a row of the table, where its condition holds."""
    expect = case["expect"]
    found = []
    for also in case.get("also_authorize", ()):
        condition = also.get("only_if") or "always"
        holds = {"Upgrade header present": upgrade, "always": True}
        if holds.get(condition, content_type == APPLY):
            resource = also.get("resource", expect["resource"])
            subresource = also.get("subresource", expect["subresource"])
            found.append((also["verb"], f"{resource}/{subresource}".rstrip("/")))
    return found


@pytest.mark.parametrize("case", FORWARDED, ids=lambda case: case["id"])
def test_row_of_the_conformance_table(case) -> None:
    plain = questions(case["method"], case["target"])
    assert plain[1:] == expected_of(case, upgrade=False, content_type=b"")
    if any(
        also.get("only_if") == "Upgrade header present" for also in case.get("also_authorize", ())
    ):
        upgraded = questions(case["method"], case["target"], upgrade=True)
        assert upgraded[1:] == expected_of(case, upgrade=True, content_type=b"")


def test_row_of_the_conformance_table_for_apply() -> None:
    case = next(case for case in CASES if case["id"] == "RI015")
    found = questions(case["method"], case["target"], content_type=APPLY)
    assert found[1:] == expected_of(case, upgrade=False, content_type=APPLY) == [("create", "pods")]


NS = "/api/v1/namespaces/shop"


@pytest.mark.parametrize("stream", ["exec", "attach", "portforward"])
def test_a_shell_over_websocket_needs_create(stream: str) -> None:
    wanted = [("get", f"pods/{stream}"), ("create", f"pods/{stream}")]
    assert questions("GET", f"{NS}/pods/web/{stream}") == wanted
    assert questions("GET", f"{NS}/pods/web/{stream}", upgrade=True) == wanted
    assert questions("POST", f"{NS}/pods/web/{stream}", upgrade=True) == wanted[1:]


@pytest.mark.parametrize(
    ("method", "path", "options", "also"),
    [
        ("GET", "/api/v1/nodes/n/proxy/run", {}, [("create", "nodes/proxy")]),
        ("DELETE", "/api/v1/nodes/n/proxy", {}, [("create", "nodes/proxy")]),
        ("GET", "/api/v1/nodes/n/status", {}, []),
        ("GET", f"{NS}/services/s/proxy/", {}, []),
        ("PUT", f"{NS}/services/s/proxy/", {"upgrade": True}, [("create", "services/proxy")]),
        ("GET", f"{NS}/pods/p", {"upgrade": True}, [("create", "pods")]),
        ("GET", f"{NS}/pods", {"upgrade": True}, [("create", "pods")]),
        ("GET", f"{NS}/pods?watch=1", {"upgrade": True}, []),
        ("GET", "/api/v1/watch/namespaces/shop/pods/p", {"upgrade": True}, []),
        ("GET", "/apis/x.io/v1/watch/namespaces/shop/vms/v/console", {"upgrade": True},
         [("create", "vms/console")]),
        ("GET", f"{NS}/pods/p/exec?watch=1", {"upgrade": True}, [("create", "pods/exec")]),
        ("GET", f"{NS}/services/s/proxy/?watch=1", {"upgrade": True},
         [("create", "services/proxy")]),
        ("GET", "/apis/x.io/v1/namespaces/shop/pods/p/exec", {}, []),
        ("GET", "/apis/x.io/v1/nodes/n/proxy", {}, []),
        ("PATCH", f"{NS}/pods/p", {}, []),
        ("PATCH", f"{NS}/pods/p", {"content_type": APPLY}, [("create", "pods")]),
        ("PATCH", f"{NS}/pods/p", {"content_type": b" Application/Apply-Patch+CBOR ; a=b"},
         [("create", "pods")]),
        ("PATCH", f"{NS}/pods/p", {"content_type": b"application/merge-patch+json"}, []),
        ("PUT", f"{NS}/pods/p", {"content_type": APPLY}, []),
        ("PUT", f"{NS}/pods/p/ephemeralcontainers", {}, [("create", "pods/exec")]),
        ("GET", f"{NS}/pods/p/ephemeralcontainers", {}, []),
        ("PATCH", "/apis/x.io/v1/namespaces/shop/pods/p/ephemeralcontainers", {}, []),
        ("PATCH", f"{NS}/pods/p/ephemeralcontainers", {"content_type": APPLY},
         [("create", "pods/ephemeralcontainers"), ("create", "pods/exec")]),
        ("PATCH", f"{NS}/jobs/p/ephemeralcontainers", {}, []),
    ],
)  # fmt: skip
def test_what_else_must_be_allowed(method: str, path: str, options, also) -> None:
    assert questions(method, path, **options)[1:] == also


def test_all_questions_are_about_the_same_object() -> None:
    info = info_of("GET", f"{NS}/pods/web/exec")
    _, also = required_attributes(info, upgrade=True, content_type=b"")
    assert also == Attributes("create", "", "pods", "exec", "shop", "web")


def test_non_resource_request_asks_about_its_path() -> None:
    info = info_of("HEAD", "/metrics")
    (only,) = required_attributes(info, upgrade=True, content_type=APPLY)
    assert only == Attributes("head", path="/metrics", is_resource_request=False)


ALL = parse_role("all", [{"name": "*", "namespaces": ["*"], "verbs": ["*"], "resources": ["*"]}])


@given(request_lines(), request_lines())
def test_a_remembered_answer_is_that_of_its_own_question(
    one: tuple[bytes, bytes], two: tuple[bytes, bytes]
) -> None:
    """Answers are kept by a key: one that says too little would give a request another's."""
    for roles in ((), ("all",)):
        source = PolicySource([ALL], {"dev@example.com": roles}, {"dev": {}})
        remembering = PolicySnapshot(source)
        for method, raw in (one, two, (one[0], two[1])):
            try:
                info = parse_request_info(method, parse_target(method, raw))
            except TargetRefusal:
                continue
            for upgrade in (False, True):
                for content_type in (b"", APPLY):
                    asked = ("dev@example.com", "dev", info, upgrade, content_type)
                    answer = remembering.decide_request(*asked)
                    assert answer == PolicySnapshot(source).decide_request(*asked)


def test_decision_denies_by_default() -> None:
    assert not Decision().allowed
    assert Decision().visibility is None
    assert Decision().reason


DENIED = Decision(reason="no role allows it (roles: viewer)")


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (Attributes("delete", "", "pods", "", "shop", "web"),
         ('pods "web" is forbidden: User "dev@example.com" cannot delete resource "pods" in API '
         'group "" in the namespace "shop" of cluster "prod": no role allows it (roles: viewer)')),
        (Attributes("list", "apps", "deployments"),
         ('deployments.apps is forbidden: User "dev@example.com" cannot list resource '
         '"deployments" in API group "apps" at the cluster scope of cluster "prod": no role '
         'allows it (roles: viewer)')),
        (Attributes("create", "", "pods", "exec", "shop", "web"),
         ('pods "web" is forbidden: User "dev@example.com" cannot create resource "pods/exec" in '
         'API group "" in the namespace "shop" of cluster "prod": no role allows it '
         '(roles: viewer)')),
        (Attributes("get", path="/metrics", is_resource_request=False),
         ('forbidden: User "dev@example.com" cannot get path "/metrics" of cluster "prod": no role '
         'allows it (roles: viewer)')),
    ],
)  # fmt: skip
def test_message_in_kubernetes_wording(attributes: Attributes, message: str) -> None:
    assert forbidden_message("dev@example.com", "prod", attributes, DENIED) == message


@pytest.mark.parametrize(
    ("attributes", "details"),
    [
        (Attributes("get", "", "pods", "log", "shop", "web"), {"name": "web", "kind": "pods"}),
        (Attributes("list", "apps", "deployments"), {"group": "apps", "kind": "deployments"}),
        (Attributes("get", path="/metrics", is_resource_request=False), None),
    ],
)
def test_details_of_a_refusal(attributes: Attributes, details: dict[str, str] | None) -> None:
    assert refusal_details(attributes) == details


def test_a_name_cannot_break_the_line_of_a_message() -> None:
    attributes = Attributes("get", "", "pods", "", "shop", 'x"\r\nINFO \u2028granted')
    message = forbidden_message("dev@example.com", "prod", attributes, DENIED)
    assert message.isprintable()
    assert r'"x\"\r\nINFO \u2028granted"' in message


@pytest.mark.parametrize(
    ("group", "resource", "scope"),
    [
        ("", "nodes", Scope.CLUSTER),
        ("", "namespaces", Scope.CLUSTER),
        ("", "secrets", Scope.NAMESPACED),
        ("apps", "deployments", Scope.NAMESPACED),
        ("apps", "nodes", Scope.NAMESPACED),
        ("rbac.authorization.k8s.io", "clusterroles", Scope.CLUSTER),
        ("rbac.authorization.k8s.io", "roles", Scope.NAMESPACED),
        ("example.com", "nodes", Scope.UNKNOWN),
    ],
)
def test_scope(group: str, resource: str, scope: Scope) -> None:
    assert scope_of(group, resource) is scope
