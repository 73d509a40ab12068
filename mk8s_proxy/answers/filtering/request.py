"""What changes in a request whose answer will be filtered; pure. Called by `interceptor`.

The audit row keeps what the client sent.
"""

from typing import Final, NamedTuple
from urllib.parse import quote_from_bytes

from mk8s_proxy.answers.filtering.continue_token import TokenSeal
from mk8s_proxy.kube.list_options import read_int64
from mk8s_proxy.kube.request_target import decode_parameter
from mk8s_proxy.kube.status import bad_request

Headers = tuple[tuple[bytes, bytes], ...]

JSON: Final = b"application/json"
CBOR: Final = b"application/cbor"
PROTOBUF: Final = b"application/vnd.kubernetes.protobuf"
_AS_JSON: Final = frozenset(
    {
        JSON, b"*/*", b"application/*", b"application/yaml", CBOR, PROTOBUF,
    }
)  # fmt: skip
"""Media types for which JSON is asked instead; the cluster is not asked for any other."""
_KEPT_PARAMETERS: Final = frozenset({b"as", b"g", b"v", b"q"})
_DROPPED: Final = frozenset(
    {
        b"accept", b"accept-encoding", b"range", b"if-range", b"if-match", b"if-none-match",
        b"if-modified-since", b"if-unmodified-since",
    }
)  # fmt: skip
"""A compressed, partial or conditional answer cannot be judged."""


MINIMUM_PAGE: Final = 500
"""Objects of a page, at least; a client's smaller limit is raised to it. Whether a page is followed
by another tells whether hidden objects match the client's selectors: with pages of one object,
names and labels could be probed for. (A server may ignore the limit, says metav1.ListOptions.)"""


class FilteredTarget(NamedTuple):
    """The target to forward."""

    raw: bytes
    strip_rows: bool
    """The client asked for table rows without objects, which the filter needs."""


def json_accept(accept: bytes) -> bytes:
    """The Accept header that allows the same representations, in JSON only."""
    clauses = []
    for clause in accept.split(b","):
        media_type, *parameters = (part.strip() for part in clause.split(b";"))
        if media_type.lower() not in _AS_JSON:
            continue
        kept = [one for one in parameters if one.partition(b"=")[0].lower() in _KEPT_PARAMETERS]
        if b"q=0" not in kept:
            clauses.append(b";".join((JSON, *kept)))
    return b",".join(dict.fromkeys(clauses)) or JSON


def judgeable_headers(headers: Headers) -> Headers:
    """The headers to relay so that the answer is whole, plain JSON."""
    accept = b",".join(value for name, value in headers if name == b"accept")
    kept = tuple(field for field in headers if field[0] not in _DROPPED)
    return (*kept, (b"accept", json_accept(accept)))


def filtered_target(raw: bytes, seal: TokenSeal, about: bytes) -> FilteredTarget:
    """The target to forward instead of `raw`.

    Args:
        raw: path and query, as they passed `parse_target`: no parameter comes twice.
        seal: opens the client's page token.
        about: what the token must have been sealed for.

    Raises:
        TokenExpired: the client's page token is not one that it got for this list.
        StatusError: 400, the limit is no number.
    """
    path, mark, query = raw.partition(b"?")
    strip_rows = False
    pairs = []
    for pair in query.split(b"&"):
        key, _, value = (decode_parameter(part) for part in pair.partition(b"="))
        if key == b"includeObject" and value == b"None":
            strip_rows = True
            pairs.append(b"includeObject=Metadata")
        elif key == b"continue" and value:
            token = quote_from_bytes(seal.unseal(value, about), safe="")
            pairs.append(b"continue=" + token.encode("ascii"))
        elif key == b"limit":
            pairs.append(b"limit=%d" % _page(value))
        else:
            pairs.append(pair)
    return FilteredTarget(path + mark + b"&".join(pairs), strip_rows)


def _page(limit: bytes) -> int:
    """The limit to ask with: none where none was meant, and written in one way only."""
    asked = read_int64(limit)
    if asked is None:
        raise bad_request("limit is no number")
    return max(asked, MINIMUM_PAGE) if asked > 0 else 0
