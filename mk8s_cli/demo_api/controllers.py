"""A controller manager, scheduler and kubelet in a few lines: deployments get running pods.

`server` runs one task of it. Reconciling is level-triggered: after every change all workloads are
looked at again, since a demo has few.
"""

import hashlib
import json
import logging
from collections.abc import Callable

from mk8s_cli.demo_api import defaults
from mk8s_cli.demo_api.catalogue import Document
from mk8s_cli.demo_api.state import ApiState
from mk8s_cli.demo_api.status import ApiError
from mk8s_cli.demo_api.store import key_of, now

REVISION = "deployment.kubernetes.io/revision"
NODE = "demo-node"
RESYNC_SECONDS = 3600.0
MAX_PODS = 100
"""Pods of one ReplicaSet, whatever it asks for: they live in this process's memory."""
logger = logging.getLogger(__name__)


async def run(api: ApiState) -> None:
    """Reconciles until cancelled."""
    version = -1
    while True:
        if version != api.store.version:
            version = api.store.version
            reconcile(api)
            continue
        await api.store.changed(version, RESYNC_SECONDS)


def reconcile(api: ApiState) -> None:
    """One look at every workload and pod."""
    _each(api, "deployments.apps", _deployment)
    _each(api, "replicasets.apps", _replica_set)
    _each(api, "pods", _start)


def _each(
    api: ApiState, resource: str, reconcile_one: Callable[[ApiState, Document], None]
) -> None:
    """Reconciles all objects of a kind; one that makes no sense must not stop the others."""
    for item in api.store.select(resource):
        try:
            reconcile_one(api, item)
        except (KeyError, TypeError, ValueError, AttributeError, ApiError) as error:
            logger.warning("%s %s: %r", resource, item["metadata"]["name"], error)


def owned(api: ApiState, resource: str, owner: Document) -> list[Document]:
    """The objects that an object owns."""
    meta = owner["metadata"]
    return [
        item
        for item in api.store.select(resource, meta["namespace"])
        if any(entry["uid"] == meta["uid"] for entry in defaults.owners(item))
    ]


def _child_meta(owner: Document, name: str, template: Document) -> Document:
    """Metadata of an object made for an owner from a template."""
    own = template.get("metadata") or {}
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "name": name,
        "namespace": owner["metadata"]["namespace"],
        "labels": own.get("labels") or {},
        "annotations": own.get("annotations") or {},
        "ownerReferences": [reference],
    }


def _deployment(api: ApiState, item: Document) -> None:
    """One ReplicaSet for each template that was ever there; only the present one has replicas."""
    spec = item["spec"]
    digest = hashlib.sha256(json.dumps(spec["template"], sort_keys=True).encode()).hexdigest()[:10]
    name = f"{item['metadata']['name']}-{digest}"
    sets = owned(api, "replicasets.apps", item)
    current = next((one for one in sets if one["metadata"]["name"] == name), None)
    last = max((int(one["metadata"]["annotations"].get(REVISION, 0)) for one in sets), default=0)
    if current is None:
        current = _new_set(api, item, name=name, digest=digest)
    annotations = current["metadata"]["annotations"]
    if not annotations.get(REVISION) or (int(annotations[REVISION]) < last):
        annotations = {**annotations, REVISION: str(last + 1)}
        current = _change(api, "replicasets.apps", current, annotations=annotations)
    for one in [*sets, current]:
        wanted = spec["replicas"] if one["metadata"]["name"] == name else 0
        fresh = api.store.get("replicasets.apps", key_of(one))
        if fresh["spec"]["replicas"] != wanted:
            changed = {**fresh, "spec": {**fresh["spec"], "replicas": wanted}}
            api.store.update("replicasets.apps", changed)
    _deployment_status(api, item, current)


def _new_set(api: ApiState, item: Document, *, name: str, digest: str) -> Document:
    spec = item["spec"]
    extra = {"pod-template-hash": digest}
    template_meta = spec["template"].get("metadata") or {}
    labels = {**(template_meta.get("labels") or {}), **extra}
    selector = {"matchLabels": {**(spec["selector"].get("matchLabels") or {}), **extra}}
    template = {**spec["template"], "metadata": {**template_meta, "labels": labels}}
    created = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {**_child_meta(item, name, template), "annotations": {}},
        "spec": {"replicas": spec["replicas"], "selector": selector, "template": template},
    }
    return api.store.create("replicasets.apps", created)


