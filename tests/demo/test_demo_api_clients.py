"""What clients of other languages ask of the demo API: channels, sockets, media types, pages."""

import asyncio
import base64
import io
import json
from collections.abc import Callable
from typing import Any

import aiohttp
import cbor2
import pytest
import yaml

from mk8s_cli.demo_api.upgrades import BEARER
from mk8s_proxy.kube import cbor
from tests.demo.conftest import Client

POD = "/api/v1/namespaces/shop/pods/web-6d9f7c-4xk2p"
MAPS = "/api/v1/namespaces/default/configmaps"
EVENTS = f"{MAPS}?watch=1&timeoutSeconds=30"
V4, V4_TEXT = "v4.channel.k8s.io", "v4.base64.channel.k8s.io"
FROM = {"Origin": "http://localhost"}
Pack = Callable[[int, bytes], bytes | str]


def packed(channel: int, raw: bytes) -> bytes:
    return bytes([channel]) + raw


def as_text(channel: int, raw: bytes) -> str:
    return f"{channel}{base64.b64encode(raw).decode()}"


def unpacked(message: aiohttp.WSMessage) -> tuple[int, bytes]:
    if message.type is aiohttp.WSMsgType.TEXT:
        return int(message.data[0]), base64.b64decode(message.data[1:])
    return message.data[0], message.data[1:]


async def send(socket: aiohttp.ClientWebSocketResponse, message: bytes | str) -> None:
    sending = socket.send_str if isinstance(message, str) else socket.send_bytes
    await sending(message)  # type: ignore[arg-type]


# --- port-forward ---


@pytest.mark.parametrize(
    ("protocols", "pack"), [([V4], packed), ([V4_TEXT], as_text), ([], packed)]
)
async def test_each_port_has_two_channels_that_begin_with_it(
    demo: Client, protocols: list[str], pack: Pack
) -> None:
    url = f"{demo.server.url}{POD}/portforward?ports=7,8080&ports=81"
    seen: dict[int, bytes] = {}
    async with demo.session.ws_connect(url, protocols=protocols) as socket:
        assert socket.protocol == (protocols[0] if protocols else None)
        await send(socket, pack(0, b"echo"))
        await send(socket, pack(2, b"GET / HTTP/1.1\r\n\r\n"))
        while not (seen.get(0, b"").endswith(b"echo") and seen.get(2, b"").endswith(b"\n")):
            channel, raw = unpacked(await socket.receive(30))
            seen[channel] = seen.get(channel, b"") + raw
        await socket.close()
    assert {at: raw[:2] for at, raw in seen.items()} == {
        channel: port.to_bytes(2, "little")
        for channel, port in enumerate((7, 7, 8080, 8080, 81, 81))
        if channel in seen
    }
    assert seen[0][2:] == b"echo"
    assert seen[2][2:].startswith(b"HTTP/1.1 200 OK")


async def test_a_port_that_nobody_listens_on_is_told_and_ends_it(demo: Client) -> None:
    url = f"{demo.server.url}{POD}/portforward?ports=81"
    async with demo.session.ws_connect(url, protocols=[V4]) as socket:
        seen = [unpacked(message) async for message in socket]
    assert seen[:2] == [(0, b"\x51\x00"), (1, b"\x51\x00")]
    assert seen[2][0] == 1
    assert b"connection refused" in seen[2][1]


async def test_channels_of_no_port_are_of_no_account(demo: Client) -> None:
    url = f"{demo.server.url}{POD}/portforward?ports=7"
    async with demo.session.ws_connect(url, protocols=[V4_TEXT]) as socket:
        for message in ("", "x", "0!", as_text(1, b"error"), as_text(9, b"nobody")):
            await socket.send_str(message)
        await socket.send_str(as_text(0, b"still here"))
        seen = [unpacked(await socket.receive(30)) for _ in range(3)]
    assert (0, b"still here") in seen


@pytest.mark.parametrize("query", ["", "?ports=", "?ports=x", "?ports=0", "?ports=65536"])
async def test_ports_that_make_no_sense_are_refused(demo: Client, query: str) -> None:
    url = f"{demo.server.url}{POD}/portforward{query}"
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await demo.session.ws_connect(url, protocols=[V4])
    assert refused.value.status == 400


