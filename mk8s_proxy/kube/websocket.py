"""What mk8s itself says in a WebSocket between a client and its API server; pure.

Frames: RFC 6455, 5.2; a server's have no mask. Channels of exec and attach, v4 and v5: the first
byte of a message names the channel (apimachinery, `util/remotecommand/constants.go`); the third one
takes a metav1.Status, after which the client ends with that error.
"""

from typing import Final

import orjson

from mk8s_proxy.kube.status import StatusError, status_document

CHANNELS: Final = frozenset((b"v4.channel.k8s.io", b"v5.channel.k8s.io"))

_STDOUT, _STDERR, _ERROR = b"\x01", b"\x02", b"\x03"
_FINAL: Final = 0x80
_TEXT, _BINARY, _CLOSE = 0x1, 0x2, 0x8
_LENGTH_16: Final = 126
_SHORT: Final = 125
_POLICY_VIOLATION: Final = 1008
_NORMAL: Final = 1000
_CODE_BYTES: Final = 2


def ending(error: StatusError, subprotocol: bytes) -> bytes:
    """The last frames: the reason on the error channel, where there is one, and a close frame."""
    document = orjson.dumps(status_document(error))
    told = _frame(_BINARY, _ERROR + document) if subprotocol in CHANNELS else b""
    return told + _close(_NORMAL if told else _POLICY_VIOLATION, error.message)


def last_event(event: bytes, error: StatusError) -> bytes:
    """The last frames of a watch: an event, if there is one in JSON, and a close frame."""
    told = _frame(_TEXT, event.rstrip(b"\n")) if event.startswith(b"{") else b""
    return told + _close(_NORMAL, error.message)


def on_terminal(line: str) -> bytes:
    """A line on a terminal, which is in raw mode."""
    return _frame(_BINARY, _STDOUT + f"\r\n{line}\r\n".encode())


def on_stderr(line: str) -> bytes:
    """A line beside the output of a command."""
    return _frame(_BINARY, _STDERR + f"{line}\n".encode())


def _close(code: int, reason: str) -> bytes:
    text = reason.encode("utf-8", "replace")[: _SHORT - _CODE_BYTES]
    whole = text.decode("utf-8", "ignore").encode()  # the cut may be within a character
    return _frame(_CLOSE, code.to_bytes(_CODE_BYTES, "big") + whole)


def _frame(opcode: int, payload: bytes) -> bytes:
    size = len(payload)
    if size <= _SHORT:
        return bytes((_FINAL | opcode, size)) + payload
    return bytes((_FINAL | opcode, _LENGTH_16)) + size.to_bytes(2, "big") + payload
