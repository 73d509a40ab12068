"""Request heads that came before, but for their target, are not read a second time.

Called by `mk8s_proxy.listener.http2` for each request. A client sends the same fields again and
again, `:path` apart, so what `request_headers` made of them is kept. It is a pure function of the
fields, so equal fields may share it; what was refused is read anew, and refused again.
"""

from typing import Final, NamedTuple

from mk8s_proxy.listener.request_head import (
    HEAD_BYTES,
    Field,
    RequestHead,
    head_bytes,
    is_target,
    read_http2_head,
)

_KEPT = 16384
"""As many as tokens are remembered: each has a head of its own."""
_KEPT_BYTES: Final = 4096
"""A head above this size is rare."""
_ALL_BYTES = 24 << 20
"""Of all heads together, which strangers can fill; those of 10,000 people's kubectl take 15 MiB."""


class _Repeated(NamedTuple):
    head: RequestHead
    size: int
    """What it counts without its target."""


class _Known:
    """What is remembered; all of it is forgotten when it becomes too much."""

    __slots__ = ("heads", "size")

    def __init__(self) -> None:
        self.heads: dict[tuple[object, ...], _Repeated] = {}
        self.size = 0

    def __len__(self) -> int:
        return len(self.heads)

    def clear(self) -> None:
        self.heads.clear()
        self.size = 0


_known: Final = _Known()


def read_repeated_head(
    fields: list[Field], end_stream: bool, limit: int = HEAD_BYTES, *, underscores: bool = False
) -> RequestHead:
    """As `request_headers.read_http2_head`, which it asks for what it has not seen.

    Raises:
        HeaderRefusal: as `request_headers.read_http2_head`.
    """
    place = 0
    for field in fields:
        if field[0] == b":path":
            break
        place += 1
    else:
        return read_http2_head(fields, end_stream, limit, underscores=underscores)
    target = fields[place][1]
    others = (place, end_stream, *fields[:place], *fields[place + 1 :])
    known = _known.heads.get(others)
    if known is None:
        return _read_and_keep(fields, end_stream, limit, others, underscores)
    if len(target) > limit - known.size or not is_target(target):
        return read_http2_head(
            fields, end_stream, limit, underscores=underscores
        )  # it knows the reason
    head = known.head
    return RequestHead(head[0], target, *head[2:])


def _read_and_keep(
    fields: list[Field],
    end_stream: bool,
    limit: int,
    others: tuple[object, ...],
    underscores: bool,
) -> RequestHead:
    head = read_http2_head(fields, end_stream, limit, underscores=underscores)
    size = head_bytes(fields)
    if size <= _KEPT_BYTES:
        if len(_known) >= _KEPT or _known.size + size > _ALL_BYTES:
            _known.clear()
        _known.size += size
        without_target = size - len(head.target)
        _known.heads[others] = _Repeated(head._replace(target=b""), without_target)
    return head
