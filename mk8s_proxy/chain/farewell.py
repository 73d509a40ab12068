"""What an open stream says before mk8s ends it, in the stream's own protocol; pure.

Called by `long_running`. A watch ends cleanly: its client lists and watches again. Whatever else is
cut must not look complete: a WebSocket gets the reason, on the error channel where its protocol has
one, exec and attach over SPDY get it on their error stream, and everything else (`logs -f`,
port-forward over SPDY, downloads through a proxy) is broken off.
"""

from mk8s_proxy.answers.spdy_session import session_of
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


def warning(exchange: Exchange, seconds: int) -> bytes:
    """What somebody at a terminal is told some time before; empty where it would not be shown."""
    if exchange.head.upgrade != b"websocket" or exchange.subprotocol not in websocket.CHANNELS:
        return b""
    return websocket.on_terminal(_SOON.format(seconds=seconds))
