"""Reviews as JSON, YAML, CBOR and protobuf: read into one shape, written as they came.

The shape is the JSON of authorization.k8s.io and authentication.k8s.io, v1 and v1beta1. Protobuf
comes in the envelope that every Kubernetes object has (`k8s`, a zero byte and a runtime.Unknown);
field numbers are those of generated.proto in k8s.io/api, the same in v1 and v1beta1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import orjson
import yaml

from mk8s_proxy.kube import cbor
from mk8s_proxy.kube.cbor import CborError
from mk8s_proxy.kube.protobuf import (
    MAGIC,
    Embedded,
    Flag,
    Message,
    ProtobufError,
    Schema,
    Text,
    decode,
    encode,
)

JSON: Final = b"application/json"
YAML: Final = b"application/yaml"
PROTOBUF: Final = b"application/vnd.kubernetes.protobuf"
CBOR: Final = b"application/cbor"
MEDIA_TYPES: Final = frozenset({JSON, YAML, PROTOBUF, CBOR})

ACCESS_REVIEW: Final = "SelfSubjectAccessReview"
RULES_REVIEW: Final = "SelfSubjectRulesReview"
TOKEN_REVIEW: Final = "TokenReview"

_AUTHORIZATION: Final = frozenset({"authorization.k8s.io/v1", "authorization.k8s.io/v1beta1"})
_API_VERSIONS: Final = {
    ACCESS_REVIEW: _AUTHORIZATION,
    RULES_REVIEW: _AUTHORIZATION,
    TOKEN_REVIEW: frozenset({"authentication.k8s.io/v1", "authentication.k8s.io/v1beta1"}),
}

_RESOURCE: Final[Schema] = {
    number: Text(name)
    for number, name in enumerate(
        ("namespace", "verb", "group", "version", "resource", "subresource", "name"), start=1
    )
}
_NON_RESOURCE: Final[Schema] = {1: Text("path"), 2: Text("verb")}
_ACCESS_SPEC: Final[Schema] = {
    1: Embedded("resourceAttributes", _RESOURCE),
    2: Embedded("nonResourceAttributes", _NON_RESOURCE),
}
_ACCESS_STATUS: Final[Schema] = {
    1: Flag("allowed"),
    2: Text("reason"),
    3: Text("evaluationError"),
    4: Flag("denied"),
}
_RESOURCE_RULE: Final[Schema] = {
    1: Text("verbs", repeated=True),
    2: Text("apiGroups", repeated=True),
    3: Text("resources", repeated=True),
    4: Text("resourceNames", repeated=True),
}
_NON_RESOURCE_RULE: Final[Schema] = {
    1: Text("verbs", repeated=True),
    2: Text("nonResourceURLs", repeated=True),
}
_RULES_STATUS: Final[Schema] = {
    1: Embedded("resourceRules", _RESOURCE_RULE, repeated=True),
    2: Embedded("nonResourceRules", _NON_RESOURCE_RULE, repeated=True),
    3: Flag("incomplete"),
    4: Text("evaluationError"),
}
_TOKEN_SPEC: Final[Schema] = {1: Text("token"), 2: Text("audiences", repeated=True)}
_USER: Final[Schema] = {1: Text("username"), 2: Text("uid"), 3: Text("groups", repeated=True)}
_TOKEN_STATUS: Final[Schema] = {
    1: Flag("authenticated"),
    2: Embedded("user", _USER),
    3: Text("error"),
    4: Text("audiences", repeated=True),
}
_SCHEMAS: Final[dict[str, Schema]] = {
    ACCESS_REVIEW: {2: Embedded("spec", _ACCESS_SPEC), 3: Embedded("status", _ACCESS_STATUS)},
    RULES_REVIEW: {
        2: Embedded("spec", {1: Text("namespace")}),
        3: Embedded("status", _RULES_STATUS),
    },
    TOKEN_REVIEW: {2: Embedded("spec", _TOKEN_SPEC), 3: Embedded("status", _TOKEN_STATUS)},
}
_TYPE_META: Final[Schema] = {1: Text("apiVersion"), 2: Text("kind")}
_ENVELOPE: Final[Schema] = {1: Embedded("typeMeta", _TYPE_META), 3: Text("contentEncoding")}
_RAW: Final = 2


class DocumentError(Exception):
    """A body that is no review of the kind that was asked for."""


@dataclass(frozen=True, slots=True)
class Document:
    """A review: what it says, and how to write it in the form it came in."""

    content: Message
    write: Callable[[Message], bytes]


def media_type(content_type: bytes) -> bytes:
    """The media type of a Content-Type header, without parameters; JSON if there is none."""
    return content_type.partition(b";")[0].strip().lower() or JSON


def read_answer(content_type: bytes, body: bytes, kind: str) -> Document:
    """Read what a cluster answered.

    Args:
        content_type: the header.
        body: whole and not compressed.
        kind: `ACCESS_REVIEW`, `RULES_REVIEW` or `TOKEN_REVIEW`.

    Raises:
        DocumentError: another kind, version or media type, or not to be understood.
    """
    document = read(content_type, body, kind)
    content = document.content
    if content.get("kind") != kind or content.get("apiVersion") not in _API_VERSIONS[kind]:
        raise DocumentError(f"not a {kind} of a known version")
    return document


def read(content_type: bytes, body: bytes, kind: str) -> Document:
    """Read a review that need not say its kind: the API server takes questions without it.

    Raises:
        DocumentError: another media type, or not to be understood.
    """
    form = media_type(content_type)
    if form not in MEDIA_TYPES:
        raise DocumentError("an unknown media type")
    try:
        return _read_protobuf(body, kind) if form == PROTOBUF else _read_text(form, body)
    except (ValueError, CborError, ProtobufError, yaml.YAMLError, RecursionError) as error:
        raise DocumentError(f"malformed: {type(error).__name__}") from error


def _read_text(form: bytes, body: bytes) -> Document:
    write: Callable[[Message], bytes]
    if form == JSON:
        content: Any = orjson.loads(body)
        write = _write_indented if body.lstrip().startswith(b"{\n") else _write_json
    elif form == CBOR:
        content, write = cbor.decode(body), cbor.encode
    else:
        content = yaml.load(body, _Loader)  # noqa: S506  a SafeLoader
        write = _write_yaml
    if not isinstance(content, dict):
        raise DocumentError("no object")
    return Document(content, write)


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _write_json(content: Message) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE)


def _write_indented(content: Message) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_INDENT_2)


def _write_yaml(content: Message) -> bytes:
    text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    return text.encode("utf-8")


def _read_protobuf(body: bytes, kind: str) -> Document:
    if not body.startswith(MAGIC):
        raise DocumentError("no Kubernetes object in protobuf")
    schema: Schema = {**_ENVELOPE, _RAW: Embedded("raw", _SCHEMAS[kind])}
    envelope = decode(schema, body[len(MAGIC) :])
    if envelope.get("contentEncoding"):
        raise DocumentError("encoded twice")
    content = {**envelope.get("typeMeta", {}), **envelope.get("raw", {})}

    def write(changed: Message) -> bytes:
        raw = {key: value for key, value in changed.items() if key not in ("kind", "apiVersion")}
        return MAGIC + encode(schema, {**envelope, "raw": raw})

    return Document(content, write)
