"""`kubectl auth can-i` through the chain: yes only where the cluster and mk8s both say so."""

import json
from typing import Any

import cbor2
import pytest
import yaml
from chain_for_tests import Passage
from test_protobuf import blob, envelope, text

from mk8s_proxy.answers.reviews.documents import (
    ACCESS_REVIEW,
    JSON,
    PROTOBUF,
    RULES_REVIEW,
    read_answer,
)
from mk8s_proxy.answers.reviews.verdicts import INCOMPLETE
from mk8s_proxy.kube import cbor

VIEWER = {"name": "prod", "namespaces": ["shop"], "verbs": ["get", "list"], "resources": ["pods"]}
DENY = {**VIEWER, "deny": True, "names": ["root"], "verbs": ["get"]}
RBAC = {
    "roles": [
        {
            "name": "viewer",
            "clusters": [VIEWER, DENY, {"name": "prod", "impersonate": {"users": ["*"]}}],
        },
        {
            "name": "editor",
            "clusters": [{**VIEWER, "verbs": ["*"], "resources": ["pods", "deployments"]}],
        },
    ],
    "users": [
        {"email": "viewer@example.com", "roles": ["viewer"]},
        {"email": "editor@example.com", "roles": ["editor"]},
    ],
}
API = "/k8s/prod/apis/authorization.k8s.io/v1"
ACCESS, RULES = f"{API}/selfsubjectaccessreviews", f"{API}/selfsubjectrulesreviews"
YES = {"allowed": True, "reason": "RBAC: allowed"}


@pytest.fixture
def passage() -> Passage:
    return Passage(RBAC)


def access(status: Any, **attributes: str) -> bytes:
    spec = {"resourceAttributes": {"namespace": "shop", "resource": "pods", **attributes}}
    head = {"kind": ACCESS_REVIEW, "apiVersion": "authorization.k8s.io/v1"}
    return json.dumps({**head, "metadata": {}, "spec": spec, "status": status}).encode()


def asked(passage: Passage, *fields: tuple[bytes, bytes], who: str = "viewer") -> None:
    passage.send(who, "POST", ACCESS, (b"content-type", JSON), *fields, body=b"{}")
    assert passage.cluster.body == b"{}"


def test_a_yes_of_both_passes_byte_for_byte(passage: Passage) -> None:
    asked(passage)
    body = access(YES, verb="get", name="web").replace(b", ", b" ,   ")
    client = passage.answer(201, "application/json", body[:10], body[10:])
    assert (client.code, client.body, client.ended) == (201, body, True)
    assert (b"content-length", b"%d" % len(body)) in client.fields


@pytest.mark.parametrize("status", [{"allowed": False}, {"allowed": False, "denied": True}, {}])
def test_a_no_of_the_cluster_passes_byte_for_byte(passage: Passage, status: Any) -> None:
    asked(passage)
    body = access(status, verb="delete")
    assert passage.answer(201, "application/json", body).body == body


def test_a_no_of_mk8s_is_a_no_with_its_reason(passage: Passage) -> None:
    asked(passage)
    body = access({**YES, "evaluationError": "x"}, verb="delete")
    client = passage.answer(201, "application/json", body)
    assert client.code == 201
    assert client.document["status"] == {
        "allowed": False,
        "reason": "mk8s: no role allows it (roles: viewer)",
        "evaluationError": "x",
    }
    assert client.document["spec"]["resourceAttributes"]["verb"] == "delete"
    assert (b"content-length", b"%d" % len(client.body)) in client.fields


def test_a_denial_is_called_one(passage: Passage) -> None:
    asked(passage)
    client = passage.answer(201, "application/json", access(YES, verb="get", name="root"))
    status = client.document["status"]
    assert status["allowed"] is False
    assert status["denied"] is True
    assert "role viewer, rule 2" in status["reason"]


@pytest.mark.parametrize("resource", ["pods/log", "pods"])
def test_a_subresource_in_either_place(passage: Passage, resource: str) -> None:
    asked(passage)
    more = {"subresource": "log"} if resource == "pods" else {}
    client = passage.answer(
        201, "application/json", access(YES, verb="get", resource=resource, **more)
    )
    assert client.document["status"]["allowed"] is False


def test_paths(passage: Passage) -> None:
    for path, allowed in (("/version", True), ("/metrics", False)):
        asked(passage)
        document = json.loads(access(YES))
        document["spec"] = {"nonResourceAttributes": {"path": path, "verb": "get"}}
        client = passage.answer(201, "application/json", json.dumps(document).encode())
        assert client.document["status"]["allowed"] is allowed


