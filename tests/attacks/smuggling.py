"""Heads that two parsers read differently, identities that clients give themselves: all refused.

Each is sent with a token of somebody who may do everything, so that it is the head that is refused:
with its own reason in the audit, and nothing at the cluster.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from mk8s_agent.wire import hpack_codec
from tests.attacks.attack import Attack, Check, must
from tests.attacks.stage import Stage, wait_until
from tests.attacks.wire import Attacker, World, ask, request_frames

_PATH = "/api/v1/namespaces/default/configmaps"
_SMUGGLED = "GET /api/v1/secrets?smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Head:
    """A head over HTTP/1.1: `{target}` and `{token}` are put in; the reasons that are right."""

    name: str
    raw: str
    reasons: tuple[str, ...]
    code: str = "400"
    has_row: bool = True
    """Its target can be read, so that its row is found by it."""


def _get(*lines: str, method: str = "GET", end: str = "\r\n") -> str:
    first = [f"{method} {{target}} HTTP/1.1", "Host: localhost", "Authorization: Bearer {token}"]
    return end.join((*first, *lines)) + end + end


def _post(*lines: str, body: str = "") -> str:
    return _get(*lines, method="POST") + body


CHUNK = "2\r\n{{}}\r\n0\r\n\r\n"
BODIES = (
    Head(
        "CL.TE",
        _post("Content-Length: 6", "Transfer-Encoding: chunked", body="0\r\n\r\nG"),
        ("CL_TE",),
    ),
    Head(
        "TE.CL",
        _post("Transfer-Encoding: chunked", "Content-Length: 4", body="5c\r\nGPOST"),
        ("CL_TE",),
    ),
    Head(
        "two TEs",
        _post("Transfer-Encoding: chunked", "Transfer-Encoding: identity", body=CHUNK),
        ("TE", "DUP_HEADER"),
    ),
    Head("TE xchunked", _post("Transfer-Encoding: xchunked", body=CHUNK), ("TE",)),
    Head("TE with a tab", _post("Transfer-Encoding:\tchunked, identity", body=CHUNK), ("TE",)),
    Head(
        "TE name with a space",
        _post("Transfer-Encoding : chunked", body=CHUNK),
        ("BAD_HEADER_NAME", "BAD_HEADER"),
    ),
    Head("TE gzip, chunked", _post("Transfer-Encoding: gzip, chunked", body=CHUNK), ("TE",)),
    Head(
        "two CLs, equal",
        _post("Content-Length: 2", "Content-Length: 2", body="{{}}"),
        ("CL", "DUP_HEADER"),
    ),
    Head(
        "two CLs",
        _post("Content-Length: 2", "Content-Length: 9", body="{{}}"),
        ("CL", "DUP_HEADER"),
    ),
    Head("CL: 2,2", _post("Content-Length: 2,2", body="{{}}"), ("CL",)),
    Head("CL: +2", _post("Content-Length: +2", body="{{}}"), ("CL",)),
    Head("CL: 0x2", _post("Content-Length: 0x2", body="{{}}"), ("CL",)),
    Head("CL of 30 digits", _post("Content-Length: 999999999999999999999999999999"), ("CL",)),
    Head("GET with chunks", _get("Transfer-Encoding: chunked"), ("BODY_ON_GET",)),
    Head("GET with a long body", _get("Content-Length: 100000"), ("BODY_ON_GET",)),
)
LINES = (
    Head("bare LF", _get(end="\n"), ("BARE_LF", "REQUEST_LINE")),
    Head("bare CR", _get("X: a\rY: b"), ("BARE_CR",)),
    Head("obs-fold", _get("X: a", " b"), ("OBS_FOLD",)),
    Head("obs-fold of Impersonate-User", _get("X: a", "\tImpersonate-User: admin"), ("OBS_FOLD",)),
    Head("NUL in a value", _get("X: a\0b"), ("BAD_HEADER_VALUE",)),
    Head("no colon", _get("X"), ("BAD_HEADER", "BAD_HEADER_NAME")),
    Head("empty name", _get(": a"), ("BAD_HEADER_NAME", "BAD_HEADER")),
    Head("space before the colon", _get("X : a"), ("BAD_HEADER_NAME", "BAD_HEADER")),
    Head("HTTP/1.0", _get().replace("HTTP/1.1", "HTTP/1.0"), ("HTTP_VERSION",)),
    Head("HTTP/1.2", _get().replace("HTTP/1.1", "HTTP/1.2"), ("HTTP_VERSION",)),
    Head("two Hosts", _get("Host: other"), ("HOST",)),
    Head("userinfo in Host", _get().replace("Host: localhost", "Host: a@localhost"), ("HOST",)),
    Head(
        "absolute form", _get().replace("{target}", "https://localhost{target}"), ("TARGET_FORM",)
    ),
    Head("CONNECT", _get(method="CONNECT"), ("METHOD",), "405"),
    Head("TRACE", _get(method="TRACE"), ("METHOD",), "405"),
    Head("lower-case get", _get(method="get"), ("METHOD", "REQUEST_LINE"), "40"),
)
IDENTITIES = (
    Head(
        "Connection: Impersonate-User",
        _get("Connection: close, Impersonate-User"),
        ("CONNECTION_OPTION",),
    ),
    Head("Connection: Authorization", _get("Connection: Authorization"), ("CONNECTION_OPTION",)),
    Head(
        "Connection: Content-Length",
        _get("Connection: keep-alive, Content-Length"),
        ("CONNECTION_OPTION",),
    ),
    Head("Impersonate-User: empty", _get("Impersonate-User: "), ("IMPERSONATION_",), "403"),
    Head(
        "Impersonate-User twice",
        _get("Impersonate-User: a@b.c", "Impersonate-User: "),
        ("IMPERSONATION_", "DUP_HEADER"),
        "40",
    ),
    Head(
        "Impersonate-Group: system:masters",
        _get("Impersonate-User: a@b.c", "Impersonate-Group: system:masters"),
        ("IMPERSONATION_",),
        "403",
    ),
    Head("Impersonate-Group alone", _get("Impersonate-Group: a"), ("IMPERSONATION_",), "403"),
    Head(
        "Impersonate-User: a ServiceAccount",
        _get("Impersonate-User: system:serviceaccount:a:b"),
        ("IMPERSONATION_",),
        "403",
    ),
    Head("Impersonate_User", _get("Impersonate_User: admin@example.com"), ("UNDERSCORE_HEADER",)),
    Head("Mk8s-Identity", _get("Mk8s-Identity: {{}}"), ("RESERVED_HEADER",)),
    Head("Authorization twice", _get("Authorization: Bearer other"), ("DUP_AUTHORIZATION",), "401"),
    Head("Basic", _get().replace("Bearer", "Basic"), ("BAD_AUTHORIZATION",), "401"),
    Head(
        "a token in the subprotocol, too",
        _get(
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.YQ, v5.channel.k8s.io",
        ),
        ("TWO_CREDENTIALS",),
        "401",
    ),
)
TARGETS = (
    ("%2F", "/api/v1/namespaces/default/pods/x%2Fexec", "ENC_SLASH"),
    ("%252F", "/api/v1/namespaces/default/pods/x%252Fexec", "ENC_PERCENT"),
    ("..", "/api/v1/namespaces/default/services/s/proxy/../../../secrets", "DOT_SEGMENT"),
    ("%2e%2e", "/api/v1/namespaces/default/services/s/proxy/%2e%2e/x", ""),
    ("//", "/api/v1/namespaces//secrets", "EMPTY_SEGMENT"),
    ("needless %70", "/api/v1/%70ods", "NEEDLESS_ENC"),
    ("%5C", "/api/v1/namespaces/a%5Cb/pods", "ENC_BACKSLASH"),
    ("backslash", "/api/v1\\pods", "RAW_ILLEGAL"),
    ("%23", "/api/v1/namespaces/default/pods/x%23", "ENC_HASH"),
    ("#", "/api/v1/namespaces/default/pods/x#/exec", "RAW_ILLEGAL"),
    ("%3F", "/api/v1/namespaces/default/pods/x%3Fa", "ENC_QUESTION"),
    (";", "/api/v1/namespaces/default;x/pods", "SEMICOLON"),
    ("%zz", "/api/v1/namespaces/%zz/pods", "BAD_PCT"),
    ("%0a", "/api/v1/namespaces/a%0ab/pods", "CONTROL"),
    ("%ff", "/api/v1/namespaces/%ff/pods", "BAD_UTF8"),
    ("?a;watch", "/api/v1/pods?a=1;watch=true", "SEMICOLON"),
    ("?watch twice", "/api/v1/pods?watch=0&watch=1", "DUP_PARAM"),
    ("?%zz", "/api/v1/pods?labelSelector=a%3Db%zz&watch=1", "BAD_PCT"),
    ("/proxy/ prefix", "/api/v1/proxy/namespaces/default/pods/x", ""),
    ("/watch/ with DELETE", "/api/v1/watch/namespaces/default/pods", ""),
)


def _heads(heads: Sequence[Head]) -> Callable[[Stage], str]:
    def act(stage: Stage) -> str:
        world = stage.world()
        marks = [f"{_PATH}/head-{zlib.crc32(head.name.encode()):x}" for head in heads]
        statuses = [_send(world, *it) for it in zip(heads, marks, strict=True)]
        told = []
        for head, mark, status in zip(heads, marks, statuses, strict=True):
            must(status.startswith(head.code), f"{head.name}: {status}")
            must(not stage.reached(mark), f"{head.name}: it reached the cluster")
            reason = _reason(stage, mark) if head.has_row else ""
            right = reason.startswith(head.reasons) or not head.has_row
            must(right, f"{head.name}: the row says {reason!r}, not {' or '.join(head.reasons)}")
            told.append(f"{head.name} {status} {reason}")
        must(not stage.reached("smuggled"), "a request behind a refused one reached the cluster")
        return f"{len(told)} heads refused: {'; '.join(told)}"

    return act


def _send(world: World, head: Head, mark: str) -> str:
    made = Attacker(world, 30).tls(source="127.0.9.4")
    path = world.target(mark).decode()
    filled = head.raw.format(target=path, token=world.tokens["dev"])
    made.send(filled.encode("latin-1") + _SMUGGLED.encode())
    status, _ = made.answer(5.0)
    made.close()
    return status


def _reason(stage: Stage, mark: str) -> str:
    annotations = stage.row(mark).get("annotations", {})
    return str(annotations.get("mk8s.io/refusal", ""))


def targets(stage: Stage) -> str:
    """Paths and queries that programs read differently, over HTTP/2."""
    world, told = stage.world(), []
    for name, path, _ in TARGETS:
        attacker = Attacker(world, 30)
        connection = attacker.http2(source="127.0.9.4")
        method = b"DELETE" if "DELETE" in name else b"GET"
        status = connection.wait(connection.request(attacker.head(path, "dev", method=method)), 5)
        connection.close()
        must(status in ("400", "403", "404"), f"{name}: {status}")
        told.append(f"{name} {status}")
    for name, path, reason in TARGETS:
        has_row = not reason or wait_until(partial(_is_row, stage, path, reason), 5)
        must(has_row, f"{name}: no row says {reason}")
    seen = [it for it in stage.seen()["last"] if "proxy/.." in it["target"] or "//" in it["target"]]
    must(not seen, f"reached the cluster: {seen}")
    return f"{len(told)} targets refused: {'; '.join(told)}"


def _is_row(stage: Stage, path: str, reason: str) -> bool:
    """Whether a row with this reason is about a target that begins like this one."""
    rows = stage.rows(f'"{reason}"')
    return any(path.partition("?")[0][:12] in str(row.get("requestURI", "")) for row in rows)


def pseudo_headers(stage: Stage) -> str:
    """HTTP/2 heads that would become another HTTP/1.1 head."""
    world, told = stage.world(), []
    good = Attacker(world, 30).head(f"{_PATH}/pseudo", "dev")
    path = dict(good)[b":path"]
    bad = {
        "a space in :path": [
            (n, path + b" HTTP/1.1\r\nX: y") if n == b":path" else (n, v) for n, v in good
        ],
        "a space in :method": [(n, b"GET /x") if n == b":method" else (n, v) for n, v in good],
        "no slash": [(n, path[1:]) if n == b":path" else (n, v) for n, v in good],
        "CONNECT": [(n, b"CONNECT") if n == b":method" else (n, v) for n, v in good],
        "two :path": [*good[:4], (b":path", b"/version"), *good[4:]],
        "pseudo behind a field": [*good, (b":path", b"/version")],
        "upper-case name": [*good, (b"X-Upper", b"1")],
        "CR LF in a value": [*good, (b"x", b"a\r\nImpersonate-User: admin")],
        "connection": [*good, (b"connection", b"close")],
        "transfer-encoding": [*good, (b"transfer-encoding", b"chunked")],
        "te: gzip": [*good, (b"te", b"gzip")],
        "content-length with END_STREAM": [*good, (b"content-length", b"5")],
        ":protocol": [*good[:4], (b":protocol", b"websocket"), *good[4:]],
    }
    before = len(stage.reached("pseudo"))
    for name, fields in bad.items():
        connection = Attacker(world, 30).http2(source="127.0.9.4")
        number = connection.stream()
        try:
            connection.send(request_frames(number, hpack_codec.block(fields)))
            status = connection.wait(number, 5)
        except OSError as error:
            status = str(error)[:40]
        connection.close()
        must(not status.startswith(("200", "silent")), f"{name}: {status}")
        told.append(f"{name} {status}")
    must(len(stage.reached("pseudo")) == before, "one of them reached the cluster")
    return f"{len(told)} heads refused: {'; '.join(told)}"


def chunk_extensions(stage: Stage) -> str:
    """A chunk extension of 300 bytes, and one whose line ends with a bare LF."""
    world, told = stage.world(), []
    for name, chunk in (
        ("300 bytes", f"2;{'a' * 300}\r\n{{}}\r\n0\r\n\r\n"),
        ("bare LF", "2;a\n{}\r\n0\r\n\r\n"),
        ("size with a sign", "+2\r\n{}\r\n0\r\n\r\n"),
        ("size over 64 bits", f"1{'0' * 17}\r\n{{}}\r\n0\r\n\r\n"),
    ):
        attacker = Attacker(world, 30)
        made = attacker.tls(source="127.0.9.4")
        lines = ("Transfer-Encoding: chunked", "Content-Type: application/json")
        head = attacker.head1(f"{_PATH}?chunks={len(told)}", "dev", *lines, method="POST")
        made.send(head + chunk.encode() + _SMUGGLED.encode())
        status, _ = made.answer(5.0)
        made.close()
        must(not status.startswith("2"), f"{name}: {status}")
        told.append(f"{name} {status}")
    must(not stage.reached("smuggled"), "a request behind one of them reached the cluster")
    return "; ".join(told)


_TRUE = (
    "X-Forwarded-For",
    "X-Real-Ip",
    "Cf-Connecting-Ip",
    "Client-Ip",
    "True-Client-Ip",
    "X-Client-Ip",
    "X-Cluster-Client-Ip",
    "Fastly-Client-Ip",
    "X-Envoy-External-Address",
    "X-Envoy-Original-Path",
    "X-Original-Url",
    "X-Rewrite-Url",
    "Forwarded",
    "Via",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Remote-User",
    "X-Remote-Group",
    "X-Remote-Extra-Scopes",
    "X-Http-Method-Override",
    "Cookie",
    "Proxy-Authorization",
)


def claims(stage: Stage) -> str:
    """What proxies say of a client, from the client itself; its own Audit-ID."""
    world, mark = stage.world(), "claims-198.51.100.7"
    forged = "11111111-2222-3333-4444-555555555555"
    given = dict.fromkeys(_TRUE, "198.51.100.7") | {"Audit-ID": forged}
    target = world.target(f"{_PATH}/{mark}").decode()
    status, _, _ = ask(world, "dev", "GET", target, None, **given)
    must(status == 200, f"the request itself got {status}")
    arrived = dict(stage.reached(mark)[-1]["headers"])
    passed = [name for name in _TRUE if arrived.get(name.lower()) == "198.51.100.7"]
    must(not passed, f"these reached the cluster as if true: {', '.join(passed)}")
    must(arrived.get("audit-id") != forged, "the client's Audit-ID reached the cluster")
    row = stage.row(mark)
    must("198.51.100.7" not in row["sourceIPs"], f"the row says {row['sourceIPs']}")
    must(row["auditID"] != forged, "the row has the client's id")
    return f"none of {len(_TRUE)} headers reached the cluster; sourceIPs is {row['sourceIPs']}"


def _check(name: str, point: str, what: str, act: Callable[[Stage], str]) -> Check:
    return Check(f"smuggling-{name}", point, what, act)


ATTACKS: tuple[Attack, ...] = (
    _check("bodies", "17, C1, C9", "CL, TE and both, and bodies of GET", _heads(BODIES)),
    _check("lines", "17, C2-C4", "lines that parsers end differently", _heads(LINES)),
    _check("chunks", "17, C2", "chunk extensions and sizes", chunk_extensions),
    _check(
        "pseudo-headers", "17, C5", "HTTP/2 heads that become other HTTP/1.1 heads", pseudo_headers
    ),
    _check("targets", "C7", "paths and queries that are read differently", targets),
    _check("identities", "A1-A8, A14", "identities that a client gives itself", _heads(IDENTITIES)),
    _check("claims", "19, A9-A13, C8", "proxies' headers and an Audit-ID of the client", claims),
)
