"""Filtered requests through the chain: what the cluster is asked, what the client gets."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from chain_for_tests import Passage
from test_filtering_lists import SECRET, item

from mk8s_proxy.answers.filtering import interceptor
from mk8s_proxy.answers.filtering.interceptor import LIST_ANEW, closing_event
from mk8s_proxy.kube.watch_events import answer_form, error_event
from tests.support.front_door import Central
from tests.support.memory import data, headers

TEAM = {"name": "prod", "namespaces": ["shop"], "verbs": ["*"], "resources": ["pods"]}
RBAC: dict[str, Any] = {
    "roles": [{"name": "team", "clusters": [TEAM]}],
    "users": [{"email": "dev@example.com", "roles": ["team"]}],
}
PODS = "/k8s/prod/api/v1/pods"
JSON = "application/json"
PROTOBUF = b"application/vnd.kubernetes.protobuf"
HIDDEN = item(SECRET, "bank")


@pytest.fixture
def passage() -> Passage:
    return Passage(RBAC)


def listed(*items: Any, **metadata: str) -> bytes:
    return json.dumps({"kind": "PodList", "metadata": metadata, "items": items}).encode()


def asked(passage: Passage, path: str = PODS, *fields: tuple[bytes, bytes]) -> dict[bytes, bytes]:
    passage.send("dev", "GET", path, *fields)
    return passage.cluster.heads[-1]


def test_the_cluster_is_asked_for_plain_json_and_the_audit_row_tells_what_the_client_sent(
    passage: Passage,
) -> None:
    fields = ((b"accept", PROTOBUF), (b"accept-encoding", b"gzip"), (b"if-none-match", b"x"))
    head = asked(passage, f"{PODS}?includeObject=None", *fields)
    assert head[b":path"] == b"/api/v1/pods?includeObject=Metadata"
    assert head[b"accept"] == b"application/json"
    assert head.keys().isdisjoint({b"accept-encoding", b"if-none-match"})
    rows = json.dumps({"rows": [{"cells": [], "object": one} for one in (HIDDEN, item())]})
    client = passage.answer(200, JSON, rows.encode())
    assert client.document == {"rows": [{"cells": [], "object": None}]}
    assert "for the objects it covers" in passage.exchange.entry.facts.reason


def test_a_list_that_is_allowed_as_a_whole_is_not_touched(passage: Passage) -> None:
    head = asked(passage, "/k8s/prod/api/v1/namespaces/shop/pods", (b"accept", PROTOBUF))
    assert head[b"accept"] == PROTOBUF
    assert passage.answer(200, "text/plain", b"as it is").body == b"as it is"


def test_a_list_comes_shortened_without_its_length_and_marks(passage: Passage) -> None:
    asked(passage)
    body = listed(HIDDEN, item())
    more = [(b"content-length", b"%d" % len(body)), (b"etag", b'"x"'), (b"warning", b"w")]
    client = passage.answer(200, JSON, body[:40], body[40:], more=more)
    assert (client.code, client.ended) == (200, True)
    assert client.document["items"] == [item()]
    assert client.fields == [(b"content-type", b"application/json"), (b"warning", b"w")]


def test_a_page_token_goes_there_and_back(passage: Passage) -> None:
    assert asked(passage, f"{PODS}?limit=1")[b":path"] == b"/api/v1/pods?limit=500"
    inner = "bank/top-secret+/="
    token = passage.answer(200, JSON, listed(HIDDEN, **{"continue": inner})).document["metadata"]
    assert SECRET not in token["continue"]
    head = asked(passage, f"{PODS}?limit=500&continue={quote(token['continue'])}")
    assert head[b":path"] == b"/api/v1/pods?limit=500&continue=" + quote(inner, safe="").encode()


@pytest.mark.parametrize("token", ["YmFuaw", "x"])
def test_a_page_token_of_ones_own_making_never_reaches_the_cluster(
    passage: Passage, token: str
) -> None:
    client = passage.send("dev", "GET", f"{PODS}?continue={token}")
    assert (client.code, client.document["reason"]) == (410, "Expired")
    assert not passage.cluster.heads


@pytest.mark.parametrize("code", [400, 403, 404, 410, 429, 500, 503])
def test_errors_pass_as_they_are(passage: Passage, code: int) -> None:
    asked(passage)
    body = b"\x00k8s anything"
    more = [(b"content-length", b"13")]
    client = passage.answer(code, PROTOBUF.decode(), body, more=more)
    assert (client.code, client.body) == (code, body)
    assert more[0] in client.fields


@pytest.mark.parametrize(
    ("code", "content_type", "more"),
    [
        (200, PROTOBUF.decode(), []),
        (200, "application/cbor", []),
        (200, "application/jsonl", []),
        (200, "text/plain;application/json", []),
        (200, "application/json; charset=utf-16", []),
        (200, JSON, [(b"content-type", b"text/plain")]),
        (200, JSON, [(b"content-encoding", b"gzip")]),
        (200, JSON, [(b"content-encoding", b"identity"), (b"content-encoding", b"br")]),
        (206, JSON, []),
        (201, JSON, []),
    ],
)
def test_what_cannot_be_judged_is_a_bad_gateway(
    passage: Passage, code: int, content_type: str, more: Any
) -> None:
    asked(passage)
    client = passage.answer(code, content_type, listed(HIDDEN), more=more)
    assert client.code == 502
    assert SECRET.encode() not in client.body
    assert passage.cluster.resets


def test_charset_and_identity_are_plain(passage: Passage) -> None:
    asked(passage)
    more = [(b"content-encoding", b"identity")]
    client = passage.answer(200, "Application/JSON; Charset=UTF-8;as=Table", listed(), more=more)
    assert client.code == 200


def test_an_empty_answer_is_a_bad_gateway_and_not_an_empty_list(passage: Passage) -> None:
    asked(passage)
    assert passage.answer(200, JSON).code == 502


def test_a_head_tells_nothing_of_the_size(passage: Passage) -> None:
    passage.send("dev", "HEAD", PODS)
    client = passage.answer(200, JSON, more=[(b"content-length", b"123456")])
    assert (client.code, client.ended) == (200, True)
    assert b"content-length" not in dict(client.fields)


def test_a_websocket_is_no_way_around_the_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    passage = Passage(RBAC)
    asked(passage, f"{PODS}?watch=1")
    passage.exchange.head = passage.exchange.head._replace(upgrade=b"websocket")
    visibility = passage.exchange.decision and passage.exchange.decision.visibility
    assert visibility is not None
    seal: Any = None
    with pytest.raises(interceptor.StatusError, match="WebSocket"):
        interceptor.FilterInterceptor(
            passage.exchange, passage.chain.refuse, visibility=visibility, seal=seal
        )


@pytest.mark.parametrize("others", [["get"], ["create"], ["get", "list", "create", "delete"]])
@pytest.mark.parametrize(
    "query", [b"?watch=1", b"?watch", b"?%77atch=f", b"?watch=1&fieldSelector=metadata.name!%3Dx"]
)
def test_attack_a_watch_that_is_upgraded_is_not_whole_because_something_else_is(
    tmp_path: Path, others: list[str], query: bytes
) -> None:
    """`watch` alone is asked for, and what else is allowed as a whole makes it no wider."""
    some = TEAM | {"names": ["web-*"], "verbs": ["watch"]}
    roles = [{"name": "team", "clusters": [some, TEAM | {"verbs": others}]}]
    central = Central(tmp_path, rbac=RBAC | {"roles": roles})
    agent = central.agent()
    handshake = (
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    pods = b"/k8s/prod/api/v1/namespaces/shop/pods" + query
    refused = central.http1().ask(pods, *handshake)
    assert refused.startswith(b"HTTP/1.1 403 ")
    assert b"watch over plain HTTP" in refused
    assert not agent.requests()


# -- watches ---------------------------------------------------------------------------------------


ANEW_IN_JSON = error_event(LIST_ANEW, (b"application/json", b"identity"))


def event(shown: Any) -> bytes:
    return json.dumps({"type": "ADDED", "object": shown}).encode() + b"\n"


def test_a_watch_passes_visible_events(passage: Passage) -> None:
    asked(passage, f"{PODS}?watch=1")
    shown = event(item())
    client = passage.answer(200, JSON, event(HIDDEN) + shown[:9], shown[9:], b"")
    assert client.body == shown
    assert client.ended


@pytest.mark.parametrize(
    ("content_type", "coding", "told"),
    [
        (b"application/json", b"identity", True),
        (b"application/json", b"gzip", True),
        (PROTOBUF + b";stream=watch", b"identity", True),
        (PROTOBUF + b";stream=watch", b"gzip", True),
        (b"application/cbor-seq", b"identity", True),
        (b"any", b"identity", False),
    ],
)
@pytest.mark.parametrize("accept", [b"application/json", PROTOBUF + b",application/json"])
def test_a_whole_watch_that_becomes_a_filtered_one_ends_in_its_own_form(
    tmp_path: Path, accept: bytes, content_type: bytes, coding: bytes, told: bool
) -> None:
    everything = {"name": "team", "clusters": [TEAM | {"namespaces": ["*"]}]}
    central = Central(tmp_path, rbac=RBAC | {"roles": [everything]})
    agent = central.agent()
    person = central.http2()
    number = person.ask(PODS.encode() + b"?watch=1", (b"accept", accept))
    stream, _ = agent.request()
    form = [(b"content-type", content_type), (b"content-encoding", coding)]
    agent.send(headers(stream, [(b":status", b"200"), *form]))
    agent.send(data(stream, b"bytes"))
    central.policies.current = Passage(RBAC).policy.current
    central.policies.current.version = 2
    central.chain.long_running.recheck_all()
    for _ in range(2):
        central.chain.long_running.second(0.0)
    answer = person.answer(number)
    assert answer.ended
    closing = error_event(LIST_ANEW, answer_form(form))
    assert answer.body == b"bytes" + closing
    assert bool(closing) is told


@pytest.mark.parametrize(
    ("namespaces", "closing_event"),
    [(["shop"], b""), (["shop", "bank"], ANEW_IN_JSON), (["bank"], ANEW_IN_JSON)],
)
def test_a_change_of_what_is_visible_makes_clients_list_anew(
    tmp_path: Path, namespaces: list[str], closing_event: bytes
) -> None:
    central = Central(tmp_path, rbac=RBAC)
    agent = central.agent()
    person = central.http2()
    number = person.ask(PODS.encode() + b"?watch=1")
    stream, _ = agent.request()
    agent.send(headers(stream, [(b":status", b"200"), (b"content-type", b"application/json")]))
    agent.send(data(stream, event(HIDDEN) + event(item())))
    changed = {"name": "team", "clusters": [TEAM | {"namespaces": namespaces}]}
    central.policies.current = Passage(RBAC | {"roles": [changed]}).policy.current
    central.policies.current.version = 2
    central.chain.long_running.recheck_all()
    for _ in range(2):
        central.chain.long_running.second(0.0)
    answer = person.answer(number)
    assert answer.body == event(item()) + closing_event
    assert answer.ended is bool(closing_event)
    assert answer.reset is None


@pytest.mark.parametrize(("fresh", "ended"), [(True, False), (False, True)])
def test_a_watch_outlives_its_token_where_a_logout_would_be_known(
    tmp_path: Path, fresh: bool, ended: bool
) -> None:
    central = Central(tmp_path, rbac=RBAC)
    agent = central.agent()
    person = central.http2()
    number = person.ask(PODS.encode() + b"?watch=1")
    stream, _ = agent.request()
    agent.send(headers(stream, [(b":status", b"200"), (b"content-type", b"application/json")]))
    agent.send(data(stream, event(item())))
    central.policies.is_fresh = fresh
    for _ in range(3):
        central.chain.long_running.second(1e13)
    assert person.answer(number).ended is ended


def test_only_a_watch_has_a_last_event(passage: Passage) -> None:
    asked(passage, PODS)
    passage.exchange.answer_form = (b"application/json", b"identity")
    assert closing_event(passage.exchange) == b""


# -- through real connections ----------------------------------------------------------------------


def test_a_list_in_small_frames_reaches_both_kinds_of_clients(tmp_path: Path) -> None:
    central = Central(tmp_path, rbac=RBAC)
    agent = central.agent()
    body = listed(*(item(f"n{n}", ("shop", "bank")[n % 2]) for n in range(9)))
    person = central.http2()
    number = person.ask(PODS.encode())
    old = central.http1()
    old.ask(PODS.encode())
    for frame in [one for one in agent.requests() if one.kind == "HEADERS"]:
        head = [(b":status", b"200"), (b"content-type", b"application/json")]
        agent.send(headers(frame.stream, head))
        for start in range(0, len(body), 7):
            agent.send(data(frame.stream, body[start : start + 7]))
        agent.send(data(frame.stream, b"", end=True))
    answer = person.answer(number)
    assert answer.ended
    assert len(json.loads(answer.body)["items"]) == 5
    received = old.read()
    assert received.count(b'"shop"') == 5
    assert b'"bank"' not in received
    assert received.endswith(b"}\r\n0\r\n\r\n")


def test_a_list_that_is_cut_short_never_looks_complete(tmp_path: Path) -> None:
    central = Central(tmp_path, rbac=RBAC)
    agent = central.agent()
    person = central.http2()
    number = person.ask(PODS.encode())
    stream, _ = agent.request()
    agent.send(headers(stream, [(b":status", b"200"), (b"content-type", b"application/json")]))
    agent.send(data(stream, listed(item(), HIDDEN)[:-1], end=True))
    answer = person.answer(number)
    assert not answer.ended
    assert answer.reset is not None