async def test_attack_many_ports_are_refused(demo: Client) -> None:
    url = f"{demo.server.url}{POD}/portforward?ports={','.join(['7'] * 128)}"
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await demo.session.ws_connect(url, protocols=[V4])
    assert refused.value.status == 400


# --- exec ---


@pytest.mark.parametrize(
    ("protocols", "pack", "last"),
    [
        ([V4_TEXT], as_text, "NonZeroExitCode"),
        (["base64.channel.k8s.io"], as_text, "exit status 3"),
        (["channel.k8s.io"], packed, "exit status 3"),
        ([], packed, "exit status 3"),
    ],
)
async def test_exec_over_the_older_channel_protocols(
    demo: Client, protocols: list[str], pack: Pack, last: str
) -> None:
    url = f"{demo.server.url}{POD}/exec?command=sh&stdin=1&stdout=1&stderr=1"
    async with demo.session.ws_connect(url, protocols=protocols) as socket:
        await send(socket, pack(0, b"echo out\nexit 3\n"))
        ready, out, end = [unpacked(await socket.receive(30)) for _ in range(3)]
    assert (ready, out, end[0]) == ((1, b""), (1, b"out\n"), 3)
    assert last in end[1].decode()


async def test_a_command_may_be_long(demo: Client) -> None:
    url = f"{demo.server.url}{POD}/exec?stdout=true&command=echo&command={'x' * 90_000}"
    async with demo.session.ws_connect(url, protocols=[V4]) as socket:
        said = [unpacked(message) async for message in socket]
    told = b"".join(piece for channel, piece in said if channel == 1)
    assert told == b"x" * 90_000 + b"\n"


async def test_success_is_no_word_before_v4(demo: Client) -> None:
    url = f"{demo.server.url}{POD}/exec?command=true"
    async with demo.session.ws_connect(url, protocols=["channel.k8s.io"]) as socket:
        assert [unpacked(message) async for message in socket] == [(3, b"")]


# --- watches ---


async def test_a_watch_over_websocket(demo: Client) -> None:
    url = demo.server.url + EVENTS
    async with demo.session.ws_connect(url, headers=FROM, protocols=["any"]) as socket:
        assert socket.protocol == "any"
        await socket.send_str("of no account")
        await demo("POST", MAPS, {"metadata": {"name": "one"}}, code=201)
        event = await socket.receive_json(timeout=30)
        assert (event["type"], event["object"]["kind"]) == ("ADDED", "ConfigMap")


async def test_a_watch_over_websocket_in_cbor_is_binary(demo: Client) -> None:
    headers = {**FROM, "Accept": "application/cbor"}
    await demo("POST", MAPS, {"metadata": {"name": "one"}}, code=201)
    async with demo.session.ws_connect(demo.server.url + EVENTS, headers=headers) as socket:
        event = cbor2.loads(await socket.receive_bytes(timeout=30))
    assert event["object"]["metadata"]["name"] == "one"


async def test_a_watch_over_websocket_ends_at_its_timeout(demo: Client) -> None:
    url = f"{demo.server.url}{MAPS}?watch=1&timeoutSeconds=1"
    async with demo.session.ws_connect(url, headers=FROM) as socket:
        assert [message async for message in socket] == []


async def test_a_client_that_leaves_ends_its_watch(demo: Client) -> None:
    async with demo.session.ws_connect(demo.server.url + EVENTS, headers=FROM) as socket:
        await socket.close()
    left = [task for task in asyncio.all_tasks() if task.get_name() == "demo-stream"]
    await asyncio.wait_for(asyncio.gather(*left, return_exceptions=True), 30)


async def test_a_watch_in_cbor_is_a_sequence(demo: Client) -> None:
    for name in ("one", "two"):
        await demo("POST", MAPS, {"metadata": {"name": name}}, code=201)
    url, headers = (
        f"{demo.server.url}{MAPS}?watch=1&timeoutSeconds=1",
        {"Accept": "application/cbor"},
    )
    async with demo.session.get(url, headers=headers) as response:
        assert response.content_type == "application/cbor-seq"
        raw = await response.read()
    decoder = cbor2.CBORDecoder(io.BytesIO(raw))
    events = [decoder.decode(), decoder.decode()]
    assert [event["object"]["metadata"]["name"] for event in events] == ["one", "two"]


