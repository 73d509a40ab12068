"""Which ExecCredential version our kubeconfig entries name, for callers that do not say it.

Written with the kubeconfig, read by `get-token` when KUBERNETES_EXEC_INFO is not set (client-go
always sets it, fabric8 never does, and both refuse an answer of another version than the entry's).
`cached_token.py` reads the same file for the fast path.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from mk8s_cli.login.exec_credential import KUBECONFIG_VERSION, VERSIONS
from mk8s_cli.login.token_cache import central_directory, home_directory
from mk8s_cli.terminal.errors import CliError, Unwritable
from mk8s_cli.terminal.private_files import ensure_directory, read_private, write_private


def _file(central: str) -> Path:
    """Not in the cache, which people delete: what a kubeconfig says cannot be made anew here."""
    return home_directory() / "exec-versions" / central_directory(central).name


def named_for(central: str, cluster: str) -> str:
    """Return the version that the entry of `cluster` names; the oldest if that is not known."""
    try:
        content = read_private(_file(central))
        version = json.loads(content).get(cluster) if content else None
    except (CliError, ValueError, AttributeError):  # CliError: there is no home
        version = None
    return version if version in VERSIONS else KUBECONFIG_VERSION


def note(central: str, versions: Mapping[str, str]) -> None:
    """Remember the version (full apiVersion) of each cluster's entry."""
    path = _file(central)
    # Where it cannot be kept the oldest version is answered: what client-go asks for is not.
    with suppress(Unwritable):
        ensure_directory(path.parent)
        write_private(path, json.dumps(dict(versions)).encode())
