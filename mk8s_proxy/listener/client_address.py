"""Whose request it is when a proxy that we trust has passed it on: `X-Forwarded-For`.

Used by the client connections, for peers that the settings name only. Each proxy appends whom it
got the request from, so the list is true from its end as far back as the hops are ours; the first
one that is not ours is the client. What stands before it anybody can have written.
"""

from typing import Final

from mk8s_proxy.settings.networks import Networks, contains, parse_ip

_MOST_HOPS: Final = 16


def client_address(trusted: Networks, peer: str, forwarded_for: bytes) -> str:
    """The address of the client.

    Args:
        trusted: networks of our own proxies; the peer is in one of them.
        peer: the address of the connection.
        forwarded_for: the header's value, several joined with commas; empty when there is none.
    """
    found = peer
    hops = forwarded_for.decode("latin-1").split(",")
    for hop in reversed(hops[-_MOST_HOPS:]):
        address = parse_ip(_without_port(hop.strip(" \t")))
        if address is None:  # the last one of ours wrote something else: believe nothing further
            return found
        found = str(address)
        if not contains(trusted, address):
            return found
    return found


def _without_port(hop: str) -> str:
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    host, _, _ = hop.partition(":")
    return host if hop.count(":") == 1 else hop
