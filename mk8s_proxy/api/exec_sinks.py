"""Where the output of a command goes: into one answer, or into events as it comes.

Used by `exec`. Both notice that the caller has gone, also while kubectl is silent.
"""

import codecs
import json
from typing import Final

from aiohttp import web

from mk8s_proxy.api.exec_process import LOOK_SECONDS, Gone, Stream
from mk8s_proxy.api.schemas import Model

EVENT_STREAM: Final = "text/event-stream"
KEEPALIVE_SECONDS: Final = 15.0
"""Silence after which a comment is sent, so that no proxy on the way gives up."""


class Collector:
    """Keeps output for one answer."""

    def __init__(self, request: web.Request | None) -> None:
        self._request = request
        self.kept: dict[Stream, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}

    async def take(self, stream: Stream, data: bytes) -> None:
        """Keep it."""
        self.kept[stream] += data

    async def look(self) -> None:
        """Raises Gone when the connection has ended."""
        _look(self._request)


class EventSink:
    """Sends server-sent events (HTML, section 9.2): stdout, stderr, at last exit.

    The data of the first two is JSON, `{"text": ...}`, so that a line of an event is no line of
    the output. A character that comes in two pieces is sent with the second.
    """

    def __init__(self, request: web.Request, response: web.StreamResponse) -> None:
        self._request = request
        self._response = response
        self._silent = 0.0
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {"stdout": decoder("replace"), "stderr": decoder("replace")}

    async def take(self, stream: Stream, data: bytes) -> None:
        """Send it. Raises Gone."""
        if text := self._decoders[stream].decode(data):
            await self._write(_event(stream, json.dumps({"text": text})))

    async def look(self) -> None:
        """Send a comment into a long silence. Raises Gone."""
        _look(self._request)
        self._silent += LOOK_SECONDS
        if self._silent >= KEEPALIVE_SECONDS:
            await self._write(b": keepalive\n\n")

    async def finish(self, told: Model) -> None:
        """Send what is left, and how it ended. Raises Gone."""
        for stream, decoder in self._decoders.items():
            if text := decoder.decode(b"", final=True):
                await self._write(_event(stream, json.dumps({"text": text})))
        await self._write(_event("exit", told.model_dump_json()))

    async def _write(self, data: bytes) -> None:
        self._silent = 0.0
        try:
            await self._response.write(data)
        except ConnectionError:
            raise Gone from None


def _event(name: str, data: str) -> bytes:
    return f"event: {name}\ndata: {data}\n\n".encode()


def _look(request: web.Request | None) -> None:
    if request is not None and (request.transport is None or request.transport.is_closing()):
        raise Gone
