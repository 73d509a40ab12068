"""A deletecollection by somebody who may delete only a part: each visible object, and no other."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import pytest

from mk8s_agent.wire import headers as internal
from mk8s_proxy.answers.filtering import collection_deletion, deletion_candidates
from mk8s_proxy.answers.filtering.collection_deletion import WORKERS, begin_deletion
from mk8s_proxy.answers.filtering.deletion_candidates import MAXIMUM_ANSWER
from mk8s_proxy.answers.filtering.json_values import Unfilterable
from mk8s_proxy.answers.filtering.large_objects import Document
from mk8s_proxy.kube.status import StatusError
from mk8s_proxy.listener.exchange import Exchange
from tests.support.front_door import Agent, Answer, Central, Http2Person, policy
from tests.support.memory import Fields, data, headers, rst_stream

SHOP = "/api/v1/namespaces/shop/configmaps"
HEAD = [(b":status", b"200"), (b"content-type", b"application/json")]
RULE: dict[str, Any] = {"name": "prod", "namespaces": ["shop"], "resources": ["configmaps"]}
WEB = [RULE | {"verbs": ["deletecollection"], "names": ["web-*"]}, RULE | {"verbs": ["list"]}]
JSON = (b"content-type", b"application/json")
DISCOVERY = {
    "kind": "APIResourceList",
    "resources": [
        {"name": "configmaps", "namespaced": True, "verbs": ["deletecollection", "list"]},
        {"name": "namespaces", "namespaced": False, "verbs": ["delete", "list"]},
        {"name": "nodes", "namespaced": False, "verbs": ["deletecollection", "list"]},
    ],
}


def rbac(*rules: dict[str, Any]) -> dict[str, Any]:
    return {
        "roles": [{"name": "team", "clusters": list(rules)}],
        "users": [{"email": "dev@example.com", "roles": ["team"]}],
    }


class ApiServer:
    """The cluster: config maps by name, listed and deleted as kube-apiserver does."""

    def __init__(self, agent: Agent, *names: str) -> None:
        self.agent = agent
        self.uids = {name: f"uid-{name}" for name in names}
        self.deleted: list[str] = []
        self.asked: list[tuple[str, str, dict[bytes, bytes]]] = []
        self.bodies: dict[int, bytes] = {}
        self.resets: list[int] = []
        self.page = 500
        self.size = 0
        self.discovery: Any = DISCOVERY
        self.answers: dict[str, tuple[int, Any]] = {}
        """What is answered instead, by method or by name."""
        self.before: dict[str, Callable[[], None]] = {}
        """What happens first, by name."""

    def take(self) -> list[int]:
        """Reads what has come; the streams of new requests."""
        fresh = []
        for seen in self.agent.requests():
            if seen.kind == "HEADERS":
                head = dict(seen.value)
                self.asked.append((head[b":method"].decode(), head[b":path"].decode(), head))
                fresh.append(seen.stream)
            elif seen.kind == "DATA":
                self.bodies[seen.stream] = self.bodies.get(seen.stream, b"") + seen.value
            else:
                self.resets.append(seen.stream)
        return fresh

    def serve(self) -> None:
        """Answers until nothing more is asked."""
        while streams := self.take():
            first = len(self.asked) - len(streams)
            for stream, (method, path, _) in zip(streams, self.asked[first:], strict=True):
                self.reply(stream, *self.answer(stream, method, path))

    def reply(self, stream: int, code: int, document: Any) -> None:
        fields: Fields = [(b":status", b"%d" % code), HEAD[1]]
        if code == 429:
            fields.append((b"retry-after", b"1"))
        self.agent.send(headers(stream, fields))
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        middle = len(body) // 2
        for start in range(0, middle, 60_000):
            self.agent.send(data(stream, body[start : min(start + 60_000, middle)]))
        for start in range(middle, len(body), 60_000):
            piece = body[start : start + 60_000]
            self.agent.send(data(stream, piece, end=start + 60_000 >= len(body)))

    def answer(self, stream: int, method: str, path: str) -> tuple[int, Any]:
        bare, _, query = path.partition("?")
        name = unquote(bare.rpartition("/")[2])
        if act := self.before.pop(name, None):
            act()
        instead = self.answers.get(name) or self.answers.get(method)
        if instead:
            return instead
        if bare == "/api/v1":
            return 200, self.discovery
        if method == "GET":
            return 200, self.listed(parse_qs(query))
        return self.delete(name, json.loads(self.bodies[stream]))

    def listed(self, query: dict[str, list[str]]) -> Any:
        start = int(query.get("continue", ["0"])[0])
        names = sorted(self.uids)[start : start + self.page]
        metadata: dict[str, Any] = {"resourceVersion": "7"}
        if start + self.page < len(self.uids):
            metadata |= {"continue": str(start + self.page), "remainingItemCount": 3}
        items = [self.object(name) for name in names]
        if query.get("includeObject"):
            rows = [{"cells": [one["metadata"]["name"]], "object": one} for one in items]
            return {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
                    "columnDefinitions": [], "rows": rows}  # fmt: skip
        return {"kind": "ConfigMapList", "apiVersion": "v1", "metadata": metadata, "items": items}

    def object(self, name: str) -> Any:
        metadata = {"name": name, "namespace": "shop", "uid": self.uids[name]}
        return {"metadata": metadata, "data": {"x": "x" * self.size}}

    def delete(self, name: str, options: Any) -> tuple[int, Any]:
        wanted, found = options["preconditions"]["uid"], self.uids.get(name)
        if found is None or name in self.deleted:
            return 404, status(404, "NotFound", f'configmaps "{name}" not found')
        if wanted != found:
            words = f"Precondition failed: UID in precondition: {wanted}, UID in object meta: "
            return 409, status(409, "Conflict", words + found)
        self.deleted.append(name)
        return 200, {"kind": "Status", "status": "Success"}

    @property
    def sent(self) -> list[str]:
        """Method and path of every request, without the query."""
        return [f"{method} {path.partition('?')[0]}" for method, path, _ in self.asked]


def status(code: int, reason: str, message: str, **more: Any) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
            "reason": reason, "message": message, **more}  # fmt: skip


class Scene:
    """A person, central, and the cluster."""

    def __init__(self, folder: Path, *names: str, rules: Any = WEB) -> None:
        self.central = Central(folder, rbac=rbac(*rules))
        self.agent = self.central.agent()
        self.server = ApiServer(self.agent, *names)
        self.person: Http2Person = self.central.http2()

    def ask(self, path: str = SHOP, *fields: Any, body: bytes = b"") -> int:
        target = b"/k8s/prod" + path.encode()
        number = self.person.ask(target, *fields, method=b"DELETE", end=not body)
        if body:
            pieces = [body[start : start + 16_000] for start in range(0, len(body), 16_000)]
            for count, piece in enumerate(pieces, start=1):
                self.person.send(data(number, piece, end=count == len(pieces)))
        return number

    def delete(self, path: str = SHOP, *fields: Any, body: bytes = b"") -> Answer:
        number = self.ask(path, *fields, body=body)
        self.server.serve()
        return self.person.answer(number)

    def bodies(self) -> list[Any]:
        return [json.loads(body) for body in self.server.bodies.values()]

    def names(self, answer: Answer) -> list[str]:
        assert answer.code == 200, answer
        assert answer.ended
        return [one["metadata"]["name"] for one in json.loads(answer.body)["items"]]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path, "db-1", "web-1", "web-2")


# -- what it does ----------------------------------------------------------------------------------


def test_exactly_the_visible_objects_are_deleted_and_listed(scene: Scene) -> None:
    answer = scene.delete()
    assert scene.names(answer) == ["web-1", "web-2"]
    document = json.loads(answer.body)
    assert document["kind"] == "ConfigMapList"
    assert document["metadata"] == {"resourceVersion": "7"}
    assert answer.fields[b"content-type"] == b"application/json"
    assert answer.fields[b"content-length"] == b"%d" % len(answer.body)
    assert scene.server.deleted == ["web-1", "web-2"]
    assert scene.server.sent == [
        "GET /api/v1",
        f"GET {SHOP}",
        f"DELETE {SHOP}/web-1",
        f"DELETE {SHOP}/web-2",
    ]


def test_every_request_is_sent_as_the_person_and_says_what_it_is(scene: Scene) -> None:
    scene.delete(SHOP, (b"user-agent", b"kubectl"), (b"accept-encoding", b"gzip"))
    for method, _, head in scene.server.asked:
        assert json.loads(head[internal.IDENTITY])["user"] == "dev@example.com"
        assert head[b"user-agent"] == b"kubectl"
        assert head[b"accept"] == b"application/json"
        assert b"accept-encoding" not in head
        assert (b"content-type" in head) is (method == "DELETE")


def test_each_object_has_rows_of_its_own_that_lead_back_to_the_request(scene: Scene) -> None:
    scene.delete()
    rows = scene.central.rows()
    intents = [row for row in rows if row["stage"] == "RequestReceived"]
    outcomes = {row["auditID"]: row for row in scene.central.outcomes()}
    [whole] = [row for row in intents if row["verb"] == "deletecollection"]
    assert outcomes.keys() == {row["auditID"] for row in intents}
    assert outcomes[whole["auditID"]]["responseStatus"]["code"] == 200
    parts = [row for row in intents if row is not whole]
    assert {row["annotations"]["mk8s.io/parent-audit-id"] for row in parts} == {whole["auditID"]}
    assert "mk8s.io/parent-audit-id" not in whole["annotations"]
    deletions = [row for row in parts if row["verb"] == "delete"]
    assert [row["objectRef"]["name"] for row in deletions] == ["web-1", "web-2"]
    for row in deletions:
        assert row["user"]["username"] == "dev@example.com"
        assert row["requestURI"] == f"/k8s/prod{SHOP}/{row['objectRef']['name']}"
        assert row["annotations"]["authorization.k8s.io/reason"] == "allowed by role team, rule 1"
        assert outcomes[row["auditID"]]["responseStatus"]["code"] == 200
    assert len({row["auditID"] for row in intents}) == len(intents)


def test_the_options_of_the_body_go_with_each_deletion(scene: Scene) -> None:
    options: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1", "dryRun": ["All"]}
    options |= {"propagationPolicy": "Foreground", "preconditions": {"resourceVersion": "5"}}
    scene.delete(SHOP, JSON, body=json.dumps(options).encode())
    assert scene.bodies() == [
        options | {"preconditions": {"resourceVersion": "5", "uid": f"uid-{name}"}}
        for name in ("web-1", "web-2")
    ]


def test_the_options_of_the_query_go_with_each_deletion(scene: Scene) -> None:
    query = (
        "dryRun=All&gracePeriodSeconds=0&propagationPolicy=Orphan&orphanDependents=false&"
        "labelSelector=a%3Db%2Cc&fieldSelector=metadata.name%21%3Dx&resourceVersion=5&pretty"
    )
    scene.delete(f"{SHOP}?{query}")
    assert scene.bodies()[0] == {
        "kind": "DeleteOptions",
        "apiVersion": "v1",
        "dryRun": ["All"],
        "gracePeriodSeconds": 0,
        "propagationPolicy": "Orphan",
        "orphanDependents": False,
        "preconditions": {"uid": "uid-web-1", "resourceVersion": "5"},
    }
    listed = parse_qs(scene.server.asked[1][1].partition("?")[2])
    assert listed == {
        "labelSelector": ["a=b,c"],
        "fieldSelector": ["metadata.name!=x"],
        "resourceVersion": ["5"],
        "limit": ["500"],
    }


def test_pages_come_one_after_the_other_and_become_one_list(tmp_path: Path) -> None:
    names = [f"{kind}-{number}" for kind in ("db", "web") for number in range(30)]
    scene = Scene(tmp_path, *names)
    scene.server.page = 7
    answer = scene.delete(f"{SHOP}?resourceVersion=0&labelSelector=x")
    wanted = sorted(name for name in names if name.startswith("web"))
    assert scene.names(answer) == wanted
    assert sorted(scene.server.deleted) == wanted
    pages = [path for method, path, _ in scene.server.asked if "?" in path]
    assert len(pages) == 9
    assert "resourceVersion=0" in pages[0]
    assert not any("resourceVersion" in page for page in pages[1:])
    assert all("labelSelector=x" in page and "limit=500" in page for page in pages)
    assert "continue" not in json.loads(answer.body)["metadata"]


def test_a_few_at_a_time(tmp_path: Path) -> None:
    scene = Scene(tmp_path, *(f"web-{number:02}" for number in range(3 * WORKERS)))
    number = scene.ask()
    for _ in range(2):
        [stream] = scene.server.take()
        method, path, _ = scene.server.asked[-1]
        scene.server.reply(stream, *scene.server.answer(stream, method, path))
    streams = scene.server.take()
    assert len(streams) == WORKERS
    scene.server.reply(streams[3], 200, {})
    assert len(scene.server.take()) == 1
    assert not scene.person.answer(number).code


def test_a_list_that_is_limited_as_well_limits_the_deletion(tmp_path: Path) -> None:
    rules = [RULE | {"verbs": ["deletecollection"], "names": ["web-*"]},
             RULE | {"verbs": ["list"], "names": ["*-1"]}]  # fmt: skip
    scene = Scene(tmp_path, "db-1", "web-1", "web-2", rules=rules)
    assert scene.names(scene.delete()) == ["web-1"]


def test_a_collection_without_anything_visible_is_empty(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "db-1")
    assert scene.names(scene.delete()) == []
    assert not scene.server.deleted


def test_a_table_is_answered_with_a_table(scene: Scene) -> None:
    accept = (b"accept", b"application/json;as=Table;v=v1;g=meta.k8s.io")
    table = json.loads(scene.delete(f"{SHOP}?includeObject=None", accept).body)
    assert table["kind"] == "Table"
    assert table["rows"] == [{"cells": [name], "object": None} for name in ("web-1", "web-2")]
    assert scene.server.deleted == ["web-1", "web-2"]


def test_protobuf_is_answered_with_json(scene: Scene) -> None:
    answer = scene.delete(SHOP, (b"accept", b"application/vnd.kubernetes.protobuf"))
    assert scene.names(answer) == ["web-1", "web-2"]


def test_an_answer_too_long_to_be_kept_says_only_that_all_are_deleted(tmp_path: Path) -> None:
    scene = Scene(tmp_path, *(f"web-{number}" for number in range(10)))
    scene.server.size = MAXIMUM_ANSWER // 9
    answer = scene.delete()
    assert (answer.code, answer.ended) == (200, True)
    assert json.loads(answer.body) == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {"kind": "ConfigMap"},
        "code": 200,
    }
    assert len(scene.server.deleted) == 10


def test_cluster_scoped_objects_by_name(tmp_path: Path) -> None:
    rules = [{"name": "prod", "namespaces": [""], "verbs": ["*"], "resources": ["nodes"],
              "names": ["system:a", "b"]}]  # fmt: skip
    scene = Scene(tmp_path, "system:a", "b", "c", rules=rules)
    scene.server.object = lambda name: {"metadata": {"name": name, "uid": f"uid-{name}"}}  # type: ignore[method-assign]
    assert scene.names(scene.delete("/api/v1/nodes")) == ["b", "system:a"]
    assert scene.server.sent[2:] == ["DELETE /api/v1/nodes/b", "DELETE /api/v1/nodes/system:a"]


def test_custom_resources_outside_namespaces(tmp_path: Path) -> None:
    """Where they live is not known: what a role denies in a namespace limits them, too."""
    every = {"name": "prod", "namespaces": ["*"], "verbs": ["*"], "resources": ["widgets"]}
    scene = Scene(tmp_path, "a", rules=[every, every | {"namespaces": ["bank"], "deny": True}])
    scene.server.object = lambda name: {"metadata": {"name": name, "uid": f"uid-{name}"}}  # type: ignore[method-assign]
    widgets = {"name": "widgets", "namespaced": False, "verbs": ["deletecollection"]}
    scene.server.answers["v1"] = (200, {"resources": [widgets]})
    assert scene.names(scene.delete("/apis/example.com/v1/widgets")) == ["a"]
    assert scene.server.sent[0] == "GET /apis/example.com/v1"
    assert scene.server.deleted == ["a"]


def test_a_token_that_names_its_cluster_needs_no_address(scene: Scene) -> None:
    number = scene.person.ask(SHOP.encode(), method=b"DELETE", token=b"dev.prod")
    scene.server.serve()
    assert scene.names(scene.person.answer(number)) == ["web-1", "web-2"]
    paths = {row["requestURI"].partition("?")[0] for row in scene.central.outcomes()}
    assert paths == {"/api/v1", SHOP, f"{SHOP}/web-1", f"{SHOP}/web-2"}


def test_acting_as_somebody_else_holds_for_every_part(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "db-1", "web-1")
    boss = {"name": "boss", "clusters": [{"name": "prod", "impersonate": {"users": ["dev@*"]}}]}
    rules = rbac(*WEB)
    rules["roles"].append(boss)
    rules["users"].append({"email": "boss@example.com", "roles": ["boss"]})
    scene.central.policies.current = policy(rules)
    path = b"/k8s/prod" + SHOP.encode()
    acting = (b"impersonate-user", b"dev@example.com")
    number = scene.person.ask(path, acting, method=b"DELETE", token=b"boss")
    scene.server.serve()
    assert scene.names(scene.person.answer(number)) == ["web-1"]
    for _, _, head in scene.server.asked:
        assert json.loads(head[internal.IDENTITY])["user"] == "dev@example.com"
    rows = scene.central.outcomes()
    assert {row["user"]["username"] for row in rows} == {"boss@example.com"}
    assert {row["impersonatedUser"]["username"] for row in rows} == {"dev@example.com"}


def test_who_may_delete_all_of_it_is_not_divided(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "a", rules=[RULE | {"verbs": ["*"]}])
    scene.ask()
    scene.server.take()
    assert scene.server.sent == [f"DELETE {SHOP}"]


def test_http1_too(scene: Scene) -> None:
    old = scene.central.http1()
    old.ask(b"/k8s/prod" + SHOP.encode(), b"Content-Length: 2", method=b"DELETE")
    old.send(b"{}")
    scene.server.serve()
    assert b"200 OK" in (received := old.read())
    assert b'"web-2"' in received
    assert b'"db-1"' not in received


# -- what goes wrong -------------------------------------------------------------------------------


def test_what_somebody_else_deletes_meanwhile_is_no_failure(scene: Scene) -> None:
    scene.server.before["web-1"] = lambda: scene.server.deleted.append("web-1")
    assert scene.names(scene.delete()) == ["web-1", "web-2"]
    assert scene.server.deleted == ["web-1", "web-2"]


def test_the_first_failure_is_the_answer_and_nothing_more_begins(tmp_path: Path) -> None:
    scene = Scene(tmp_path, *(f"web-{number:02}" for number in range(2 * WORKERS)))
    causes = [{"reason": "r", "field": 1}, 2]
    details = {"name": "web-03", "kind": "x", "uid": 7, "causes": causes}
    scene.server.answers["web-03"] = (422, status(422, "Invalid", "no", details=details))
    answer = scene.delete()
    assert (answer.code, answer.status["reason"], answer.status["message"]) == (
        422,
        "Invalid",
        "no",
    )
    assert answer.status["details"] == {"name": "web-03", "kind": "x", "causes": [{"reason": "r"}]}
    assert "web-02" in scene.server.deleted
    assert len(scene.server.deleted) < 2 * WORKERS - 1
    [whole] = [row for row in scene.central.outcomes() if row["verb"] == "deletecollection"]
    assert whole["responseStatus"]["code"] == 422


@pytest.mark.parametrize("failing", ["web-2", "configmaps"])
def test_only_what_has_deleted_nothing_may_be_sent_again_at_once(
    scene: Scene, failing: str
) -> None:
    scene.server.answers[failing] = (429, status(429, "TooManyRequests", "wait"))
    answer = scene.delete()
    assert answer.code == 429
    assert (b"retry-after" in answer.fields) is (failing == "configmaps")


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"kind": "Pod"}', b"x" * 100_000, b'{"kind":"Status"}']
)
def test_a_failure_that_is_no_status_keeps_its_code(scene: Scene, body: bytes) -> None:
    scene.server.answers["web-1"] = (500, body or b" ")
    answer = scene.delete()
    assert answer.code == 500
    assert answer.status["message"] == "the cluster answered 500"


def test_a_failure_without_a_body(scene: Scene) -> None:
    number = scene.ask()
    [stream] = scene.server.take()
    scene.agent.send(headers(stream, [(b":status", b"503")], end=True))
    assert scene.person.answer(number).code == 503


def test_whoever_may_not_list_in_the_cluster_learns_why(scene: Scene) -> None:
    scene.server.answers["configmaps"] = (403, status(403, "Forbidden", "cannot list"))
    answer = scene.delete()
    assert answer.code == 403
    assert "it must be listed: cannot list" in answer.status["message"]
    assert not scene.server.deleted


def test_whoever_may_not_list_by_policy_learns_why(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "web-1", rules=WEB[:1])
    answer = scene.delete()
    assert answer.code == 403
    assert "to find those you must list them: no role allows it" in answer.status["message"]
    assert not scene.server.asked


@pytest.mark.parametrize(
    ("path", "rules", "code"),
    [
        ("/api/v1/configmaps", [RULE | {"verbs": ["*"]}], 405),
        ("/api/v1/namespaces", [RULE | {"verbs": ["*"], "resources": ["namespaces"]}], 405),
        ("/api/v1/widgets", [RULE | {"verbs": ["*"], "resources": ["widgets"]}], 404),
    ],
)
def test_what_the_api_server_does_not_offer_is_not_offered(
    tmp_path: Path, path: str, rules: Any, code: int
) -> None:
    """Namespaces can be deleted one by one, but not as a collection."""
    scene = Scene(tmp_path, "web-1", rules=rules)
    assert scene.delete(path).code == code
    assert scene.server.sent == ["GET /api/v1"]


@pytest.mark.parametrize(
    "document", [b"{", [], {}, {"resources": [1]}, {"resources": 1}, b"[" + b" " * (1 << 20) + b"]"]
)
def test_a_discovery_that_cannot_be_read_deletes_nothing(scene: Scene, document: Any) -> None:
    scene.server.discovery = document
    assert scene.delete().code == 502
    assert len(scene.server.asked) == 1


@pytest.mark.parametrize("query", ["limit=1", "continue=abc", "limit=x"])
def test_a_page_of_a_deletion_is_refused(scene: Scene, query: str) -> None:
    answer = scene.delete(f"{SHOP}?{query}")
    assert answer.code == 400
    assert "leave out limit and continue" in answer.status["message"]
    assert not scene.server.asked


def test_a_limit_of_nothing_is_none(scene: Scene) -> None:
    assert scene.delete(f"{SHOP}?limit=0&continue=").code == 200


@pytest.mark.parametrize(
    ("body", "content_type", "more", "code"),
    [
        (b"{", b"application/json", (), 400),
        (b"[]", b"application/json", (), 400),
        (b'{"preconditions": 1}', b"application/json", (), 400),
        (b'{"dryRun": ["All"], "dryRun": []}', b"application/json", (), 400),
        (b"protobuf", b"application/vnd.kubernetes.protobuf", (), 400),
        (b"k8s\0\x12\x02\x38\x01", b"application/vnd.kubernetes.protobuf", (), 400),
        (b"k8s\0\x12\x04\x12\x02\x18\x01", b"application/vnd.kubernetes.protobuf", (), 400),
        (b"{}", b"application/cbor", (), 400),
        (b"kind: DeleteOptions", b"application/yaml", (), 415),
        (b"{}", b"application/json", ((b"content-encoding", b"gzip"),), 415),
        (b" " * 70_000, b"application/json", (), 413),
    ],
)
def test_options_that_cannot_be_read_delete_nothing(
    scene: Scene, body: bytes, content_type: bytes, more: Any, code: int
) -> None:
    answer = scene.delete(SHOP, (b"content-type", content_type), *more, body=body)
    assert answer.code == code
    assert not scene.server.asked


def test_a_grace_period_that_is_no_number_deletes_nothing(scene: Scene) -> None:
    assert scene.delete(f"{SHOP}?gracePeriodSeconds=soon").code == 400
    assert not scene.server.asked


def test_without_an_agent_nothing_was_sent_and_it_may_be_tried_again(scene: Scene) -> None:
    scene.central.registry.remove(scene.agent.session)
    answer = scene.delete()
    assert answer.code == 503
    assert answer.fields[b"retry-after"] == b"1"


@pytest.mark.parametrize(("code", "told"), [(7, 503), (2, 502)])
def test_a_tunnel_that_loses_a_part_fails_the_whole(scene: Scene, code: int, told: int) -> None:
    number = scene.ask()
    [stream] = scene.server.take()
    scene.agent.send(rst_stream(stream, code))
    assert scene.person.answer(number).code == told


def test_a_tunnel_that_is_lost_fails_the_whole(scene: Scene) -> None:
    number = scene.ask()
    scene.server.take()
    scene.agent.session.connection_lost()
    assert scene.person.answer(number).code == 502


def test_what_comes_after_the_end_of_a_part_is_not_its_answer(scene: Scene) -> None:
    scene.ask()
    scene.server.take()
    [whole] = [stream.exchange for stream in scene.person.connection.streams.values()]
    [request] = whole.front.peer.connection._running
    request.cancel()
    stream = request._front
    request.send_data(stream, b"{}", 2, True)
    request.reset(stream, 2)
    request.answer(stream, 500, [], b"")
    request.grant(stream, 1)
    assert not scene.person.answer(1).code
    assert len(scene.central.outcomes()) == 1


# -- attacks ---------------------------------------------------------------------------------------


def test_attack_hidden_names_leak_through_no_answer(scene: Scene) -> None:
    answers = [scene.delete(), scene.delete(f"{SHOP}?fieldSelector=metadata.name%3Ddb-1")]
    scene.server.answers["DELETE"] = (500, status(500, "InternalError", "etcd"))
    scene.server.deleted.clear()
    answers.append(scene.delete())
    for answer in answers:
        assert b"db-1" not in answer.body
        assert b"remainingItemCount" not in answer.body


def test_attack_a_new_object_under_a_listed_name_lives_on(scene: Scene) -> None:
    scene.server.before["web-1"] = lambda: scene.server.uids.update({"web-1": "uid-new"})
    assert scene.delete().code == 200
    assert scene.server.deleted == ["web-2"]


def test_attack_a_uid_of_the_persons_own_is_never_replaced(scene: Scene) -> None:
    """It would widen what they asked for: one object of this uid."""
    answer = scene.delete(f"{SHOP}?uid=uid-web-2")
    assert answer.code == 409
    assert scene.server.deleted in ([], ["web-2"])
    assert {body["preconditions"]["uid"] for body in scene.bodies()} == {"uid-web-2"}


def test_attack_a_client_that_leaves_stops_the_work(tmp_path: Path) -> None:
    scene = Scene(tmp_path, *(f"web-{number:02}" for number in range(3 * WORKERS)))
    number = scene.ask()
    for _ in range(2):
        [stream] = scene.server.take()
        method, path, _ = scene.server.asked[-1]
        scene.server.reply(stream, *scene.server.answer(stream, method, path))
    streams = scene.server.take()
    scene.person.send(rst_stream(number, 8))
    assert scene.server.take() == []
    assert sorted(scene.server.resets) == streams
    assert len(scene.central.outcomes()) == 3 + WORKERS


def test_attack_a_client_that_leaves_before_its_body_is_complete(scene: Scene) -> None:
    number = scene.person.ask(b"/k8s/prod" + SHOP.encode(), method=b"DELETE", end=False)
    scene.person.send(rst_stream(number, 8))
    assert not scene.server.take()
    assert [row["verb"] for row in scene.central.outcomes()] == ["deletecollection"]


@pytest.mark.parametrize("rules", [[], [*WEB, RULE | {"verbs": ["*"], "deny": True}]])
def test_attack_a_right_that_is_taken_away_ends_the_deletion(scene: Scene, rules: Any) -> None:
    def revoke() -> None:
        changed = policy(rbac(*rules) if rules else rbac(RULE | {"verbs": ["list"]}))
        changed.version = 2
        scene.central.policies.current = changed

    scene.server.before["configmaps"] = revoke
    answer = scene.delete()
    assert answer.code == 403
    assert not scene.server.deleted


def test_attack_an_object_that_the_policy_no_longer_shows(scene: Scene) -> None:
    """Each object is decided anew: a decision for some objects is none for this one."""
    scene.ask()
    scene.server.take()
    [whole] = [stream.exchange for stream in scene.person.connection.streams.values()]
    one = Exchange(whole.front, whole.head, whole.entry)
    one.whole, one.decision = whole, whole.decision
    one.info = replace(whole.info, verb="delete", name="web-9")
    assert not begin_deletion(one, scene.central.chain, print)
    assert one.decision is not None
    assert one.decision.visibility is None
    one.info, one.decision = replace(one.info, name="db-1"), whole.decision
    with pytest.raises(StatusError) as refusal:
        begin_deletion(one, scene.central.chain, print)
    assert refusal.value.code == 403


def test_attack_a_denied_name_is_spared(tmp_path: Path) -> None:
    rules = [RULE | {"verbs": ["*"]}, RULE | {"verbs": ["*"], "names": ["web-1"], "deny": True}]
    scene = Scene(tmp_path, "web-1", "web-2", rules=rules)
    assert scene.names(scene.delete()) == ["web-2"]


def test_attack_the_audit_log_cannot_be_written(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scene.central.journal, "commit", lambda: False)
    answer = scene.delete()
    assert answer.code == 503
    assert not scene.server.asked


@pytest.mark.parametrize(
    "item",
    [
        {"metadata": {"name": "web-1", "namespace": "bank", "uid": "u"}},
        {"metadata": {"name": "web-1", "namespace": "shop"}},
        {"metadata": {"name": "web-1", "namespace": "shop", "uid": 7}},
        {"metadata": {"name": "web-1/../../../bank/secrets/x", "namespace": "shop", "uid": "u"}},
        {"metadata": {"name": "web-?", "namespace": "shop", "uid": "u"}},
        {"metadata": {"name": "web-\ud7ff%2e", "namespace": "shop", "uid": "u"}},
    ],
)
def test_attack_a_cluster_that_lists_what_it_was_not_asked_for(tmp_path: Path, item: Any) -> None:
    scene = Scene(tmp_path, rules=[rule | {"namespaces": ["*"]} for rule in WEB])
    scene.server.answers["configmaps"] = (200, {"kind": "ConfigMapList", "items": [item]})
    assert scene.delete().code in (400, 502)
    assert not any(method == "DELETE" for method, _, _ in scene.server.asked)


def test_attack_a_list_that_is_cut_short_deletes_nothing(scene: Scene) -> None:
    items = [scene.server.object("web-1")]
    cut = json.dumps({"kind": "ConfigMapList", "items": items}).encode()[:-1]
    scene.server.answers["configmaps"] = (200, cut)
    assert scene.delete().code == 502
    assert not scene.server.deleted


def test_attack_a_fault_of_central_deletes_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any) -> Any:
        raise RuntimeError

    monkeypatch.setattr(collection_deletion, "_resources", crash)
    assert scene.delete().code == 500
    assert not scene.server.deleted


def test_attack_objects_without_end_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletion_candidates, "MAXIMUM_ANSWER", 1000)
    monkeypatch.setattr(deletion_candidates, "MAXIMUM_WAITING", 100)
    found = deletion_candidates.DeletionCandidates(lambda _, name: True, "", strip_rows=False)
    for number in range(100):
        raw = b'{"metadata":{"name":"n","uid":"u"},"x":%d}' % number
        assert found.item(Document(raw)) == b""
    assert found._shown == []
    with pytest.raises(Unfilterable):
        found.item(Document(b'{"metadata":{"name":"n","uid":"u"}}'))
    assert len(found.waiting) == 100


@pytest.mark.parametrize("key", ["name", "uid"])
def test_attack_names_without_end_are_not_kept(key: str) -> None:
    found = deletion_candidates.DeletionCandidates(lambda *_: True, "", strip_rows=False)
    metadata = {"name": "n", "uid": "u"} | {key: "x" * 5000}
    with pytest.raises(Unfilterable):
        found.item(Document(json.dumps({"metadata": metadata}).encode()))
    assert not found.waiting
