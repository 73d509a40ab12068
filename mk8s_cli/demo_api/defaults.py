"""What the server fills in before an object is stored; called by `store`.

Constants are in `data/defaults.yaml`. There are no controllers: pods run and deployments are
ready as soon as they are written, by what is set here.
"""

import base64
import itertools
import json
import string
from typing import Any

from mk8s_cli.demo_api.catalogue import DEFINITIONS, data
from mk8s_cli.demo_api.objects import ApiError, Document, now
from mk8s_cli.demo_api.patches import merge_patch

COUNTS = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
RUNNING = {"ready": True, "started": True, "restartCount": 0, "image": "", "imageID": ""}
RUNNING |= {"containerID": "demo://1"}
_hosts = itertools.count(10)


def complete(resource: str, item: Document) -> None:
    """Completes an object in place; what is set stays, but for a deployment's counts."""
    if resource in (constants := data("defaults")["objects"]):
        host = "{}.{}".format(*divmod(next(_hosts), 256))
        fresh = string.Template(json.dumps(constants[resource])).substitute(now=now(), host=host)
        item.update(merge_patch(json.loads(fresh), item))
    meta: Any = item["metadata"]
    spec, status = item.get("spec", {}), item.get("status", {})
    match resource:
        case "secrets":
            for key, text in (item.pop("stringData", None) or {}).items():
                encoded = base64.b64encode(text.encode()).decode()
                item["data"] = {**(item.get("data") or {}), key: encoded}
        case "namespaces":
            meta.setdefault("labels", {})["kubernetes.io/metadata.name"] = meta["name"]
        case "services":
            spec.setdefault("clusterIPs", [spec["clusterIP"]])
            for port in spec.get("ports") or ():
                port |= {"protocol": "TCP", "targetPort": port.get("port"), **port}
        case "pods":
            _run(spec.get("containers") or [], status)
        case "deployments.apps":
            status |= dict.fromkeys(COUNTS, spec["replicas"])
            status["observedGeneration"] = meta["generation"]
        case _ if resource == DEFINITIONS:
            _establish(meta["name"], spec, status)


def _run(containers: list[Document], status: Document) -> None:
    """All containers of a pod run since it was made."""
    for port in (port for entry in containers for port in entry.get("ports") or ()):
        port.setdefault("protocol", "TCP")
    state = {"state": {"running": {"startedAt": status["startTime"]}}}
    named = [{key: entry[key] for key in ("name", "image") if key in entry} for entry in containers]
    status.setdefault("containerStatuses", [{**RUNNING, **state, **entry} for entry in named])


def _establish(name: str, spec: Document, status: Document) -> None:
    """A CustomResourceDefinition counts at once; raises 422 for a wrong name."""
    names = spec["names"]
    if name != f"{names['plural']}.{spec['group']}":
        problem = 'metadata.name: must be spec.names.plural+"."+spec.group'
        message = f'CustomResourceDefinition "{name}" is invalid: {problem}'
        raise ApiError(422, message, "Invalid")
    names.setdefault("singular", names["kind"].lower())
    names.setdefault("listKind", names["kind"] + "List")
    stored = [version["name"] for version in spec["versions"] if version.get("storage")]
    status |= {"acceptedNames": names, "storedVersions": stored}
