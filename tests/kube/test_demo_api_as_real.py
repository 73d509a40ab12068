"""The demo's API server and a real one are asked the same: code, form and reasons are the same."""

import asyncio
import itertools
import json
import ssl
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from mk8s_cli.demo_api.server import running_demo_api
from mk8s_proxy.kube import cbor

pytestmark = pytest.mark.kube

ASKED = yaml.safe_load(Path(__file__).with_name("as_real.yaml").read_text())
GROUP = "as-real.example.com"
SPEC = {"type": "object", "properties": {"a": {"type": "integer"}}}
SCHEMA = {"type": "object", "properties": {"spec": SPEC}}
VERSION = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": SCHEMA}}
NAMES = {"kind": "Widget", "plural": "widgets"}
DEFINITION = {
    "metadata": {"name": f"widgets.{GROUP}"},
    "spec": {"group": GROUP, "names": NAMES, "scope": "Namespaced", "versions": [VERSION]},
}
PLACES = {
    "authn": "/apis/authentication.k8s.io/v1",
    "authz": "/apis/authorization.k8s.io/v1",
    "maps": "/api/v1/namespaces/{ns}/configmaps",
    "pods": "/api/v1/namespaces/{ns}/pods",
    "deployments": "/apis/apps/v1/namespaces/{ns}/deployments",
    "widgets": f"/apis/{GROUP}/v1/namespaces/{{ns}}/widgets",
}
"""What words in braces stand for."""
CBOR, YAML = "application/cbor", "application/yaml"
FROM = {"Origin": "http://x"}
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
SOCKETS: dict[str, tuple[str, list[str], dict[str, str]]] = {
    "without an origin": ("{maps}", [], {}),
    "with an origin that is none": ("{maps}", [], {"Origin": "null"}),
    "text": ("{maps}", [], FROM),
    "a protocol": ("{maps}", ["base64.binary.k8s.io"], FROM),
    "two protocols": ("{maps}", ["one", "two"], FROM),
    "cbor": ("{maps}", [], {**FROM, "Accept": CBOR}),
    "yaml": ("{maps}", [], {**FROM, "Accept": YAML}),
    "a table": ("{maps}", [], {**FROM, "Accept": TABLE}),
    "custom": ("{widgets}", [], FROM),
}
"""Path, offered protocols and headers of watches over WebSocket."""
UNLIKE = {
    "managedFields",
    "annotations",
    "finalizers",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "remainingItemCount",
}
"""Metadata that controllers of the real one, or chance, add."""
ANSWERED = ("Content-Type", "Warning")
SELF_DESCRIBED = b"\xd9\xd9\xf7"
Answer = tuple[int, str, bytes, list[str]]
"""Code, Content-Type, body and warnings."""


