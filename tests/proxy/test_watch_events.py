"""The last event of a watch is one that Kubernetes's own client reads, in every form of a watch."""

import gzip
import json

import pytest

from mk8s_proxy.kube import cbor
from mk8s_proxy.kube.status import StatusError
from mk8s_proxy.kube.watch_events import UNKNOWN_FORM, answer_form, error_event
from tests.oracle.process import Oracle

JSON, PROTOBUF, CBOR = (
    b"application/json",
    b"application/vnd.kubernetes.protobuf",
    b"application/cbor-seq",
)
ERROR = StatusError(410, "Expired", "list again")
STATUS = {
    "kind": "Status",
    "apiVersion": "v1",
    "metadata": {},
    "status": "Failure",
    "message": "list again",
    "reason": "Expired",
    "code": 410,
}


@pytest.mark.parametrize("media_type", [JSON, PROTOBUF, CBOR])
def test_client_go_reads_the_event(oracle: Oracle, media_type: bytes) -> None:
    event = error_event(ERROR, (media_type, b"identity"))
    read = oracle.watch(media_type, event * 2)
    assert [kind for kind, _ in read] == ["ERROR", "ERROR"]
    assert {key: read[0][1][key] for key in STATUS} == STATUS


@pytest.mark.parametrize("media_type", [JSON, PROTOBUF, CBOR])
def test_in_a_compressed_watch_it_is_one_more_member(media_type: bytes) -> None:
    plain = error_event(ERROR, (media_type, b"identity"))
    packed = error_event(ERROR, (media_type, b"gzip"))
    assert gzip.decompress(gzip.compress(b"before") + packed) == b"before" + plain


WRITTEN_BY_GO = bytes.fromhex(
    "d9d9f7a24474797065454552524f52466f626a656374d9d9f7a744636f646519019a446b696e644653746174757346"
    "726561736f6e474578706972656446737461747573474661696c757265476d65737361676547746f6f206f6c64486d"
    "65746164617461a04a61706956657273696f6e427631"
)
"""An event as apimachinery 0.37's own serializer writes it: its object has a tag, too."""


def test_an_event_of_the_api_server_in_cbor_is_read() -> None:
    event = cbor.decode(WRITTEN_BY_GO)
    assert event["type"] == "ERROR"
    assert event["object"] == {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "reason": "Expired", "message": "too old", "code": 410,
    }  # fmt: skip


def test_ours_has_the_tags_of_the_api_servers() -> None:
    written = error_event(ERROR, (CBOR, b"identity"))
    assert written.count(WRITTEN_BY_GO[:3]) == WRITTEN_BY_GO.count(WRITTEN_BY_GO[:3]) == 2


def test_json_and_cbor_say_the_same() -> None:
    read = json.loads(error_event(ERROR, (JSON, b"identity")))
    assert read == {"type": "ERROR", "object": STATUS}
    assert cbor.decode(error_event(ERROR, (CBOR, b"identity"))) == read


@pytest.mark.parametrize(
    "form",
    [
        UNKNOWN_FORM,
        (b"text/plain", b"identity"),
        (b"application/cbor", b"identity"),
        (JSON, b"br"),
        (PROTOBUF, b"deflate"),
    ],
)
def test_a_form_that_is_not_known_gets_no_event(form: tuple[bytes, bytes]) -> None:
    assert error_event(ERROR, form) == b""


@pytest.mark.parametrize(
    ("fields", "form"),
    [
        ([], UNKNOWN_FORM),
        ([(b"content-type", b"Application/JSON; charset=utf-8")], (JSON, b"identity")),
        ([(b"content-type", PROTOBUF + b";stream=watch")], (PROTOBUF, b"identity")),
        ([(b"content-type", CBOR), (b"content-encoding", b" GZIP ")], (CBOR, b"gzip")),
        ([(b"content-type", JSON), (b"content-type", CBOR)], UNKNOWN_FORM),
        ([(b"content-type", JSON), *[(b"content-encoding", b"gzip")] * 2], UNKNOWN_FORM),
    ],
)
def test_the_form_is_that_of_the_answer(
    fields: list[tuple[bytes, bytes]], form: tuple[bytes, bytes]
) -> None:
    assert answer_form([(b":status", b"200"), *fields]) == form
