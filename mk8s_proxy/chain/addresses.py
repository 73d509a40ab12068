"""What the target of a request means: cluster, checked target, RequestInfo; remembered.

Called by the handler chain first of all. There are three ways to name a cluster, never a default:
the host name, the path prefix `/k8s/<cluster>`, or the token. The first two are decided here from
raw bytes; the prefix is cut off exactly once.

Clients repeat themselves, so the meaning of a short target is kept: it follows from host, method
and target alone, never from who asks. A target that is refused is not kept, nor that of a watch,
which names the version it goes on from and hardly comes again.
"""

import re
from dataclasses import dataclass
from typing import Final

from mk8s_agent.wire import hpack_codec
from mk8s_agent.wire.memory import Memory
from mk8s_proxy.kube.request_info import RequestInfo, parse_request_info
from mk8s_proxy.kube.request_target import RequestTarget, parse_target

MANAGEMENT_PATHS: Final = frozenset(
    {
        b"agents",
        b"audit",
        b"auth",
        b"ca",
        b"ca.pem",
        b"clusters",
        b"delegations",
        b"federation",
        b"groups",
        b"join",
        b"keys",
        b"logins",
        b"locks",
        b"openapi.json",
        b"rbac",
        b"roles",
        b"tokens",
        b"users",
        b".well-known",
    }
)
"""First segments that belong to central itself; every other path is Kubernetes's."""

_PREFIX: Final = b"/k8s/"
_CLUSTER: Final = re.compile(rb"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_PREFIXED: Final = re.compile(rb"(/k8s/([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?))([/?].*)?", re.DOTALL)
"""The root of a cluster needs no slash at its end."""
_ADDRESS_BYTES: Final = 1024
"""What an address holds beside its bytes, text and block of the target."""
_KEPT_BYTES: Final = 512
"""Longer targets are not remembered: nearly all are much shorter."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes."""

    target: bytes
    """Path and query for the API server, still unchecked."""
    cluster: str = ""
    """From the host name or the prefix; "" leaves it to the token."""
    prefix: bytes = b""
    management: bool = False


class Router:
    """Splits cluster and path.

    Args:
        domain: clusters are also reached at `<cluster>.<domain>`; "" switches that off.
    """

    def __init__(self, domain: str = "") -> None:
        self._suffix = b"." + domain.encode("ascii") if domain else b""

    def split(self, authority: bytes, target: bytes) -> Route:
        """The route of a request. Never raises: what fits nothing is left to the later doors.

        Args:
            authority: host and port as the client sent them, lower-case.
            target: raw path and query.
        """
        if self._suffix and (cluster := self._host_cluster(authority)):
            return Route(target, cluster)
        if target.startswith(_PREFIX) and (match := _PREFIXED.fullmatch(target)) is not None:
            prefix, name, rest = match.groups(b"")
            rest = rest if rest.startswith(b"/") else b"/" + rest
            return Route(rest, name.decode("ascii"), prefix)
        first = target[1:].partition(b"/")[0].partition(b"?")[0]
        return Route(target, management=first in MANAGEMENT_PATHS)

    def _host_cluster(self, authority: bytes) -> str:
        host = authority.partition(b":")[0]
        name = host[: -len(self._suffix)]
        if host.endswith(self._suffix) and _CLUSTER.fullmatch(name):
            return name.decode("ascii")
        return ""


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

    def is_management(self, authority: bytes, target: bytes) -> bool:
        """Whether a request, even a malformed one, is for central itself."""
        return self._router.split(authority, target).management

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
        if known is not None:
            return known
        route = self._router.split(authority, target)
        checked = parse_target(method, route.target)
        info = parse_request_info(method, checked)
        path_block = hpack_codec.literal(b":path", checked.raw)
        address = Address(route, checked, info, path_block, info.long_running)
        if len(target) <= _KEPT_BYTES and info.verb != "watch":
            self._known.keep(key, address, _ADDRESS_BYTES + 4 * len(target))
        return address