def each(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def cases(group: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Method with path, and how it is asked, of a group of `as_real.yaml`."""
    for case in ASKED[group]:
        for ask, accept in itertools.product(each(case["ask"]), each(case.get("accept", "*/*"))):
            yield ask, {**case, "accept": accept}


@dataclass(frozen=True)
class Place:
    """One API server and somebody who may do everything there, in a namespace of the test's own."""

    session: aiohttp.ClientSession
    url: str
    namespace: str

    def at(self, path: str) -> str:
        """The whole URL."""
        for name, place in PLACES.items():
            path = path.replace(f"{{{name}}}", place)
        return self.url + path.replace("{ns}", self.namespace)

    async def ask(self, asked: str, case: Mapping[str, Any]) -> Answer:
        """The answer to a case."""
        method, path = asked.split(" ", 1)
        headers = {"User-Agent": case.get("agent", "test/1"), "Accept": case.get("accept", "*/*")}
        if media := case.get("type", ""):
            headers["Content-Type"] = {"json": "application/json"}.get(media, media)
        raw = case["raw"].encode() if "raw" in case else None
        if "body" in case:
            raw = json.dumps(case["body"]).encode()
        elif "cbor" in case:
            raw = cbor.encode(case["cbor"])
        async with self.session.request(
            method, self.at(path), data=raw, headers=headers, skip_auto_headers=["Content-Type"]
        ) as response:
            media, warnings = (response.headers.getall(it, []) for it in ANSWERED)
            return response.status, "".join(media), await response.read(), warnings

    async def create(self, path: str, body: Any) -> Answer:
        return await self.ask(f"POST {path}", {"type": "json", "body": body})

    async def events(self, path: str, protocols: list[str], headers: dict[str, str]) -> Any:
        """What a watch over WebSocket shows first, or the code with which it is refused."""
        url = f"{self.at(path)}?watch=1&fieldSelector=metadata.name%3Dthere"
        try:
            async with self.session.ws_connect(url, protocols=protocols, headers=headers) as socket:
                message = await socket.receive(30)
                is_text = message.type is aiohttp.WSMsgType.TEXT
                # Go marks the object within the event, too, as what is CBOR.
                raw = message.data if is_text else message.data.replace(SELF_DESCRIBED, b"")
                event = json.loads(raw) if is_text else cbor.decode(raw)
                shown = event["object"]
                return socket.protocol, is_text, event["type"], shown["kind"], shown["apiVersion"]
        except aiohttp.WSServerHandshakeError as error:
            return error.status

    async def prepare(self) -> None:
        """The namespace and what is there."""
        await self.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", DEFINITION)
        await self.create("/api/v1/namespaces", {"metadata": {"name": self.namespace}})
        while (await self.ask("GET {widgets}", {}))[0] != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.1)  # the test's own time limit ends this otherwise
        for asked, case in cases("there"):
            code, _, body, _ = await self.ask(asked, case)
            assert code == 201, body


@asynccontextmanager
async def both(kubeconfig: Path) -> AsyncIterator[tuple[Place, Place]]:
    """The real API server and the demo's."""
    document = yaml.safe_load(kubeconfig.read_text())
    cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
    real_tls = ssl.create_default_context(cafile=cluster["certificate-authority"])
    real_tls.load_cert_chain(user["client-certificate"], user["client-key"])
    namespace = f"as-real-{uuid.uuid4().hex[:8]}"
    async with AsyncExitStack() as opened:
        demo = await opened.enter_async_context(running_demo_api())
        demo_tls = ssl.create_default_context(cadata=demo.ca_pem.decode())
        places = []
        for url, tls, headers in (
            (cluster["server"], real_tls, {}),
            (demo.url, demo_tls, {"Authorization": f"Bearer {demo.token}"}),
        ):
            connector = aiohttp.TCPConnector(ssl=tls)
            session = aiohttp.ClientSession(connector=connector, headers=headers)
            places.append(Place(await opened.enter_async_context(session), url, namespace))
            await places[-1].prepare()
        yield places[0], places[1]


def shape(answer: Answer) -> Any:
    """What must be the same of two answers."""
    code, media, body, warnings = answer
    if media.startswith("text/plain"):
        return code, media, body
    try:
        document = cbor.decode(body) if "cbor" in media else yaml.safe_load(body or b"{}")
    except (yaml.YAMLError, cbor.CborError):
        return code, media, "unreadable"
    found = [document.get(key) for key in ("kind", "apiVersion")]
    if document.get("kind") == "Status":
        details = {**document.get("details", {}), "uid": None}
        causes = [(it.get("reason"), it.get("field")) for it in details.pop("causes", [])]
        return code, media, found, document.get("reason"), details, causes
    items = document.get("items", document.get("rows", []))
    kinds = {(item.get("kind"), item.get("apiVersion")) for item in items}
    keys = sorted(document.get("metadata", {}).keys() - UNLIKE)
    return code, media, warnings, found, body.startswith(b"{\n"), keys, kinds


@pytest.mark.parametrize("group", [group for group in ASKED if group not in {"widget", "there"}])
async def test_answers_are_those_of_a_real_one(kube_cluster: Path, group: str) -> None:
    differences = []
    async with both(kube_cluster) as (real, demo):
        for asked, case in cases(group):
            wanted, seen = await real.ask(asked, case), await demo.ask(asked, case)
            if shape(wanted) != shape(seen):
                shown = [str(it) for it in (shape(wanted), shape(seen), wanted[2][:300])]
                differences.append("\n  ".join([f"{asked} {case}", *shown]))
    assert not differences, "\n".join(differences)


@pytest.mark.parametrize("name", SOCKETS)
async def test_watches_over_websocket_are_those_of_a_real_one(
    kube_cluster: Path, name: str
) -> None:
    async with both(kube_cluster) as (real, demo):
        assert await demo.events(*SOCKETS[name]) == await real.events(*SOCKETS[name])
