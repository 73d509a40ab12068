"""The question that authorization answers, and the answer.

`required_attributes` is called by `snapshot` for every request; most requests ask one
question, some two or three, and all must be allowed.
"""

# compiled: one for each decision

from dataclasses import dataclass, replace
from typing import Final, Protocol

from mk8s_proxy.authz.scopes import Scope, scope_of
from mk8s_proxy.kube.request_info import RequestInfo

_POD_STREAMS: Final = frozenset({"exec", "attach", "portforward"})
_APPLY_TYPES: Final = (b"application/apply-patch+yaml", b"application/apply-patch+cbor")


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a user wants to do, in the words of Kubernetes's `authorizer.Attributes`."""

    verb: str
    api_group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    """Only for a non-resource request, else empty: equal questions must compare equal."""
    is_resource_request: bool = True
    scope: Scope | None = None
    """What the cluster itself says; None: `scopes` knows it, or nobody does."""
    guarded: bool = False
    """Only a rule that names the API group allows it (`powers`)."""

    @property
    def place(self) -> Scope:
        """Where the objects of the resource live."""
        return self.scope or scope_of(self.api_group, self.resource)


class Visibility(Protocol):
    """Which objects of a collection a user may see (`visibility.CollectionVisibility`)."""

    def allows(self, namespace: str, name: str) -> bool:
        """Whether the object of this namespace (empty: none) and name is visible."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to one question. `Decision()` denies."""

    allowed: bool = False
    reason: str = "no rule was asked"
    """For the user and the audit row; never empty."""
    rule: str = ""
    """The rule that decided, such as "role developer, rule 2", counted from 1; empty if none."""
    visibility: Visibility | None = None
    """What of the collection the user may see; None: all of it, or the request is about none."""
    groups: tuple[str, ...] = ()
    """The groups of roles with which an allowed request goes into the cluster."""


def required_attributes(
    info: RequestInfo, upgrade: bool, content_type: bytes
) -> tuple[Attributes, ...]:
    """List what must be allowed for a request: all of it, the request's own attributes first.

    Kubernetes authorizes by HTTP method, which lets `get pods/exec` open a shell over WebSocket
    (closed in 1.35 only). Here whoever opens a stream or may create something needs `create`,
    on every version of the cluster and over both transports. A watch over WebSocket tells no more
    than a plain one and takes nothing in: `watch` is enough.

    Args:
        info: the request.
        upgrade: whether it asks to upgrade the connection.
        content_type: the Content-Type header, empty if none.
    """
    if not info.is_resource_request:
        return (Attributes(info.verb, path=info.path, is_resource_request=False),)
    main = Attributes(
        info.verb, info.api_group, info.resource, info.subresource, info.namespace, info.name
    )
    if not (info.subresource or upgrade or info.verb == "patch"):
        return (main,)
    required = [main]
    if info.verb != "create" and (
        (upgrade and not info.watches_objects)
        or _opens_stream(main)
        or (info.verb == "patch" and is_apply(content_type))
    ):
        required.append(replace(main, verb="create"))
    if _adds_container(main):
        required.append(replace(main, verb="create", subresource="exec"))
    return tuple(required)


def is_apply(content_type: bytes) -> bool:
    """Whether a PATCH of this type is a server-side apply, which creates what does not exist."""
    return content_type.partition(b";")[0].strip().lower() in _APPLY_TYPES


def _opens_stream(attributes: Attributes) -> bool:
    if attributes.api_group:
        return False
    if attributes.resource == "pods":
        return attributes.subresource in _POD_STREAMS
    return attributes.resource == "nodes" and attributes.subresource == "proxy"


def _adds_container(attributes: Attributes) -> bool:
    """An ephemeral container runs a command of the user's choice in the Pod: the same as exec."""
    return (
        attributes.subresource == "ephemeralcontainers"
        and attributes.resource == "pods"
        and not attributes.api_group
        and attributes.verb not in ("get", "list", "watch")
    )
