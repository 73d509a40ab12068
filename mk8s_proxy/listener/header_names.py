"""What happens to each request header, by name: the one list a reviewer has to read.

Used by `mk8s_proxy.listener.request_head` for every field of every request. Names that are not
listed travel on unchanged, so that tools keep working, unless `action_of_unlisted` knows better.
"""

import re
from typing import Final

from mk8s_proxy.listener.refusals import HeaderRefusal

FORWARD: Final = 0
"""Relay it."""
DROP: Final = 1
"""Forget it: hop-by-hop, or something a client could use to speak in mk8s's name."""
NOTE: Final = 2
"""Relay it and hand its value to the handler chain."""
KEEP: Final = 3
"""Hand its value to the handler chain; never relayed as it came."""
IMPERSONATE: Final = 4
"""Hand it to the handler chain to judge; never relayed."""
CONNECTION: Final = 5
"""Refuse: a header about the connection, on HTTP/2 (RFC 9113, 8.2.2)."""

_COMMON: Final[dict[bytes, int]] = {
    # Every request of kubectl and client-go has some of these.
    b"accept": NOTE,
    b"accept-encoding": FORWARD,  # passed through: bodies are never decompressed here
    b"accept-language": FORWARD,
    b"cache-control": FORWARD,
    b"content-type": NOTE,
    b"if-match": FORWARD,
    b"if-none-match": FORWARD,
    b"kubectl-command": FORWARD,
    b"kubectl-session": FORWARD,
    b"pragma": FORWARD,
    b"range": FORWARD,
    b"traceparent": FORWARD,
    b"tracestate": FORWARD,
    b"user-agent": NOTE,
    b"x-stream-protocol-version": FORWARD,  # SPDY offers, repeated, in order
    # The handler chain's.
    b"audit-id": KEEP,  # replaced by our own; the client's is noted as untrusted
    b"authorization": KEEP,
    b"content-encoding": NOTE,
    b"content-length": KEEP,
    b"cookie": KEEP,  # for our own pages: a session must not reach a pod through services/proxy
    b"expect": KEEP,
    b"host": KEEP,
    b"origin": KEEP,
    b"te": KEEP,
    b"sec-websocket-key": KEEP,
    b"sec-websocket-protocol": KEEP,
    b"sec-websocket-version": KEEP,
    # Dropped.
    b"alt-used": DROP,
    b"http2-settings": DROP,
    b"proxy-authenticate": DROP,
    b"proxy-authorization": DROP,
    b"sec-websocket-accept": DROP,
    b"sec-websocket-extensions": DROP,  # a server may decline every extension
    b"trailer": DROP,
    b"via": DROP,
    b"x-forwarded-for": KEEP,  # for who the client is, and believed from our own proxies only
    b"x-method-override": DROP,
}

HTTP1_ACTIONS: Final[dict[bytes, int]] = _COMMON | {
    b"connection": KEEP,
    b"keep-alive": DROP,
    b"proxy-connection": DROP,
    b"transfer-encoding": KEEP,
    b"upgrade": KEEP,
}
HTTP2_ACTIONS: Final[dict[bytes, int]] = _COMMON | {
    b"connection": CONNECTION,
    b"keep-alive": CONNECTION,
    b"proxy-connection": CONNECTION,
    b"transfer-encoding": CONNECTION,
    b"upgrade": CONNECTION,
}

REPEATABLE: Final = frozenset(
    (
        b"accept",
        b"audit-id",
        b"connection",
        b"cookie",
        b"expect",
        b"sec-websocket-protocol",
        b"te",
        b"x-forwarded-for",
    )
)
"""Noted or kept headers that may come more than once: their values are joined, with a comma but for
cookies (RFC 9113, 8.2.3: browsers send one field for each)."""

DUPLICATE_REASONS: Final[dict[bytes, str]] = {
    b"authorization": "DUP_AUTHORIZATION",
    b"content-length": "CL",
    b"host": "HOST",
    b"origin": "BROWSER_ORIGIN",
    b"sec-websocket-key": "WEBSOCKET_HEAD",
    b"sec-websocket-version": "WEBSOCKET_HEAD",
    b"transfer-encoding": "TE",
    b"upgrade": "UPGRADE_TOKEN",
}
"""The reason code of a repeated header; DUP_HEADER for the others."""

