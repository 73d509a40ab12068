"""Which routes may leave HTTP; everything else keeps its connection."""

import pytest

from mk8s_proxy.kube.request_info import parse_request_info
from mk8s_proxy.kube.request_target import parse_target
from mk8s_proxy.kube.upgrades import may_upgrade

POD = b"/api/v1/namespaces/shop/pods/web"
CONSOLE = b"/apis/subresources.kubevirt.io/v1/namespaces/vm/virtualmachineinstances/one"


@pytest.mark.parametrize(
    ("target", "protocol", "may"),
    [
        (POD + b"/exec?command=sh", b"SPDY/3.1", True),
        (POD + b"/attach", b"websocket", True),
        (POD + b"/portforward", b"websocket", True),
        (b"/api/v1/namespaces/shop/services/web/proxy/", b"websocket", True),
        (b"/api/v1/nodes/one/proxy/", b"websocket", True),
        (POD + b"/log?follow=true", b"websocket", False),
        (POD, b"websocket", False),
        (b"/api/v1/pods?watch=1", b"websocket", True),
        (b"/api/v1/pods?watch=1", b"SPDY/3.1", False),
        (CONSOLE + b"/console", b"websocket", True),
        (CONSOLE, b"websocket", False),
        (b"/apis/subresources.kubevirt.io/v1/virtualmachineinstances?watch=1", b"websocket", True),
        (b"/healthz", b"websocket", False),
        (b"/openapi/v3", b"websocket", False),
    ],
)
def test_only_streaming_routes_may_be_upgraded(target: bytes, protocol: bytes, may: bool) -> None:
    info = parse_request_info(b"GET", parse_target(b"GET", target))
    assert may_upgrade(protocol, info) is may
