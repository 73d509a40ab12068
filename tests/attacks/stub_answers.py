"""What the stub API server answers: small objects, lists, watches, and what a hostile pod sends.

Pure: a target goes in, an `Answer` comes out; `stub` puts it on the wire as HTTP/2 or HTTP/1.1.
What is asked for is in the last segment of the path, e.g. `.../services/x/proxy/huge-head-600`,
or of a list in its label selector.
"""

import gzip
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import repeat

KIB = 1024
Fields = list[tuple[bytes, bytes]]

BODY = json.dumps(
    {
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "metadata": {"name": "item", "namespace": "default"},
        "data": {"fill": "x" * 1900},
    }
).encode()
EVENT = (
    b'{"type":"BOOKMARK","object":{"kind":"Pod","apiVersion":"v1",'
    b'"metadata":{"resourceVersion":"1"}}}\n'
)
HIDDEN = "bank"
"""A name in a namespace that the attacker may not see."""
_MODE = re.compile(r"/([a-z]+(?:-[a-z]+)*)-([0-9]+)$")
_SELECTED = re.compile(r"labelSelector=([a-z]+)-([0-9]+)")
_LIST_HEAD = b'{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"1"%s},"items":['
_CHUNK = b"y" * (64 * KIB)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, and what surrounds it."""

    status: int = 200
    fields: Fields = field(default_factory=list)
    body: Iterable[bytes] = ()
    stays_open: bool = False
    informational: int = 0
    """So many 103s before it."""
    trailers: Fields = field(default_factory=list)
    silent: bool = False
    """No answer ever."""


def answer_to(method: str, target: str) -> Answer:
    """What the cluster says to a request."""
    path, _, query = target.partition("?")
    if found := _MODE.search(path) or _SELECTED.search(query):
        made = _hostile(found[1], int(found[2]))
        if made is not None:
            return made
    if path == "/version":
        return _json(b'{"major":"1","minor":"30","gitVersion":"v1.30.0-stub"}')
    if re.search(r"(^|&)watch=(1|true)", query):
        return _json(EVENT, stays_open=True)
    if method == "GET" and path.endswith("/pods"):
        return _json(*pod_list(query))
    return _json(BODY, status=201 if method == "POST" else 200)


def pod_list(query: str) -> Iterator[bytes]:
    """Pods of two namespaces, cut into pages as an API server cuts them; Go reads "+1" as 1."""
    found = re.search(r"(^|&)limit=(?:%2[bB])?0*([0-9]+)", query)
    limit = int(found[2]) if found else 0
    pods = [
        (f"p{number}", "other" if number % 2 else "default") for number in range(20)
    ] + [(HIDDEN, "hidden")]  # fmt: skip
    if name := re.search(r"metadata\.name%3[dD]([a-z0-9-]+)", query):
        pods = [pod for pod in pods if pod[0] == name[1]]
    more = b',"continue":"next"' if limit and limit < len(pods) else b""
    yield _LIST_HEAD % more
    shown = pods[:limit] if limit else pods
    yield b",".join(
        json.dumps({"metadata": {"name": name, "namespace": space}}).encode()
        for name, space in shown
    )
    yield b"]}"


def _json(*pieces: bytes, status: int = 200, stays_open: bool = False) -> Answer:
    kind = (b"content-type", b"application/json")
    return Answer(status, [kind], pieces, stays_open=stays_open)


def _hostile(mode: str, size: int) -> Answer | None:
    """What a pod or an aggregated API sends that means harm; None for an ordinary name."""
    kind = (b"content-type", b"application/json")
    if mode == "bulk":
        return Answer(200, [kind], repeat(_CHUNK, size))
    if mode == "huge-head":
        return Answer(200, _many(size, KIB), (BODY,))
    if mode == "fields":
        return Answer(200, _many(size, 1), (BODY,))
    if mode == "informational":
        return Answer(200, [kind], (BODY,), informational=size)
    if mode == "huge-trailers":
        return Answer(200, [kind], (BODY,), trailers=_many(size, KIB))
    if mode == "silence":
        return Answer(silent=True)
    if mode == "gives-cookies":
        return Answer(200, [kind, *_PRESENTS], (BODY,))
    if mode == "redirects":
        return Answer(302, [(b"location", b"http://169.254.169.254/latest/")], ())
    if mode == "unauthorized":
        return Answer(401, [kind], (b"{}",))
    return _list_of(mode, size)


@cache
def _many(count: int, size: int) -> Fields:
    return [(b"x-%d" % number, b"h" * size) for number in range(count)]


_PRESENTS: Fields = [
    (b"set-cookie", b"session=stolen; Path=/"),
    (b"alt-svc", b'h2="evil.example.com:443"'),
    (b"strict-transport-security", b"max-age=1"),
    (b"refresh", b"0; url=https://evil.example.com"),
]


def _list_of(mode: str, size: int) -> Answer | None:
    """Lists that are hard to filter."""
    kind = (b"content-type", b"application/json")
    start = _LIST_HEAD % b""
    if mode == "deep":
        return Answer(200, [kind], _nested(start, b'{"a":', b"1", b"}", size))
    if mode == "brackets":
        return Answer(200, [kind], _nested(start, b"[", b"", b"]", size))
    if mode == "one":
        return Answer(200, [kind], _one_object(start, size))
    if mode == "metadata":
        head = b'{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"1","x":"'
        return Answer(200, [kind], (head, *repeat(_CHUNK, size), b'"},"items":[]}'))
    if mode == "bomb":
        return Answer(200, [kind, (b"content-encoding", b"gzip")], (_bomb(size),))
    return None


def _nested(start: bytes, left: bytes, middle: bytes, right: bytes, depth: int) -> Iterator[bytes]:
    yield start + b'{"metadata":{"name":"p","namespace":"default"},"spec":'
    yield from _in_pieces(left, depth)
    yield middle
    yield from _in_pieces(right, depth)
    yield b"}]}"


def _in_pieces(word: bytes, count: int) -> Iterator[bytes]:
    at_once = 8 * KIB
    while count > 0:
        yield word * min(count, at_once)
        count -= at_once


def _one_object(start: bytes, size: int) -> Iterator[bytes]:
    yield start + b'{"metadata":{"name":"p","namespace":"default"},"spec":{"x":"'
    yield from repeat(_CHUNK, size)
    yield b'"}}]}'


BOMB_MIB = 64


@cache
def _bomb(mebibytes: int) -> bytes:
    """A list of one object of so many MiB, in a thousandth of that."""
    start = _LIST_HEAD % b"" + b'{"metadata":{"name":"p","namespace":"default"},"spec":{"x":"'
    return gzip.compress(start + b"z" * (mebibytes * KIB * KIB) + b'"}}]}', 9)
