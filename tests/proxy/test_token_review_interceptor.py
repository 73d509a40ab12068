"""TokenReview through the chain: no cluster reads a token of mk8s, and the answer is true."""

import json
import logging
from typing import Any

import cbor2
import pytest
import yaml
from chain_for_tests import Passage
from test_protobuf import blob, envelope, text
from test_reviews_tokens import FOREIGN, ME, MINE, THEIRS

from mk8s_agent.wire import headers as internal
from mk8s_proxy.answers.reviews.documents import JSON, PROTOBUF, TOKEN_REVIEW, read, read_answer
from mk8s_proxy.answers.reviews.tokens import NOT_THE_CALLERS, PLACEHOLDER
from mk8s_proxy.kube import cbor

RBAC = {
    "roles": [
        {
            "name": "reviewer",
            "clusters": [
                {
                    "name": "prod",
                    "namespaces": ["*"],
                    "verbs": ["create"],
                    "resources": ["tokenreviews"],
                },
                {"name": "prod", "impersonate": {"users": ["*"]}},
            ],
        },
    ],
    "users": [
        {"email": "me@example.com", "roles": ["reviewer"]},
        {"email": "nobody@example.com", "roles": []},
        {"email": "root@example.com", "roles": ["reviewer"]},
    ],
}
API = "/k8s/prod/apis/authentication.k8s.io/v1/tokenreviews"
HEAD = {"kind": TOKEN_REVIEW, "apiVersion": "authentication.k8s.io/v1"}
UNKNOWN = {"user": {}, "error": "invalid bearer token"}


@pytest.fixture
def passage() -> Passage:
    made = Passage(RBAC)
    made.people.known[MINE.encode()] = ME
    return made


def document(token: Any, status: Any = None, **spec: Any) -> bytes:
    review = {**HEAD, "metadata": {}, "spec": {"token": token, **spec}}
    return json.dumps(review if status is None else {**review, "status": status}).encode()


def ask(passage: Passage, body: bytes, *fields: tuple[bytes, bytes], path: str = API) -> None:
    given = dict(fields)
    kind = (b"content-type", given.pop(b"content-type", JSON))
    length = (b"content-length", b"%d" % len(body))
    passage.send(MINE, "POST", path, kind, length, *given.items(), body=body)


def seen(passage: Passage) -> str:
    """Everything that left for the cluster, but the identity."""
    head = {name: value for name, value in passage.cluster.heads[0].items()
            if name != internal.IDENTITY}  # fmt: skip
    return repr(head) + passage.cluster.body.decode("latin-1")


def test_the_callers_own_token_is_authenticated_by_mk8s(passage: Passage) -> None:
    ask(passage, document(MINE))
    assert json.loads(passage.cluster.body)["spec"] == {"token": PLACEHOLDER}
    assert MINE not in seen(passage)
    client = passage.answer(201, "application/json", document(PLACEHOLDER, UNKNOWN))
    assert client.code == 201
    assert client.document["spec"] == {"token": MINE}
    assert client.document["status"] == {
        "authenticated": True,
        "user": {
            "username": "me@example.com",
            "uid": "id-me",
            "groups": ["mk8s:users", "system:authenticated"],
        },
    }
    assert (b"content-length", b"%d" % len(client.body)) in client.fields


def test_the_placeholder_has_a_length_of_its_own(passage: Passage) -> None:
    ask(passage, document(MINE))
    assert internal.LENGTH not in passage.cluster.heads[0]


def test_attack_token_of_somebody_else_is_not_confirmed(passage: Passage) -> None:
    ask(passage, document(THEIRS))
    assert THEIRS not in seen(passage)
    lie = {"authenticated": True, "user": {"username": "root"}}
    client = passage.answer(201, "application/json", document(PLACEHOLDER, lie))
    status = client.document["status"]
    assert status == {"authenticated": False, "user": {}, "error": NOT_THE_CALLERS}


def test_attack_refresh_token_in_a_review(passage: Passage) -> None:
    ask(passage, document("mk8s_rt_" + "x" * 43))
    assert "mk8s_rt_" not in seen(passage)


def test_acting_as_somebody_asks_about_ones_own_token(passage: Passage) -> None:
    ask(passage, document(MINE), (b"impersonate-user", b"root@example.com"))
    assert passage.cluster.identity["user"] == "root@example.com"
    client = passage.answer(201, "application/json", document(PLACEHOLDER, UNKNOWN))
    assert client.document["status"]["user"]["username"] == "me@example.com"


