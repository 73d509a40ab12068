"""get, list and watch of any served resource; called by `server`."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

from aiohttp import web

from mk8s_cli.demo_api.call import Call
from mk8s_cli.demo_api.objects import ApiError, Document, dig
from mk8s_cli.demo_api.store import Event
from mk8s_cli.demo_api.views import view

BOOKMARK_SECONDS = 60.0
WATCH_SECONDS = 3600
"""The life of a watch that names no timeout; kube-apiserver's is 30 to 60 minutes."""
REQUIREMENT = re.compile(
    r"\s*(?P<negation>!?)\s*(?P<key>[\w./-]+)\s*"
    r"(?:(?P<sign>=|==|!=)(?P<value>[^=]*)|\s(?P<word>in|notin)\s*\((?P<values>[^)]*)\)\s*)?"
)
UNSET = {"spec.unschedulable": False}
"""Fields that have a value when they are not set."""


def selected(call: Call) -> list[Document]:
    """The objects of a collection that the selectors of the request match."""
    items = call.store.select(call.kind.resource, call.namespace)
    return list(filter(selector(call.request.query), items))


async def get(call: Call) -> web.StreamResponse:
    """GET of an object."""
    return web.json_response(view(call, call.current()))


async def collection(call: Call) -> web.StreamResponse:
    """GET of a collection, or of the stream of its changes, one JSON document in a line."""
    if not call.flag("watch"):
        return web.json_response(view(call, selected(call)))
    call.form()  # refuses before the answer begins
    version, seconds = call.number("resourceVersion"), call.number("timeoutSeconds")
    changes = _changes(call, selector(call.request.query), version, seconds or WATCH_SECONDS)
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(call.request)
    is_first = True
    async for kind, item in changes:
        shown = item if kind == "ERROR" else view(call, item, headers=is_first)
        is_first = False
        await response.write(json.dumps({"type": kind, "object": shown}).encode() + b"\n")
    return response


async def _changes(
    call: Call, matches: Callable[[Document], bool], version: int, seconds: int
) -> AsyncIterator[tuple[str, Document]]:
    """Initial objects, then changes until the timeout; an expired version is an ERROR event."""
    store, clock = call.store, asyncio.get_running_loop().time
    end = clock() + seconds
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
            yield "ERROR", error.status
            return
        for event in events:
            version = event.version
            if kind := _visible(call, event, matches):
                yield kind, event.after
        if not events and call.flag("allowWatchBookmarks"):
            yield "BOOKMARK", _bookmark(call, version, {})
        await store.changed(version, min(left, BOOKMARK_SECONDS))


def _bookmark(call: Call, version: int, annotations: dict[str, str]) -> Document:
    meta = {"resourceVersion": str(version), "creationTimestamp": None, "annotations": annotations}
    return {"kind": call.kind.gvk["kind"], "apiVersion": call.kind.api_version, "metadata": meta}


def _visible(call: Call, event: Event, matches: Callable[[Document], bool]) -> str:
    """An event's type as the selectors show it, "" for none: leaving the selection is DELETED."""
    if event.resource != call.kind.resource:
        return ""
    if call.namespace and event.after["metadata"]["namespace"] != call.namespace:
        return ""
    was = event.before is not None and matches(event.before)
    stays = event.kind != "DELETED" and matches(event.after)
    if was and stays:
        return "MODIFIED"
    return "ADDED" if stays else "DELETED" if was else ""


def selector(query: Mapping[str, str]) -> Callable[[Document], bool]:
    """The test of the label and field selectors of a query; raises 400."""
    labels = [*_requirements(query.get("labelSelector", ""))]
    fields = [*_requirements(query.get("fieldSelector", ""))]
    if not all(values for _, values, _ in fields):
        raise ApiError(400, f"invalid field selector: {query['fieldSelector']!r}")

    def matches(item: Document) -> bool:
        own = item["metadata"].get("labels") or {}
        values = [own.get(key) for key, *_ in labels]
        values += [_text(dig(item, key, UNSET.get(key, ""))) for key, *_ in fields]
        return all(
            (value is not None if among is None else value in among) == wanted
            for value, (_, among, wanted) in zip(values, labels + fields, strict=True)
        )

    return matches


def _requirements(text: str) -> Iterator[tuple[str, set[str] | None, bool]]:
    """Key, the values it may have (None: any), or with False may not; raises 400."""
    for part in re.split(r",(?![^(]*\))", text) if text else ():
        found = REQUIREMENT.fullmatch(part)
        if found is None or (found["negation"] and (found["sign"] or found["word"])):
            raise ApiError(400, f"unable to parse requirement: {part!r}")
        listed = found["value"] if found["sign"] else found["values"]
        values = None if listed is None else {value.strip() for value in listed.split(",")}
        negative = found["negation"] or found["sign"] == "!=" or found["word"] == "notin"
        yield found["key"], values, not negative


def _text(value: Any) -> str:
    """A field as selectors write it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
