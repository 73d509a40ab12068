"""The last event of a watch, in the form in which the watch itself is written; pure.

A watch is a stream of events behind each other, framed by its Content-Type (apiserver,
`endpoints/handlers/watch.go`, and apimachinery's `runtime/serializer`):

- JSON: one object behind the other;
- protobuf: the length in four bytes, big-endian, then a metav1.WatchEvent without an envelope,
  whose object has one;
- CBOR: a sequence of data items (RFC 8742).

With `Content-Encoding: gzip` each flush is a gzip member of its own, so one more may follow
(RFC 1952, 2.2). What has another form gets no event: it just ends.
"""

import gzip
from typing import Final

import orjson

from mk8s_proxy.kube import cbor
from mk8s_proxy.kube.protobuf import bytes_field, text_field
from mk8s_proxy.kube.status import StatusError, status_document, status_message

AnswerForm = tuple[bytes, bytes]
"""Content-Type and Content-Encoding of an answer; empty where it has none, or more than one."""

UNKNOWN_FORM: Final[AnswerForm] = (b"", b"")
_LENGTH_BYTES: Final = 4


def answer_form(fields: list[tuple[bytes, bytes]]) -> AnswerForm:
    """The form of an answer, from its head."""
    types = [value for name, value in fields if name == b"content-type"]
    codings = [value.strip().lower() for name, value in fields if name == b"content-encoding"]
    if len(types) != 1 or len(codings) > 1:
        return UNKNOWN_FORM
    return types[0].partition(b";")[0].strip().lower(), codings[0] if codings else b"identity"


def error_event(error: StatusError, form: AnswerForm) -> bytes:
    """An event of the type ERROR with a Status; empty where the watch has no form that is known."""
    media_type, coding = form
    if media_type == b"application/json":
        event = orjson.dumps({"type": "ERROR", "object": status_document(error)}) + b"\n"
    elif media_type == b"application/vnd.kubernetes.protobuf":
        embedded = bytes_field(1, status_message(error))
        message = text_field(1, "ERROR") + bytes_field(2, embedded)
        event = len(message).to_bytes(_LENGTH_BYTES, "big") + message
    elif media_type == b"application/cbor-seq":
        event = cbor.encode({"type": "ERROR", "object": cbor.embedded(status_document(error))})
    else:
        return b""
    if coding == b"gzip":
        return gzip.compress(event, mtime=0)
    return event if coding == b"identity" else b""
