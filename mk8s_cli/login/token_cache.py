"""The access-token cache: one 0600 file per (central, cluster), read without a lock.

Called by `access_tokens.py`; `cached_token.py` reads the same files for the fast path. A file
that is missing, damaged, a link or readable by others is a miss, never an error: it is made anew.
"""

import base64
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

from mk8s_cli.central.access_token import AccessToken
from mk8s_cli.login import asked
from mk8s_cli.terminal.errors import CliError, UnsafeFile
from mk8s_cli.terminal.private_files import ensure_directory, read_private, write_private
from mk8s_cli.terminal.validation import CENTRAL_URL, cluster_name


def home_directory() -> Path:
    """Return ~/.mk8s, or what MK8S_HOME names."""
    override = os.environ.get("MK8S_HOME", "")
    if override:
        return Path(override)
    try:
        return Path.home() / ".mk8s"
    except RuntimeError:
        raise CliError("this user has no home directory; set HOME or MK8S_HOME") from None


def central_directory(central: str) -> Path:
    """Return the cache directory of one central; its address is checked, since argv may hold it."""
    if not CENTRAL_URL.fullmatch(central):
        raise CliError(f"{central!a} is not central's address; run: mk8s kubeconfig sync")
    # "_" occurs in no address, so two addresses never share a directory.
    return home_directory() / "cache" / central.removeprefix("https://").replace(":", "_")


def _file(central: str, cluster: str) -> Path:
    name = cluster_name(cluster) if cluster else "_any"
    return central_directory(central) / f"{name}.json"


def load(central: str, cluster: str) -> AccessToken | None:
    """Return the cached token if it is still fresh; `cluster` "" means the one bound to none."""
    try:
        content = read_private(_file(central, cluster))
        entry = json.loads(content) if content else {}
        cached = AccessToken(str(entry["token"]), float(entry["obtained"]), float(entry["expires"]))
    except (UnsafeFile, ValueError, KeyError, TypeError):
        return None
    return cached if cached.token and cached.fresh(time.time()) else None


def save(central: str, cluster: str, token: AccessToken) -> None:
    """Keep `token` for the processes that follow."""
    path = _file(central, cluster)
    ensure_directory(path.parent)
    # In this order, as `cached_token` reads it.
    kept = {"token": token.token, "obtained": token.obtained, "expires": token.expires}
    write_private(path, json.dumps(kept).encode())
    Path(asked.file_of(str(path))).unlink(missing_ok=True)  # nobody has got this one yet


def is_doubted(central: str, cluster: str, cached: AccessToken, asking: int) -> bool:
    """Return whether the process `asking` has got this very token before (see `asked`)."""
    return asked.is_doubted(str(_file(central, cluster)), cached.obtained, asking)


def forget_former(central: str, clusters: Mapping[str, str]) -> None:
    """Forget tokens of clusters that were removed and added again under their names.

    Args:
        central: its address.
        clusters: ids by name, as central has them now.
    """
    for name, cluster_id in clusters.items():
        cached = load(central, name)
        bound = _bound_to(cached.token) if cached is not None else ""
        if bound and bound != cluster_id:
            _file(central, name).unlink(missing_ok=True)


def _bound_to(token: str) -> str:
    """Return the id of the cluster that a token names, "" if it names none that can be read."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return str(claims.get("cluster_id", ""))
    except (IndexError, ValueError, AttributeError):
        return ""


def clear(central: str) -> None:
    """Forget every access token of this central (logout, or a login as somebody else)."""
    for pattern in ("*.json", "*.asked"):
        for path in central_directory(central).glob(pattern):
            path.unlink(missing_ok=True)