def test_the_user_who_is_acted_as_is_meant(passage: Passage) -> None:
    editor = (b"impersonate-user", b"editor@example.com")
    for fields, allowed in (((editor,), True), ((), False)):
        asked(passage, *fields)
        client = passage.answer(201, "application/json", access(YES, verb="delete"))
        assert client.document["status"]["allowed"] is allowed


def test_protobuf(passage: Passage) -> None:
    asked(passage, (b"accept", PROTOBUF + b",application/json"))
    attributes = text(1, "shop") + text(2, "delete") + text(5, "pods")
    body = envelope(ACCESS_REVIEW, blob(2, blob(1, attributes)) + blob(3, b"\x08\x01"))
    client = passage.answer(201, PROTOBUF.decode(), body)
    status = read_answer(PROTOBUF, client.body, ACCESS_REVIEW).content["status"]
    assert status["allowed"] is False
    assert status["reason"].startswith("mk8s: ")


def test_cbor(passage: Passage) -> None:
    """As the API server writes it: strings are byte strings."""
    spec = {
        b"resourceAttributes": {b"namespace": b"shop", b"resource": b"pods", b"verb": b"delete"}
    }
    head = {b"kind": ACCESS_REVIEW.encode(), b"apiVersion": b"authorization.k8s.io/v1"}
    review = {**head, b"spec": spec, b"status": {b"allowed": True}}
    body = cbor2.dumps(cbor2.CBORTag(55799, review))
    asked(passage)
    client = passage.answer(201, "application/cbor", body)
    assert client.code == 201
    assert client.body.startswith(b"\xd9\xd9\xf7")
    answer = cbor.decode(client.body)
    assert answer["status"]["allowed"] is False
    assert answer["spec"]["resourceAttributes"]["verb"] == "delete"


def test_rules_asked_for_in_cbor(passage: Passage) -> None:
    asks = cbor.encode({"spec": {"namespace": "shop"}})
    passage.send("viewer", "POST", RULES, (b"content-type", b"application/cbor"), body=asks)
    assert passage.cluster.body == asks
    assert passage.answer(201, "application/json", rules({"resourceRules": []})).code == 201


def test_yaml(passage: Passage) -> None:
    asked(passage, (b"accept", b"application/yaml"))
    body = yaml.safe_dump(json.loads(access(YES, verb="delete"))).encode()
    client = passage.answer(201, "application/yaml", body)
    assert yaml.safe_load(client.body)["status"]["allowed"] is False


def test_v1beta1(passage: Passage) -> None:
    path = ACCESS.replace("/v1/", "/v1beta1/")
    passage.send("viewer", "POST", path, (b"content-type", JSON), body=b"{}")
    body = access(YES, verb="delete").replace(b"k8s.io/v1", b"k8s.io/v1beta1")
    assert passage.answer(201, "application/json", body).document["status"]["allowed"] is False


@pytest.mark.parametrize("code", [400, 403, 409, 422, 500, 503])
def test_what_is_no_success_passes_as_it_comes(passage: Passage, code: int) -> None:
    asked(passage)
    client = passage.answer(code, "text/plain", b"any", b"thing")
    assert (client.code, client.body) == (code, b"anything")


def test_a_head_without_a_body_passes_too(passage: Passage) -> None:
    asked(passage)
    client = passage.answer(403, "text/plain")
    assert (client.code, client.body, client.ended) == (403, b"", True)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"{",
        b'{"kind": "Status", "apiVersion": "v1", "status": "Success"}',
        access(YES).replace(b'"status"', b'"statu"'),
        access(YES).replace(b'"spec"', b'"spac"'),
        access(YES).replace(b"resourceAttributes", b"x"),
        access([]),
        access({"allowed": 1}),
        access({"allowed": "true"}),
        access(YES, verb=7),  # type: ignore[arg-type]
        access(YES).replace(b'{"namespace"', b'[],"x":{"namespace"'),
        access(YES).replace(b"v1", b"v3"),
    ],
)
def test_attack_answer_that_cannot_be_read_is_never_a_yes(passage: Passage, body: bytes) -> None:
    asked(passage)
    client = passage.answer(201, "application/json", *([body] if body else []))
    assert client.code == 502
    assert client.document["kind"] == "Status"
    assert "cannot be read" in client.document["message"]
    assert passage.finish()["responseStatus"]["code"] == 502


@pytest.mark.parametrize("content_type", ["application/cbor", "text/html", "application/xml"])
def test_attack_answer_in_another_form(passage: Passage, content_type: str) -> None:
    asked(passage)
    assert passage.answer(201, content_type, access(YES, verb="get")).code == 502


def test_attack_compressed_answer(passage: Passage) -> None:
    asked(passage)
    more = [(b"content-encoding", b"gzip")]
    body = access(YES, verb="get")
    assert passage.answer(201, "application/json", body, more=more).code == 502


