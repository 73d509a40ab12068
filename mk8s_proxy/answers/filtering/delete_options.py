"""What a person asks of a deletion, and how that is asked for one object; pure.

Called by `collection_deletion`. kube-apiserver reads DeleteOptions from the body, or, if that is
empty, from the query. The deletion of one object gets them in the body, with the object's uid as
a precondition, so that nothing is deleted that has come into being under its name since.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote, quote_from_bytes

import orjson

from mk8s_proxy.answers.filtering.json_values import Unfilterable, unambiguous
from mk8s_proxy.answers.filtering.request import CBOR, JSON, MINIMUM_PAGE, PROTOBUF
from mk8s_proxy.kube import cbor
from mk8s_proxy.kube.cbor import CborError
from mk8s_proxy.kube.list_options import read_bool, read_int64
from mk8s_proxy.kube.protobuf import (
    MAGIC,
    UNKNOWN,
    Embedded,
    Flag,
    Number,
    ProtobufError,
    Schema,
    Text,
    decode,
)
from mk8s_proxy.kube.request_target import TargetRefusal, decode_parameter
from mk8s_proxy.kube.status import StatusError, bad_request

MAXIMUM_OPTIONS: Final = 64 * 1024
"""Bytes of a DeleteOptions body."""

_SELECTING: Final = (b"labelSelector", b"fieldSelector", b"shardSelector")
_FIRST_PAGE_ONLY: Final = (b"resourceVersion", b"resourceVersionMatch")
_PAGING: Final = (b"limit", b"continue")
_HARMLESS: Final = frozenset({b"timeoutSeconds", b"timeout", b"pretty", b"includeObject", b"watch"})
"""What selects nothing and changes no deletion. The list is closed: a parameter that is not known
here could select, and what it leaves out would be deleted."""
_WHOLE: Final = (
    "your role covers only a part of these objects, and their deletion cannot be cut into pages: "
    "leave out limit and continue"
)

Parameters = Mapping[bytes, list[bytes]]
Options = dict[str, Any]


def read_parameters(query: bytes) -> Parameters:
    """The values of every parameter of a query, decoded."""
    found: dict[bytes, list[bytes]] = {}
    for pair in query.split(b"&"):
        key, _, value = pair.partition(b"=")
        if key:
            found.setdefault(decode_parameter(key), []).append(decode_parameter(value))
    return found


def check_whole(parameters: Parameters) -> None:
    """Refuses what cannot be carried over to the list and the deletions by name.

    A page of a deletion is refused, since where a page ends hidden objects would say.

    Raises:
        StatusError: 400.
    """
    for key in parameters:
        if key not in _CARRIED and key.decode("utf-8", "replace") not in _IN_QUERY:
            name = key.decode("ascii", "backslashreplace")[:64]
            raise bad_request(
                "your role covers only a part of these objects, and it is not known what "
                f'"{name}" means for a part: leave it out'
            )
    if read_int64(_first(parameters, b"timeoutSeconds", b"0")) is None:
        raise bad_request("timeoutSeconds is no number")
    if read_int64(_first(parameters, b"limit", b"0")) != 0 or _first(parameters, b"continue"):
        raise bad_request(_WHOLE)


def list_query(parameters: Parameters, token: str, *, table: bool) -> str:
    """The query that lists one page of what is to be deleted.

    Args:
        parameters: those of the deletion.
        token: `continue` of the page before; empty for the first one.
        table: rows are asked for, which must say which objects they are about.
    """
    kept = _SELECTING if token else _SELECTING + _FIRST_PAGE_ONLY
    given = ((key.decode(), _first(parameters, key)) for key in kept)
    pairs = [f"{key}={quote_from_bytes(value, safe='')}" for key, value in given if value]
    pairs.append(f"limit={MINIMUM_PAGE}")
    if token:
        pairs.append(f"continue={quote(token, safe='')}")
    if table:
        pairs.append("includeObject=Metadata")
    return "&".join(pairs)


def read_options(body: bytes, content_type: bytes, parameters: Parameters) -> Options:
    """The DeleteOptions that a request carries.

    Raises:
        StatusError: 400 for what cannot be read, 415 for a media type that is none of those here.
    """
    if not body:
        return _options_of_query(parameters)
    read = _READERS.get(content_type.partition(b";")[0].strip().lower())
    if read is None:
        message = (
            "a deletion that is limited to what you may see takes its options as JSON, CBOR or "
            "protobuf"
        )
        raise StatusError(415, "UnsupportedMediaType", message)
    try:
        options = read(body)
    except (CborError, ProtobufError, Unfilterable) as error:
        raise bad_request("the options in the body of the request cannot be read") from error
    if not isinstance(options, dict):
        raise bad_request("the body of the request is no DeleteOptions")
    if not isinstance(options.get("preconditions"), dict | None):
        raise bad_request("the preconditions of the request are no object")
    return options


def _read_protobuf(body: bytes) -> Options:
    """Generated.proto of apimachinery's meta/v1, in the envelope of every Kubernetes object."""
    if not body.startswith(MAGIC):
        raise ProtobufError("no Kubernetes object")
    envelope = decode(_ENVELOPE, body[len(MAGIC) :])
    options: Options = envelope.get("raw", {})
    if UNKNOWN in options or UNKNOWN in options.get("preconditions", {}):
        raise ProtobufError("an option that is not known here")
    return {"kind": "DeleteOptions", "apiVersion": "v1"} | options