@pytest.mark.parametrize("token", [FOREIGN, "opaque", "kept-by-mk8s", ""])
def test_a_token_of_others_passes_both_ways_byte_for_byte(passage: Passage, token: str) -> None:
    body = document(token).replace(b", ", b" ,  ")
    ask(passage, body)
    assert passage.cluster.body == body
    answer = document(token, {"authenticated": True, "user": {"username": "x"}})
    assert passage.answer(201, "application/json", answer).body == answer
    front = passage.exchange.front
    assert front.peer is not None
    front.peer.connection.grant(front.peer, len(answer))
    assert passage.cluster.granted == len(answer)


def test_a_body_in_many_pieces_waits_for_its_end(passage: Passage) -> None:
    granted: list[int] = []
    passage.send(MINE, "POST", API, (b"content-type", JSON), unfinished=True)
    passage.client.grant = lambda stream, size: granted.append(size)  # type: ignore[method-assign]
    body = document(MINE)
    for start in range(0, len(body), 100):
        passage.go_on(body[start : start + 100], end=False)
        assert passage.cluster.body == b""
    assert sum(granted) == len(body), "a client with a small window can go on"
    passage.go_on(b"")
    assert json.loads(passage.cluster.body)["spec"]["token"] == PLACEHOLDER
    back = passage.cluster.back
    assert back is not None
    assert back.peer is not None
    back.peer.connection.grant(back.peer, len(passage.cluster.body))
    assert sum(granted) == len(body), "and is not given credit twice"


def test_protobuf(passage: Passage) -> None:
    body = envelope(TOKEN_REVIEW, blob(2, text(1, MINE) + text(2, "mk8s")))
    ask(passage, body, (b"content-type", PROTOBUF), (b"accept", PROTOBUF))
    assert MINE.encode() not in passage.cluster.body
    asked = read(PROTOBUF, passage.cluster.body, TOKEN_REVIEW).content["spec"]
    assert asked == {"token": PLACEHOLDER, "audiences": ["mk8s"]}
    client = passage.answer(201, PROTOBUF.decode(), answer_in_protobuf())
    content = read_answer(PROTOBUF, client.body, TOKEN_REVIEW).content
    assert content["spec"]["token"] == MINE
    assert content["status"]["authenticated"] is True
    assert content["status"]["user"]["groups"] == ["mk8s:users", "system:authenticated"]
    assert content["status"]["audiences"] == ["mk8s"]


def answer_in_protobuf() -> bytes:
    """What an API server says of the placeholder."""
    meta = text(1, HEAD["apiVersion"]) + text(2, TOKEN_REVIEW)
    raw = blob(2, text(1, PLACEHOLDER)) + blob(3, b"\x08\x00" + blob(2, b"") + text(3, "no"))
    return b"k8s\0" + blob(1, meta) + blob(2, raw)


def test_yaml(passage: Passage) -> None:
    body = yaml.safe_dump(json.loads(document(MINE))).encode()
    yaml_type = b"application/yaml"
    ask(passage, body, (b"content-type", yaml_type), (b"accept", yaml_type))
    assert yaml.safe_load(passage.cluster.body)["spec"] == {"token": PLACEHOLDER}
    answer = yaml.safe_dump(json.loads(document(PLACEHOLDER, UNKNOWN))).encode()
    client = passage.answer(201, "application/yaml", answer)
    assert yaml.safe_load(client.body)["status"]["authenticated"] is True


def test_v1beta1(passage: Passage) -> None:
    ask(passage, document(MINE), path=API.replace("/v1/", "/v1beta1/"))
    body = document(PLACEHOLDER, UNKNOWN).replace(b"k8s.io/v1", b"k8s.io/v1beta1")
    client = passage.answer(201, "application/json", body)
    assert client.document["status"]["authenticated"] is True


@pytest.mark.parametrize("code", [400, 403, 404, 422, 500])
def test_a_refusal_of_the_cluster_holds(passage: Passage, code: int) -> None:
    ask(passage, document(MINE))
    client = passage.answer(code, "application/json", b"any", b"thing")
    assert (client.code, client.body) == (code, b"anything")


@pytest.mark.parametrize(
    "body",
    [
        document(FOREIGN, note=MINE),
        document("opaque").replace(b'"metadata": {}', b'"metadata": {"x": "%s"}' % MINE.encode()),
        document(MINE, token2=THEIRS),
        b'{"spec": {"token": "%s"}, "spec": {"token": "opaque"}}' % MINE.encode(),
        b'{"spec": {"Token": "%s"}}' % MINE.encode(),
    ],
    ids=["beside", "in_metadata", "twice", "in_a_repeated_spec", "in_another_case"],
)  # fmt: skip
def test_attack_token_outside_of_its_place(passage: Passage, body: bytes) -> None:
    ask(passage, body)
    assert passage.client.code == 400
    assert passage.client.document["reason"] == "BadRequest"
    assert passage.cluster.body == b""
    assert len(passage.cluster.resets) == 1
    assert MINE not in passage.client.body.decode()


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"\xff", b'{"spec": 1}', b'{"spec": {"token": 7}}', b"k8s\0"]
)
def test_attack_review_that_only_the_cluster_could_read(passage: Passage, body: bytes) -> None:
    ask(passage, body)
    assert (passage.client.code, passage.cluster.body) == (400, b"")


