"""Table and PartialObjectMetadata forms of objects, as printed by `kubectl get`.

Used by `reads`; columns follow kubernetes/pkg/printers/internalversion/printers.go.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from mk8s_cli.demo_api.catalogue import Document, ResourceType

Column = tuple[str, str, Callable[[Document], Any]]
"""Name ("!" first: shown only by `-o wide`), type, value."""
META_VERSION = "meta.k8s.io/v1"


def dig(item: Any, path: str, default: Any = None) -> Any:
    """A value by dotted path."""
    for name in path.split("."):
        item = item.get(name) if isinstance(item, dict) else None
    return default if item is None else item


def age(moment: str | None) -> str:
    """Kubernetes's short duration since a time: 5s, 3m20s, 4h, 2d."""
    if not moment:
        return "<unknown>"
    seconds = max(0, int((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()))
    if seconds < 120:
        return f"{seconds}s"
    if seconds < 600:
        return f"{seconds // 60}m{seconds % 60}s" if seconds % 60 else f"{seconds // 60}m"
    if seconds < 3 * 3600:
        return f"{seconds // 60}m"
    return f"{seconds // 3600}h" if seconds < 48 * 3600 else f"{seconds // 86400}d"


def _field(path: str, default: Any = "<none>") -> Callable[[Document], Any]:
    return lambda item: dig(item, path, default)


def _count(path: str) -> Callable[[Document], int]:
    return lambda item: len(dig(item, path, ()))


def _joined(items: list[Any]) -> str:
    return ",".join(str(item) for item in items) or "<none>"


def _labels(path: str) -> Callable[[Document], str]:
    return lambda item: _joined([f"{key}={value}" for key, value in dig(item, path, {}).items()])


def _containers(key: str, path: str = "spec.template.spec.containers") -> Callable[[Document], str]:
    return lambda item: _joined([entry.get(key, "") for entry in dig(item, path, [])])


def _ready(item: Document) -> str:
    return f"{dig(item, 'status.readyReplicas', 0)}/{dig(item, 'spec.replicas', 1)}"


def _pod_ready(item: Document) -> str:
    statuses = dig(item, "status.containerStatuses", [])
    ready = sum(bool(entry.get("ready")) for entry in statuses)
    return f"{ready}/{len(dig(item, 'spec.containers', []))}"


def _pod_status(item: Document) -> str:
    return (
        "Terminating"
        if dig(item, "metadata.deletionTimestamp")
        else dig(item, "status.phase", "Unknown")
    )


def _restarts(item: Document) -> int:
    return sum(entry.get("restartCount", 0) for entry in dig(item, "status.containerStatuses", []))


def _ports(item: Document) -> str:
    ports = dig(item, "spec.ports", [])
    return _joined([f"{port['port']}/{port.get('protocol', 'TCP')}" for port in ports])


def _node_status(item: Document) -> str:
    conditions = dig(item, "status.conditions", [])
    ready = any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)
    unschedulable = ",SchedulingDisabled" if dig(item, "spec.unschedulable") else ""
    return ("Ready" if ready else "NotReady") + unschedulable


def _roles(item: Document) -> str:
    prefix = "node-role.kubernetes.io/"
    labels = dig(item, "metadata.labels", {})
    return _joined([key.removeprefix(prefix) for key in labels if key.startswith(prefix)])


def _node_address(item: Document) -> str:
    return _joined([entry["address"] for entry in dig(item, "status.addresses", [])[:1]])


def _object(item: Document) -> str:
    return f"{dig(item, 'involvedObject.kind', '').lower()}/{dig(item, 'involvedObject.name', '')}"


def _created(item: Document) -> str:
    return age(dig(item, "metadata.creationTimestamp"))


