"""What an open stream says before mk8s ends it, in the stream's own protocol; pure.

Called by `long_running`. A watch ends cleanly: its client lists and watches again. Whatever else is
cut must not look complete: a WebSocket gets the reason, on the error channel where its protocol has
one, exec and attach over SPDY get it on their error stream, and everything else (`logs -f`,
port-forward over SPDY, downloads through a proxy) is broken off. Some time before, exec and attach
are told on the terminal, or beside the output of the command.
"""

from typing import NamedTuple

from mk8s_proxy.answers.upgraded_session import session_of
from mk8s_proxy.kube import spdy, websocket
from mk8s_proxy.kube.status import StatusError
from mk8s_proxy.listener.exchange import Exchange

_SOON = "mk8s: your login ends in {seconds} seconds, and this session with it: run mk8s login"


def is_resumed(exchange: Exchange) -> bool:
    """Whether a client takes a clean end for what it is, and goes on elsewhere by itself."""
    return exchange.info is not None and exchange.info.watches_objects


def last_words(exchange: Exchange, reason: str) -> bytes | None:
    """The bytes behind which a stream may end cleanly; None if it must be broken off."""
    error = StatusError(403, "Forbidden", f"mk8s ended this session: {reason}")
    if exchange.head.upgrade == b"websocket":
        if is_resumed(exchange):
            return websocket.last_event(exchange.closing_event, error)
        return websocket.ending(error, exchange.subprotocol)
    if session_of(exchange) is not None:
        return spdy.ending(error, exchange.subprotocol)
    return exchange.closing_event if is_resumed(exchange) else None


_NO = (b"false", b"0")
"""What apimachinery takes for a no in a parameter that is there; everything else is a yes."""


class Output(NamedTuple):
    """Where a person sees what mk8s says beside a command."""

    terminal: bool
    """Whether that is a terminal, or standard error."""
    place: int
    """Which of the streams that the client opens for it."""


def output_of(exchange: Exchange) -> Output | None:
    """Where an exchange would show a warning; None for nowhere."""
    if exchange.info is None or exchange.info.subresource not in ("exec", "attach"):
        return None
    query = exchange.head.target.partition(b"?")[2]
    parameters = dict(part.partition(b"=")[::2] for part in query.split(b"&"))
    asked = [
        name for name in (b"stdin", b"stdout", b"stderr", b"tty")
        if parameters.get(name, b"0").lower() not in _NO
    ]  # fmt: skip
    terminal = b"tty" in asked
    seen = b"stdout" if terminal else b"stderr"
    return Output(terminal, asked.index(seen)) if seen in asked else None


def warning(exchange: Exchange, output: Output, seconds: int) -> bytes:
    """What somebody is told some time before; empty where it would not be shown."""
    line = _SOON.format(seconds=seconds)
    if exchange.head.upgrade == b"SPDY/3.1":
        text = f"\r\n{line}\r\n" if output.terminal else f"{line}\n"
        return spdy.output(spdy.stream_of(output.place), text)
    if exchange.subprotocol not in websocket.CHANNELS:
        return b""
    return websocket.on_terminal(line) if output.terminal else websocket.on_stderr(line)
