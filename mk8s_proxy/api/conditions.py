"""ETag, If-Match and If-None-Match (RFC 9110, 8.8.3 and 13).

The tag of a thing that can be changed has two parts: the revision of what can be changed, by which
`If-Match` compares, and a digest of the whole answer, by which `If-None-Match` does. So a heartbeat
of a cluster makes its answer new, but does not refuse somebody who changes its labels.
"""

import dataclasses
import hashlib
import re

from aiohttp import hdrs, web

from mk8s_proxy.api.errors import ApiError
from mk8s_proxy.api.schemas import Model
from mk8s_proxy.db.revisions import Condition

_TAGS = re.compile(r'(?:\s*(?:W/)?"[!#-~\x80-\xff]*"\s*(?:,|$))+')
_TAG = re.compile(r'(W/)?"([!#-~\x80-\xff]*)"')
PATTERN = r'^(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)$'
"""For the description: what `_TAGS` takes, in JSON Schema's words."""
_DIGITS = 32
"""Hexadecimal ones of SHA-256 that are kept: 128 bits."""


@dataclasses.dataclass(frozen=True, slots=True)
class Versioned:
    """What a handler answers about a thing that can be changed."""

    model: Model
    revision: str


def condition_of(request: web.Request) -> Condition | None:
    """Return what a change is bound to, None if to nothing.

    Raises:
        ApiError: The headers are malformed, or ask for what a change cannot be bound to.
    """
    if (tags := _tags(request, hdrs.IF_NONE_MATCH)) is not None:
        if tags:
            raise ApiError.invalid(hdrs.IF_NONE_MATCH, 'of a change it can be "*" only', code=400)
        return Condition(absent=True)
    tags = _tags(request, hdrs.IF_MATCH)
    if tags is None:
        return None
    # Weak ones never match here (RFC 9110, 13.1.1).
    strong = frozenset(tag.partition(".")[0] for weak, tag in tags if not weak)
    return Condition(strong if tags else None)


def tag(body: bytes, revision: str = "") -> str:
    """Return the ETag of an answer."""
    digest = hashlib.sha256(body).hexdigest()[:_DIGITS]
    return f'"{revision}.{digest}"' if revision else f'"{digest}"'


def is_known(request: web.Request, etag: str) -> bool:
    """Say whether the client has this answer already.

    Raises:
        ApiError: The header is malformed.
    """
    tags = _tags(request, hdrs.IF_NONE_MATCH)
    if tags is None:
        return False
    return not tags or any(f'"{known}"' == etag for _, known in tags)


def _tags(request: web.Request, name: str) -> list[tuple[str, str]] | None:
    """The tags of a header, none for "*"; None without the header."""
    values = request.headers.getall(name, ())
    if not values:
        return None
    text = ", ".join(values).strip()
    if text == "*":
        return []
    if not _TAGS.fullmatch(text):
        raise ApiError.invalid(
            name, 'must be "*" or tags as in ETag, with commas between', code=400
        )
    return [(weak, known) for weak, known in _TAG.findall(text)]
