"""What a hostile pod, an aggregated API or an API server sends: it costs its own stream alone."""

from collections.abc import Callable
from typing import Any

from mk8s_agent.wire import hpack_codec
from tests.attacks.attack import Attack, Check, Load, must
from tests.attacks.report import answers
from tests.attacks.stage import HTTP1, Stage
from tests.attacks.stub_answers import BOMB_MIB
from tests.attacks.wire import SMALL, Attacker, Tls, World, ask, request_frames

_POD = "/api/v1/namespaces/default/services/x/proxy/"
_LIST = "/api/v1/pods?limit=500&labelSelector="
_WATCH = "/api/v1/namespaces/default/pods?watch=true"


def _pod(mode: str, cluster: str = "", rate: float = 8) -> Callable[[Attacker], None]:
    """A backend's hostile answer, again and again, beside an open watch that must stay."""

    def act(attacker: Attacker) -> None:
        watch = attacker.http2(source="127.0.9.1")
        watching = watch.request(attacker.head(_WATCH, "reader", cluster=cluster))
        connection = attacker.http2(source="127.0.9.2")
        block = hpack_codec.block(attacker.head(_POD + mode, "dev", cluster=cluster))
        while attacker.pace(rate, "answers"):
            number = connection.stream()
            connection.send(request_frames(number, block))
            attacker.counts.requests += 1
            if connection.wait(number, 5.0) == "silent":
                attacker.counts.answers["no answer in 5 s"] += 1
        watch.drain(0.2)
        kept = watching not in watch.ended
        attacker.counts.answers["watch kept" if kept else "watch ended"] += 1

    return act


def watch_kept(stage: Stage, counts: dict[str, Any]) -> str:
    """The watch beside it lives."""
    must("watch ended" not in counts["answers"], f"another watch was ended; {answers(counts)}")
    return answers(counts)


def _filtered(mode: str, rate: float = 4) -> Callable[[Attacker], None]:
    """A list that is filtered for one who sees a namespace."""

    def act(attacker: Attacker) -> None:
        connection = attacker.http2({4: 1 << 20})
        block = hpack_codec.block(attacker.head(_LIST + mode, "narrow"))
        while attacker.pace(rate, "lists"):
            number = connection.stream()
            connection.send(request_frames(number, block))
            attacker.counts.requests += 1
            connection.wait(number, 20.0)

    return act


def _one(
    world: World, path: str, user: str = "dev", method: str = "GET", *lines: str
) -> tuple[str, bytes, Tls]:
    """A request over HTTP/1.1, and the connection to go on with."""
    attacker = Attacker(world, 30)
    made = attacker.tls(source="127.0.9.3")
    made.send(attacker.head1(path, user, *lines, method=method))
    status, data = made.answer(6.0)
    return status, data, made


_UPGRADES = {
    "websocket": (
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol: v5.channel.k8s.io",
    ),
    "SPDY": (
        "Connection: Upgrade",
        "Upgrade: SPDY/3.1",
        "X-Stream-Protocol-Version: v4.channel.k8s.io",
        "Content-Length: 0",
    ),
}


def refused_upgrade(stage: Stage) -> str:
    """CVE-2018-1002105: the API server refuses, the client sends a second request behind it."""
    told = []
    for mode in ("ok-1", "moved-1", "other-1"):
        for kind, lines in _UPGRADES.items():
            path = f"/api/v1/namespaces/default/pods/{mode}/exec?command=id"
            method = "GET" if kind == "websocket" else "POST"
            status, _data, made = _one(stage.world(), path, "dev", method, *lines)
            must(status != "101", f"{mode} by {kind}: 101 although the API server did not switch")
            marker = f"smuggled-{mode}-{kind.lower()}"
            smuggled = f"GET /api/v1/secrets?{marker} HTTP/1.1\r\nHost: x\r\n\r\n"
            try:
                made.send(smuggled.encode())
                made.answer(1.0)
            except OSError:
                pass
            made.close()
            must(not stage.reached(marker), f"{mode} by {kind}: the second request got through")
            told.append(f"{mode} by {kind}: {status}")
    return "; ".join(told) + "; no second request reached the cluster"


def other_protocols(stage: Stage) -> str:
    """Upgrades to anything but websocket and SPDY, and where there are none (golang/go#80416)."""
    told = []
    tries = [
        (SMALL, "h2c"),
        (SMALL, "websocket"),
        ("/api/v1/namespaces/default/pods/echo-1/exec?command=a", "h2c"),
        ("/api/v1/namespaces/default/pods/echo-1/exec?command=a", "TLS/1.3, websocket"),
        ("/version", "h2c"),
    ]
    for number, (path, token) in enumerate(tries):
        mark = f"{'&' if '?' in path else '?'}container=upgrade-{number}"
        lines = ("Connection: Upgrade", f"Upgrade: {token}", *_UPGRADES["websocket"][2:])
        status, _, made = _one(stage.world(), path + mark, "dev", "GET", *lines)
        made.close()
        must(status in ("400", "403"), f"Upgrade: {token} on {path}: {status}")
        must(not stage.reached(f"upgrade-{number}"), f"Upgrade: {token} on {path} got through")
        row = stage.row(f"upgrade-{number}")
        told.append(f"{token}: {status} {row.get('annotations', {}).get('mk8s.io/refusal', '')}")
    return "; ".join(told)


