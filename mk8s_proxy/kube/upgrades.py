"""Which requests may leave HTTP for a protocol of their own; pure. Called by the handler chain."""

from typing import Final

from mk8s_proxy.kube.request_info import RequestInfo

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
        return bool(info.subresource) or is_websocket_watch(protocol, info)
    return (info.resource, info.subresource) in _UPGRADABLE or is_websocket_watch(protocol, info)


def is_websocket_watch(protocol: bytes, info: RequestInfo) -> bool:
    """Whether events shall come as messages: the API server wants an Origin for that, whichever."""
    return protocol == b"websocket" and info.watches_objects
