"""Which version of the credential plugin's API an entry names: v1 where everybody speaks it.

Called when entries are written. `client.authentication.k8s.io/v1` came with Kubernetes 1.22;
v1beta1 is understood by every kubectl so far. A person can choose (`--exec-version`).
"""

import json
import os
import re
import shutil
import subprocess

from mk8s_cli.login.exec_credential import GROUP, KUBECONFIG_VERSION

V1 = f"{GROUP}/v1"
V1_SINCE = (1, 22)
ASK_SECONDS = 3.0

_RELEASE = re.compile(r"v?([0-9]{1,3})\.([0-9]{1,4})")


def choose(asked: str, cluster_version: str, kubectl_version: str) -> str:
    """Return the apiVersion for one entry.

    Args:
        asked: "v1" or "v1beta1" if the person chose, else "".
        cluster_version: what the cluster's agent reports, as "v1.32.4"; "" while unknown.
        kubectl_version: that of the kubectl on PATH; "" where there is none.
    """
    if asked:
        return f"{GROUP}/{asked}"
    client, cluster = _release(kubectl_version), _release(cluster_version)
    is_new = client is not None and client >= V1_SINCE
    is_new = is_new and (cluster is None or cluster >= V1_SINCE)
    return V1 if is_new else KUBECONFIG_VERSION


def kubectl_version() -> str:
    """Return the version of the kubectl on PATH, as "v1.32.4"; "" if it cannot be told."""
    program = shutil.which("kubectl")
    if program is None:
        return ""
    command = [program, "version", "--client", "-o", "json"]
    # Without a cluster: some builds of kubectl ask the current one even for this.
    nowhere = {**os.environ, "KUBECONFIG": os.devnull}
    try:
        done = subprocess.run(
            command,
            env=nowhere,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ASK_SECONDS,
            check=False,
        )
        version = json.loads(done.stdout)["clientVersion"]["gitVersion"]
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError):
        return ""
    return str(version)


def _release(version: str) -> tuple[int, int] | None:
    found = _RELEASE.match(version)
    return (int(found[1]), int(found[2])) if found else None
