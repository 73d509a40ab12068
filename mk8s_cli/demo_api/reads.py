"""get, list and watch of any served resource; called by `app`."""

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from mk8s_cli.demo_api import tables
from mk8s_cli.demo_api.catalogue import Document, ResourceType
from mk8s_cli.demo_api.selectors import Test, selector
from mk8s_cli.demo_api.state import Call
from mk8s_cli.demo_api.status import ApiError, expired
from mk8s_cli.demo_api.store import Event, key_of

BOOKMARK_SECONDS = 60.0
WATCH_SECONDS = 3600
"""The life of a watch that names no timeout; kube-apiserver's is 30 to 60 minutes."""


def answer(document: Any, code: int = 200) -> web.Response:
    """A JSON answer."""
    body = json.dumps(document, separators=(",", ":")).encode() + b"\n"
    return web.Response(body=body, status=code, content_type="application/json")


@dataclass(frozen=True, slots=True)
class Form:
    """How the client wants objects: "", "Table", "PartialObjectMetadata" or "...List"."""

    name: str
    include: str
    kind: ResourceType

    @classmethod
    def of(cls, call: Call) -> "Form":
        """The first acceptable form of the Accept header; raises 406."""
        accept = call.request.headers.get("Accept", "") or "*/*"
        for entry in accept.split(","):
            media, *parameters = (part.strip() for part in entry.split(";"))
            pairs = dict(part.partition("=")[::2] for part in parameters)
            if media in {"application/json", "application/*", "*/*"}:
                include = call.request.query.get("includeObject", "Metadata")
                return cls(pairs.get("as", ""), include, call.kind)
        raise ApiError(406, "only JSON is served: send Accept: application/json")

    def one(self, item: Document, *, headers: bool = True) -> Document:
        """A single object in this form."""
        item = {**item, "apiVersion": self.kind.api_version}
        if self.name == "Table":
            meta = {"resourceVersion": item["metadata"].get("resourceVersion", "")}
            return tables.table(self.kind, [item], meta=meta, include=self.include, headers=headers)
        return tables.partial(item) if self.name.startswith("Partial") else item

    def many(self, items: list[Document], meta: Document) -> Document:
        """A list in this form."""
        items = [{**item, "apiVersion": self.kind.api_version} for item in items]
        if self.name == "Table":
            return tables.table(self.kind, items, meta=meta, include=self.include, headers=True)
        head = {"kind": self.kind.kind + "List", "apiVersion": self.kind.api_version}
        if self.name.startswith("Partial"):
            head = {"kind": "PartialObjectMetadataList", "apiVersion": tables.META_VERSION}
            items = [tables.partial(item) for item in items]
        return {**head, "metadata": meta, "items": items}


def test_of(call: Call) -> Test:
    """The selectors of a request."""
    query = call.request.query
    return selector(query.get("labelSelector", ""), query.get("fieldSelector", ""))


async def get(call: Call) -> web.StreamResponse:
    """One object."""
    return answer(Form.of(call).one(call.current()))


async def list_or_watch(call: Call) -> web.StreamResponse:
    """A collection, or its changes."""
    return await watch(call) if call.flag("watch") else answer(list_page(call))


def list_page(call: Call) -> Document:
    """One page of a list; pages are cut from the present state, at the version of the first one."""
    store = call.api.store
    exact = call.request.query.get("resourceVersionMatch") == "Exact"
    if exact and call.number("resourceVersion") < store.version:
        raise expired(store.version)
    version, after = store.version, None
    if token := call.request.query.get("continue"):
        version, after = _read_token(token)
    matches = test_of(call)
    items = [item for item in store.select(call.kind.resource, call.namespace) if matches(item)]
    items = [item for item in items if after is None or key_of(item) > after]
    meta: Document = {"resourceVersion": str(version)}
    limit = call.number("limit")
    if limit and len(items) > limit:
        meta["remainingItemCount"] = len(items) - limit
        items = items[:limit]
        token_value = json.dumps([version, *key_of(items[-1])]).encode()
        meta["continue"] = base64.urlsafe_b64encode(token_value).decode()
    return Form.of(call).many(items, meta)


def _read_token(token: str) -> tuple[int, tuple[str, str]]:
    try:
        version, namespace, name = json.loads(base64.urlsafe_b64decode(token))
    except (ValueError, binascii.Error) as error:
        raise ApiError(400, "continue key is not valid") from error
    return int(version), (str(namespace), str(name))


async def watch(call: Call) -> web.StreamResponse:
    """A stream of changes, one JSON document in a line."""
    form, matches = Form.of(call), test_of(call)
    changes = _changes(call, matches, call.number("resourceVersion"), call.number("timeoutSeconds"))
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    first = True
    await response.prepare(call.request)
    async for kind, item in changes:
        shown = item if kind == "ERROR" else form.one(item, headers=first)
        first = False
        line = json.dumps({"type": kind, "object": shown}, separators=(",", ":"))
        await response.write(line.encode() + b"\n")
    return response


async def _changes(
    call: Call, matches: Test, version: int, seconds: int
) -> AsyncIterator[tuple[str, Document]]:
    """Initial objects, then changes until the timeout; an expired version is an ERROR event."""
    store, clock = call.api.store, asyncio.get_running_loop().time
    end = clock() + (seconds or WATCH_SECONDS)
    if not version or call.flag("sendInitialEvents"):
        version = store.version
        for item in store.select(call.kind.resource, call.namespace):
            if matches(item):
                yield "ADDED", item
        if call.flag("sendInitialEvents"):
            yield "BOOKMARK", _bookmark(call, version, {"k8s.io/initial-events-end": "true"})
    while (left := end - clock()) > 0:
        try:
            events = store.events_after(version)
        except ApiError as error:
            yield "ERROR", error.status()
            return
        for event in events:
            version = event.version
            if shown := _visible(call, event, matches):
                yield shown
        if not events and call.flag("allowWatchBookmarks"):
            yield "BOOKMARK", _bookmark(call, version, {})
        await store.changed(version, min(left, BOOKMARK_SECONDS))


def _bookmark(call: Call, version: int, annotations: dict[str, str]) -> Document:
    meta: Document = {"resourceVersion": str(version), "creationTimestamp": None}
    if annotations:
        meta["annotations"] = annotations
    return {"kind": call.kind.kind, "apiVersion": call.kind.api_version, "metadata": meta}


def _visible(call: Call, event: Event, matches: Test) -> tuple[str, Document] | None:
    """An event as the selectors of a watch show it: leaving the selection is DELETED."""
    if event.resource != call.kind.resource:
        return None
    if call.namespace and event.after["metadata"].get("namespace") != call.namespace:
        return None
    was = event.before is not None and matches(event.before)
    stays = event.kind != "DELETED" and matches(event.after)
    if not was and not stays:
        return None
    kind = "MODIFIED" if was and stays else "ADDED" if stays else "DELETED"
    return kind, event.after
