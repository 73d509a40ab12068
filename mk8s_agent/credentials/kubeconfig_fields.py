"""The fields of a kubeconfig's entries: texts, flags, PEM and the URL of a proxy.

Used by `kubeconfig`. What is of another kind than client-go takes is refused by name.
"""

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from mk8s_agent.wire.egress_proxy import Proxy, ProxyError, parse_proxy

Entry: TypeAlias = Mapping[str, Any]


class KubeconfigError(Exception):
    """The kubeconfig cannot be used; the sentence names the file or entry and says what to do."""


class Pem(NamedTuple):
    """Certificates or a key."""

    content: bytes = b""
    path: Path | None = None
    """The file that it came from, where it may change later; None for what the entry holds."""


def text_of(entry: Entry, key: str, where: str) -> str:
    """Give a text, "" where there is none."""
    value = entry.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise KubeconfigError(f"{where}: {key} is not a string")
    return value


def flag_of(entry: Entry, key: str, where: str) -> bool:
    """Give a flag, false where there is none."""
    value = entry.get(key)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise KubeconfigError(f"{where}: {key} is neither true nor false")
    return value


def pem_of(entry: Entry, key: str, where: str, directory: Path) -> Pem:
    """Read PEM from ``<key>-data``, which wins, or from the file that ``<key>`` names."""
    path = None
    encoded = text_of(entry, key + "-data", where)
    if encoded:
        try:
            content = base64.b64decode("".join(encoded.split()), validate=True)
        except (binascii.Error, ValueError):
            raise KubeconfigError(f"{where}: {key}-data is not base64") from None
    elif not (name := text_of(entry, key, where)):
        return Pem()
    else:
        try:
            path = directory / name
            content = path.read_bytes()
        except OSError as error:
            raise KubeconfigError(f"{where}: cannot read {key} {path}: {error.strerror}") from error
    if not content.isascii() or b"-----BEGIN " not in content:
        raise KubeconfigError(f"{where}: {key} is not PEM")
    return Pem(content, path)


def proxy_of(url: str, where: str) -> Proxy | None:
    """Read ``proxy-url``; an empty one is none."""
    try:
        proxy = parse_proxy(url, f"{where}: proxy-url")
    except ProxyError as error:
        raise KubeconfigError(str(error)) from None
    # client-go, clientcmd/validation: a scheme is demanded here, other than in HTTPS_PROXY
    if proxy is not None and ("://" not in url or proxy.scheme == "socks5h"):
        raise KubeconfigError(f"{where}: proxy-url is none of http://, https:// and socks5://")
    return proxy
