"""What clients do that kubectl does not: informers, controllers, callers of the raw API."""

import io
import json
from typing import Any

import aiohttp
import pytest

from mk8s_cli.demo_api.call import USER
from mk8s_cli.demo_api.remote_command import CHANNELS, CLOSE
from tests.demo.conftest import Client

STDIN, STDOUT, ERROR = CHANNELS["stdin"], CHANNELS["stdout"], CHANNELS["error"]
MAPS = "/api/v1/namespaces/default/configmaps"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
PARTIAL = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


async def watched(demo: Client, path: str, count: int) -> list[dict[str, Any]]:
    """The first events of a watch."""
    found = []
    async with demo.session.get(demo.server.url + path) as response:
        assert response.status == 200
        async for line in response.content:
            found.append(json.loads(line))
            if len(found) == count:
                break
    return found


async def test_a_request_without_the_token_is_refused(demo: Client) -> None:
    for credential in ("", "Bearer wrong", "Basic eDp5"):
        refused = await demo("GET", "/api/v1/pods", code=401, Authorization=credential)
        assert (refused["kind"], refused["reason"]) == ("Status", "Unauthorized")
    async with demo.session.get(
        demo.server.url + "/livez", headers={"Authorization": ""}
    ) as health:
        assert await health.text() == "ok"


async def test_impersonation_is_seen_and_answered(demo: Client) -> None:
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    found = await demo(
        "POST",
        path,
        review,
        code=201,
        Impersonate_User="dev@example.com",
        Impersonate_Uid="7",
        Impersonate_Group="mk8s:users",
        **{"Impersonate-Extra-mk8s.io%2fcluster": "prod"},
    )
    assert found["status"]["userInfo"] == {
        "username": "dev@example.com",
        "uid": "7",
        "groups": ["mk8s:users", "system:authenticated"],
        "extra": {"mk8s.io/cluster": ["prod"]},
    }
    assert demo.server.seen[-1][USER]["username"] == "dev@example.com"
    assert (await demo("POST", path, review, code=201))["status"]["userInfo"][
        "username"
    ] == "mk8s-demo-admin"


async def test_half_an_impersonation_is_refused(demo: Client) -> None:
    refused = await demo("GET", "/api/v1/pods", code=400, Impersonate_Group="system:masters")
    assert "Impersonate-User" in refused["message"]


async def test_watch_from_a_version_with_selector(demo: Client) -> None:
    version = (await demo("GET", MAPS))["metadata"]["resourceVersion"]
    one = await demo(
        "POST",
        MAPS,
        config_map("one") | {"metadata": {"name": "one", "labels": {"a": "b"}}},
        code=201,
    )
    await demo("POST", MAPS, config_map("two"), code=201)
    one["metadata"]["labels"] = {}
    await demo("PUT", f"{MAPS}/one", one)
    query = f"?watch=1&resourceVersion={version}&labelSelector=a%3Db"
    events = await watched(demo, MAPS + query, 2)
    assert [(event["type"], event["object"]["metadata"]["name"]) for event in events] == [
        ("ADDED", "one"),
        ("DELETED", "one"),  # it left the selection
    ]


