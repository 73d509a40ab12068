"""A real API server and the demo's, to ask both the same."""

import asyncio
import json
import ssl
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from mk8s_cli.demo_api.server import running_demo_api
from mk8s_proxy.kube import cbor

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
ANSWERED = ("Content-Type", "Warning")
Answer = tuple[int, str, bytes, list[str]]
"""Code, Content-Type, body and warnings."""


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

    async def prepare(self) -> None:
        """The namespace and the kind Widget."""
        await self.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", DEFINITION)
        await self.create("/api/v1/namespaces", {"metadata": {"name": self.namespace}})
        for path in (f"/apis/{GROUP}", f"/apis/{GROUP}/v1", "{widgets}"):
            while (await self.ask(f"GET {path}", {}))[0] != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.1)  # the test's own time limit ends this otherwise


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
