"""Which requests may leave HTTP for a protocol of their own; pure. Called by the corridor."""

from typing import Final

from mk8s_proxy.request_info import RequestInfo

_UPGRADABLE: Final = frozenset(
    {
        ("pods", "exec"),
        ("pods", "attach"),
        ("pods", "portforward"),
        ("pods", "proxy"),
        ("services", "proxy"),
        ("nodes", "proxy"),
    }
)


def may_upgrade(protocol: bytes, info: RequestInfo) -> bool:
    """Whether a route may leave HTTP: the streaming subresources, and watches over WebSocket."""
    if not info.is_resource_request:
        return False
    if info.api_group:  # an aggregated API's own streams, such as a virtual machine's console
        return bool(info.subresource) or (info.verb == "watch" and protocol == b"websocket")
    if (info.resource, info.subresource) in _UPGRADABLE:
        return True
    return info.verb == "watch" and protocol == b"websocket"
