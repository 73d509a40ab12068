"""Which cluster a request addresses, and with which Kubernetes path; pure.

Three ways, never a default: the host name, the path prefix `/k8s/<cluster>`, or the token. The
first two are decided here from raw bytes; the prefix is cut off exactly once.
"""

import re
from dataclasses import dataclass
from typing import Final

MANAGEMENT_PATHS: Final = frozenset(
    {
        b"agents",
        b"auth",
        b"ca.pem",
        b"clusters",
        b"join",
        b"keys",
        b"openapi.json",
        b"roles",
        b"users",
        b".well-known",
    }
)
"""First segments that belong to central itself; every other path is Kubernetes's."""

_PREFIX: Final = b"/k8s/"
_CLUSTER: Final = re.compile(rb"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_PREFIXED: Final = re.compile(rb"(/k8s/([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?))([/?].*)?", re.DOTALL)
"""The root of a cluster needs no slash at its end."""


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
