"""Why a request head is refused: one table from reason code to status and sentence.

Raised by `mk8s_proxy.listener.request_head`, `mk8s_proxy.listener.http1_head` and
`mk8s_proxy.listener.upgrade_head`; caught by the chain, which answers a Kubernetes Status and
writes the reason into the audit row. No sentence repeats a header's value: it may be a credential.
"""

from typing import Final

_UNAUTHORIZED: Final = 401
_BAD_REQUEST: Final = 400

_REASONS: Final[dict[str, tuple[int, str]]] = {
    "METHOD": (405, "the method must be one of GET, HEAD, POST, PUT, PATCH and DELETE"),
    "TARGET_FORM": (_BAD_REQUEST, "the request target must be a path that starts with '/'"),
    "RAW_ILLEGAL": (_BAD_REQUEST, "the request target holds a byte that must be percent-encoded"),
    "REQUEST_LINE": (_BAD_REQUEST, "the request line must be 'METHOD /path HTTP/1.1'"),
    "HTTP_VERSION": (_BAD_REQUEST, "only HTTP/1.0, HTTP/1.1 and HTTP/2 are spoken here"),
    "PSEUDO_HEADER": (
        _BAD_REQUEST,
        "send :method, :scheme, :authority and :path once each, before every other header",
    ),
    "HOST": (_BAD_REQUEST, "send exactly one host name, without user information"),
    "BARE_CR": (_BAD_REQUEST, "a carriage return must be followed by a line feed"),
    "BARE_LF": (_BAD_REQUEST, "a line feed must follow a carriage return"),
    "OBS_FOLD": (_BAD_REQUEST, "a header must not be folded over several lines"),
    "BAD_HEADER": (_BAD_REQUEST, "a header line must be 'Name: value'"),
    "BAD_HEADER_NAME": (_BAD_REQUEST, "a header name holds a byte that names must not hold"),
    "BAD_HEADER_VALUE": (_BAD_REQUEST, "a header value holds a control byte or outer space"),
    "UNDERSCORE_HEADER": (_BAD_REQUEST, "this header name must not hold '_': write '-'"),
    "RESERVED_HEADER": (_BAD_REQUEST, "headers of mk8s itself are not for clients to send"),
    "HEADER_TOO_LARGE": (
        431,
        "path and query are over 256 KiB, or the rest of the head over 64 KiB or 100 headers",
    ),
    "LONG_HEADS": (429, "too many long request heads arrive at once: try again"),
    "DUP_HEADER": (_BAD_REQUEST, "this header may be sent once only"),
    "CONNECTION_HEADER": (_BAD_REQUEST, "HTTP/2 has no headers about the connection"),
    "CONNECTION_OPTION": (
        _BAD_REQUEST,
        "Connection names a header that must not be taken out of a request, or none",
    ),
    "UPGRADE_TOKEN": (
        _BAD_REQUEST,
        "an upgrade needs HTTP/1.1, 'Connection: Upgrade' and one of websocket and SPDY/3.1",
    ),
    "UPGRADE_ROUTE": (_BAD_REQUEST, "this path cannot be upgraded"),
    "UPGRADE_BODY": (_BAD_REQUEST, "a request for an upgrade must not have a body"),
    "WEBSOCKET_HEAD": (
        _BAD_REQUEST,
        "a WebSocket needs GET, one Sec-WebSocket-Key and 'Sec-WebSocket-Version: 13'",
    ),
    "SUBPROTOCOL": (
        _BAD_REQUEST,
        "Sec-WebSocket-Protocol must offer a protocol beside the bearer token",
    ),
    "CL": (_BAD_REQUEST, "Content-Length must be sent once, in digits, and be true"),
    "TE": (_BAD_REQUEST, "Transfer-Encoding may only be 'chunked', once"),
    "CL_TE": (_BAD_REQUEST, "send Content-Length or Transfer-Encoding, not both"),
    "BODY_ON_GET": (
        _BAD_REQUEST,
        "a body of GET or HEAD needs a Content-Length, of 16 KiB at most",
    ),
    "CONTENT_CODING": (_BAD_REQUEST, "this Content-Encoding is not known here"),
    "BROWSER_ORIGIN": (
        403,
        "web pages may not call this address: send no Origin, or the token in Authorization",
    ),
    "IMPERSONATION_FROM_CLIENT": (403, "impersonation is not offered here: act as yourself"),
    "IMPERSONATION_USER": (403, "acting as a group or uid needs a user too: kubectl --as USER"),
    "IMPERSONATION_HEADER": (
        403,
        "impersonation takes one user, one uid, 64 headers and 256 printable bytes each, at most",
    ),
    "IMPERSONATION_CASE": (403, "users of mk8s are written in lower case"),
    "IMPERSONATION_RESERVED": (
        403,
        "nobody acts as system:* or mk8s:* here, nor gives keys of mk8s.io or k8s.io",
    ),
    "DUP_AUTHORIZATION": (_UNAUTHORIZED, "send exactly one Authorization header"),
    "BAD_AUTHORIZATION": (_UNAUTHORIZED, "the credential must be 'Authorization: Bearer <token>'"),
    "TWO_CREDENTIALS": (
        _UNAUTHORIZED,
        "send the token in Authorization or as a WebSocket subprotocol, not in both",
    ),
    "NO_CREDENTIAL": (_UNAUTHORIZED, "no credential was sent: run 'mk8s login'"),
}
REASONS: Final = frozenset(_REASONS)
"""Every reason code a `HeaderRefusal` can carry."""


class HeaderRefusal(Exception):
    """A request head that mk8s does not take; nothing was sent to a cluster.

    Args:
        reason: one of `REASONS`, the word in the audit row.
        name: the header it is about, if one; shown escaped and cut to 64 bytes.
    """

    def __init__(self, reason: str, name: bytes = b"") -> None:
        self.reason = reason
        """The reason code, such as DUP_AUTHORIZATION."""
        self.code, sentence = _REASONS[reason]
        shown = name[:64].decode("ascii", "backslashreplace")
        prefix = f"header {shown!r}: " if name else ""
        self.message = prefix + sentence
        """One line for the client: what is wrong and what to do."""
        super().__init__(f"{reason}: {self.message}")


def no_credential() -> HeaderRefusal:
    """The refusal (401) of a head whose `authorization` is empty; the handler chain raises it."""
    return HeaderRefusal("NO_CREDENTIAL")