# --- who asks ---


def bearer(token: str) -> str:
    return BEARER + base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")


async def test_a_browsers_credential_is_a_protocol(demo: Client) -> None:
    offered = [bearer(demo.server.token), "any"]
    headers = {**FROM, "Authorization": ""}
    async with demo.session.ws_connect(
        demo.server.url + EVENTS, headers=headers, protocols=offered
    ) as socket:
        assert socket.protocol == "any"


@pytest.mark.parametrize("case", ["wrong", "alone", "twice", "broken", "no upgrade"])
async def test_attack_a_credential_in_a_protocol_must_be_whole(demo: Client, case: str) -> None:
    own = bearer(demo.server.token)
    offered = {
        "wrong": [bearer("wrong"), "any"],
        "alone": [own],
        "twice": [own, own, "any"],
        "broken": [BEARER + "!", "any"],
        "no upgrade": [own, "any"],
    }[case]
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"} if case != "no upgrade" else {}
    headers = {**FROM, **upgrade, "Authorization": "", "Sec-WebSocket-Protocol": ", ".join(offered)}
    async with demo.session.get(demo.server.url + EVENTS, headers=headers) as response:
        assert response.status == 401


async def test_token_review(demo: Client) -> None:
    path = "/apis/authentication.k8s.io/v1/tokenreviews"
    known = await demo("POST", path, {"spec": {"token": demo.server.token}}, code=201)
    assert known["status"]["user"]["username"] == "mk8s-demo-admin"
    assert known["status"]["authenticated"] is True
    wrong = await demo("POST", path, {"spec": {"token": "wrong"}}, code=201)
    assert wrong["status"] == {"user": {}, "error": "invalid bearer token"}


# --- forms ---


async def raw(
    demo: Client, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, str, bytes]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with demo.session.request(
        method, demo.server.url + path, data=body, headers=sent
    ) as response:
        return response.status, response.content_type, await response.read()


async def test_objects_in_cbor_both_ways(demo: Client) -> None:
    body = cbor.encode({"metadata": {"name": "one"}, "data": {"a": "b"}})
    media = "application/cbor"
    code, found, answer = await raw(demo, "POST", MAPS, body, Content_Type=media, Accept=media)
    assert (code, found, cbor.decode(answer)["data"]) == (201, media, {"a": "b"})
    applied = cbor.encode({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "two"}})
    media = "application/apply-patch+cbor"
    path = f"{MAPS}/two?fieldManager=m"
    assert (await raw(demo, "PATCH", path, applied, Content_Type=media))[0] == 201
    media = "application/cbor"
    code, _, _ = await raw(demo, "POST", MAPS, b"\xd9\xd9\xf7\xff", Content_Type=media)
    assert code == 400


async def test_objects_and_refusals_in_yaml(demo: Client) -> None:
    code, media, found = await raw(demo, "GET", "/api/v1/nodes", Accept="application/yaml")
    assert (code, media, yaml.safe_load(found)["kind"]) == (200, "application/yaml", "NodeList")
    code, media, found = await raw(demo, "GET", f"{MAPS}/absent", Accept="application/yaml")
    assert (code, media, yaml.safe_load(found)["reason"]) == (404, "application/yaml", "NotFound")


async def test_large_lists_are_compressed_for_who_takes_it(demo: Client) -> None:
    body = {"metadata": {"name": "large"}, "data": {"a": "x" * (200 << 10)}}
    await demo("POST", MAPS, body, code=201)
    for coding in ("gzip", "identity"):
        headers = {"Accept-Encoding": coding}
        async with demo.session.get(demo.server.url + MAPS, headers=headers) as response:
            assert response.headers.get("Content-Encoding", "identity") == coding
            assert len((await response.json())["items"]) == 1


async def test_pages(demo: Client) -> None:
    for at in range(5):
        await demo("POST", MAPS, {"metadata": {"name": f"m{at}"}}, code=201)
    seen, token, left = [], "", []
    while True:
        page = await demo("GET", f"{MAPS}?limit=2&continue={token}")
        seen.append([item["metadata"]["name"] for item in page["items"]])
        left.append(page["metadata"].get("remainingItemCount"))
        if not (token := page["metadata"].get("continue", "")):
            break
    assert (seen, left) == ([["m0", "m1"], ["m2", "m3"], ["m4"]], [3, 1, None])
    for wrong in ("zzz", "W10", base64.urlsafe_b64encode(json.dumps([1]).encode()).decode()):
        await demo("GET", f"{MAPS}?continue={wrong}", code=400)


