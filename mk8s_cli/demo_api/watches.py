"""Watches: the changes of a collection, over HTTP and over WebSocket; called by `reads`.

Source: apiserver, `endpoints/handlers/watch.go`. Over HTTP the events follow each other, JSON ones
in a line each; over WebSocket each is a message, of text for JSON.
"""

import asyncio
from collections.abc import AsyncIterator, Callable

from aiohttp import web

from mk8s_cli.demo_api import media
from mk8s_cli.demo_api.call import Call
from mk8s_cli.demo_api.objects import ApiError, Document
from mk8s_cli.demo_api.store import Event
from mk8s_cli.demo_api.upgrades import WEBSOCKET, message_socket, until_one_ends
from mk8s_cli.demo_api.views import view

BOOKMARK_SECONDS = 60.0
WATCH_SECONDS = 3600
"""The life of a watch that names no timeout; kube-apiserver's is 30 to 60 minutes."""
Initial = Callable[[], list[Document]]
Matches = Callable[[Document], bool]


async def watch(call: Call, initial: Initial, matches: Matches) -> web.StreamResponse:
    """The stream of changes, after the `initial` objects where the client wants them."""
    form = call.form(watch=True)  # refuses before the answer begins
    version, seconds = call.number("resourceVersion"), call.number("timeoutSeconds")
    changes = _changes(call, initial, matches, version, seconds or WATCH_SECONDS)
    events = _encoded(call, form, changes)
    if call.request.headers.get("Upgrade", "").lower() == WEBSOCKET:
        return await _over_websocket(call, form, events)
    response = web.StreamResponse(
        headers={**media.NO_CACHE, "Content-Type": media.STREAMED[form.media]}
    )
    await response.prepare(call.request)
    async for event in events:
        await response.write(event)
    return response


async def _over_websocket(
    call: Call, form: media.Form, events: AsyncIterator[bytes]
) -> web.StreamResponse:
    async with message_socket(call) as socket:

        async def received() -> None:
            async for _ in socket:
                pass  # nothing that a client says here means anything

        async def sent() -> None:
            async for event in events:
                if form.media == media.JSON:
                    await socket.send_str(event.decode())
                else:
                    await socket.send_bytes(event)

        await until_one_ends(received(), sent())
    return socket


async def _encoded(
    call: Call, form: media.Form, changes: AsyncIterator[tuple[str, Document]]
) -> AsyncIterator[bytes]:
    is_first = True
    async for kind, item in changes:
        shown = item if kind == "ERROR" else view(call, item, headers=is_first)
        is_first = False
        yield media.event(kind, shown, form.media)


async def _changes(
    call: Call, initial: Initial, matches: Matches, version: int, seconds: int
) -> AsyncIterator[tuple[str, Document]]:
    """Initial objects, then changes until the timeout; an expired version is an ERROR event."""
    store, clock = call.store, asyncio.get_running_loop().time
    end = clock() + seconds
    if not version or call.flag("sendInitialEvents"):
        version = store.version
        for item in initial():
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


def _visible(call: Call, event: Event, matches: Matches) -> str:
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
