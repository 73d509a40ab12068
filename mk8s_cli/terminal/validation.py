"""Patterns that anything from the network, the kubeconfig or argv must match before it is used.

Called by the API client, the token cache and the kubeconfig commands. Light on purpose: the fast
path of `mk8s get-token` imports it. Attack E7: a hostile answer must not write an `exec` entry.
"""

import re

from mk8s_cli.terminal.errors import CliError

LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""A DNS-1123 label of at most 63 characters: names of clusters and namespaces."""

ROLE_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._:-]{0,126}[A-Za-z0-9])?")
"""Role names travel in paths, so they hold nothing that would need escaping there."""

GROUP_NAME = re.compile(
    r"[^\s\x00-\x1f\x7f-\x9f](?:[^\x00-\x1f\x7f-\x9f]{0,254}[^\s\x00-\x1f\x7f-\x9f])?"
)
"""Of mk8s, or ISSUER:GROUP, which central knows better."""

EMAIL = re.compile(r"[^\s@\x00-\x1f\x7f-\x9f]{1,64}@[^\s@\x00-\x1f\x7f-\x9f]{1,189}")
"""The shape of an address; central decides whether it is somebody."""

SERVICE_TOKEN_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
SERVICE_USER = re.compile(rf"token:{SERVICE_TOKEN_NAME.pattern}")
"""What central calls a service token where users have their address."""

JOB_USER = re.compile(r"[^\s\x00-\x1f\x7f-\x9f]{1,254}")
"""What central calls a job that logged in by the token of its issuer."""

SERIAL = re.compile(r"[0-9a-f]{1,40}")
"""Of an agent's certificate, by which agents are known."""

KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""A signing key, by the name that tokens call it (`kid`)."""

TOKEN = re.compile(r"[\x21-\x7e]+")
"""What fits into a header."""

USER_CODE = re.compile(r"[A-Za-z0-9]{2,16}(?:-[A-Za-z0-9]{2,16}){0,3}")
"""What a person types in a browser (RFC 8628, 6.1)."""

PIN = re.compile(r"sha256:[0-9a-f]{64}")

_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])"
CENTRAL_URL = re.compile(rf"https://{_HOST}(?::[0-9]{{1,5}})?")
SERVER_URL = re.compile(rf"https://{_HOST}(?::[0-9]{{1,5}})?(?:/[A-Za-z0-9._~-]{{1,253}}){{0,8}}/?")
DEVICE_CODE_PAGE = re.compile(
    rf"https://{_HOST}(?::[0-9]{{1,5}})?(?:/[A-Za-z0-9._~-]{{1,64}}){{1,8}}"
    r"(?:\?[A-Za-z0-9._~%&=-]{1,256})?"
)
"""Where such a code is entered, with or without it."""


_SPAN = re.compile(r"([0-9]{1,6})([smhdw])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def span(text: str) -> int | None:
    """Return the seconds of 45s, 90m, 12h, 30d or 2w; None for anything else."""
    found = _SPAN.fullmatch(text)
    return int(found[1]) * _UNITS[found[2]] if found else None


def cluster_name(value: object, source: str = "cluster name") -> str:
    """Return `value` if it is a cluster's name; raise `CliError` that names `source` if not."""
    if not isinstance(value, str) or not LABEL.fullmatch(value):
        raise CliError(
            f"{source} {shown(value)} is not a valid name (a-z, 0-9 and '-', at most 63)"
        )
    return value


def central_url(value: str) -> str:
    """Return central's address in its one spelling: lower case, no default port, no final slash.

    Raises `CliError` for anything but https://host[:port]: no path, user or plain http.
    """
    url = value.strip().rstrip("/").lower()
    if "://" not in url:
        url = f"https://{url}"
    if not CENTRAL_URL.fullmatch(url):
        raise CliError(f"{shown(value)} is not central's address; it looks like https://host:8443")
    port = url.rpartition("]")[2].rpartition(":")[2]
    if port.isdigit() and not 0 < int(port) < 65536:
        raise CliError(f"{shown(value)} has no valid port (1 to 65535)")
    return url.removesuffix(":443")


def server_url(value: object) -> str:
    """Return a cluster's address for a kubeconfig; raise `CliError` unless it is plain https."""
    dotted = isinstance(value, str) and ("/./" in f"{value}/" or "/../" in f"{value}/")
    if not isinstance(value, str) or dotted or not SERVER_URL.fullmatch(value):
        raise CliError(
            f"central's answer is refused: server address {shown(value)} is not plain https"
        )
    return value.rstrip("/")


def shown(value: object) -> str:
    """Return a short quoted form of a stranger's value, safe on a terminal."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
