"""The PROXY protocol, version 2: who the client is, said by the balancer before anything else.

https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, section 2.2. Pure; `server` feeds it
the first bytes of connections from the balancers that the settings name, and of no others. From
those the header is demanded: one that may be there or not is one that a client can forge.
"""

import ipaddress
from typing import Final

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
LONGEST: Final = 2048
"""Bytes behind the fixed part: two Unix paths take 216, and what balancers add is short."""

_FIXED: Final = 16
_VERSION: Final = 0x20
_LOCAL: Final = 0x0
_PROXY: Final = 0x1
_ADDRESS_BYTES: Final[dict[int, int]] = {0x11: 4, 0x21: 16}
"""Length of one address, by family and transport: TCP over IPv4 and over IPv6."""


class ProxyProtocolError(Exception):
    """What arrived is no such header; the connection is of no use."""


class ProxyHeader:
    """One header that is arriving.

    Attributes:
        source: the client's address once the header is there; "" when the balancer speaks for
            itself (a health check), or does not say.
    """

    def __init__(self) -> None:
        self.source = ""
        self._seen = b""

    def feed(self, data: bytes) -> bytes | None:
        """Take bytes; what follows the header once it is complete, else None.

        Raises:
            ProxyProtocolError: it breaks the protocol, or is longer than anybody needs.
        """
        seen = self._seen = self._seen + data
        if not SIGNATURE.startswith(seen[: len(SIGNATURE)]):
            raise ProxyProtocolError("no PROXY protocol header, version 2")
        if len(seen) < _FIXED:
            return None
        length = int.from_bytes(seen[14:_FIXED], "big")
        if length > LONGEST:
            raise ProxyProtocolError("the PROXY protocol header is too long")
        if seen[12] & 0xF0 != _VERSION:
            raise ProxyProtocolError("another version of the PROXY protocol than 2")
        if len(seen) < _FIXED + length:
            return None
        self.source = _source(seen[12] & 0x0F, seen[13], seen[_FIXED : _FIXED + length])
        self._seen = b""
        return seen[_FIXED + length :]


def _source(command: int, family: int, block: bytes) -> str:
    if command == _LOCAL:
        return ""
    if command != _PROXY:
        raise ProxyProtocolError("an unknown command of the PROXY protocol")
    size = _ADDRESS_BYTES.get(family)
    if size is None:  # unspecified, UDP, Unix sockets: the receiver uses the connection's own
        return ""
    if len(block) < 2 * size + 4:
        raise ProxyProtocolError("the addresses in the PROXY protocol header are cut short")
    return str(ipaddress.ip_address(block[:size]))
