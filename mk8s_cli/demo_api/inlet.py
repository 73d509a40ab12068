"""What a client sends on one stream, bounded; used by `spdy` and `remote_command`."""

import asyncio

CHUNK_BYTES = 1 << 16


class Inlet(asyncio.ReadTransport):
    """The way to a `reader`: whoever feeds it waits as long as the reader has more than enough."""

    def __init__(self) -> None:
        super().__init__()
        self.reader = asyncio.StreamReader(CHUNK_BYTES)
        self.reader.set_transport(self)
        self._room = asyncio.Event()
        self._room.set()
        self._has_ended = False

    async def feed(self, raw: bytes) -> None:
        """More from the client; nothing happens after the end."""
        if not self._has_ended:
            self.reader.feed_data(raw)
            await self._room.wait()

    def end(self) -> None:
        """The client has said all, or nobody will listen any more."""
        self._has_ended = True
        self.reader.feed_eof()
        self._room.set()

    def pause_reading(self) -> None:
        """The reader's call: it has enough."""
        if not self._has_ended:
            self._room.clear()

    def resume_reading(self) -> None:
        """The reader's call: it wants more."""
        self._room.set()
