"""A real kube-apiserver as the upstream: started by the command in MK8S_TEST_CLUSTER.

Product, Go tunnel and the direct client all come with the token of one ServiceAccount, so that the
API server does the same authentication for each.
"""

import http.client
import json
import os
import shlex
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from tests.bench.relay.launch import Missing
from tests.bench.relay.peers import Upstream
from tests.bench.relay.stub import small_body
from tests.bench.relay.targets import PATHS
from tests.support.cluster import COMMAND, START_SECONDS, STOP_SECONDS

NAME = "mk8s-bench"
ACCOUNT = "mk8s-bench"
_CORE = "/api/v1/namespaces/default"
_RBAC = "/apis/rbac.authorization.k8s.io/v1"


class Administrator:
    """The cluster's own administrator, by client certificate."""

    def __init__(self, kubeconfig: Path) -> None:
        document = yaml.safe_load(kubeconfig.read_text())
        cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
        self.server: str = cluster["server"]
        self.authority = Path(cluster["certificate-authority"])
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.load_verify_locations(self.authority)
        self._context.load_cert_chain(user["client-certificate"], user["client-key"])

    def create(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        """POSTs an object; the answer."""
        url = urlsplit(self.server)
        assert url.hostname
        connection = http.client.HTTPSConnection(
            url.hostname, url.port, context=self._context, timeout=30
        )
        try:
            headers = {"Content-Type": "application/json"}
            connection.request("POST", path, json.dumps(document), headers)
            answer = connection.getresponse()
            content = answer.read()
            if answer.status not in (200, 201):
                raise Missing(f"the API server answered {answer.status}: {content[:300]!r}")
            created: dict[str, Any] = json.loads(content)
            return created
        finally:
            connection.close()


@contextmanager
def api_server() -> Iterator[Upstream]:
    """A control plane with 200 ConfigMaps of 2 KB. Raises Missing where none can be started."""
    if COMMAND not in os.environ:
        raise Missing(f"no real API server: {COMMAND} is not set (deploy/docs/development.md)")
    command = shlex.split(os.environ[COMMAND])
    stop = [*command, "down", NAME]
    subprocess.run(stop, stdin=subprocess.DEVNULL, check=True, timeout=STOP_SECONDS)
    try:
        up = [*command, "up", NAME]
        started = subprocess.run(
            up, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=START_SECONDS
        )
        if started.returncode:
            raise Missing(f"no real API server: {started.stdout}{started.stderr}")
        yield _furnish(Administrator(Path(started.stdout.split()[-1])))
    finally:
        subprocess.run(stop, stdin=subprocess.DEVNULL, check=True, timeout=STOP_SECONDS)


def _furnish(administrator: Administrator) -> Upstream:
    create = administrator.create
    create(f"{_CORE}/serviceaccounts", {"metadata": {"name": ACCOUNT}})
    account = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": "default"}
    groups = [
        {"kind": "Group", "name": name, "apiGroup": "rbac.authorization.k8s.io"}
        for name in ("mk8s:users", "team-3", "team-4")
    ]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    create(
        f"{_RBAC}/clusterrolebindings",
        {"metadata": {"name": ACCOUNT}, "roleRef": role, "subjects": [account, *groups]},
    )
    body = json.loads(small_body())
    for number in range(PATHS):
        create(f"{_CORE}/configmaps", body | {"metadata": {"name": f"item-{number:03}"}})
    asked = {"spec": {"expirationSeconds": 86400}}
    token = create(f"{_CORE}/serviceaccounts/{ACCOUNT}/token", asked)["status"]["token"]
    port = urlsplit(administrator.server).port or 443
    return Upstream(port, administrator.authority, token)
