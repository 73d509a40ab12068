"""Lists of networks in the settings, and whether an address is in one of them.

Read by the settings' checks and by the listener, which believes some peers what it believes nobody
else: who the client behind them is.
"""

import ipaddress
from typing import TypeAlias

Networks: TypeAlias = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


def parse_networks(text: str) -> Networks:
    """Read networks and single addresses with commas between them, as in "10.0.0.0/8, fd00::1".

    Raises:
        ValueError: one of them is neither.
    """
    networks = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        try:
            networks.append(ipaddress.ip_network(part))
        except ValueError:
            raise ValueError(f'"{part}" is no network like 10.0.0.0/8') from None
    return tuple(networks)


def parse_ip(text: str) -> Address | None:
    """The address, an IPv4 one in IPv6 form as IPv4; None when it is none."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def contains(networks: Networks, address: Address | None) -> bool:
    """Whether an address is in one of the networks."""
    return address is not None and any(address in network for network in networks)
