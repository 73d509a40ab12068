"""An extension API server of a few lines: what an APIService of the real cluster leads to.

It has one kind, Echo, whose only object tells the user that the API server's aggregation layer says
it speaks for; so the whole chain of identities is compared. The API server finds it by a service of
type ExternalName, which works where both run on one machine.
"""

import contextlib
import json
import re
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trustme

HOST = "localhost"
RESOURCES = re.compile(r"/apis/([^/?]+)/v1(?:\?.*)?")
ECHOES = re.compile(r"/apis/([^/]+)/v1/namespaces/([^/]+)/echoes(/only)?(?:\?.*)?")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Discovery, a list of one, or the one."""
        if found := RESOURCES.fullmatch(self.path):
            self._answer(200, resources(found[1]))
        elif found := ECHOES.fullmatch(self.path):
            echo = self._echo(found[1], found[2])
            version = {"kind": "EchoList", "apiVersion": f"{found[1]}/v1", "metadata": {}}
            self._answer(200, echo if found[3] else {**version, "items": [echo]})
        else:
            status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404}
            self._answer(404, {**status, "reason": "NotFound", "message": "nothing here"})

    def _echo(self, group: str, namespace: str) -> dict[str, Any]:
        """The object: who asks."""
        told = {
            "user": self.headers.get("X-Remote-User"),
            "groups": sorted(self.headers.get_all("X-Remote-Group") or []),
            "authorization": "Authorization" in self.headers,
        }
        metadata = {"name": "only", "namespace": namespace}
        return {"kind": "Echo", "apiVersion": f"{group}/v1", "metadata": metadata, "told": told}

    def _answer(self, code: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Silence: the runner compares what clients see."""


def resources(group: str) -> dict[str, Any]:
    """The discovery document of a group."""
    echoes = {"name": "echoes", "singularName": "echo", "namespaced": True, "kind": "Echo",
              "verbs": ["get", "list"]}  # fmt: skip
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/v1",
        "resources": [echoes],
    }


def registration(group: str, namespace: str, port: int) -> str:
    """The Service and the APIService that lead here, as one List."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "extension", "namespace": namespace},
        "spec": {"type": "ExternalName", "externalName": HOST, "ports": [{"port": port}]},
    }
    registered = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"v1.{group}"},
        "spec": {
            "group": group,
            "version": "v1",
            "groupPriorityMinimum": 1000,
            "versionPriority": 10,
            "insecureSkipTLSVerify": True,
            "service": {"name": "extension", "namespace": namespace, "port": port},
        },
    }
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [service, registered]})


@contextlib.contextmanager
def extension_api(folder: Path) -> Iterator[int]:
    """The server's port, for the length of the block."""
    pem = folder / "extension.pem"
    pem.write_bytes(trustme.CA().issue_cert(HOST).private_key_and_cert_chain_pem.bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()
