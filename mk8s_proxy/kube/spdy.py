"""What mk8s itself says in a SPDY/3.1 session of exec or attach before it ends; pure.

Frames: SPDY Protocol Draft 3.1, 2.2.2; DATA needs no state of the connection, as headers would.
client-go opens the error stream before all others, in every protocol version since v1 (its
`tools/remotecommand/v1.go` to `v5.go`): it is stream 1. With nothing in it kubectl takes the end of
a session for success, exit code 0.
"""

import struct
from typing import Final

import orjson

from mk8s_proxy.kube.status import StatusError, status_document

_WITH_STATUS: Final = frozenset((b"v4.channel.k8s.io", b"v5.channel.k8s.io"))
"""Their error stream takes a metav1.Status; that of older ones a sentence."""

_ERROR_STREAM: Final = 1
_OTHER_STREAMS: Final = (3, 5, 7, 9)
"""stdin, stdout, stderr and the sizes of a terminal, as many as there are."""
_FIN: Final = 1
_GOAWAY: Final = struct.pack(">HHIII", 0x8003, 7, 8, 0, 0)


def ending(error: StatusError, protocol: bytes) -> bytes:
    """The last frames: the reason on the error stream, the end of every stream, GOAWAY.

    Args:
        error: why the session ends.
        protocol: what client and API server agreed on, `X-Stream-Protocol-Version`.
    """
    told = error.message.encode()
    if protocol in _WITH_STATUS:
        told = orjson.dumps(status_document(error))
    ends = [_last(number, b"") for number in _OTHER_STREAMS]
    return b"".join([_last(_ERROR_STREAM, told), *ends, _GOAWAY])


def output(number: int, text: str) -> bytes:
    """A piece of output on one of the streams of the client."""
    payload = text.encode()
    return struct.pack(">II", number, len(payload)) + payload


def stream_of(place: int) -> int:
    """The id of a stream of exec or attach: client-go opens stdin, stdout and stderr in this order,
    those that it needs. `place` counts them."""
    return _OTHER_STREAMS[place]


def _last(number: int, payload: bytes) -> bytes:
    """A DATA frame that ends its stream."""
    return struct.pack(">II", number, _FIN << 24 | len(payload)) + payload