async def test_watch_list_ends_the_initial_events_with_a_bookmark(demo: Client) -> None:
    query = (
        "?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    )
    events = await watched(demo, "/api/v1/nodes" + query, 2)
    assert [event["type"] for event in events] == ["ADDED", "BOOKMARK"]
    bookmark = events[1]["object"]["metadata"]
    assert bookmark["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert int(bookmark["resourceVersion"]) > 0


async def test_watch_ends_cleanly_at_its_timeout(demo: Client) -> None:
    query = "?watch=1&timeoutSeconds=1&resourceVersion=0&fieldSelector=metadata.name%3Ddemo-node"
    async with demo.session.get(demo.server.url + "/api/v1/nodes" + query) as response:
        lines = [json.loads(line) async for line in response.content]
    assert [line["type"] for line in lines] == ["ADDED"]


async def test_watch_of_tables_names_the_columns_once(demo: Client) -> None:
    headers = {"Accept": TABLE}
    path = demo.server.url + "/api/v1/namespaces/shop/pods?watch=1"
    async with demo.session.get(path, headers=headers) as response:
        first = json.loads(await response.content.readline())["object"]
        second = json.loads(await response.content.readline())["object"]
    assert first["columnDefinitions"][0]["name"] == "Name"
    assert second["columnDefinitions"] == []
    assert second["rows"][0]["object"]["kind"] == "PartialObjectMetadata"


async def test_a_version_older_than_the_history_is_gone(demo: Client) -> None:
    store = demo.server.store
    store.history = type(store.history)(store.history, maxlen=3)
    events = await watched(demo, f"{MAPS}?watch=1&resourceVersion=101", 1)
    assert (events[0]["type"], events[0]["object"]["code"]) == ("ERROR", 410)


@pytest.mark.parametrize(
    "path",
    [
        f"{MAPS}?watch=1&labelSelector=(",
        f"{MAPS}?watch=1&resourceVersion=x",
        f"{MAPS}?watch=1&timeoutSeconds=-1",
    ],
)
async def test_parameters_that_make_no_sense(demo: Client, path: str) -> None:
    assert (await demo("GET", path, code=400))["reason"] == "BadRequest"


async def test_log_parameters(demo: Client) -> None:
    pods = (await demo("GET", "/api/v1/namespaces/shop/pods"))["items"]
    base = f"/api/v1/namespaces/shop/pods/{pods[0]['metadata']['name']}/log"
    async with demo.session.get(f"{demo.server.url}{base}?sinceSeconds=3&limitBytes=40") as answer:
        assert len(await answer.read()) == 40
    await demo("GET", f"{base}?limitBytes=x", code=400)


async def test_a_container_must_be_named_when_there_are_two(demo: Client) -> None:
    path = "/api/v1/namespaces/default/pods"
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
    two = [{"name": "a", "image": "x"}, {"name": "b"}]
    await demo("POST", path, pod | {"spec": {"containers": two}}, code=201)
    refused = await demo("GET", f"{path}/p/log", code=400)
    assert "choose one of: [a b]" in refused["message"]


async def test_scale(demo: Client) -> None:
    path = "/apis/apps/v1/namespaces/shop/deployments/web"
    shown = await demo("GET", f"{path}/scale")
    assert (shown["spec"], shown["status"]["selector"]) == ({"replicas": 3}, "app=web")
    shown["spec"]["replicas"] = 5
    await demo("PUT", f"{path}/scale", shown)
    after = await demo("GET", path)
    assert (after["spec"]["replicas"], after["status"]["readyReplicas"]) == (5, 5)
    assert after["status"]["observedGeneration"] == after["metadata"]["generation"] == 2
    await demo("PUT", f"{path}/scale", shown, code=409)


async def test_objects_that_make_no_sense_are_refused(demo: Client) -> None:
    pods, head = "/api/v1/namespaces/default/pods", {"apiVersion": "v1", "kind": "Pod"}
    for spec in ("text", {"containers": ["x"]}, {"containers": [{"ports": [1]}]}):
        body = {**head, "metadata": {"name": "odd"}, "spec": spec}
        refused = await demo("POST", pods, body, code=400)
        assert "form of its kind" in refused["message"]
    await demo("GET", f"{pods}/odd", code=404)


async def test_metadata_only(demo: Client) -> None:
    one = await demo("GET", "/api/v1/nodes/demo-node", Accept=PARTIAL)
    assert sorted(one) == ["apiVersion", "kind", "metadata"]
    many = await demo("GET", "/api/v1/nodes", Accept=PARTIAL.replace("Metadata;", "MetadataList;"))
    assert (many["kind"], many["items"][0]["kind"]) == (
        "PartialObjectMetadataList",
        "PartialObjectMetadata",
    )
    refused = await demo("GET", "/api/v1/nodes", code=406, Accept="text/html")
    assert refused["reason"] == "NotAcceptable"
    only_lists = PARTIAL.replace("Metadata;", "MetadataList;")
    await demo("GET", "/api/v1/nodes/demo-node", code=406, Accept=only_lists)


async def test_an_update_from_an_old_version_conflicts(demo: Client) -> None:
    old = await demo("POST", MAPS, config_map("one", a="1"), code=201)
    await demo("PUT", f"{MAPS}/one", {**old, "data": {"a": "2"}})
    refused = await demo("PUT", f"{MAPS}/one", {**old, "data": {"a": "3"}}, code=409)
    assert refused["reason"] == "Conflict"
    assert (await demo("GET", f"{MAPS}/one"))["data"] == {"a": "2"}


@pytest.mark.parametrize(
    ("path", "body", "code", "words"),
    [
        (MAPS, config_map(""), 422, "metadata.name: Required value"),
        (MAPS, {"apiVersion": "v1", "kind": "Secret"}, 400, "cannot be handled as a ConfigMap"),
        (MAPS, {"apiVersion": "v2", "kind": "ConfigMap"}, 400, "the API version in the data (v2)"),
        (MAPS, config_map("Not_A_Name"), 422, "a lowercase RFC 1123 subdomain"),
        (MAPS, config_map("x") | {"metadata": {"namespace": "other"}}, 400, "does not match"),
        (MAPS, [], 400, "must be of type ConfigMap"),
        ("/api/v1/configmaps", config_map("x"), 405, "method"),
        (MAPS.replace("default", "nowhere"), config_map("x"), 404, '"nowhere" not found'),
        ("/apis/apps/v1/namespaces/shop/deployments/web", config_map("x"), 405, "method"),
        ("/apis/apps/v1/things", config_map("x"), 404, "could not find the requested resource"),
        ("/api/v1/namespaces/shop/pods/x/nothing", config_map("x"), 404, "could not find"),
        ("/version", config_map("x"), 405, "method"),
    ],
)  # fmt: skip
async def test_bad_creates_are_refused(
    demo: Client, path: str, body: Any, code: int, words: str
) -> None:
    refused = await demo("POST", path, body, code=code)
    assert refused["kind"] == "Status"
    assert words in refused["message"]


async def test_bodies_that_cannot_be_read(demo: Client) -> None:
    url = demo.server.url + MAPS
    for media, raw, code in (
        ("application/json", b"{", 400),
        ("application/yaml", b"a: [", 400),
        ("text/csv", b"a", 415),
        ("application/vnd.kubernetes.protobuf", b"k8s\x00\xff", 400),
        ("application/json", io.BytesIO(b" " * (3 << 20) + b"{}"), 413),
    ):
        async with demo.session.post(url, data=raw, headers={"Content-Type": media}) as response:
            assert (response.status, (await response.json())["kind"]) == (code, "Status")


async def test_dry_run_changes_nothing(demo: Client) -> None:
    await demo("POST", f"{MAPS}?dryRun=All", config_map("one"), code=201)
    await demo("GET", f"{MAPS}/one", code=404)
    await demo("POST", MAPS, config_map("one"), code=201)
    await demo("DELETE", f"{MAPS}/one?dryRun=All")
    await demo("DELETE", f"{MAPS}?dryRun=All")
    await demo("GET", f"{MAPS}/one")


async def test_delete_collection_honours_the_selector(demo: Client) -> None:
    for name in ("one", "two"):
        await demo("POST", MAPS, config_map(name), code=201)
    await demo("DELETE", f"{MAPS}?fieldSelector=metadata.name%3Done")
    await demo("GET", f"{MAPS}/one", code=404)
    await demo("GET", f"{MAPS}/two")


async def test_generated_names_differ(demo: Client) -> None:
    body = {**config_map("x"), "metadata": {"generateName": "made-"}}
    names = {(await demo("POST", MAPS, body, code=201))["metadata"]["name"] for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("made-") and len(name) == 10 for name in names)


async def test_status_is_written_by_its_subresource_only(demo: Client) -> None:
    path = "/api/v1/nodes/demo-node"
    node = await demo("GET", path)
    version = node["metadata"]["resourceVersion"]
    changed = {**node, "status": {"phase": "x"}, "spec": {"unschedulable": True}}
    after = await demo("PUT", path, changed)
    assert (after["status"], after["spec"]) == (node["status"], {"unschedulable": True})
    changed["metadata"]["resourceVersion"] = after["metadata"]["resourceVersion"]
    after = await demo("PUT", f"{path}/status", changed | {"spec": {}})
    assert (after["status"], after["spec"]) == ({"phase": "x"}, {"unschedulable": True})
    assert int(after["metadata"]["resourceVersion"]) > int(version)


async def test_classic_and_aggregated_discovery_agree(demo: Client) -> None:
    aggregated = "application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList"
    for form in ("v2", "v2beta1"):
        found = await demo("GET", "/apis", Accept=aggregated.format(form))
        assert found["apiVersion"] == f"apidiscovery.k8s.io/{form}"
    names = {
        (item["metadata"]["name"], version["version"], entry["resource"])
        for item in found["items"]
        for version in item["versions"]
        for entry in version["resources"]
    }
    classic = set()
    for group in (await demo("GET", "/apis"))["groups"]:
        for version in group["versions"]:
            listed = await demo("GET", f"/apis/{version['groupVersion']}")
            entries = [entry["name"] for entry in listed["resources"] if "/" not in entry["name"]]
            classic |= {(group["name"], version["version"], name) for name in entries}
        assert (await demo("GET", f"/apis/{group['name']}"))["name"] == group["name"]
    assert names == classic
    assert (await demo("GET", "/api"))["versions"] == ["v1"]
    assert (await demo("GET", "/api/v1"))["groupVersion"] == "v1"
    for path in ("/apis/nowhere", "/apis/nowhere/v1", "/nowhere"):
        async with demo.session.get(demo.server.url + path) as response:
            assert (response.status, await response.text()) == (404, "404 page not found\n")


async def test_openapi_documents_are_closed(demo: Client) -> None:
    """Every reference of a document leads to a schema in it."""
    index = await demo("GET", "/openapi/v3")
    assert "apis/apps/v1" in index["paths"]
    for path in ["/openapi/v2", *(entry["serverRelativeURL"] for entry in index["paths"].values())]:
        document = await demo("GET", path)
        schemas = document.get("definitions") or document["components"]["schemas"]
        text = json.dumps(document)
        used = {part.split('"')[0].rpartition("/")[2] for part in text.split('"$ref": "')[1:]}
        assert used <= set(schemas)
    async with demo.session.get(demo.server.url + "/openapi/v3/apis/nowhere/v1") as response:
        assert (response.status, await response.text()) == (404, "")


async def test_exec_over_websocket(demo: Client) -> None:
    pods = (await demo("GET", "/api/v1/namespaces/shop/pods"))["items"]
    base = f"{demo.server.url}/api/v1/namespaces/shop/pods/{pods[0]['metadata']['name']}/exec"
    url = f"{base}?command=cat&stdin=true&stdout=true"
    async with demo.session.ws_connect(url, protocols=["v5.channel.k8s.io"]) as socket:
        assert socket.protocol == "v5.channel.k8s.io"
        await socket.send_bytes(bytes([STDIN]) + b"hello")
        assert (await socket.receive_bytes()) == bytes([STDOUT])  # it is ready
        assert (await socket.receive_bytes()) == bytes([STDOUT]) + b"hello"
        await socket.send_bytes(bytes([CLOSE, STDIN]))
        last = await socket.receive_bytes()
        assert (last[0], json.loads(last[1:])["status"]) == (ERROR, "Success")
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE


async def test_a_terminal_session(demo: Client) -> None:
    pods = (await demo("GET", "/api/v1/namespaces/shop/pods"))["items"]
    base = f"{demo.server.url}/api/v1/namespaces/shop/pods/{pods[0]['metadata']['name']}/attach"
    url = f"{base}?stdin=true&stdout=true&tty=true"
    shown = b""
    async with demo.session.ws_connect(url, protocols=["v5.channel.k8s.io"]) as socket:
        for typed in b"nopx\x7fe\r", b"abc\x03", b"echo hi\r", b"exit 7\r":
            await socket.send_bytes(bytes([STDIN]) + typed)
        async for message in socket:
            if message.data[0] == ERROR:
                assert json.loads(message.data[1:])["details"]["causes"][0]["message"] == "7"
            else:
                shown += message.data[1:]
    assert b"sh: nope: not found" in shown
    assert b"^C\r\n" in shown
    assert b"\r\nhi\r\n" in shown


@pytest.mark.parametrize("command", ["", "?command=echo"])
async def test_exec_without_command_or_upgrade_is_refused(demo: Client, command: str) -> None:
    pods = (await demo("GET", "/api/v1/namespaces/shop/pods"))["items"]
    path = f"/api/v1/namespaces/shop/pods/{pods[0]['metadata']['name']}/exec"
    refused = await demo("POST", path + command, code=400)
    assert refused["reason"] == "BadRequest"


@pytest.mark.parametrize("upgrade", ["websocket", "SPDY/3.1"])
async def test_an_unknown_stream_protocol_is_refused(demo: Client, upgrade: str) -> None:
    pods = (await demo("GET", "/api/v1/namespaces/shop/pods"))["items"]
    path = f"/api/v1/namespaces/shop/pods/{pods[0]['metadata']['name']}/exec?command=echo"
    headers = {"Connection": "Upgrade", "Upgrade": upgrade, "Sec-WebSocket-Protocol": "v1"}
    async with demo.session.post(demo.server.url + path, headers=headers) as response:
        assert response.status == 400
        assert (await response.json())["kind"] == "Status"