async def test_eviction_deletes_a_pod(demo: Client) -> None:
    body: dict[str, Any] = {"metadata": {"name": POD.rpartition("/")[2]}}
    await demo("POST", f"{POD}/eviction?dryRun=All", body, code=201)
    await demo("GET", POD)
    await demo("POST", f"{POD}/eviction", body, code=201)
    await demo("GET", POD, code=404)


async def test_what_was_asked_of_a_deletion_holds(demo: Client) -> None:
    made = await demo("POST", MAPS, {"metadata": {"name": "one"}}, code=201)
    other = {"preconditions": {"uid": "other"}}
    assert (await demo("DELETE", f"{MAPS}/one", other, code=409))["reason"] == "Conflict"
    own = {"preconditions": {"uid": made["metadata"]["uid"]}}
    assert (await demo("DELETE", f"{MAPS}/one", own))["details"]["kind"] == "configmaps"


async def test_only_some_kinds_count_generations(demo: Client) -> None:
    made = await demo("POST", MAPS, {"metadata": {"name": "one", "generation": 7}}, code=201)
    assert "generation" not in made["metadata"]
    web = await demo("GET", "/apis/apps/v1/namespaces/shop/deployments/web")
    assert web["metadata"]["generation"] == 1


WRONG = {
    "metadata": {"name": "odd", "colour": "red", "labels": {"any": "label"}},
    "spec": {"containers": [{"name": "c", "prots": [], "ports": [{"containerPort": 80}]}]},
}
TOLD = ['unknown field "metadata.colour"', 'unknown field "spec.containers[0].prots"']


@pytest.mark.parametrize("mode", ["", "Warn", "Ignore"])
async def test_unknown_fields_are_dropped_and_told(demo: Client, mode: str) -> None:
    url = f"{demo.server.url}/api/v1/namespaces/default/pods?fieldValidation={mode}"
    async with demo.session.post(url, json=WRONG) as response:
        made = await response.json()
        told = [
            json.loads(it.removeprefix("299 - ")) for it in response.headers.getall("Warning", [])
        ]
    assert told == ([] if mode == "Ignore" else TOLD)
    assert made["spec"]["containers"][0].keys() == {"name", "ports"}
    assert made["metadata"]["labels"] == {"any": "label"}
    assert "colour" not in made["metadata"]


async def test_unknown_fields_are_refused_where_the_client_wants_to_know(demo: Client) -> None:
    pods = "/api/v1/namespaces/default/pods"
    refused = await demo("POST", f"{pods}?fieldValidation=Strict", WRONG, code=400)
    assert all(words in refused["message"] for words in TOLD)
    await demo("POST", f"{pods}?fieldValidation=Other", WRONG, code=422)
    await demo("GET", f"{pods}/odd", code=404)
    merge, apply = "application/merge-patch+json", "application/apply-patch+yaml"
    path = f"{POD}?fieldValidation=Strict"
    assert (await raw(demo, "PATCH", path, b'{"sepc": {}}', Content_Type=merge))[0] == 422
    config = b'{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "dta": {}}'
    path = f"{MAPS}/a?fieldManager=m"
    assert (await raw(demo, "PATCH", path, config, Content_Type=apply))[0] == 500


async def test_the_index_has_every_group(demo: Client) -> None:
    paths = (await demo("GET", "/"))["paths"]
    assert {"/api/v1", "/apis/apps/v1", "/openapi/v3", "/version"} <= set(paths)
    code, _, found = await raw(demo, "HEAD", "/")
    assert (code, found) == (200, b"")


# --- what is told to be wrong ---

WIDGETS = "/apis/example.com/v1/namespaces/default/widgets"
WIDGET = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "one"}}
SPEC = {"type": "object", "properties": {"size": {"type": "integer"}}}
VERSION = {
    "name": "v1",
    "served": True,
    "storage": True,
    "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": SPEC}}},
}
DEFINITION = {
    "metadata": {"name": "widgets.example.com"},
    "spec": {
        "group": "example.com",
        "names": {"kind": "Widget", "plural": "widgets"},
        "scope": "Namespaced",
        "versions": [VERSION],
    },
}


