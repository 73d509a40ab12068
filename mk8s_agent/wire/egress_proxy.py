"""Which proxy leads where, by the rules of Go's golang.org/x/net/http/httpproxy; pure.

kubectl and all tools of Kubernetes read HTTPS_PROXY and NO_PROXY by them, so we do: where kubectl
goes directly so do we. The agent and the CLI share no code: each has this file, and a test keeps
the two alike.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

PORTS: Final = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
"""The kinds of proxies, with the port of each where the URL names none."""
MAX_PROXY_URL: Final = 4096

_HOST_AND_PORT: Final = re.compile(r"(?:\[([^\[\]]*)\]|([^:\[\]]*)):([^:\[\]]*)")
"""As net.SplitHostPort of Go."""

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Rule = Callable[[str, str, _Address | None], bool]
"""Whether a host with this port, or this address with it, is reached directly."""


class ProxyError(ValueError):
    """The text is no URL of a proxy; the sentence does not quote it, it may hold a password."""


class Proxy(NamedTuple):
    """A proxy; what is shown of it is never its password."""

    scheme: str
    """One of `PORTS`."""
    host: str
    port: int
    user: str = ""
    password: str = ""

    def __repr__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    def __str__(self) -> str:
        return repr(self)


def parse_proxy(text: str, where: str) -> Proxy | None:
    """Read ``[scheme://][user:password@]host[:port]``; the scheme is http when there is none.

    Args:
        text: the URL; an empty one is no proxy.
        where: what names it, for the sentence of the error.

    Raises:
        ProxyError: it is none, or of a kind that is not known.
    """
    if not text:
        return None
    example = f"{where} must look like http://host:port ({', '.join(PORTS)} are known)"
    if len(text) > MAX_PROXY_URL or not (text.isascii() and text.isprintable()) or " " in text:
        raise ProxyError(example)
    try:
        url = urlsplit(text if "://" in text else "http://" + text)
        port = url.port
    except ValueError:
        raise ProxyError(example) from None
    if url.scheme not in PORTS or not url.hostname or port == 0:
        raise ProxyError(example)
    user, password = unquote(url.username or ""), unquote(url.password or "")
    return Proxy(url.scheme, url.hostname, port or PORTS[url.scheme], user, password)


class EgressProxies:
    """HTTPS_PROXY and NO_PROXY, read once.

    Args:
        https_proxy: URL of the proxy for all https addresses; empty for none.
        no_proxy: what is reached directly: names, addresses, CIDRs, with or without ports.

    Raises:
        ProxyError: `https_proxy` is no URL of a proxy.
    """

    def __init__(self, https_proxy: str = "", no_proxy: str = "") -> None:
        self._proxy = parse_proxy(https_proxy, "HTTPS_PROXY")
        self._direct = _rules(no_proxy)

    @classmethod
    def of_environment(cls, environment: Mapping[str, str]) -> "EgressProxies":
        """Read the variables; names in capitals win over small ones, an empty one says nothing."""
        https_proxy = environment.get("HTTPS_PROXY") or environment.get("https_proxy") or ""
        no_proxy = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
        return cls(https_proxy, no_proxy)

    def to(self, host: str, port: int) -> Proxy | None:
        """Give the proxy on the way to https://host:port; None: it is reached directly."""
        if self._proxy is None or host == "localhost":
            return None
        # as netip.ParseAddr, which takes zones, and then leaves them out
        address = _address(host.partition("%")[0] if ":" in host else host)
        if address is not None and address.is_loopback:
            return None
        name = _ascii(host).strip().lower()
        if any(rule(name, str(port), address) for rule in self._direct):
            return None
        return self._proxy


def _rules(no_proxy: str) -> list[_Rule]:
    rules: list[_Rule] = []
    for entry in no_proxy.split(","):
        text = entry.strip().lower()
        if text == "*":
            return [lambda *_: True]
        rule = _network_rule(text) or _host_rule(text)
        if rule is not None:
            rules.append(rule)
    return rules


def _network_rule(text: str) -> _Rule | None:
    address, _, size = text.partition("/")
    # netmasks, which Python would take, are none to Go
    if not (size.isascii() and size.isdigit()) or "%" in address:
        return None
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is not None:
        network = ipaddress.ip_network((mapped, network.prefixlen - 96))
    return lambda _name, _port, it: it is not None and it in network


def _host_rule(text: str) -> _Rule | None:
    split = _HOST_AND_PORT.fullmatch(text)
    host, port = (split[1] or split[2] or "", split[3]) if split is not None else (text, "")
    if not host:
        return None
    address = _address(host)
    if address is not None:
        return lambda _name, there, it: it == address and port in ("", there)
    host = host[1:] if host.startswith("*.") else host
    suffix = _ascii(host if host.startswith(".") else "." + host)
    whole = "" if host.startswith(".") else suffix[1:]

    def same_domain(name: str, there: str, it: _Address | None) -> bool:
        matches = name.endswith(suffix) or (bool(whole) and name == whole)
        return it is None and matches and port in ("", there)

    return same_domain


def _address(text: str) -> _Address | None:
    """Give an address as net.ParseIP of Go does: IPv4 mapped into IPv6 is IPv4."""
    if "%" in text:
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _ascii(name: str) -> str:
    """Give an international name as DNS has it; what is none stays as it is."""
    if name.isascii():
        return name
    lead = "." if name.startswith(".") else ""
    try:
        return lead + name.removeprefix(".").encode("idna").decode("ascii")
    except UnicodeError:
        return name


DIRECT: Final = EgressProxies()
"""No proxy for anything."""