# RFC 9110, 5.6.2 (token), lower-case, without "_": a hop that reads "_" as "-" sees another name.
_NAME: Final = re.compile(rb"[!#$%&'*+.^`|~0-9a-z-]+")
_IMPERSONATE_PREFIX: Final = b"impersonate"
_RESERVED_PREFIXES: Final = (b"mk8s-", b"x-mk8s-")
_DROPPED_PREFIXES: Final = (
    # Who or where the client is, how it came here and what it asked for, in the words of proxies
    # and CDNs. Here no such hop vouches for it, and backends believe it from their proxies.
    b"akamai-", b"ali-cdn-", b"cdn-", b"cf-", b"client-ip", b"cloudfront-", b"fastly-",
    b"forwarded", b"front-end-https", b"incap-", b"proxy-client-", b"true-client-", b"wl-proxy-",
    b"x-akamai-", b"x-amz-cf-", b"x-appengine-", b"x-arr-", b"x-azure-", b"x-client-ip",
    b"x-cluster-client-", b"x-envoy-", b"x-forward", b"x-originating-", b"x-proxyuser-", b"x-real-",
    b"x-remote-", b"x-scheme", b"x-true-", b"x-url-scheme",
    # Another host, path or method than the one that was authorised: some frameworks route by it.
    b"x-host", b"x-http-", b"x-original-", b"x-override-", b"x-rewrite-",
    # Who the user is, in the words of proxies that authenticate.
    b"remote-", b"ssl-client-", b"x-amzn-oidc-", b"x-auth-request-", b"x-authentik-",
    b"x-client-cert", b"x-client-dn", b"x-client-verify", b"x-goog-authenticated-user-",
    b"x-goog-iap-", b"x-ms-client-principal", b"x-ssl-", b"x-webauth-",
)  # fmt: skip
_DROPPED_SUFFIXES: Final = (
    b"client-ip", b"clientip", b"connecting-ip", b"real-ip", b"remote-addr", b"remote-ip",
    b"source-ip", b"src-ip", b"user-ip",
)  # fmt: skip
"""The client's address in the words of whichever product comes next."""
MAX_IMPERSONATION: Final = 64
"""Impersonate-* headers of one request."""
_ORDINARY: Final = re.compile(
    rb"(?!%b)[!#$%%&'*+.^`|~0-9a-z-]++%b"
    % (
        b"|".join((*_RESERVED_PREFIXES, _IMPERSONATE_PREFIX, *_DROPPED_PREFIXES)),
        b"".join(b"(?<!%b)" % suffix for suffix in _DROPPED_SUFFIXES),
    )
)
"""A name that means nothing here: one search instead of five, for as many names as a head holds."""


def action_of_unlisted(name: bytes, *, underscores: bool = False) -> int:
    """What to do with a header that has no entry of its own.

    Args:
        name: the lower-case name.
        underscores: whether a name with "_" may pass, if with "-" it would mean nothing either.

    Raises:
        HeaderRefusal: PSEUDO_HEADER, UNDERSCORE_HEADER, BAD_HEADER_NAME or RESERVED_HEADER.
    """
    if _ORDINARY.fullmatch(name):
        return FORWARD
    if _NAME.fullmatch(name) is None:
        fault = _name_fault(name)
        if underscores and fault == "UNDERSCORE_HEADER" and _means_nothing(name):
            return FORWARD
        raise HeaderRefusal(fault, name)
    if name.startswith(_RESERVED_PREFIXES):
        raise HeaderRefusal("RESERVED_HEADER", name)
    if name.startswith(_IMPERSONATE_PREFIX):
        return IMPERSONATE
    return DROP  # what else is not ordinary


def _means_nothing(name: bytes) -> bool:
    """Whether a hop that reads "_" as "-" sees a name that nobody here knows."""
    read = name.replace(b"_", b"-")
    return read not in HTTP1_ACTIONS and action_of_unlisted(read) == FORWARD


def _name_fault(name: bytes) -> str:
    if name.startswith(b":"):
        return "PSEUDO_HEADER"
    if _NAME.fullmatch(name.replace(b"_", b"-")):
        return "UNDERSCORE_HEADER"
    return "BAD_HEADER_NAME"