def test_attack_answer_without_end(passage: Passage) -> None:
    asked(passage)
    client = passage.answer(201, "application/json", *[b" " * 65536] * 18)
    assert client.code == 502
    assert len(passage.cluster.resets) == 1, "the cluster's stream is ended"


def test_an_answer_that_is_cut_short_is_none(passage: Passage) -> None:
    asked(passage)
    back = passage.cluster.back
    assert back is not None
    interceptor = back.peer
    assert interceptor is not None
    fields = [(b":status", b"201"), (b"content-type", JSON)]
    interceptor.connection.relay_head(interceptor, b"", False, fields)
    interceptor.connection.send_data(interceptor, b'{"kind":', 8, False)
    assert passage.cluster.granted == 8, "what is held here is taken from the tunnel"
    interceptor.connection.reset(interceptor, 2)
    assert (passage.client.code, passage.client.resets) == (0, [2])


def test_a_client_that_leaves_ends_the_clusters_stream(passage: Passage) -> None:
    asked(passage)
    interceptor = passage.exchange.front.peer
    assert interceptor is not None
    interceptor.connection.reset(interceptor, 8)
    assert len(passage.cluster.resets) == 1


@pytest.mark.parametrize(
    ("accept", "sent"),
    [
        (b"", b"application/json"),
        (b"application/json, */*", b"application/json, */*"),
        (
            b"application/vnd.kubernetes.protobuf,application/json",
            b"application/vnd.kubernetes.protobuf, application/json",
        ),
        (
            b"application/cbor, application/json;q=0.9",
            b"application/cbor, application/json;q=0.9",
        ),
        (b"application/cbor", b"application/cbor"),
        (b"application/xml", b"application/json"),
        (
            b"application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
            b"application/json",
        ),
        (b"application/yaml", b"application/yaml"),
        (b"text/plain, application/*", b"application/*"),
    ],
)
def test_only_forms_that_can_be_read_are_asked_for(
    passage: Passage, accept: bytes, sent: bytes
) -> None:
    fields = [(b"accept", accept)] if accept else []
    asked(passage, *fields, (b"accept-encoding", b"gzip"), (b"kubectl-command", b"x"))
    head = passage.cluster.heads[0]
    assert head[b"accept"] == sent
    assert b"accept-encoding" not in head
    assert head[b"kubectl-command"] == b"x"


# Rules.


def rules(status: Any) -> bytes:
    head = {"kind": RULES_REVIEW, "apiVersion": "authorization.k8s.io/v1"}
    return json.dumps({**head, "metadata": {}, "spec": {}, "status": status}).encode()


def question(namespace: Any = "shop") -> bytes:
    return json.dumps({"spec": {"namespace": namespace}}).encode()


CLUSTER = {
    "resourceRules": [
        {"verbs": ["get", "delete"], "apiGroups": [""], "resources": ["pods", "secrets"], "new": 1}
    ],
    "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/version", "/metrics"]}],
    "incomplete": False,
}


def list_rules(
    passage: Passage, status: Any, *, asks: bytes | None = None, media: bytes = JSON
) -> None:
    asks = question() if asks is None else asks
    passage.send("viewer", "POST", RULES, (b"content-type", media), body=asks)
    passage.answer(201, "application/json", rules(status))


def test_rules_of_both(passage: Passage) -> None:
    list_rules(passage, CLUSTER)
    status = passage.client.document["status"]
    assert status["resourceRules"] == []
    assert status["nonResourceRules"] == [{"verbs": ["get"], "nonResourceURLs": ["/version"]}]
    assert (status["incomplete"], status["evaluationError"]) == (True, INCOMPLETE)


def test_what_is_new_in_a_rule_is_kept(passage: Passage) -> None:
    passage.send("editor", "POST", RULES, (b"content-type", JSON), body=question())
    passage.answer(201, "application/json", rules(CLUSTER))
    status = passage.client.document["status"]
    assert status["resourceRules"] == [
        {"verbs": ["get", "delete"], "apiGroups": [""], "resources": ["pods"], "new": 1}
    ]
    assert status["incomplete"] is False


def test_names_are_written(passage: Passage) -> None:
    rule = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}
    named = {**rule, "resourceNames": ["web", "root"]}
    list_rules(passage, {"resourceRules": [named], "evaluationError": "oh"})
    assert passage.client.document["status"] == {
        "resourceRules": [{**rule, "resourceNames": ["web"]}],
        "nonResourceRules": [],
        "evaluationError": "oh",
    }
    list_rules(passage, {"resourceRules": [rule], "evaluationError": "oh"})
    assert passage.client.document["status"]["evaluationError"] == f"oh; {INCOMPLETE}"