def read_only_exec(stage: Stage) -> str:
    """A role with get, list and watch asks for a shell over both transports."""
    told = []
    for kind, lines in _UPGRADES.items():
        method = "GET" if kind == "websocket" else "POST"
        path = f"/api/v1/namespaces/default/pods/echo-1/exec?command=shell-{kind.lower()}"
        status, _, made = _one(stage.world(), path, "reader", method, *lines)
        made.close()
        must(status == "403", f"{kind}: {status}")
        must(not stage.reached(f"shell-{kind.lower()}"), f"{kind} got through")
        told.append(f"{kind}: 403")
    return "; ".join(told)


def nodes_proxy(stage: Stage) -> str:
    """A role with everything is not a role with nodes/proxy or serviceaccounts/token."""
    world, told = stage.world(), []
    for path in (
        "/api/v1/nodes/n1/proxy/run/default/p/c?cmd=nodes-proxy",
        "/api/v1/nodes/n1/proxy/exec/default/p/c?command=nodes-proxy",
    ):
        status, _, _ = ask(world, "dev", "GET", world.target(path).decode())
        must(status == 403, f"{path}: {status}")
        told.append(f"nodes/proxy: {status}")
    path = "/api/v1/namespaces/default/serviceaccounts/builder/token"
    status, _, _ = ask(world, "dev", "POST", world.target(path).decode(), {"spec": {}})
    must(status == 403, f"serviceaccounts/token: {status}")
    must(not stage.reached("nodes-proxy"), "it got through")
    return "; ".join([*told, f"serviceaccounts/token: {status}"])


def presents(stage: Stage) -> str:
    """Cookies, alternative services and redirects of a pod, on central's own origin."""
    world = stage.world()
    status, named, _ = ask(world, "dev", "GET", world.target(f"{_POD}gives-cookies-1").decode())
    bad = {"set-cookie", "alt-svc", "strict-transport-security", "refresh"} & set(named)
    must(not bad, f"these reached the client: {', '.join(sorted(bad))}")
    moved, named, _ = ask(world, "dev", "GET", world.target("/api/v1/pods/redirects-1").decode())
    location = named.get("location", "")
    must(
        "169.254" not in location, f"a redirect of the API server to {location} reached the client"
    )
    return f"{status} without the cookie and the others; a redirect elsewhere: {moved}"


def no_401(stage: Stage) -> str:
    """A 401 of the API server would make kubectl throw its good token away."""
    world, told = stage.world(), []
    for cluster in ("prod", "plain"):
        target = world.target("/api/v1/namespaces/default/configmaps/unauthorized-1", cluster)
        status, _, _ = ask(world, "dev", "GET", target.decode())
        must(status != 401, f"{cluster}: 401")
        told.append(f"{cluster}: {status}")
    return "; ".join(told)


ATTACKS: tuple[Attack, ...] = (
    Load("pod-huge-head", "12", "a pod's head of 600 KiB", _pod("huge-head-600"), judge=watch_kept),
    Load(
        "pod-huge-head-h1",
        "12",
        "the same over HTTP/1.1",
        _pod("huge-head-600", HTTP1),
        judge=watch_kept,
    ),
    Load(
        "pod-many-fields",
        "12",
        "a pod's head of 20,000 fields",
        _pod("fields-20000"),
        judge=watch_kept,
    ),
    Load(
        "pod-informational",
        "12",
        "200,000 informational answers",
        _pod("informational-200000", rate=1),
        judge=watch_kept,
    ),
    Load(
        "pod-informational-h1",
        "12",
        "the same over HTTP/1.1",
        _pod("informational-200000", HTTP1, rate=1),
        judge=watch_kept,
    ),
    Load(
        "pod-huge-trailers",
        "12, C6",
        "trailers of 600 KiB",
        _pod("huge-trailers-600"),
        judge=watch_kept,
    ),
    Load(
        "pod-huge-trailers-h1",
        "12, C6",
        "the same over HTTP/1.1",
        _pod("huge-trailers-600", HTTP1),
        judge=watch_kept,
    ),
    Load(
        "list-deep-braces",
        "15",
        "a filtered object of 2,000,000 braces",
        _filtered("deep-2000000", rate=1),
    ),
    Load(
        "list-brackets",
        "15",
        "a filtered object of 2,000,000 brackets",
        _filtered("brackets-2000000", rate=1),
    ),
    Load(
        "list-one-object",
        "15, D8",
        "a filtered list of one object of 64 MiB",
        _filtered("one-1024", rate=1),
    ),
    Load(
        "list-metadata",
        "15, D8",
        "metadata of 64 MiB before a filtered list",
        _filtered("metadata-1024", rate=1),
    ),
    Load(
        "list-gzip-bomb",
        "D11",
        "a filtered list that is 64 MiB once unpacked",
        _filtered(f"bomb-{BOMB_MIB}", rate=2),
    ),
    Check(
        "upgrade-refused",
        "B1, B2",
        "a second request behind an upgrade that was refused",
        refused_upgrade,
    ),
    Check("upgrade-protocols", "B4", "upgrades to h2c and the like", other_protocols),
    Check("upgrade-read-only", "B5", "a shell for a role that may only read", read_only_exec),
    Check("nodes-proxy", "B6", "nodes/proxy and serviceaccounts/token by wildcards", nodes_proxy),
    Check("pod-presents", "A13, B3, C6", "cookies and redirects of a pod", presents),
    Check("apiserver-401", "A15", "the API server refuses the agent's own token", no_401),
)
