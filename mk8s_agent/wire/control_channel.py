"""The control stream as a leg: messages in, messages out, in order.

Both ends use it: the agent on the stream that central opened, central on the one it opened.
"""

import logging
from collections.abc import Callable

from mk8s_agent.wire.control import ControlDecoder, ControlError, Message, encode_message
from mk8s_agent.wire.http2.frames import ErrorCode
from mk8s_agent.wire.stream import Bytes, Fields, Stream, join

log = logging.getLogger(__name__)


class ControlChannel:
    """Sends and receives control messages on `stream`.

    `on_message` is set by the owner; until then nothing may arrive. An invalid message
    ends the tunnel, since nothing that follows could be trusted.
    """

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.on_message: Callable[[Message], None] | None = None
        self._decoder = ControlDecoder()
        self._half = Stream(self, 1, 0, 0)
        join(stream, self._half)

    def send(self, message: Message) -> None:
        """Sends one message; nothing happens when the tunnel is gone."""
        data = encode_message(message)
        self.stream.connection.send_data(self.stream, data, len(data), False)

    # -- the leg

    def relay_head(
        self, stream: Stream, block: bytes, end: bool, fields: Fields | None = None
    ) -> None:
        """The agent accepted the control stream."""

    def send_data(self, stream: Stream, data: Bytes, size: int, end: bool) -> None:
        """Bytes of the peer (see `Leg.send_data`)."""
        connection = self.stream.connection
        if size:
            connection.grant(self.stream, size)
        try:
            for message in self._decoder.feed(bytes(data)):
                if self.on_message is not None:
                    self.on_message(message)
        except ControlError as error:
            connection.fail(ErrorCode.PROTOCOL_ERROR, f"control stream: {error}")
            return
        if end:
            connection.fail(ErrorCode.NO_ERROR, "the control stream ended")

    def grant(self, stream: Stream, size: int) -> None:
        """Messages are small and few: nothing is slowed down here."""

    def reset(self, stream: Stream, code: int) -> None:
        """The peer reset the control stream: the tunnel is of no use without it."""
        connection = self.stream.connection
        if not connection.closed:
            connection.fail(ErrorCode.PROTOCOL_ERROR, "the control stream was reset")
