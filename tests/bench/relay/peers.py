"""The peers: nginx and haproxy as one hop without authentication, the Go tunnel, a Go proxy.

Each is started by one function that gives a `Target`, or raises Missing with the reason why the
peer cannot take part on this machine.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.relay.certificates import Certificates, go_token
from tests.bench.relay.launch import Missing, Services, needed, own_port
from tests.bench.relay.product import LIFETIME
from tests.bench.relay.stub import TOKEN, start_nginx
from tests.bench.relay.targets import USERS, Target
from tests.support.processes import Program, run

GO_TUNNEL = "MK8S_BENCH_GO_TUNNEL"
"""Names the program that `go-tunnel/build` makes."""

_NGINX = """
  upstream stub {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} ssl http2 backlog=4096;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    http2_max_concurrent_streams 1000;
    location / {{
      proxy_pass https://stub;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host localhost;
      proxy_ssl_verify on;
      proxy_ssl_trusted_certificate {authority};
      proxy_ssl_name localhost;
      proxy_buffering off;
    }}
  }}
"""
_HAPROXY = """
global
  nbthread 1
  maxconn 8000
  tune.h2.max-concurrent-streams 1000
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  http-reuse always
frontend http2
  bind 127.0.0.1:{port} ssl crt {both} alpn h2
  default_backend http2
backend http2
  server stub 127.0.0.1:{upstream} ssl verify required ca-file {authority} sni str(localhost) alpn h2
frontend http1
  bind 127.0.0.1:{port_http1} ssl crt {both} alpn http/1.1
  default_backend http1
backend http1
  server stub 127.0.0.1:{upstream} ssl verify required ca-file {authority} sni str(localhost) alpn http/1.1
"""  # noqa: E501  haproxy has no line continuation


@dataclass(frozen=True, slots=True)
class Upstream:
    """The API server that peers forward to."""

    port: int
    authority: Path
    token: str = TOKEN


def nginx(services: Services, certificates: Certificates, upstream: Upstream) -> Target:
    """One hop, h2 or http/1.1 to http/1.1."""
    port = own_port()
    content = _NGINX.format(
        port=port,
        upstream=upstream.port,
        certificate=certificates.certificate,
        key=certificates.key,
        authority=upstream.authority,
    )
    pid = start_nginx(services, "nginx", services.folder / "nginx", content, port)
    address = ("127.0.0.1", port)
    return Target("nginx", address, certificates.authority, (upstream.token,), {"proxy": pid})


def haproxy(services: Services, certificates: Certificates, upstream: Upstream) -> Target:
    """One hop, h2 to h2; http/1.1 to http/1.1 on another port."""
    folder = services.folder / "haproxy"
    folder.mkdir()
    port, port_http1 = own_port(), own_port()
    config = folder / "haproxy.cfg"
    content = _HAPROXY.format(
        port=port,
        port_http1=port_http1,
        upstream=upstream.port,
        both=certificates.both,
        authority=upstream.authority,
    )
    config.write_text(content)
    command = [needed("haproxy"), "-db", "-f", str(config)]
    pid = services.start("haproxy", command, port=port)._process.pid
    return Target(
        "haproxy",
        ("127.0.0.1", port),
        certificates.authority,
        (upstream.token,),
        {"proxy": pid},
        address_http1=("127.0.0.1", port_http1),
    )


def go_tunnel_program() -> str:
    """The Go tunnel's program. Raises Missing."""
    program = os.environ.get(GO_TUNNEL, "")
    if not program:
        raise Missing(f"{GO_TUNNEL} does not name the program (go-tunnel/build makes it)")
    if not os.access(program, os.X_OK):
        raise Missing(f"{GO_TUNNEL}: {program} cannot be executed")
    return program


def go_tunnel(
    services: Services,
    certificates: Certificates,
    upstream: Upstream,
    *,
    name: str = "go-tunnel",
    gogc: int = 100,
) -> "GoTunnel":
    """A Go central with an agent that holds one tunnel."""
    program = go_tunnel_program()
    folder = services.folder / name
    folder.mkdir()
    _share(certificates, folder, upstream.authority)
    port, tunnel_port = own_port(), own_port()
    environment = services.plain(BENCH_DIR=str(folder), GOGC=str(gogc), AGENT_TOKEN=upstream.token)
    listen, dial = f"127.0.0.1:{port}", f"127.0.0.1:{tunnel_port}"
    central = services.start(
        f"{name} central", [program, "central", listen, dial], port=port, environment=environment
    )
    people = [f"user-{number}@example.com" for number in range(USERS)]
    tokens = [go_token(certificates.go_key, person, LIFETIME) for person in people]
    tunnel = GoTunnel(services, environment, dial, upstream.port)
    pids = {"central": central._process.pid, "agent": tunnel.dial(name, 1)._process.pid}
    tunnel.target = Target(name, ("127.0.0.1", port), certificates.authority, tokens, pids)
    return tunnel


@dataclass
class GoTunnel:
    """A running Go tunnel, to which more tunnels can be dialled."""

    services: Services
    environment: dict[str, str]
    address: str
    upstream: int
    target: Target = field(init=False)

    def dial(self, name: str, tunnels: int) -> Program:
        """An agent with so many tunnels."""
        url = f"https://localhost:{self.upstream}"
        command = [go_tunnel_program(), "agent", self.address, url, str(tunnels)]
        return self.services.start(f"{name} agent", command, environment=self.environment)


def _share(certificates: Certificates, folder: Path, upstream_authority: Path) -> None:
    for name in ("central.crt", "central.key", "jwt.pub"):
        (folder / name).symlink_to(certificates.folder / name)
    both = certificates.authority.read_bytes()
    if upstream_authority != certificates.authority:
        both += upstream_authority.read_bytes()
    (folder / "ca.crt").write_bytes(both)


def go_proxy(services: Services, certificates: Certificates, upstream: Upstream) -> Target:
    """One hop by Go's own httputil.ReverseProxy, built from go_proxy.go beside this file."""
    go = needed("go")
    folder = services.folder / "go-proxy"
    folder.mkdir()
    source = Path(__file__).with_name("go_proxy.go")
    program = folder / "go-proxy"
    environment = services.plain(GO111MODULE="off", GOFLAGS="", GOCACHE=str(folder / "cache"))
    run([go, "build", "-o", program, source], environment, seconds=300)
    port = own_port()
    command: list[str | Path] = [
        program, f"127.0.0.1:{port}", f"https://localhost:{upstream.port}",
        certificates.certificate, certificates.key, upstream.authority,
    ]  # fmt: skip
    pid = services.start("go-proxy", command, port=port)._process.pid
    address = ("127.0.0.1", port)
    return Target("go-proxy", address, certificates.authority, (upstream.token,), {"proxy": pid})
