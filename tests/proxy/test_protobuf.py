"""The wire format of reviews: nothing is lost, nothing malformed is read."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_proxy.answers.reviews.documents import (
    ACCESS_REVIEW,
    JSON,
    PROTOBUF,
    RULES_REVIEW,
    YAML,
    DocumentError,
    media_type,
    read,
    read_answer,
)
from mk8s_proxy.kube.protobuf import (
    UNKNOWN,
    VARINT,
    Embedded,
    Flag,
    ProtobufError,
    Schema,
    Text,
    decode,
    encode,
    fields,
    integer_field,
    number_of,
)

INNER: Schema = {1: Text("a"), 2: Flag("b")}
SCHEMA: Schema = {
    1: Text("one"),
    2: Text("many", repeated=True),
    3: Flag("flag"),
    4: Embedded("inner", INNER),
    5: Embedded("inners", INNER, repeated=True),
}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", {}),
        (b"\x0a\x01x", {"one": "x"}),
        (b"\x0a\x00", {"one": ""}),
        (b"\x0a\xc8\x01" + b"x" * 200, {"one": "x" * 200}),
        (b"\x0a\x01x\x0a\x01y", {"one": "y"}),
        (b"\x12\x01x\x12\x01y", {"many": ["x", "y"]}),
        (b"\x18\x01", {"flag": True}),
        (b"\x18\x00", {"flag": False}),
        (b"\x18\x01\x18\x00", {"flag": False}),
        (b"\x18\x80\x01", {"flag": True}),
        (b"\x18\x80\x00", {"flag": False}),
        (b"\x22\x03\x0a\x01x", {"inner": {"a": "x"}}),
        (b"\x22\x03\x0a\x01x\x22\x02\x10\x01", {"inner": {"a": "x", "b": True}}),
        (b"\x2a\x03\x0a\x01x\x2a\x00", {"inners": [{"a": "x"}, {}]}),
        (b"\x30\x07\x0a\x01x\x3a\x01z", {"one": "x", UNKNOWN: b"\x30\x07\x3a\x01z"}),
        (b"\x31" + b"8" * 8 + b"\x35" + b"4" * 4, {UNKNOWN: b"\x31" + b"8" * 8 + b"\x354444"}),
    ],
)
def test_messages(data: bytes, message: dict[str, Any]) -> None:
    assert decode(SCHEMA, data) == message
    assert decode(SCHEMA, encode(SCHEMA, message)) == message


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a",  # no length
        b"\x0a\x02x",  # cut short
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x",  # longer than any body
        b"\x80",  # half a key
        b"\x02\x00",  # field 0
        b"\xfa\xff\xff\xff\xff\xff\x01\x00",  # a field number beyond 29 bits
        b"\x0b",  # a group
        b"\x0e",  # no wire type
        b"\x08\x01",  # a number where text must be
        b"\x1a\x01x",  # text where a flag must be
        b"\x0a\x01\xff",  # no UTF-8
        b"\x18" + b"\xff" * 10 + b"\x01",  # eleven bytes
        b"\x18" + b"\xff" * 9 + b"\x7f",  # more than 64 bits
        b"\x31123",
        b"\x35123",
        b"\x22\x01\x0a",  # malformed inside
    ],
)
def test_attack_malformed_message(data: bytes) -> None:
    with pytest.raises(ProtobufError):
        decode(SCHEMA, data)


inner = st.fixed_dictionaries({}, optional={"a": st.text(max_size=5), "b": st.booleans()})
messages = st.fixed_dictionaries(
    {},
    optional={
        "one": st.text(max_size=200),
        "many": st.lists(st.text(max_size=3), min_size=1, max_size=4),
        "flag": st.booleans(),
        "inner": inner,
        "inners": st.lists(inner, min_size=1, max_size=3),
        UNKNOWN: st.just(b"\x30\x07"),
    },
)


@given(messages)
def test_what_is_written_is_read_back(message: dict[str, Any]) -> None:
    assert decode(SCHEMA, encode(SCHEMA, message)) == message


@given(st.binary(max_size=60))
def test_any_bytes_are_read_without_loss_or_refused(data: bytes) -> None:
    try:
        message = decode(SCHEMA, data)
    except ProtobufError:
        return
    assert decode(SCHEMA, encode(SCHEMA, message)) == message


# Whole documents.


def text(number: int, value: str) -> bytes:
    return blob(number, value.encode())


def blob(number: int, value: bytes) -> bytes:
    size = len(value)
    length = bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])
    return bytes([number << 3 | 2]) + length + value


def envelope(kind: str, raw: bytes, version: str = "authorization.k8s.io/v1") -> bytes:
    """As k8s.io/apimachinery `runtime/serializer/protobuf` writes it."""
    type_meta = text(1, version) + text(2, kind)
    return b"k8s\0" + blob(1, type_meta) + blob(2, raw) + b"\x1a\x00\x22\x00"


def test_access_review_in_protobuf_keeps_what_it_does_not_know() -> None:
    attributes = b"".join(
        text(number, value)
        for number, value in enumerate(("shop", "get", "", "*", "pods", "log", "web"), start=1)
    )
    metadata = blob(1, text(1, "n"))
    status = b"\x08\x01" + text(2, "because") + text(9, "new")
    body = envelope(ACCESS_REVIEW, metadata + blob(2, blob(1, attributes)) + blob(3, status))
    document = read_answer(PROTOBUF, body, ACCESS_REVIEW)
    assert document.content["spec"] == {
        "resourceAttributes": {
            "namespace": "shop",
            "verb": "get",
            "group": "",
            "version": "*",
            "resource": "pods",
            "subresource": "log",
            "name": "web",
        }
    }
    assert document.content["status"] == {
        "allowed": True,
        "reason": "because",
        UNKNOWN: text(9, "new"),
    }
    changed = {**document.content, "status": {**document.content["status"], "allowed": False}}
    written = document.write(changed)
    assert text(9, "new") in written
    assert metadata in written
    assert read_answer(PROTOBUF, written, ACCESS_REVIEW).content == changed


def test_rules_review_in_protobuf() -> None:
    rule = text(1, "get") + text(1, "list") + text(2, "") + text(3, "pods") + text(4, "web")
    path = text(1, "get") + text(2, "/api")
    status = blob(1, rule) + blob(2, path) + b"\x18\x00" + text(4, "")
    body = envelope(RULES_REVIEW, blob(1, b"") + blob(2, text(1, "shop")) + blob(3, status))
    content = read_answer(PROTOBUF + b"; charset=x", body, RULES_REVIEW).content
    assert content["spec"] == {"namespace": "shop"}
    assert content["status"] == {
        "resourceRules": [
            {
                "verbs": ["get", "list"],
                "apiGroups": [""],
                "resources": ["pods"],
                "resourceNames": ["web"],
            }
        ],
        "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/api"]}],
        "incomplete": False,
        "evaluationError": "",
    }


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (b"application/cbor", b"\xd9\xd9\xf7\xa0"),
        (b"text/html", b"{}"),
        (JSON, b""),
        (JSON, b"{"),
        (JSON, b"[]"),
        (JSON, b"null"),
        (JSON, b"[" * 100_000),
        (JSON, b'{"kind": "SelfSubjectAccessReview"} {}'),
        (YAML, b""),
        (YAML, b"- a"),
        (YAML, b"a: ["),
        (YAML, b"!!python/object:os.system {}"),
        (YAML, b"[" * 5000),
        (YAML, b"a: \xff"),
        (PROTOBUF, b""),
        (PROTOBUF, b"k8s"),
        (PROTOBUF, b"{}"),
        (PROTOBUF, b"k8s\0\xff"),
        (PROTOBUF, b"k8s\0" + text(3, "gzip")),
    ],
)
def test_attack_body_that_is_no_review(content_type: bytes, body: bytes) -> None:
    with pytest.raises(DocumentError):
        read(content_type, body, ACCESS_REVIEW)


@pytest.mark.parametrize(
    ("kind", "version"),
    [
        ("SelfSubjectRulesReview", "authorization.k8s.io/v1"),
        ("Status", "v1"),
        ("SelfSubjectAccessReview", "authorization.k8s.io/v2"),
        ("SelfSubjectAccessReview", "authorization.openshift.io/v1"),
        ("", ""),
    ],
)
def test_attack_answer_of_another_kind(kind: str, version: str) -> None:
    body = b'{"kind": "%b", "apiVersion": "%b"}' % (kind.encode(), version.encode())
    with pytest.raises(DocumentError):
        read_answer(JSON, body, ACCESS_REVIEW)
    with pytest.raises(DocumentError):
        read_answer(PROTOBUF, envelope(kind, b"", version), ACCESS_REVIEW)
    assert read(JSON, body, ACCESS_REVIEW).content["kind"] == kind


@given(
    st.sampled_from([JSON, YAML, PROTOBUF]),
    st.sampled_from([ACCESS_REVIEW, RULES_REVIEW]),
    st.one_of(
        st.binary(max_size=80),
        st.binary(max_size=80).map(lambda tail: b"k8s\0" + tail),
        st.text("{}[]\":,az10 \n-&*!'", max_size=40).map(str.encode),
    ),
)
def test_any_bytes_are_a_document_or_refused(media: bytes, kind: str, body: bytes) -> None:
    with contextlib.suppress(DocumentError):
        document = read(media, body, kind)
        assert isinstance(document.content, dict)


@pytest.mark.parametrize(
    ("header", "media"),
    [
        (b"", JSON),
        (b"application/json", JSON),
        (b"Application/JSON ; charset=utf-8", JSON),
        (b"application/yaml", YAML),
        (b"application/vnd.kubernetes.protobuf;x=y", PROTOBUF),
    ],
)
def test_media_types(header: bytes, media: bytes) -> None:
    assert media_type(header) == media


def test_written_as_it_came() -> None:
    head = {"kind": ACCESS_REVIEW, "apiVersion": "authorization.k8s.io/v1"}
    plain = b'{"kind":"SelfSubjectAccessReview","apiVersion":"authorization.k8s.io/v1"}\n'
    assert read_answer(JSON, plain, ACCESS_REVIEW).write(head) == plain
    pretty = plain.replace(b"{", b"{\n  ").replace(b",", b",\n  ").replace(b"}", b"\n}")
    pretty = pretty.replace(b'":', b'": ')
    assert read_answer(JSON, pretty, ACCESS_REVIEW).write(head) == pretty
    yaml = b"kind: SelfSubjectAccessReview\napiVersion: authorization.k8s.io/v1\n"
    assert read_answer(YAML, yaml, ACCESS_REVIEW).write(head) == yaml


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_numbers_are_signed(number: int) -> None:
    ((field, wire_type, value, _),) = fields(integer_field(7, number % (1 << 64)))
    assert (field, wire_type, number_of(value)) == (7, VARINT, number)