_PRECONDITIONS: Final[Schema] = {1: Text("uid"), 2: Text("resourceVersion")}
_OPTIONS: Final[Schema] = {
    1: Number("gracePeriodSeconds"),
    2: Embedded("preconditions", _PRECONDITIONS),
    3: Flag("orphanDependents"),
    4: Text("propagationPolicy"),
    5: Text("dryRun", repeated=True),
    6: Flag("ignoreStoreReadErrorWithClusterBreakingPotential"),
}
_ENVELOPE: Final[Schema] = {2: Embedded("raw", _OPTIONS)}
_READERS: Final[dict[bytes, Callable[[bytes], Any]]] = {
    b"": unambiguous,
    b"*/*": unambiguous,
    JSON: unambiguous,
    CBOR: cbor.decode,
    PROTOBUF: _read_protobuf,
}


def _options_of_query(parameters: Parameters) -> Options:
    """apimachinery, `Convert_url_Values_To_v1_DeleteOptions`."""
    options: Options = {"kind": "DeleteOptions", "apiVersion": "v1"}
    for key, read in _IN_QUERY.items():
        if values := parameters.get(key.encode()):
            options[key] = read(values)
    preconditions = {
        key: text
        for key in ("uid", "resourceVersion")
        if (text := _text(parameters.get(key.encode(), [b""])))
    }
    return options | ({"preconditions": preconditions} if preconditions else {})


def _first(parameters: Parameters, key: bytes, absent: bytes = b"") -> bytes:
    return parameters.get(key, [absent])[0]


def _text(values: list[bytes]) -> str:
    return values[0].decode("utf-8", "replace")


def _texts(values: list[bytes]) -> list[str]:
    return [value.decode("utf-8", "replace") for value in values]


def _flag(values: list[bytes]) -> bool:
    try:
        return read_bool(values[0])
    except TargetRefusal as refusal:
        raise bad_request(refusal.message) from refusal


def _number(values: list[bytes]) -> int:
    number = read_int64(values[0])
    if number is None:
        raise bad_request("gracePeriodSeconds is no number")
    return number


_IN_QUERY: Final[dict[str, Callable[[list[bytes]], Any]]] = {
    "gracePeriodSeconds": _number,
    "orphanDependents": _flag,
    "propagationPolicy": _text,
    "dryRun": _texts,
    "ignoreStoreReadErrorWithClusterBreakingPotential": _flag,
}


_CARRIED: Final = frozenset(
    {*_SELECTING, *_FIRST_PAGE_ONLY, *_PAGING, *_HARMLESS, b"uid", b"resourceVersion"}
)


def names_uid(options: Options) -> bool:
    """Whether the person's own precondition says which object is meant."""
    return bool((options.get("preconditions") or {}).get("uid"))


def options_for(options: Options, uid: str) -> bytes:
    """The body of the deletion of one object: no other object of its name.

    A precondition of the person's own stays: the API server judges it.
    """
    own = options.get("preconditions") or {}
    preconditions = own if own.get("uid") else own | {"uid": uid}
    return orjson.dumps(options | {"preconditions": preconditions})
