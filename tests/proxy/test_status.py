"""Status: the answer that every Kubernetes client understands."""

import json
from collections.abc import Iterator

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mk8s_proxy.kube import status
from mk8s_proxy.kube.status import STATUS_REASONS, StatusError, status_body, status_error

PROTOBUF = b"application/vnd.kubernetes.protobuf"


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """A protobuf message, field by field (varints and byte strings only)."""
    position = 0

    def varint() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = message[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while position < len(message):
        tag = varint()
        if tag & 7 == 0:
            yield tag >> 3, varint()
        else:
            length = varint()
            yield tag >> 3, message[position : position + length]
            position += length


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (status.bad_request("m"), 400, "BadRequest"),
        (status.unauthorized("m"), 401, "Unauthorized"),
        (status.forbidden("m"), 403, "Forbidden"),
        (status.not_found("m"), 404, "NotFound"),
        (status.method_not_allowed("m"), 405, "MethodNotAllowed"),
        (status_error(408, "m"), 408, "Timeout"),
        (status_error(409, "m"), 409, "Conflict"),
        (status.request_entity_too_large("m"), 413, "RequestEntityTooLarge"),
        (status_error(429, "m", retry_after=1), 429, "TooManyRequests"),
        (status.internal_error("m"), 500, "InternalError"),
        (status.bad_gateway("m"), 502, "InternalError"),
        (status.service_unavailable("m"), 503, "ServiceUnavailable"),
        (status_error(504, "m"), 504, "Timeout"),
        (status_error(418, "m"), 418, "BadRequest"),
        (status_error(599, "m"), 599, "InternalError"),
    ],
)
def test_code_and_reason(error: StatusError, code: int, reason: str) -> None:
    assert (error.code, error.reason, error.message, str(error)) == (code, reason, "m", "m")


def test_every_code_has_a_constructor() -> None:
    assert set(STATUS_REASONS) == {400, 401, 403, 404, 405, 408, 409, 413, 429, 500, 502, 503, 504}


def test_json_body_is_that_of_metav1() -> None:
    error = status.forbidden("pods is forbidden", {"kind": "pods"})
    content_type, body = status_body(error)
    assert content_type == b"application/json"
    assert json.loads(body) == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "pods is forbidden",
        "reason": "Forbidden",
        "details": {"kind": "pods"},
        "code": 403,
    }


def test_details_only_where_there_are_some() -> None:
    assert "details" not in json.loads(status_body(status.not_found("m"))[1])


@pytest.mark.parametrize("seconds", [0, 3])
def test_retry_after_is_told_in_the_details(seconds: int) -> None:
    error = status.service_unavailable("m", retry_after=seconds)
    assert json.loads(status_body(error)[1])["details"] == {"retryAfterSeconds": seconds}


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (b"", b"application/json"),
        (b"*/*", b"application/json"),
        (b"text/html", b"application/json"),
        (b"application/cbor", b"application/cbor"),
        (b"application/json;as=Table;v=v1;g=meta.k8s.io,application/json", b"application/json"),
        (b"application/yaml", b"application/yaml"),
        (b"Application/YAML ; q=1", b"application/yaml"),
        (PROTOBUF, PROTOBUF),
        (PROTOBUF + b";stream=watch", PROTOBUF),
        (PROTOBUF + b",application/json", PROTOBUF),
        (b"application/json," + PROTOBUF, b"application/json"),
        (b"application/json;q=0.5," + PROTOBUF, PROTOBUF),
        (b"application/yaml;q=0", b"application/json"),
        (b"application/yaml;q=x", b"application/json"),
        (b"application/yaml;q=nan", b"application/json"),
        (b"application/*, application/yaml", b"application/json"),
        (b",,;", b"application/json"),
    ],
)
def test_negotiation(accept: bytes, content_type: bytes) -> None:
    assert status_body(status.not_found("m"), accept)[0] == content_type


def test_yaml_body_says_the_same_as_json() -> None:
    error = status.forbidden("é: no", {"kind": "pods", "causes": [{"reason": "x"}]})
    body = status_body(error, b"application/yaml")[1]
    assert yaml.safe_load(body) == json.loads(status_body(error)[1])


def test_protobuf_body() -> None:
    details = {"name": "web", "group": "apps", "kind": "deployments", "uid": "u",
               "causes": [{"reason": "R", "message": "M", "field": "F"}]}  # fmt: skip
    error = status_error(503, "a" * 300, retry_after=300, details=details)
    content_type, body = status_body(error, PROTOBUF)
    assert (content_type, body[:4]) == (PROTOBUF, b"k8s\x00")
    unknown = dict(fields(body[4:]))
    assert dict(fields(unknown[1])) == {1: b"v1", 2: b"Status"}
    assert (unknown[3], unknown[4]) == (b"", b"")
    message = dict(fields(unknown[2]))
    assert dict(fields(message.pop(1))) == {1: b"", 2: b"", 3: b""}
    found = dict(fields(message.pop(5)))
    assert message == {2: b"Failure", 3: b"a" * 300, 4: b"ServiceUnavailable", 6: 503}
    assert dict(fields(found.pop(4))) == {1: b"R", 2: b"M", 3: b"F"}
    assert found == {1: b"web", 2: b"apps", 3: b"deployments", 5: 300, 6: b"u"}


def test_protobuf_body_without_details() -> None:
    body = status_body(status.not_found("m"), PROTOBUF)[1]
    assert 5 not in dict(fields(dict(fields(body[4:]))[2]))


@given(st.text(st.characters()), st.sampled_from([b"", b"application/yaml", PROTOBUF]))
def test_no_message_of_a_client_breaks_the_answer(text: str, accept: bytes) -> None:
    details = {"name": text, "causes": [{"message": text}]}
    assert status_body(status.forbidden(text, details), accept)[1]


@pytest.mark.parametrize("accept", [b"", b"application/yaml", PROTOBUF])
def test_lone_surrogate_from_a_request(accept: bytes) -> None:
    error = status.forbidden("\ud800", {"name": "\udfff"})
    assert b"?" in status_body(error, accept)[1]


@given(st.binary(max_size=60))
def test_no_accept_header_raises(accept: bytes) -> None:
    assert status_body(status.not_found("m"), accept)[0]
