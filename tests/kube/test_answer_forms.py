"""What mk8s adds to an answer of a real API server, and redirects of its own."""

import gzip
import http.client
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mk8s_proxy.kube import cbor
from tests.oracle.process import Oracle, program
from tests.support.cast import enrol, grant
from tests.support.wire import authority_of, send, token_of
from tests.support.world import World, wait_until

pytestmark = [pytest.mark.kube]

PROTOBUF, CBOR = "application/vnd.kubernetes.protobuf", "application/cbor"
WATCH_LIST = "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
LOOK = {"name": "prod", "verbs": ["get", "list", "watch"], "resources": ["configmaps"]}


class OpenWatch:
    """A watch that is read until it ends."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.headers = response.headers
        self.body = bytearray()
        self._response = response
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while piece := self._response.read1(65536):
            self.body += piece

    def whole(self) -> bytes:
        """The stream, without compression; it must end."""
        self._reader.join(30)
        assert not self._reader.is_alive(), "the watch goes on"
        packed = self.headers.get("content-encoding") == "gzip"
        return gzip.decompress(self.body) if packed else bytes(self.body)


@contextmanager
def watching(world: World, target: str, token: str, **headers: str) -> Iterator[OpenWatch]:
    tls = ssl.create_default_context(cadata=authority_of(world.people["admin"]))
    connection = http.client.HTTPSConnection("localhost", world.port, context=tls, timeout=60)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("GET", target, headers={"Authorization": f"Bearer {token}"} | named)
    try:
        response = connection.getresponse()
        assert response.status == 200, response.read()
        yield OpenWatch(response)
    finally:
        connection.close()


def last_event(form: str, stream: bytes) -> tuple[str, Any]:
    """The event with which a stream ends, whole."""
    if form == "application/json":
        event = json.loads(stream.splitlines()[-1])
    elif form == PROTOBUF:
        start = size = 0
        while start + 4 + size < len(stream):
            start += (4 + size) if size else 0
            size = int.from_bytes(stream[start : start + 4], "big")
        found = program()
        if found is None:
            pytest.skip("the oracle is not built")
        with Oracle(found) as oracle:
            [(kind, shown)] = oracle.watch(PROTOBUF.encode(), stream[start:])
        return kind, shown
    else:
        event = cbor.decode(stream[stream.rindex(b"\xd9\xd9\xf7\xa2") :])  # a map of two
    return event["type"], event["object"]


@pytest.mark.parametrize("coding", ["identity", "gzip"])
@pytest.mark.parametrize("form", ["application/json", PROTOBUF, CBOR])
def test_a_watch_of_a_narrowed_role_ends_with_a_word_in_its_own_form(
    world: World, form: str, coding: str
) -> None:
    role = world.fresh_name("narrowed")
    person = enrol(world, role, [LOOK | {"namespaces": ["*"]}])
    token = token_of(person, world, "prod")
    target = f"/api/v1/configmaps?watch=1{WATCH_LIST}"
    with watching(world, target, token, accept=form, accept_encoding=coding) as watch:
        wait_until(lambda: bool(watch.body), 20, lambda: "no event came")
        grant(world, role, [LOOK | {"namespaces": ["shop"]}])
        stream = watch.whole()
    if world.server_version >= (1, 37):
        assert (watch.headers.get("content-encoding") == "gzip") is (coding == "gzip")
        assert watch.headers["content-type"].startswith(form)
    shown = watch.headers["content-type"].partition(";")[0]
    kind, status = last_event(shown, stream)
    assert kind == "ERROR"
    assert (status["code"], status["reason"]) == (410, "Expired")


def test_a_redirect_of_the_api_server_is_followed_at_the_same_address(world: World) -> None:
    token = token_of(world.people["dev"], world, "prod")
    stale = "/k8s/prod/openapi/v3/api/v1?hash=0000"
    moved = send(world, stale, token=token)
    assert moved.code == 301
    assert moved.headers["location"].startswith("/k8s/prod/openapi/v3/api/v1?hash=")
    assert send(world, moved.headers["location"], token=token).code == 200


@pytest.mark.parametrize("kind", ["selfsubjectaccessreviews", "selfsubjectrulesreviews"])
def test_reviews_are_asked_and_answered_in_cbor(world: World, kind: str) -> None:
    token = token_of(world.people["viewer"], world, "prod")
    spec: dict[str, Any] = {"namespace": "shop"}
    if kind == "selfsubjectaccessreviews":
        spec = {"resourceAttributes": spec | {"verb": "delete", "resource": "pods"}}
    answer = send(
        world,
        f"/apis/authorization.k8s.io/v1/{kind}",
        token=token,
        method="POST",
        headers={"Content-Type": CBOR, "Accept": CBOR},
        body=cbor.encode({"spec": spec}),
    )
    assert answer.code == 201, answer
    assert answer.headers["content-type"] == CBOR
    status = cbor.decode(answer.body)["status"]
    if kind == "selfsubjectaccessreviews":
        assert status["allowed"] is False
        assert "mk8s" in status["reason"]
    else:
        assert all("delete" not in rule["verbs"] for rule in status["resourceRules"])
