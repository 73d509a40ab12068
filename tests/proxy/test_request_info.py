"""RequestInfo: what we decide about is what Kubernetes will do."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from request_lines import CASES

from mk8s_proxy.kube.request_info import RequestInfo, parse_request_info
from mk8s_proxy.kube.request_target import RequestTarget, TargetRefusal, parse_target
from tests.oracle.process import Oracle

RESOURCE_FIELDS = ("api_group", "api_version", "namespace", "resource", "subresource", "name")


def info_of(method: str, target: str) -> RequestInfo:
    raw = target.encode("utf-8")
    return parse_request_info(method.encode(), parse_target(method.encode(), raw))


def described(info) -> dict[str, object]:
    described = {"resource_request": info.is_resource_request, "verb": info.verb}
    if not info.is_resource_request:
        return {**described, "path": info.path}
    return {**described, **{field: getattr(info, field) for field in RESOURCE_FIELDS}}


def test_the_table_is_whole() -> None:
    assert len(CASES) == 188
    assert {case["mk8s"] for case in CASES} == {"forward", "reject"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_row_of_the_conformance_table(case) -> None:
    if case["mk8s"] == "forward":
        assert described(info_of(case["method"], case["target"])) == case["expect"]
        return
    with pytest.raises(TargetRefusal) as refused:
        info_of(case["method"], case["target"])
    found = (refused.value.reason, refused.value.code)
    assert found == (case["reject_reason"], case["reject_status"])


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case["mk8s"] == "forward"],
    ids=lambda case: case["id"],
)
def test_the_table_is_what_kubernetes_reads(oracle: Oracle, case) -> None:
    reading = oracle.request(case["method"].encode(), case["target"].encode("utf-8"))
    texts = {
        name: value.decode() if isinstance(value, bytes) else value
        for name, value in reading.items()
    }
    assert {name: texts[name] for name in case["kubernetes"]} == case["kubernetes"]


@given(st.binary(max_size=8), st.text(max_size=60), st.binary(max_size=60))
def test_no_target_raises_anything_but_a_refusal(method: bytes, path: str, query: bytes) -> None:
    for verb in (method, b"GET", b"DELETE"):
        for text in (path, f"/api/v1/{path}", f"/apis/a/v1/namespaces/x/pods/{path}"):
            with contextlib.suppress(TargetRefusal):
                info = parse_request_info(verb, RequestTarget(b"", text, query))
                assert info.path == text


def test_unknown_method_is_refused_here_too() -> None:
    with pytest.raises(TargetRefusal, match="use GET"):
        parse_request_info(b"get", RequestTarget(b"/api", "/api", b""))


def test_prefix_of_a_group_without_a_resource() -> None:
    info = info_of("GET", "/apis/apps/v1")
    assert (info.is_resource_request, info.api_prefix) == (False, "apis")


@pytest.mark.parametrize(
    ("method", "target", "reason"),
    [
        ("GET", "/apis/apps/v1/proxy", "SPECIAL_VERB_NO_RESOURCE"),
        ("DELETE", "/api/v1/watch", "SPECIAL_VERB_NO_RESOURCE"),
        ("POST", "/api/v1/proxy/nodes/n", "LEGACY_PROXY_PREFIX"),
        ("PUT", "/api/v1/watch/pods", "SPECIAL_VERB_METHOD"),
        ("GET", "/api/v1/watch/proxy/pods", "SPECIAL_VERB_REPEAT"),
        ("GET", "/apis/a_b/v1/x", "BAD_GROUP"),
        ("GET", "/apis/" + "a" * 254 + "/v1/x", "BAD_GROUP"),
        ("GET", "/api/1v/x", "BAD_VERSION"),
        ("GET", "/api/v1/namespaces/a.b/pods", "BAD_NAMESPACE"),
        ("GET", "/api/v1/namespaces/A", "BAD_NAMESPACE"),
        ("GET", "/api/v1/po_ds", "BAD_RESOURCE"),
        ("GET", "/api/v1/pods/x/lo_g", "BAD_SUBRESOURCE"),
        ("GET", "/apis/custom.metrics.k8s.io/v1/%20", "BAD_RESOURCE"),
        ("GET", "/apis/custom.metrics.k8s.io/v1/pods/x/a%20b", "BAD_SUBRESOURCE"),
    ],
)
def test_identifier_that_no_api_server_serves(method: str, target: str, reason: str) -> None:
    with pytest.raises(TargetRefusal) as refused:
        info_of(method, target)
    assert (refused.value.reason, refused.value.code) == (reason, 400)


@pytest.mark.parametrize(
    ("method", "target", "long_running"),
    [
        ("GET", "/api/v1/pods?watch=1", True),
        ("GET", "/api/v1/pods", False),
        ("POST", "/api/v1/namespaces/x/pods/p/exec", True),
        ("GET", "/api/v1/namespaces/x/pods/p/log", True),
        ("GET", "/api/v1/namespaces/x/pods/p/status", False),
        ("GET", "/debug/pprof/profile", True),
        ("GET", "/version", False),
    ],
)
def test_long_running(method: str, target: str, long_running: bool) -> None:
    assert info_of(method, target).long_running is long_running


@pytest.mark.parametrize(
    ("method", "target", "field_selector", "label_selector"),
    [
        ("GET", "/api/v1/pods?fieldSelector=a%3Db&labelSelector=c", "a=b", "c"),
        ("GET", "/api/v1/pods?fieldSelector=%21%21&limit=x", "!!", ""),
        ("DELETE", "/api/v1/namespaces/x/pods?labelSelector=c%3Dd", "", "c=d"),
        ("GET", "/api/v1/namespaces/x/pods/p?labelSelector=c", "", ""),
        ("GET", "/api/v1/watch/pods?labelSelector=c", "", ""),
        ("POST", "/api/v1/namespaces/x/pods?labelSelector=c", "", ""),
    ],
)
def test_selectors_as_sent(
    method: str, target: str, field_selector: str, label_selector: str
) -> None:
    info = info_of(method, target)
    assert (info.field_selector, info.label_selector) == (field_selector, label_selector)


def test_deletecollection_ignores_the_name_in_the_selector() -> None:
    info = info_of("DELETE", "/api/v1/namespaces/x/pods?fieldSelector=metadata.name%3Dfoo")
    assert (info.verb, info.name) == ("deletecollection", "")