@pytest.fixture
async def widgets(demo: Client) -> str:
    """Where a custom kind is, with one object."""
    await demo("POST", DEFINITIONS, DEFINITION, code=201)
    await demo("POST", WIDGETS, WIDGET, code=201)
    return WIDGETS


DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"metadata": {"name": "two"}}, 400),
        ({"kind": "Widget", "metadata": {"name": "two"}}, 400),
        ({**WIDGET, "kind": "Other"}, 422),
        ({**WIDGET, "metadata": {"name": "two"}, "spec": {"size": 1}}, 201),
    ],
)
async def test_custom_objects_say_what_they_are(
    demo: Client, widgets: str, body: Any, code: int
) -> None:
    await demo("POST", widgets, body, code=code)


async def test_custom_schemas_are_closed(demo: Client, widgets: str) -> None:
    body = {**WIDGET, "spec": {"size": 1, "colour": "red"}, "metadata": {"name": "two"}}
    refused = await demo("POST", f"{widgets}?fieldValidation=Strict", body, code=400)
    assert 'unknown field "spec.colour"' in refused["message"]
    made = await demo("POST", widgets, body, code=201)
    assert (made["spec"], made["metadata"]["generation"]) == ({"size": 1}, 1)


async def test_heads_are_for_custom_kinds_only(demo: Client, widgets: str) -> None:
    for path in (widgets, f"{widgets}/one", "/apis", "/apis/apps", "/apis/example.com/v1"):
        assert (await raw(demo, "HEAD", path))[::2] == (200, b"")
    for path in (MAPS, POD, "/api", "/api/v1", "/apis/apps/v1", "/version"):
        assert (await raw(demo, "HEAD", path))[::2] == (405, b"")


async def test_lists_of_custom_kinds_say_what_is_in_them(demo: Client, widgets: str) -> None:
    found = await demo("GET", widgets)
    assert (found["metadata"]["continue"], found["items"][0]["kind"]) == ("", "Widget")
    assert "kind" not in (await demo("GET", "/api/v1/nodes"))["items"][0]


APPLY, MERGE = "application/apply-patch+yaml", "application/merge-patch+json"


@pytest.mark.parametrize(
    ("method", "path", "media", "body", "code"),
    [
        ("PATCH", f"{MAPS}/a?fieldManager=m", APPLY, b"data: {a: b}", 400),
        ("PATCH", f"{MAPS}/a?fieldManager=m", APPLY, b"{apiVersion: v1, kind: Secret}", 400),
        ("PATCH", f"{MAPS}/a?fieldManager=m", APPLY, b"{apiVersion: v1, kind: ConfigMap}", 400),
        ("PATCH", f"{MAPS}/a", APPLY, b"{apiVersion: v1, kind: ConfigMap}", 422),
        ("PATCH", POD, MERGE, b'{"kind": "Secret"}', 422),
        ("PATCH", POD, MERGE, b'{"metadata": {"name": "other"}}', 400),
        ("PATCH", POD, MERGE, b"[]", 400),
        ("PATCH", POD, "application/json", b"{}", 415),
        ("PATCH", POD, "application/json-patch+json", b"{}", 400),
        ("PUT", POD, "application/json", b"{}", 400),
        ("PUT", POD, "application/json", b'{"metadata": {"name": "other"}}', 400),
        ("POST", MAPS, "application/octet-stream", b"{}", 415),
        ("POST", MAPS, MERGE, b"{}", 415),
        ("POST", f"{MAPS}?dryRun=Some", "application/json", b'{"metadata": {"name": "a"}}', 422),
        ("DELETE", POD, "text/csv", b"a", 415),
        ("POST", f"{POD}/eviction", "application/json", b"{}", 400),
        ("POST", "/apis/authentication.k8s.io/v1/tokenreviews", "application/json", b"{}", 400),
        (
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            "application/json",
            b"{}",
            422,
        ),
    ],
)
async def test_refusals(
    demo: Client, method: str, path: str, media: str, body: bytes, code: int
) -> None:
    found, form, answer = await raw(demo, method, path, body, Content_Type=media)
    assert (found, form, json.loads(answer)["code"]) == (code, "application/json", code)
