"""The rows of the table: every operation by its key, in order. Clients implement keys."""

from typing import NamedTuple


class Chapter(NamedTuple):
    """Rows that belong together."""

    title: str
    rows: dict[str, str]


REAL = (
    Chapter(
        "Reading",
        {
            "get-table": "get and list as tables",
            "get-json": "get and list as JSON and YAML",
            "get-wide": "get -o wide, custom columns, sorting",
            "selectors": "label and field selectors",
            "describe": "describe",
            "watch": "watch",
            "informer": "informer: list, watch, bookmarks",
            "informer-restart": "informer through the agent's end and restart",
            "pagination": "pagination (limit, continue)",
            "gzip": "large list, gzip",
            "get-raw": "raw paths",
        },
    ),
    Chapter(
        "Writing",
        {
            "create": "create",
            "protobuf": "protobuf bodies (typed client-go)",
            "cbor": "CBOR bodies, or the way back to JSON",
            "apply-client": "client-side apply",
            "apply-server": "server-side apply and its conflicts",
            "patch": "strategic, merge and JSON patch",
            "replace": "replace, conflict of versions",
            "label": "label, annotate, edit",
            "dry-run": "dry run, server and client",
            "delete": "delete",
            "delete-collection": "deletecollection",
            "large-body": "3 MiB body",
            "custom-resource": "CRD: create, use, remove",
            "aggregated": "aggregated API",
            "scale": "scale",
            "rollout": "rollout status, history, restart, undo",
            "eviction": "eviction",
            "csr": "certificate signing request, approval",
            "leader-election": "leader election (Lease)",
            "token": "ServiceAccount token",
        },
    ),
    Chapter(
        "Pods",
        {
            "logs": "logs, tail, since",
            "logs-follow": "logs -f",
            "exec": "exec: output, errors, exit code",
            "exec-stdin": "exec -i: stdin to the end",
            "exec-tty": "exec -it in a terminal, resize",
            "exec-large": "exec: 8 MiB of output",
            "attach": "attach",
            "cp": "cp both ways",
            "port-forward": "port-forward",
            "run": "run --rm -i",
            "debug": "debug",
            "top": "top",
            "pod-proxy": "pod proxy subresource",
        },
    ),
    Chapter(
        "Access and discovery",
        {
            "can-i": "auth can-i",
            "can-i-list": "auth can-i --list",
            "whoami": "auth whoami",
            "impersonation": "--as where a role allows it, with group and uid",
            "impersonation-refused": "--as where nothing allows it",
            "token-review": "TokenReview",
            "api-resources": "api-resources, api-versions, version",
            "explain": "explain",
            "proxy": "kubectl proxy",
            "events": "events",
        },
    ),
    Chapter(
        "Errors",
        {
            "error-404": "404: no such object, no such resource",
            "error-409": "409: exists already, conflict",
            "error-422": "422: invalid object",
            "error-400": "400, 405, 406, 415: senseless requests",
        },
    ),
    Chapter(
        "Addressing and credentials (small set: get, watch, create, exec, raw path)",
        {
            "by-path": "path, exec plugin",
            "by-host": "wildcard host, exec plugin",
            "by-token": "token alone, exec plugin",
            "static-token": "path, static bearer token",
        },
    ),
    Chapter(
        "Tools",
        {
            "helm-release": "helm install, upgrade, rollback, uninstall",
            "helm-read": "helm list, status, history, get",
            "k9s-start": "k9s: its checks at the start, its pods view",
            "k9s-use": "k9s: filter, description, logs",
        },
    ),
)
NEWER = Chapter(
    "What newer API servers have",
    {
        "new-discovery": "aggregated discovery",
        "new-read": "get, describe",
        "new-watch-list": "WatchList: initial events in the watch",
        "new-exec": "exec: output, stdin, exit code; WebSocket v5 since kubectl 1.30",
        "new-exec-tty": "exec -it; WebSocket v5 since kubectl 1.30",
        "new-cp": "cp both ways; WebSocket v5 since kubectl 1.30",
        "new-port-forward": "port-forward; WebSocket since kubectl 1.31",
        "new-write": "create, apply both ways, patch, delete",
        "new-whoami": "auth whoami, can-i",
        "new-can-i-list": "auth can-i --list",
    },
)
"""Run against the built-in API server where the real one is too old for them."""
NEWER_SINCE = (1, 33)
"""The real API server that has all of it."""
CHAPTERS = (*REAL, NEWER)
NEEDS_NODE = frozenset(
    {"watch", "rollout", "proxy", "events", "get-json", "impersonation", "by-path", "by-host",
     "by-token", "static-token", "k9s-start", "k9s-use",
     *next(chapter.rows for chapter in REAL if chapter.title == "Pods")}
)  # fmt: skip
"""Rows that need a pod that runs."""
ALONE = frozenset({"custom-resource", "aggregated", "api-resources", "proxy", "informer-restart"})
"""Rows whose two runs would see each other, in discovery or by the agent: one after the other."""
NO_OPERATION = "the client has no such operation"
"""Why a cell is empty without more to say."""
USES = {
    "get-json": "list",
    "watch": "watch",
    "informer-restart": "informer, agent restarted",
    "exec": "exec",
    "port-forward": "port-forward",
    "apply-server": "server-side apply",
    "leader-election": "leader election",
}
"""What programs are made of: the rows of the short table, and their words in it."""
TITLES = {key: title for chapter in CHAPTERS for key, title in chapter.rows.items()}