def test_rules_that_both_have_pass_byte_for_byte(passage: Passage) -> None:
    same = {
        "resourceRules": [{"verbs": ["list"], "apiGroups": [""], "resources": ["pods"]}],
        "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/version"]}],
        "incomplete": False,
    }
    list_rules(passage, same)
    assert passage.client.body == rules(same)


@pytest.mark.parametrize("namespace", ["shop", "other"])
def test_the_namespace_is_the_questions(passage: Passage, namespace: str) -> None:
    rule = {"verbs": ["list"], "apiGroups": [""], "resources": ["pods"]}
    status = {"resourceRules": [rule], "nonResourceRules": [], "incomplete": False}
    for media, body in (
        (JSON, question(namespace)),
        (b"", question(namespace)),
        (b"application/yaml", f"spec: {{namespace: {namespace}}}".encode()),
        (PROTOBUF, envelope(RULES_REVIEW, blob(2, text(1, namespace)))),
    ):
        list_rules(passage, status, asks=body, media=media)
        kept = passage.client.document["status"]["resourceRules"]
        assert kept == ([rule] if namespace == "shop" else [])


def test_rules_in_protobuf(passage: Passage) -> None:
    passage.send("viewer", "POST", RULES, (b"content-type", JSON), body=question())
    rule = text(1, "list") + text(1, "delete") + text(2, "") + text(3, "pods")
    body = envelope(RULES_REVIEW, blob(2, b"") + blob(3, blob(1, rule) + b"\x18\x00"))
    client = passage.answer(201, PROTOBUF.decode(), body)
    status = read_answer(PROTOBUF, client.body, RULES_REVIEW).content["status"]
    assert status["resourceRules"] == [
        {"verbs": ["list"], "apiGroups": [""], "resources": ["pods"]}
    ]


@pytest.mark.parametrize(
    "asks",
    [b"", b"{", b"[]", b"{}", b'{"spec": 1}', question(7), question(None)],
)
def test_attack_question_that_cannot_be_read(passage: Passage, asks: bytes) -> None:
    list_rules(passage, CLUSTER, asks=asks)
    assert passage.client.code == 502


@pytest.mark.parametrize(
    "status",
    [
        {"resourceRules": {}},
        {"resourceRules": [1]},
        {"nonResourceRules": "x"},
        {"resourceRules": [{"verbs": "get"}]},
        {"resourceRules": [{"verbs": [1]}]},
        {"evaluationError": 5, "resourceRules": [{"verbs": ["impersonate"]}]},
    ],
)
def test_attack_rules_that_cannot_be_read(passage: Passage, status: Any) -> None:
    list_rules(passage, status)
    assert passage.client.code == 502


def test_attack_question_without_end(passage: Passage) -> None:
    body = question() + b" " * 70_000
    passage.send("viewer", "POST", RULES, (b"content-type", JSON), body=body)
    assert passage.client.code == 413
    assert len(passage.cluster.resets) == 1


@pytest.mark.parametrize(
    "field", [(b"content-type", b"application/xml"), (b"content-encoding", b"gzip")]
)
def test_a_question_in_another_form_is_asked_for_again(
    passage: Passage, field: tuple[bytes, bytes]
) -> None:
    passage.send("viewer", "POST", RULES, field, body=b"\xd9\xd9\xf7\xa0")
    assert passage.client.code == 415
    assert passage.client.document["reason"] == "UnsupportedMediaType"
    assert passage.cluster.heads == []


@pytest.mark.parametrize(
    "path",
    [
        "/k8s/prod/apis/authentication.k8s.io/v1/selfsubjectreviews",
    ],
)
def test_who_am_i_has_no_stage(passage: Passage, path: str) -> None:
    passage.send("viewer", "POST", path, (b"accept-encoding", b"gzip"), body=b"{}")
    assert passage.cluster.heads[0][b"accept-encoding"] == b"gzip"
    assert passage.answer(201, "anything", b"\0").body == b"\0"


def test_an_answer_whose_tunnel_has_gone_is_judged_without_giving_it_credit(
    passage: Passage,
) -> None:
    asked(passage)
    assert passage.cluster.back is not None
    leg = passage.cluster.back.peer
    assert leg is not None
    fields = [(b":status", b"201"), (b"content-type", b"application/json")]
    leg.connection.relay_head(leg, b"", False, fields)
    leg.peer = None
    body = access(YES, verb="get", name="root")
    leg.connection.send_data(leg, body, len(body), True)
    assert passage.cluster.granted == 0
    assert passage.client.document["status"]["allowed"] is False
