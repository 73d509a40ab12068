"""get, list and watch of any served resource; called by `app`."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from aiohttp import web

from mk8s_cli.demo_api import tables
from mk8s_cli.demo_api.catalogue import Document
from mk8s_cli.demo_api.errors import ApiError
from mk8s_cli.demo_api.state import Call
from mk8s_cli.demo_api.store import Event

BOOKMARK_SECONDS = 60.0
WATCH_SECONDS = 3600
"""The life of a watch that names no timeout; kube-apiserver's is 30 to 60 minutes."""

TERM = re.compile(
    r"\s*(?:(?P<member>[\w./-]+)\s+(?P<word>in|notin)\s*\((?P<values>[^)]*)\)"
    r"|(?P<equal>[\w./-]+)\s*(?P<sign>==|=|!=)(?P<value>[^=]*)"
    r"|(?P<negation>!?)\s*(?P<present>[\w./-]+))\s*"
)
UNSET = {"spec.unschedulable": False}
"""Fields that have a value when they are not set."""
Term = tuple[str, set[str] | None, bool]
"""Key, the values it may have (None: any), or with False may not."""


def answer(document: Any, code: int = 200) -> web.Response:
    """A JSON answer."""
    body = json.dumps(document, separators=(",", ":")).encode() + b"\n"
    return web.Response(body=body, status=code, content_type="application/json")


def form_of(call: Call) -> str:
    """How the client wants objects: "", "Table", "PartialObjectMetadata(List)"; raises 406."""
    for entry in (call.request.headers.get("Accept") or "*/*").split(","):
        media, *parameters = (part.strip() for part in entry.split(";"))
        if media in {"application/json", "application/*", "*/*"}:
            return next((one[3:] for one in parameters if one.startswith("as=")), "")
    raise ApiError(406, "only JSON is served: send Accept: application/json")


def one(call: Call, item: Document, *, headers: bool = True) -> Document:
    """A single object in the wanted form; `headers`: with a Table's column definitions."""
    form, item = form_of(call), {**item, "apiVersion": call.kind.api_version}
    if form == "Table":
        include = call.request.query.get("includeObject", "Metadata")
        return tables.table(call.kind, [item], include=include, headers=headers)
    return tables.partial(item) if form.startswith("Partial") else item


def many(call: Call, items: list[Document]) -> Document:
    """A list in the wanted form. It is never cut into pages: `limit` is a wish."""
    form, include = form_of(call), call.request.query.get("includeObject", "Metadata")
    if form == "Table":
        found = tables.table(call.kind, items, include=include)
    else:
        head = {"kind": call.kind.entry["kind"] + "List", "apiVersion": call.kind.api_version}
        partial = {"kind": "PartialObjectMetadataList", "apiVersion": tables.META_VERSION}
        found = partial if form.startswith("Partial") else head
        found |= {"items": [one(call, item) for item in items]}
    return {**found, "metadata": {"resourceVersion": str(call.api.store.version)}}


def selected(call: Call) -> list[Document]:
    """The objects of a collection that the selectors of the request match."""
    items = call.api.store.select(call.kind.resource, call.namespace)
    return list(filter(selector(call.request.query), items))


async def get(call: Call) -> web.StreamResponse:
    """One object."""
    return answer(one(call, call.current()))


async def collection(call: Call) -> web.StreamResponse:
    """A collection, or its changes."""
    return await watch(call) if call.flag("watch") else answer(many(call, selected(call)))


async def watch(call: Call) -> web.StreamResponse:
    """A stream of changes, one JSON document in a line."""
    form_of(call)  # refuses before the answer begins
    headers = True
    version, seconds = call.number("resourceVersion"), call.number("timeoutSeconds")
    changes = _changes(call, selector(call.request.query), version, seconds)
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(call.request)
    async for kind, item in changes:
        shown = item if kind == "ERROR" else one(call, item, headers=headers)
        headers = False
        line = json.dumps({"type": kind, "object": shown}, separators=(",", ":"))
        await response.write(line.encode() + b"\n")
    return response


async def _changes(
    call: Call, matches: Callable[[Document], bool], version: int, seconds: int
) -> AsyncIterator[tuple[str, Document]]:
    """Initial objects, then changes until the timeout; an expired version is an ERROR event."""
    store, clock = call.api.store, asyncio.get_running_loop().time
    end = clock() + (seconds or WATCH_SECONDS)
    if not version or call.flag("sendInitialEvents"):
        version = store.version
        for item in selected(call):
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
    meta = {"resourceVersion": str(version), "creationTimestamp": None, "annotations": annotations}
    return {"kind": call.kind.entry["kind"], "apiVersion": call.kind.api_version, "metadata": meta}


def _visible(
    call: Call, event: Event, matches: Callable[[Document], bool]
) -> tuple[str, Document] | None:
    """An event as the selectors of a watch show it: leaving the selection is DELETED."""
    if event.resource != call.kind.resource:
        return None
    if call.namespace and event.after["metadata"]["namespace"] != call.namespace:
        return None
    was = event.before is not None and matches(event.before)
    stays = event.kind != "DELETED" and matches(event.after)
    if not was and not stays:
        return None
    return ("MODIFIED" if was and stays else "ADDED" if stays else "DELETED"), event.after


def selector(query: Mapping[str, str]) -> Callable[[Document], bool]:
    """The test of the label and field selectors of a query; raises 400."""
    labels, fields = query.get("labelSelector", ""), query.get("fieldSelector", "")
    label_terms = [_term(text) for text in re.split(r",(?![^(]*\))", labels) if labels]
    field_terms = [_term(text) for text in fields.split(",") if fields]
    if not all(values for _, values, _ in field_terms):
        raise ApiError(400, f"invalid field selector: {fields!r}")

    def matches(item: Document) -> bool:
        own = item["metadata"].get("labels") or {}
        values = [own.get(key) for key, *_ in label_terms]
        values += [_text(tables.dig(item, key, UNSET.get(key, ""))) for key, *_ in field_terms]
        return all(
            (value is not None if among is None else value in among) == wanted
            for value, (_, among, wanted) in zip(values, label_terms + field_terms, strict=True)
        )

    return matches


def _term(text: str) -> Term:
    match = TERM.fullmatch(text)
    if match is None:
        raise ApiError(400, f"unable to parse requirement: {text!r}")
    found = match.groupdict()
    if found["member"]:
        values = {value.strip() for value in found["values"].split(",")}
        return found["member"], values, found["word"] == "in"
    if found["equal"]:
        return found["equal"], {found["value"].strip()}, found["sign"] != "!="
    return found["present"], None, not found["negation"]


def _text(value: Any) -> str:
    """A field as selectors write it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
