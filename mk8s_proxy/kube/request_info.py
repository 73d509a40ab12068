"""Kubernetes's RequestInfo: what a request asks for. Known before authentication.

Field names and semantics are those of `k8s.io/apiserver/pkg/endpoints/request/requestinfo.go`
(1.20 to 1.37). Paths that Kubernetes would read in a surprising way are refused instead:
the deprecated `proxy` prefix, a `watch` prefix with a writing method, and identifiers that no API
server could serve but a case-folding or cleaning hop might turn into something else.
"""

import re
from dataclasses import dataclass
from typing import Final

from mk8s_proxy.kube.list_options import ListOptions, parse_list_options
from mk8s_proxy.kube.request_target import RequestTarget, TargetRefusal

_VERBS: Final = {
    b"GET": "get",
    b"HEAD": "get",
    b"POST": "create",
    b"PUT": "update",
    b"PATCH": "patch",
    b"DELETE": "delete",
}
_SPECIAL_VERBS: Final = ("watch", "proxy")
_NAMESPACE_SUBRESOURCES: Final = ("status", "finalize")
_NO_OPTIONS: Final = ListOptions()
_METRICS_GROUPS: Final = ("custom.metrics.k8s.io", "external.metrics.k8s.io")

_LONG_RUNNING_SUBRESOURCES: Final = frozenset({"attach", "exec", "proxy", "log", "portforward"})

_DNS_1035_LABEL = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")
_DNS_1123_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_DNS_1123_SUBDOMAIN = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*"
)
_METRIC_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,253}")


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """What a request asks for, in Kubernetes's words."""

    is_resource_request: bool
    verb: str
    """A Kubernetes verb, or the lower-case HTTP method if this is not a resource request."""
    path: str
    """The decoded path."""
    api_prefix: str = ""
    """"api" or "apis", else empty."""
    api_group: str = ""
    """Empty for the core group."""
    api_version: str = ""
    namespace: str = ""
    """Empty for cluster scope and for all namespaces; the object of a namespace has its own."""
    resource: str = ""
    """The plural, lower-case."""
    subresource: str = ""
    name: str = ""
    """May come from a field selector on metadata.name; empty for collections and creations."""
    field_selector: str = ""
    """As sent, on list, watch and deletecollection."""
    label_selector: str = ""
    """As sent, on list, watch and deletecollection."""

    @property
    def watches_objects(self) -> bool:
        """Whether it is a watch, and not what the deprecated prefix makes of a subresource."""
        return self.verb == "watch" and not self.subresource

    @property
    def long_running(self) -> bool:
        """Whether the API server sets no deadline for it (its filters/longrunning.go)."""
        if self.is_resource_request:
            return self.verb == "watch" or self.subresource in _LONG_RUNNING_SUBRESOURCES
        return self.path.startswith("/debug/pprof/")


def parse_request_info(method: bytes, target: RequestTarget) -> RequestInfo:
    """Tell what a request asks for.

    Args:
        method: as received.
        target: what `parse_target` returned for it.

    Raises:
        TargetRefusal: no API server answers such a request in a way that is the same everywhere.
    """
    verb = _VERBS.get(method)
    if verb is None:
        raise TargetRefusal("METHOD", 405, "use GET, HEAD, POST, PUT, PATCH or DELETE")
    path = target.path
    parts = path.strip("/").split("/")
    prefix = parts[0]
    if len(parts) < 3 or prefix not in ("api", "apis"):
        return RequestInfo(False, method.decode("ascii").lower(), path)
    if prefix == "api":
        return _resource_info(verb, target, prefix, "", parts[1], parts[2:])
    if len(parts) < 4:
        return RequestInfo(False, method.decode("ascii").lower(), path, prefix)
    return _resource_info(verb, target, prefix, parts[1], parts[2], parts[3:])


def _resource_info(
    verb: str, target: RequestTarget, prefix: str, group: str, version: str, parts: list[str]
) -> RequestInfo:
    by_path = parts[0] in _SPECIAL_VERBS
    if by_path:
        _check_special_verb(verb, parts)
        verb, parts = "watch", parts[1:]
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 1:  # else the namespace itself is the object
        namespace = parts[1]
        if len(parts) > 2 and parts[2] not in _NAMESPACE_SUBRESOURCES:
            parts = parts[2:]
    resource = parts[0]
    name = parts[1] if len(parts) > 1 else ""
    subresource = parts[2] if len(parts) > 2 else ""
    _check_identifiers(group, version, namespace, resource, subresource)
    options = _NO_OPTIONS
    if not name and not by_path:
        if verb == "get":
            options = parse_list_options(target.query)
            verb, name = ("watch" if options.watch else "list"), options.name
        elif verb == "delete":
            options = parse_list_options(target.query)
            verb = "deletecollection"
    return RequestInfo(
        True, verb, target.path, prefix, group, version, namespace, resource, subresource, name,
        options.field_selector, options.label_selector,
    )  # fmt: skip


def _check_special_verb(verb: str, parts: list[str]) -> None:
    """Refuse the deprecated verb-in-path forms but the plain `GET .../watch/<resource>`."""
    if len(parts) == 1:
        raise _refusal("SPECIAL_VERB_NO_RESOURCE", f"a resource must follow /{parts[0]}")
    if parts[0] == "proxy":
        raise _refusal("LEGACY_PROXY_PREFIX", "use the proxy subresource, not the /proxy/ prefix")
    if verb != "get":
        raise _refusal("SPECIAL_VERB_METHOD", "the /watch/ prefix takes GET only")
    if parts[1] in _SPECIAL_VERBS:
        raise _refusal("SPECIAL_VERB_REPEAT", f"/{parts[1]} must not follow /watch")


def _check_identifiers(
    group: str, version: str, namespace: str, resource: str, subresource: str
) -> None:
    if group and not _DNS_1123_SUBDOMAIN.fullmatch(group):
        raise _refusal("BAD_GROUP", "the API group is not a lower-case DNS name")
    if not _DNS_1035_LABEL.fullmatch(version):
        raise _refusal("BAD_VERSION", "the API version is not a lower-case DNS label")
    if namespace and not _DNS_1123_LABEL.fullmatch(namespace):
        raise _refusal("BAD_NAMESPACE", "the namespace is not a lower-case DNS label")
    grammar = _METRIC_NAME if group in _METRICS_GROUPS else _DNS_1035_LABEL
    if not grammar.fullmatch(resource):
        raise _refusal("BAD_RESOURCE", "the resource is not a lower-case plural name")
    if subresource and not grammar.fullmatch(subresource):
        raise _refusal("BAD_SUBRESOURCE", "the subresource is not a lower-case name")


def _refusal(reason: str, message: str) -> TargetRefusal:
    return TargetRefusal(reason, 400, message)