def _change(api: ApiState, resource: str, item: Document, *, annotations: Document) -> Document:
    changed = {**item, "metadata": {**item["metadata"], "annotations": annotations}}
    return api.store.update(resource, changed)


def _deployment_status(api: ApiState, item: Document, current: Document) -> None:
    revision = current["metadata"]["annotations"][REVISION]
    annotations = {**(item["metadata"].get("annotations") or {}), REVISION: revision}
    if annotations != item["metadata"].get("annotations"):
        item = _change(api, "deployments.apps", item, annotations=annotations)
    ready = len(owned(api, "pods", current))
    old = item.get("status") or {}
    counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    since = old.get("conditions", [{}])[0].get("lastTransitionTime", now())
    words = {
        "Available": ("MinimumReplicasAvailable", "Deployment has minimum availability."),
        "Progressing": ("NewReplicaSetAvailable", "ReplicaSet has successfully progressed."),
    }
    conditions = [
        {
            "type": kind,
            "status": "True",
            "lastUpdateTime": since,
            "lastTransitionTime": since,
            "reason": reason,
            "message": message,
        }
        for kind, (reason, message) in words.items()
    ]
    status = {"observedGeneration": item["metadata"]["generation"], "conditions": conditions}
    status |= {name: ready for name in counts if ready}
    if status != old:
        api.store.update("deployments.apps", {**item, "status": status})


def _replica_set(api: ApiState, item: Document) -> None:
    """As many pods as replicas."""
    pods, wanted = owned(api, "pods", item), min(item["spec"]["replicas"], MAX_PODS)
    for pod in pods[wanted:]:
        defaults.drop(api, "pods", pod)
    for _ in range(wanted - len(pods)):
        name = api.store.unique_name(item["metadata"]["name"] + "-")
        template = item["spec"]["template"]
        meta = _child_meta(item, name, template)
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}
        kind = api.catalogue.of_resource("pods")
        api.store.create("pods", defaults.complete(api, kind, pod))
        record(api, item, "SuccessfulCreate", f"Created pod: {name}")
    ready = len(owned(api, "pods", item))
    status = {"replicas": ready, "observedGeneration": item["metadata"]["generation"]}
    status |= (
        {"readyReplicas": ready, "availableReplicas": ready, "fullyLabeledReplicas": ready}
        if ready
        else {}
    )
    fresh = api.store.get("replicasets.apps", key_of(item))
    if status != fresh.get("status"):
        api.store.update("replicasets.apps", {**fresh, "status": status})


def _start(api: ApiState, pod: Document) -> None:
    """Puts a pending pod on the node and makes it run."""
    if pod.get("status", {}).get("phase") != "Pending":
        return
    moment, number = now(), api.store.version
    kinds = ("Initialized", "Ready", "ContainersReady", "PodScheduled")
    status = {
        **pod["status"],
        "phase": "Running",
        "conditions": [
            {"type": kind, "status": "True", "lastTransitionTime": moment} for kind in kinds
        ],
        "hostIP": "10.0.0.1",
        "podIP": f"10.244.0.{number % 250 + 2}",
        "startTime": moment,
        "containerStatuses": [_running(pod, entry, moment) for entry in pod["spec"]["containers"]],
    }
    spec = {**pod["spec"], "nodeName": pod["spec"].get("nodeName") or NODE}
    api.store.update("pods", {**pod, "spec": spec, "status": status})
    name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
    record(api, pod, "Scheduled", f"Successfully assigned {name} to {spec['nodeName']}")
    record(api, pod, "Started", "Started all containers")


def _running(pod: Document, container: Document, moment: str) -> Document:
    """The status of a container."""
    image = container.get("image", "")
    return {
        "name": container["name"],
        "image": image,
        "imageID": f"demo://{image}",
        "containerID": f"demo://{pod['metadata']['uid']}/{container['name']}",
        "ready": True,
        "started": True,
        "restartCount": 0,
        "state": {"running": {"startedAt": moment}},
    }


def record(api: ApiState, item: Document, reason: str, message: str) -> None:
    """An event about an object."""
    meta, moment = item["metadata"], now()
    reference = {
        key: meta[key] for key in ("name", "namespace", "uid", "resourceVersion") if key in meta
    }
    name = api.store.unique_name(f"{meta['name']}.")
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": meta.get("namespace", "default")},
        "involvedObject": {"apiVersion": item["apiVersion"], "kind": item["kind"], **reference},
        "reason": reason,
        "message": message,
        "type": "Normal",
        "count": 1,
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "source": {"component": "mk8s-demo"},
    }
    api.store.create("events", event)
