"""The API server stub: nginx with HTTP/2 and HTTP/1.1 over TLS, static answers of known length."""

import json
from dataclasses import dataclass
from pathlib import Path

from tests.bench.relay.certificates import Certificates
from tests.bench.relay.launch import Services, needed, own_port, wait_for_socket
from tests.bench.relay.targets import BODY_BYTES, BULK_BYTES, LIST_ITEMS, LONG_BYTES, Target

TOKEN = "stub-token"
VERSION = {"major": "1", "minor": "30", "gitVersion": "v1.30.0-stub"}

NGINX_FRAME = """
user root;
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 19000; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 3600s;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  {content}
}}
"""
_SERVER = """
  open_file_cache max=10 inactive=1h;
  server {{
    listen 127.0.0.1:{port} ssl http2 backlog=4096;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    # an API server takes AES-128 with every client, so no peer may pay for the longer key here
    ssl_prefer_server_ciphers on;
    ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384;
    http2_max_concurrent_streams 20000;
    http2_chunk_size 16k;
    output_buffers 2 256k;
    default_type application/json;
    location = /version {{ return 200 '{version}'; }}
    location = /api/v1/namespaces/default/configmaps/bulk {{ alias {folder}/bulk; }}
    location = /api/v1/namespaces/default/configmaps/long {{ alias {folder}/long; }}
    location = /api/v1/configmaps {{ alias {folder}/list; }}
    location /api/v1/namespaces/default/configmaps/ {{ return 200 '{body}'; }}
    location /api/v1/namespaces/default/pods {{
      proxy_pass http://unix:{folder}/streams.sock;
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $hop_connection;
      proxy_buffering off;
      proxy_read_timeout 3600s;
    }}
  }}
  map $http_upgrade $hop_connection {{ "" ""; default "Upgrade"; }}
"""


@dataclass(frozen=True, slots=True)
class Stub:
    """A running stub."""

    port: int
    authority: Path

    @property
    def url(self) -> str:
        """Its address."""
        return f"https://localhost:{self.port}"


def small_body() -> str:
    """A ConfigMap of exactly BODY_BYTES bytes."""
    document = {
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "metadata": {"name": "item", "namespace": "default"},
        "data": {"fill": ""},
    }
    missing = BODY_BYTES - len(json.dumps(document, separators=(",", ":")))
    document["data"] = {"fill": "x" * missing}
    return json.dumps(document, separators=(",", ":"))


def large_list() -> str:
    """A ConfigMapList of LIST_ITEMS objects, every second one in the namespace default."""
    items = [
        {
            "metadata": {
                "name": f"item-{number}",
                "namespace": "other" if number % 2 else "default",
                "uid": f"00000000-0000-0000-0000-{number:012}",
                "resourceVersion": str(100_000 + number),
            },
            "data": {"fill": "x" * 700},
        }
        for number in range(LIST_ITEMS)
    ]
    document = {
        "kind": "ConfigMapList",
        "apiVersion": "v1",
        "metadata": {"resourceVersion": "200000"},
        "items": items,
    }
    return json.dumps(document, separators=(",", ":"))


def start_nginx(services: Services, name: str, folder: Path, content: str, port: int) -> int:
    """An nginx with this http block; its pid."""
    folder.mkdir()
    config = folder / "nginx.conf"
    config.write_text(NGINX_FRAME.format(folder=folder, content=content))
    command = [needed("nginx"), "-p", str(folder), "-c", str(config), "-e", "stderr"]
    return services.start(name, command, port=port)._process.pid


def start_stub(services: Services, certificates: Certificates) -> Stub:
    """Starts nginx and the helper for streams. Raises Missing without nginx."""
    folder = services.folder / "stub"
    port = own_port()
    content = _SERVER.format(
        port=port,
        certificate=certificates.certificate,
        key=certificates.key,
        version=json.dumps(VERSION),
        body=small_body(),
        folder=folder,
    )
    start_nginx(services, "stub", folder, content, port)
    with (folder / "bulk").open("wb") as bulk:
        bulk.write(b"0123456789abcdef" * (BULK_BYTES // 16))
    with (folder / "long").open("wb") as long:
        long.truncate(LONG_BYTES)
    (folder / "list").write_text(large_list())
    services.python("stub streams", "stub_streams", str(folder / "streams.sock"))
    wait_for_socket(folder / "streams.sock")
    return Stub(port, certificates.authority)


def direct(stub: Stub) -> Target:
    """The client asks the stub itself."""
    return Target("direct", ("127.0.0.1", stub.port), stub.authority, (TOKEN,))


def write_kubeconfig(file: Path, server: str, authority: Path, token: str) -> Path:
    """What an agent reaches an API server by."""
    file.touch(mode=0o600)
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "bench",
        "clusters": [
            {
                "name": "bench",
                "cluster": {"server": server, "certificate-authority": str(authority)},
            }
        ],
        "users": [{"name": "bench", "user": {"token": token}}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
    }
    file.write_text(json.dumps(document))
    return file
