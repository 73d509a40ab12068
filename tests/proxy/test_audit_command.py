"""What a request would have been as a command: words that a user of kubectl knows."""

from typing import Any

import pytest

from mk8s_proxy.audit.command import MAX_COMMAND, command_of
from mk8s_proxy.authz.scopes import Scope, scope_of

POD = {"resource": "pods", "apiVersion": "v1"}
WEB = POD | {"name": "web", "namespace": "default"}
IN_SHOP = POD | {"namespace": "shop"}
DEPLOYMENT = {"resource": "deployments", "apiGroup": "apps", "name": "web", "namespace": "shop"}


def namespaced(group: str, resource: str) -> bool:
    return scope_of(group, resource) is Scope.NAMESPACED


def words(verb: str, reference: dict[str, str], query: str = "", **more: Any) -> str:
    event = {"verb": verb, "objectRef": reference, "requestURI": f"/path?{query}", **more}
    return command_of(event, namespaced)


@pytest.mark.parametrize(
    ("verb", "reference", "query", "expected"),
    [
        ("list", IN_SHOP, "limit=500", "get pods -n shop"),
        ("list", POD, "", "get pods -A"),
        ("list", POD | {"namespace": "default"}, "", "get pods"),
        ("list", {"resource": "nodes"}, "", "get nodes"),
        ("list", {"resource": "widgets", "apiGroup": "example.com"}, "", "get widgets.example.com"),
        ("get", WEB, "", "get pod web"),
        (
            "get",
            {"resource": "namespaces", "name": "shop", "namespace": "shop"},
            "",
            "get namespace shop",
        ),
        ("get", {"resource": "endpoints", "name": "web"}, "", "get endpoints web"),
        (
            "get",
            {"resource": "ingresses", "apiGroup": "networking.k8s.io", "name": "a"},
            "",
            "get ingress a",
        ),
        (
            "get",
            {"resource": "networkpolicies", "apiGroup": "networking.k8s.io", "name": "a"},
            "",
            "get networkpolicy a",
        ),
        ("get", {"resource": "componentstatuses", "name": "a"}, "", "get componentstatus a"),
        (
            "get",
            DEPLOYMENT | {"subresource": "scale"},
            "",
            "get deployment web --subresource=scale -n shop",
        ),
        ("watch", IN_SHOP, "watch=true&labelSelector=app%3Dweb", "get pods -l app=web -n shop -w"),
        ("watch", WEB, "watch=true&fieldSelector=metadata.name%3Dweb", "get pod web -w"),
        (
            "list",
            IN_SHOP,
            "fieldSelector=status.phase%3DRunning",
            "get pods --field-selector=status.phase=Running -n shop",
        ),
        ("create", IN_SHOP, "", "create pod -n shop"),
        (
            "create",
            IN_SHOP,
            "fieldManager=kubectl-run&dryRun=All",
            "run pod -n shop --dry-run=server",
        ),
        ("update", DEPLOYMENT, "", "replace deployment web -n shop"),
        ("update", DEPLOYMENT | {"subresource": "scale"}, "", "scale deployment web -n shop"),
        ("patch", DEPLOYMENT, "", "patch deployment web -n shop"),
        (
            "patch",
            DEPLOYMENT,
            "fieldManager=kubectl-client-side-apply",
            "apply deployment web -n shop",
        ),
        (
            "patch",
            DEPLOYMENT,
            "fieldManager=kubectl&force=false",
            "apply --server-side deployment web -n shop",
        ),
        ("patch", DEPLOYMENT, "fieldManager=kubectl-label", "label deployment web -n shop"),
        ("patch", DEPLOYMENT, "fieldManager=helm", "patch deployment web -n shop"),
        ("delete", WEB, "", "delete pod web"),
        ("deletecollection", IN_SHOP, "", "delete pods --all -n shop"),
        ("deletecollection", IN_SHOP, "labelSelector=a%3Db", "delete pods -l a=b -n shop"),
        ("create", WEB | {"subresource": "eviction"}, "", "create pod web --subresource=eviction"),
        (
            "create",
            WEB | {"subresource": "exec"},
            "command=sh&stdin=true&tty=true",
            "exec -it web -- sh",
        ),
        ("get", WEB | {"subresource": "exec"}, "command=sh", "exec web -- sh"),
        (
            "create",
            IN_SHOP | {"name": "web", "subresource": "exec"},
            "container=app&command=sh&command=-c&command=ls+%2Ftmp%3B+id&command=",
            "exec web -n shop -c app -- sh -c 'ls /tmp; id' ''",
        ),
        ("create", WEB | {"subresource": "attach"}, "stdin=1", "attach -i web"),
        ("get", WEB | {"subresource": "log"}, "follow=true", "logs -f web"),
        (
            "get",
            IN_SHOP | {"name": "web", "subresource": "log"},
            "previous=true&container=app&tailLines=10&sinceSeconds=60&sinceTime=",
            "logs -p web -n shop -c app --tail=10 --since=60s",
        ),
        (
            "create",
            WEB | {"subresource": "portforward"},
            "ports=80&ports=443",
            "port-forward web 80 443",
        ),
        (
            "create",
            DEPLOYMENT | {"subresource": "portforward"},
            "",
            "port-forward deployment/web -n shop",
        ),
        ("get", WEB | {"subresource": "proxy"}, "", "get --raw '/path?'"),
        ("create", WEB | {"subresource": "proxy"}, "a=b", "create --raw '/path?a=b'"),
        ("patch", WEB | {"subresource": "proxy"}, "", "PATCH '/path?'"),
        (
            "create",
            {
                "resource": "serviceaccounts",
                "name": "ci",
                "namespace": "shop",
                "subresource": "token",
            },
            "",
            "create token ci -n shop",
        ),
        (
            "create",
            {"resource": "selfsubjectaccessreviews", "apiGroup": "authorization.k8s.io"},
            "",
            "auth can-i",
        ),
        (
            "create",
            {"resource": "selfsubjectrulesreviews", "apiGroup": "authorization.k8s.io"},
            "",
            "auth can-i --list",
        ),
        (
            "create",
            {"resource": "selfsubjectreviews", "apiGroup": "authentication.k8s.io"},
            "",
            "auth whoami",
        ),
        (
            "list",
            {"resource": "pods", "apiGroup": "metrics.k8s.io", "namespace": "shop"},
            "",
            "top pods -n shop",
        ),
        (
            "get",
            {"resource": "nodes", "apiGroup": "metrics.k8s.io", "name": "n1"},
            "",
            "top node n1",
        ),
    ],
)
def test_requests_of_kubectl(
    verb: str, reference: dict[str, str], query: str, expected: str
) -> None:
    assert words(verb, reference, query) == expected