NAME: Column = ("Name", "string", _field("metadata.name"))
AGE: Column = ("Age", "string", _created)
WORKLOAD: list[Column] = [
    ("!Containers", "string", _containers("name")),
    ("!Images", "string", _containers("image")),
    ("!Selector", "string", _labels("spec.selector.matchLabels")),
]
COLUMNS: dict[str, list[Column]] = {
    "pods": [
        NAME,
        ("Ready", "string", _pod_ready),
        ("Status", "string", _pod_status),
        ("Restarts", "integer", _restarts),
        AGE,
        ("!IP", "string", _field("status.podIP")),
        ("!Node", "string", _field("spec.nodeName")),
        ("!Nominated Node", "string", _field("status.nominatedNodeName")),
        ("!Readiness Gates", "string", _field("spec.readinessGates")),
    ],
    "deployments.apps": [
        NAME,
        ("Ready", "string", _ready),
        ("Up-to-date", "string", _field("status.updatedReplicas", 0)),
        ("Available", "string", _field("status.availableReplicas", 0)),
        AGE,
        *WORKLOAD,
    ],
    "replicasets.apps": [
        NAME,
        ("Desired", "integer", _field("spec.replicas", 1)),
        ("Current", "integer", _field("status.replicas", 0)),
        ("Ready", "integer", _field("status.readyReplicas", 0)),
        AGE,
        *WORKLOAD,
    ],
    "statefulsets.apps": [NAME, ("Ready", "string", _ready), AGE, *WORKLOAD[:2]],
    "services": [
        NAME,
        ("Type", "string", _field("spec.type", "ClusterIP")),
        ("Cluster-IP", "string", _field("spec.clusterIP")),
        ("External-IP", "string", _field("spec.externalName")),
        ("Port(s)", "string", _ports),
        AGE,
        ("!Selector", "string", _labels("spec.selector")),
    ],
    "configmaps": [NAME, ("Data", "integer", _count("data")), AGE],
    "secrets": [
        NAME,
        ("Type", "string", _field("type", "Opaque")),
        ("Data", "integer", _count("data")),
        AGE,
    ],
    "serviceaccounts": [NAME, ("Secrets", "integer", _count("secrets")), AGE],
    "namespaces": [NAME, ("Status", "string", _field("status.phase")), AGE],
    "nodes": [
        NAME,
        ("Status", "string", _node_status),
        ("Roles", "string", _roles),
        AGE,
        ("Version", "string", _field("status.nodeInfo.kubeletVersion")),
        ("!Internal-IP", "string", _node_address),
        ("!External-IP", "string", lambda _: "<none>"),
        ("!OS-Image", "string", _field("status.nodeInfo.osImage")),
        ("!Kernel-Version", "string", _field("status.nodeInfo.kernelVersion")),
        ("!Container-Runtime", "string", _field("status.nodeInfo.containerRuntimeVersion")),
    ],
    "events": [
        ("Last Seen", "string", lambda item: age(dig(item, "lastTimestamp"))),
        ("Type", "string", _field("type", "Normal")),
        ("Reason", "string", _field("reason", "")),
        ("Object", "string", _object),
        ("Message", "string", _field("message", "")),
        ("!Name", "string", _field("metadata.name")),
    ],
    "customresourcedefinitions.apiextensions.k8s.io": [
        NAME,
        ("Created At", "date", _field("metadata.creationTimestamp")),
    ],
}


def columns_of(kind: ResourceType) -> list[Column]:
    """The columns of a type: known ones, those of its CustomResourceDefinition, or NAME and AGE."""
    if kind.resource in COLUMNS:
        return COLUMNS[kind.resource]
    return [
        NAME,
        *(_custom_column(column) for column in kind.columns),
        *([] if kind.columns else [AGE]),
    ]


def _custom_column(column: Document) -> Column:
    path = re.sub(r"^\.", "", column["jsonPath"])
    mark = "!" if column.get("priority") else ""

    def value(item: Document) -> Any:
        found = dig(item, path)
        return age(found) if column["type"] == "date" and found else found

    return (
        f"{mark}{column['name']}",
        "string" if column["type"] == "date" else column["type"],
        value,
    )


def partial(item: Document) -> Document:
    """PartialObjectMetadata of an object."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": META_VERSION,
        "metadata": item["metadata"],
    }


def table(
    kind: ResourceType, items: list[Document], *, meta: Document, include: str, headers: bool
) -> Document:
    """A Table of objects; `include` is the query parameter includeObject."""
    columns = columns_of(kind)
    definitions = [
        {
            "name": name.removeprefix("!"),
            "type": type_name,
            "format": "name" if name == "Name" else "",
            "description": f"{name.removeprefix('!')} of the {kind.kind}",
            "priority": int(name.startswith("!")),
        }
        for name, type_name, _ in columns
    ]
    rows = []
    for item in items:
        row: Document = {"cells": [value(item) for _, _, value in columns]}
        if include != "None":
            row["object"] = item if include == "Object" else partial(item)
        rows.append(row)
    head = {"kind": "Table", "apiVersion": META_VERSION, "metadata": meta}
    return {**head, "columnDefinitions": definitions if headers else [], "rows": rows}
