"""What the target of a request means: cluster, checked target, RequestInfo; remembered.

Called by the handler chain first of all. Clients repeat themselves, so the meaning of a short
target is kept: it follows from host, method and target alone, never from who asks. A target that is
refused is not kept, nor that of a watch, which names the version it goes on from and hardly comes
again.
"""

from dataclasses import dataclass
from typing import Final

from mk8s_agent.wire import hpack_codec
from mk8s_agent.wire.memory import Memory
from mk8s_proxy.chain.route import Route, Router
from mk8s_proxy.kube.request_info import RequestInfo, parse_request_info
from mk8s_proxy.kube.request_target import RequestTarget, parse_target

_ADDRESS_BYTES: Final = 1024
"""What an address holds beside its bytes, text and block of the target."""
_KEPT_BYTES: Final = 512
"""Longer targets are not remembered: nearly all are much shorter."""


@dataclass(frozen=True, slots=True)
class Address:
    """What a request is about."""

    route: Route
    target: RequestTarget
    """For the cluster: without the prefix of path addressing."""
    info: RequestInfo
    path_block: bytes
    """The target as the `:path` of a tunnel's header block."""
    long_running: bool
    """As `info` says."""


class Addresses:
    """Reads targets."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._known: Memory[tuple[bytes, bytes, bytes], Address] = Memory(8192, 16 << 20)
        # Buys 25 % of a request with a new head for a known target (compiled 17 %).

    def find(self, authority: bytes, method: bytes, target: bytes) -> Address:
        """The address of a request.

        Args:
            authority: host and port as the client sent them, lower-case.
            method: such as GET.
            target: raw path and query.

        Raises:
            TargetRefusal: not a target that every parser reads alike.
        """
        key = (authority, method, target)
        known = self._known.find(key)
        if known is None:
            known = self._read(*key)
            if len(target) <= _KEPT_BYTES and known.info.verb != "watch":
                self._known.keep(key, known, _ADDRESS_BYTES + 4 * len(target))
        return known

    def _read(self, authority: bytes, method: bytes, raw: bytes) -> Address:
        route = self._router.split(authority, raw)
        target = parse_target(method, route.target)
        info = parse_request_info(method, target)
        path = hpack_codec.literal(b":path", target.raw)
        return Address(route, target, info, path, info.long_running)
