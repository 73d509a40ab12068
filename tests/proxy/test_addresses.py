"""What a target means, read once."""

import re

import pytest

from mk8s_proxy.api.application import ENDPOINTS
from mk8s_proxy.chain.addresses import MANAGEMENT_PATHS, Address, Addresses, Router
from mk8s_proxy.kube.request_target import TargetRefusal

HOST = b"central.example.com"
PODS = b"/api/v1/namespaces/shop/pods"


def find(known: Addresses, target: bytes, host: bytes = HOST, method: bytes = b"GET") -> Address:
    return known.find(host, method, target)


def test_cluster_target_and_info() -> None:
    address = find(Addresses(Router()), b"/k8s/prod" + PODS + b"?limit=5")
    assert (address.route.cluster, address.route.prefix) == ("prod", b"/k8s/prod")
    assert address.target.raw == PODS + b"?limit=5"
    assert (address.info.verb, address.info.namespace) == ("list", "shop")
    assert address.path_block.endswith(PODS + b"?limit=5")


def test_every_endpoint_of_the_management_api_is_reached_and_nothing_else_is() -> None:
    assert {endpoint.path.split("/")[1].encode() for endpoint in ENDPOINTS} == MANAGEMENT_PATHS
    for endpoint in ENDPOINTS:
        target = re.sub(r"\{\w+\}", "x", endpoint.path).encode()
        assert find(Addresses(Router()), target).route.management, endpoint.path


def test_a_target_is_read_once() -> None:
    known = Addresses(Router())
    assert find(known, PODS) is find(known, PODS)


def test_attack_the_same_target_under_another_host_or_method() -> None:
    known = Addresses(Router("k8s.example.com"))
    plain = find(known, PODS)
    assert find(known, PODS, b"prod.k8s.example.com").route.cluster == "prod"
    assert find(known, PODS, b"test.k8s.example.com").route.cluster == "test"
    assert plain.route.cluster == ""
    assert find(known, PODS, method=b"DELETE").info.verb == "deletecollection"
    assert plain.info.verb == "list"


def test_attack_a_refused_target_asked_again() -> None:
    known = Addresses(Router())
    for _ in range(3):
        with pytest.raises(TargetRefusal):
            find(known, b"/api/v1/namespaces/shop%2f..%2fkube-system/pods")


def test_watches_push_nothing_out() -> None:
    known = Addresses(Router())
    known._known.most_entries = 5
    pods = find(known, PODS)
    for number in range(20):
        watch = find(known, PODS + b"?watch=1&resourceVersion=%d" % number)
        assert watch.info.verb == "watch"
    assert find(known, PODS) is pods
    assert len(known._known) == 1


def test_what_is_remembered_is_bounded() -> None:
    known = Addresses(Router())
    known._known.most_entries = 5
    for number in range(20):
        find(known, PODS + b"/p%d" % number)
        assert len(known._known) <= 5
    find(known, PODS + b"?labelSelector=" + b"x" * 600)
    assert all(len(target) <= 512 for _, _, target in known._known._kept)
