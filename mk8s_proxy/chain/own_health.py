"""Health checks of balancers on the public port: about central, not about a cluster; pure.

Called by `handler_chain` before anybody is authenticated: a balancer has no token.
"""

from typing import Final

from mk8s_proxy.chain.addresses import Address
from mk8s_proxy.listener.exchange import Exchange

_PATHS: Final = frozenset(("/livez", "/readyz"))
LIVE: Final = "/livez"


def asks_health(exchange: Exchange, address: Address) -> bool:
    """Whether a request is about central, and not about the cluster that its token names."""
    head, asked = exchange.head, address.info.path in _PATHS and not address.route.cluster
    return asked and head.method in (b"GET", b"HEAD") and not head.authorization


def tell_health(exchange: Exchange, healthy: bool) -> None:
    """Answers a balancer. No row: it asks every few seconds, and hears nothing of a cluster."""
    exchange.settled = True
    code, body = (200, b"ok\n") if healthy else (503, b"not ready\n")
    fields = [(b"content-type", b"text/plain"), (b"cache-control", b"no-store")]
    exchange.front.connection.answer(exchange.front, code, fields, body)