@pytest.mark.parametrize(
    ("verb", "uri", "expected"),
    [
        ("get", "/version?timeout=32s", "version"),
        ("get", "/healthz", "get --raw /healthz"),
        ("get", "/k8s/prod/apis", "get --raw /apis"),
        ("get", "/k8s/prod/version", "version"),
        ("get", "/k8s/", "get --raw /k8s/"),
        ("delete", "/x", "delete --raw /x"),
        ("options", "/x y", "OPTIONS '/x y'"),
        ("", "/x", "/x"),
        ("get", "", ""),
    ],
)
def test_paths_that_are_no_resources(verb: str, uri: str, expected: str) -> None:
    assert command_of({"verb": verb, "requestURI": uri}, namespaced) == expected


@pytest.mark.parametrize(
    ("verb", "resource", "name", "uri", "expected"),
    [
        ("create", "logins", "", "/auth/login", "mk8s login"),
        ("create", "users", "a@example.com", "/users", "mk8s admin users add a@example.com"),
        ("update", "users", "a@b", "/users/a@b/roles", "mk8s admin users set-roles a@b"),
        ("update", "users", "a@b", "/users/a@b/password?x", "mk8s admin users set-password a@b"),
        ("update", "users", "a b", "/users/a@b/disabled", "update users.mk8s.io 'a b'"),
        ("create", "servicetokens", "ci", "/tokens", "mk8s admin tokens create ci"),
        ("update", "servicetokens", "ci", "/tokens/ci/rotate", "mk8s admin tokens rotate ci"),
        ("delete", "servicetokens", "ci", "/tokens/ci", "mk8s admin tokens revoke ci"),
        ("update", "passwords", "", "/auth/password", "mk8s passwd"),
        ("reopen", "journals", "", "", "reopen journals.mk8s.io"),
    ],
)
def test_calls_of_the_management_api(
    verb: str, resource: str, name: str, uri: str, expected: str
) -> None:
    reference = {"resource": resource, "name": name, "apiGroup": "mk8s.io"}
    event = {"verb": verb, "objectRef": reference, "requestURI": uri}
    assert command_of(event, namespaced) == expected


def test_who_acts_as_somebody_else_is_told() -> None:
    acting = {"impersonatedUser": {"username": "system:admin"}}
    assert words("get", WEB, **acting) == "get pod web --as=system:admin"


@pytest.mark.parametrize(
    ("verb", "manager"),
    [("patch", "kubectl-get"), ("delete", "kubectl-label"), ("patch", "kubectl-x; rm -rf /"),
     ("get", "kubectl-apply"), ("patch", "kubectl-")],
)  # fmt: skip
def test_attack_a_field_manager_hides_what_a_request_does(verb: str, manager: str) -> None:
    assert words(verb, WEB, f"fieldManager={manager}") == f"{verb} pod web"


def test_attack_words_break_out_of_their_quotes() -> None:
    sent = "command=%27%3B+rm+-rf+%2F%3B%27&command=%24%28id%29&command=%1b%5b2J"
    shown = words("create", WEB | {"subresource": "exec"}, sent)
    assert shown == "exec web -- ''\"'\"'; rm -rf /;'\"'\"'' '$(id)' '\x1b[2J'"


def test_of_a_repeated_parameter_the_first_one_counts() -> None:
    shown = words("get", WEB | {"subresource": "log"}, "container=a&container=b")
    assert shown == "logs web -c a"


def test_long_commands_are_cut() -> None:
    shown = words("create", WEB | {"subresource": "exec"}, "command=" + "x" * 5000)
    assert len(shown) == MAX_COMMAND
    assert shown.endswith("...")


def test_a_command_that_central_runs_is_said_as_it_is_run() -> None:
    reference = {"resource": "commands", "apiGroup": "mk8s.io", "name": "prod"}
    query = "command=exec&command=web&command=--&command=sh&command=-c&command=echo+%27a&command="
    assert words("create", reference, query) == """kubectl exec web -- sh -c 'echo '"'"'a' ''"""
    assert words("create", reference) == "kubectl"
