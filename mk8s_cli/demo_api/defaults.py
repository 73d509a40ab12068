"""What the server fills in before an object is stored; used through `Store`.

Constants are in `data/defaults.yaml`. There are no controllers: pods run and deployments are
ready as soon as they are written, by what is set here.
"""

import base64
import copy
import itertools
from typing import Any

from mk8s_cli.demo_api.catalogue import DEFINITIONS, Document, data
from mk8s_cli.demo_api.errors import ApiError
from mk8s_cli.demo_api.patches import merge_patch
from mk8s_cli.demo_api.store import now

_addresses = itertools.count(10)


def complete(resource: str, item: Document) -> None:
    """Completes an object in place; what is set stays, but for a deployment's status."""
    if constants := data("defaults").get(resource):
        item.update(merge_patch(copy.deepcopy(constants), item))
    if fill := FILLERS.get(resource):
        fill(item)


def _secret(item: Document) -> None:
    plain = item.pop("stringData", None) or {}
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in plain.items()}
    if encoded:
        item["data"] = {**(item.get("data") or {}), **encoded}


def _namespace(item: Document) -> None:
    labels = item["metadata"].setdefault("labels", {})
    labels["kubernetes.io/metadata.name"] = item["metadata"]["name"]


def _event(item: Document) -> None:
    item.setdefault("firstTimestamp", now())
    item.setdefault("lastTimestamp", item["firstTimestamp"])


def _service(item: Document) -> None:
    spec = item["spec"]
    if spec["type"] != "ExternalName" and not spec.get("clusterIP"):
        spec["clusterIP"] = f"10.96.0.{next(_addresses)}"
        spec["clusterIPs"] = [spec["clusterIP"]]
    ports = spec.get("ports") or []
    spec["ports"] = [{"protocol": "TCP", "targetPort": port.get("port"), **port} for port in ports]


def _pod(item: Document) -> None:
    containers, status = item["spec"].get("containers") or [], item["status"]
    for port in (port for entry in containers for port in entry.get("ports") or ()):
        port.setdefault("protocol", "TCP")
    if "startTime" in status:
        return
    status["startTime"] = now()
    status["podIP"] = f"10.244.0.{next(_addresses)}"
    running = {"ready": True, "started": True, "restartCount": 0, "imageID": "", "image": ""}
    state = {"containerID": "demo://1", "state": {"running": {"startedAt": now()}}}
    named = [{key: entry[key] for key in ("name", "image") if key in entry} for entry in containers]
    status["containerStatuses"] = [{**running, **state, **entry} for entry in named]


def _deployment(item: Document) -> None:
    status = item.get("status") or {"conditions": _conditions("deployments.apps")}
    counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    status |= dict.fromkeys(counts, item["spec"]["replicas"])
    item["status"] = {**status, "observedGeneration": item["metadata"]["generation"]}


def _definition(item: Document) -> None:
    """A CustomResourceDefinition is established at once; raises 422 for a wrong name."""
    spec, name = item["spec"], item["metadata"]["name"]
    names = spec["names"]
    if name != f"{names['plural']}.{spec['group']}":
        problem = 'metadata.name: must be spec.names.plural+"."+spec.group'
        message = f'{item["kind"]} "{name}" is invalid: {problem}'
        raise ApiError(422, message, "Invalid")
    names.setdefault("singular", names["kind"].lower())
    names.setdefault("listKind", names["kind"] + "List")
    status = item.setdefault("status", {"conditions": _conditions("definitions")})
    stored = [version["name"] for version in spec["versions"] if version.get("storage")]
    status |= {"acceptedNames": names, "storedVersions": stored}


def _conditions(name: str) -> list[dict[str, Any]]:
    moment = {"lastTransitionTime": now()}
    return [{**entry, "status": "True", **moment} for entry in data("defaults")["conditions"][name]]


FILLERS = {
    "secrets": _secret,
    "namespaces": _namespace,
    "events": _event,
    "services": _service,
    "pods": _pod,
    "deployments.apps": _deployment,
    DEFINITIONS: _definition,
}