def test_attack_own_token_in_cbor(passage: Passage) -> None:
    """It is kept from the cluster in this form, too, and in pieces it is not read at all."""
    cbor_type = (b"content-type", b"application/cbor")
    ask(passage, cbor.encode(json.loads(document(MINE))), cbor_type)
    assert MINE.encode() not in passage.cluster.body
    assert cbor.decode(passage.cluster.body)["spec"]["token"] == PLACEHOLDER


def test_attack_own_token_in_pieces_of_cbor(passage: Passage) -> None:
    half = len(MINE) // 2
    pieces = b"\x7f" + cbor2.dumps(MINE[:half]) + cbor2.dumps(MINE[half:]) + b"\xff"
    body = b"\xa1" + cbor2.dumps("spec") + b"\xa1" + cbor2.dumps("token") + pieces
    ask(passage, body, (b"content-type", b"application/cbor"))
    assert (passage.client.code, passage.cluster.body) == (400, b"")


def test_attack_review_without_end(passage: Passage) -> None:
    ask(passage, document(MINE) + b" " * 70_000)
    assert (passage.client.code, passage.cluster.body) == (413, b"")


@pytest.mark.parametrize(
    "field",
    [
        (b"content-type", b"application/xml"),
        (b"content-type", b"text/plain"),
        (b"content-encoding", b"gzip"),
    ],
)
def test_attack_token_in_a_form_that_is_not_read(
    passage: Passage, field: tuple[bytes, bytes]
) -> None:
    ask(passage, document(MINE), field)
    assert (passage.client.code, passage.cluster.heads) == (415, [])


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"{}",
        b"{",
        document("another", UNKNOWN),
        document(PLACEHOLDER, UNKNOWN).replace(b"/v1", b"/v9"),
        document(PLACEHOLDER, UNKNOWN).replace(b"TokenReview", b"Status"),
    ],
)
def test_attack_answer_that_is_none(passage: Passage, answer: bytes) -> None:
    ask(passage, document(MINE))
    client = passage.answer(201, "application/json", *([answer] if answer else []))
    assert client.code == 502


def test_attack_cluster_that_answers_before_it_is_asked(passage: Passage) -> None:
    passage.send(MINE, "POST", API, (b"content-type", JSON), unfinished=True)
    yes = document("x", {"authenticated": True, "user": {"username": "root"}})
    assert passage.answer(201, "application/json", yes).code == 502
    passage.go_on(document(MINE))
    assert passage.cluster.body == b""


def test_attack_cluster_that_begins_to_answer_before_it_is_asked(passage: Passage) -> None:
    passage.send(MINE, "POST", API, (b"content-type", JSON), unfinished=True)
    back = passage.cluster.back
    assert back is not None
    assert back.peer is not None
    interceptor = back.peer
    fields = [(b":status", b"201"), (b"content-type", JSON)]
    interceptor.connection.relay_head(interceptor, b"", False, fields)
    passage.go_on(document("opaque"))
    interceptor.connection.send_data(interceptor, b"{}", 2, True)
    assert passage.client.code == 502


def test_a_client_that_leaves_early_asks_nothing(passage: Passage) -> None:
    passage.send(MINE, "POST", API, (b"content-type", JSON), unfinished=True)
    interceptor = passage.exchange.front.peer
    assert interceptor is not None
    interceptor.connection.reset(interceptor, 8)
    interceptor.connection.send_data(interceptor, document(MINE), 1, True)
    assert passage.cluster.body == b""


def test_a_review_without_a_body_is_the_clusters_to_refuse(passage: Passage) -> None:
    passage.send(MINE, "POST", API, (b"content-type", JSON))
    assert passage.answer(201, "application/json", b"{}").body == b"{}"


def test_who_may_not_review_is_told_so_before_anything_leaves(passage: Passage) -> None:
    passage.send("nobody", "POST", API, (b"content-type", JSON), body=document("nobody"))
    assert (passage.client.code, passage.cluster.heads) == (403, [])


def test_neither_row_nor_log_has_the_body(
    passage: Passage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    ask(passage, document(THEIRS))
    passage.answer(201, "application/json", document(PLACEHOLDER, UNKNOWN))
    row = passage.finish()
    assert len(passage.journal.intents) == 1
    assert row["objectRef"]["resource"] == "tokenreviews"
    told = json.dumps(row) + caplog.text
    assert THEIRS not in told
    assert "invalid bearer token" not in told
