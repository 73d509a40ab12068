"""Media types: the form that a client accepts, answers in it, bodies out of it; for every handler.

Source: apiserver, `endpoints/handlers/negotiation` and `responsewriters`. JSON, YAML and CBOR are
written, protobuf is only read: clients that prefer it accept JSON too.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cbor2
import yaml
from aiohttp import web

from mk8s_cli.demo_api.objects import ApiError, Document
from mk8s_proxy.kube import cbor

JSON, YAML, CBOR = "application/json", "application/yaml", "application/cbor"
PROTOBUF = "application/vnd.kubernetes.protobuf"
SELF_DESCRIBED = 55799
"""CBOR's tag for what is CBOR (RFC 8949, 3.4.6)."""
SERVED = (JSON, YAML, CBOR)
"""In the order in which a client that takes everything gets them."""
READ = (JSON, YAML, PROTOBUF, CBOR)
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
STREAMED = {JSON: JSON, CBOR: "application/cbor-seq"}
"""The Content-Type of a watch in each form that has one."""
GZIP_BYTES = 128 << 10
"""Answers that are larger are compressed for who accepts it, as kube-apiserver does."""
PEOPLE = ("curl", "Wget", "Mozilla/5.0")
"""Beginnings of the User-Agents that get JSON with line breaks."""
META_VERSIONS = ("v1", "v1beta1")
NO_CACHE = {"Cache-Control": "no-cache, private"}
"""Of every answer."""


@dataclass(frozen=True, slots=True)
class Form:
    """A form of answers: the media type, and what objects are turned into ("": nothing)."""

    media: str = JSON
    kind: str = ""
    """"Table", "PartialObjectMetadata" or "PartialObjectMetadataList"."""


def accepted(accept: str, kinds: Iterable[str] = (), served: Iterable[str] = SERVED) -> Form:
    """The form that suits an Accept header best; raises 406.

    `kinds` are those that objects may be turned into here, `served` the media types that there are.
    """
    known = tuple(served)
    for clause in sorted((accept or "*/*").split(","), key=_quality, reverse=True):
        media, *parts = (part.strip() for part in clause.split(";"))
        parameters = dict(part.partition("=")[::2] for part in parts)
        found = next((it for it in known if _matches(media, it)), None)
        if found and _is_allowed(parameters, tuple(kinds)):
            return Form(found, parameters.get("as", ""))
    words = f"only the following media types are accepted: {', '.join(known)}"
    raise ApiError(406, words, "NotAcceptable")


def _quality(clause: str) -> float:
    """The `q` of a clause; of equal ones the first wins."""
    _, _, text = clause.replace(" ", "").partition(";q=")
    try:
        return float(text.partition(";")[0] or 1)
    except ValueError:
        return 0.0


def _matches(wanted: str, media: str) -> bool:
    return wanted in {media, "*/*", media.partition("/")[0] + "/*"}


def _is_allowed(parameters: dict[str, str], kinds: tuple[str, ...]) -> bool:
    """Whether the parameters of a clause ask for what can be done; others are of no account."""
    if parameters.get("stream", "watch") not in {"watch", ""} or parameters.get("sv"):
        return False
    if not parameters.keys() & {"as", "g", "v"}:
        return True
    is_meta = parameters.get("g") == "meta.k8s.io" and parameters.get("v") in META_VERSIONS
    return is_meta and parameters.get("as") in kinds


def encode(document: Document, media: str, *, pretty: bool = False) -> bytes:
    """A document in a media type of `SERVED`; JSON ends with a line break."""
    if media == CBOR:
        return cbor.encode(document)
    if media == YAML:
        return yaml.dump(document, Dumper=DUMPER).encode()
    text = json.dumps(document, indent=2) if pretty else json.dumps(document, separators=(",", ":"))
    return f"{text}\n".encode()


def event(kind: str, item: Document, media: str) -> bytes:
    """An event of a watch; in CBOR its object says by itself what it is."""
    shown = cbor2.CBORTag(SELF_DESCRIBED, item) if media == CBOR else item
    return encode({"type": kind, "object": shown}, media)


def is_pretty(request: web.Request) -> bool:
    """Whether the client wants JSON for people."""
    if wish := request.query.get("pretty"):
        return wish.lower() in {"1", "t", "true"}
    return request.headers.get("User-Agent", "").startswith(PEOPLE)


def answer(request: web.Request, document: Document, form: Form, status: int = 200) -> web.Response:
    """A document as an answer in a form."""
    raw = encode(document, form.media, pretty=is_pretty(request))
    response = web.Response(body=raw, status=status, content_type=form.media, headers=NO_CACHE)
    if len(raw) > GZIP_BYTES and "gzip" in request.headers.get("Accept-Encoding", ""):
        response.headers["Vary"] = "Accept-Encoding"
        response.enable_compression(web.ContentCoding.gzip)
    return response


def refusal(request: web.Request, error: ApiError) -> web.Response:
    """A Status, in JSON for who accepts nothing that there is."""
    try:
        form = accepted(request.headers.get("Accept", ""))
    except ApiError:
        form = Form()
    return answer(request, error.status, form, error.code)


def media_of(request: web.Request) -> str:
    """The media type of a body; without a word about it, it is JSON."""
    return request.content_type if request.headers.get("Content-Type") else JSON


def unsupported(known: Iterable[str]) -> ApiError:
    """415, which names what would be read."""
    words = "the body of the request was in an unknown format - accepted media types include"
    return ApiError(415, f"{words}: {', '.join(known)}", "UnsupportedMediaType")


def decode(raw: bytes, media: str) -> Any:
    """What a body says in JSON, YAML or CBOR, or in a patch type of their families; raises 400."""
    try:
        if media.endswith("yaml"):
            return yaml.safe_load(raw)
        return cbor.decode(raw) if media.endswith("cbor") else json.loads(raw)
    except (ValueError, yaml.YAMLError, cbor.CborError, RecursionError) as error:
        raise ApiError(400, f"the body cannot be read: {error}") from error
