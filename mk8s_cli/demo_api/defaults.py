"""What the API server itself adds to objects, and what follows at once from a write.

Used by `writes` and `samples`. Slower consequences (pods of a deployment) are in `controllers`.
"""

import base64
import itertools
from typing import Any

from mk8s_cli.demo_api.catalogue import Document, ResourceType
from mk8s_cli.demo_api.state import ApiState
from mk8s_cli.demo_api.status import invalid
from mk8s_cli.demo_api.store import key_of, now

CRD = "customresourcedefinitions.apiextensions.k8s.io"
_addresses = itertools.count(10)


def complete(api: ApiState, kind: ResourceType, item: Document) -> Document:
    """The object with defaults; changes nothing that is set."""
    fill = FILLERS.get(kind.resource)
    if fill is None:
        return item
    filled: Document = {**item, "spec": {**item.get("spec", {})}} if "spec" in item else {**item}
    fill(filled)
    return filled


def _secret(item: Document) -> None:
    item.setdefault("type", "Opaque")
    plain = item.pop("stringData", None) or {}
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in plain.items()}
    if encoded:
        item["data"] = {**(item.get("data") or {}), **encoded}


def _namespace(item: Document) -> None:
    meta = item["metadata"]
    own = {"kubernetes.io/metadata.name": meta.get("name", "")}
    item["metadata"] = {**meta, "labels": {**(meta.get("labels") or {}), **own}}
    item["spec"] = {"finalizers": ["kubernetes"]}
    item.setdefault("status", {"phase": "Active"})


def _service(item: Document) -> None:
    spec = item.setdefault("spec", {})
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    if spec["type"] != "ExternalName" and not spec.get("clusterIP"):
        spec["clusterIP"] = f"10.96.0.{next(_addresses)}"
        spec["clusterIPs"] = [spec["clusterIP"]]
    spec["ports"] = [
        {"protocol": "TCP", "targetPort": port.get("port"), **port}
        for port in spec.get("ports") or []
    ]
    item.setdefault("status", {"loadBalancer": {}})


def _pod(item: Document) -> None:
    spec = item.setdefault("spec", {})
    values = {
        "restartPolicy": "Always",
        "serviceAccountName": "default",
        "dnsPolicy": "ClusterFirst",
    }
    for key, value in values.items():
        spec.setdefault(key, value)
    spec["containers"] = [_container(entry) for entry in spec.get("containers") or []]
    item.setdefault("status", {"phase": "Pending", "qosClass": "BestEffort"})


def _container(entry: Document) -> Document:
    ports = [{"protocol": "TCP", **port} for port in entry.get("ports") or []]
    return {**entry, "ports": ports} if ports else entry


def _deployment(item: Document) -> None:
    spec = item.setdefault("spec", {})
    rolling = {"maxUnavailable": "25%", "maxSurge": "25%"}
    values = {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600}
    for key, value in values.items():
        spec.setdefault(key, value)
    spec.setdefault("strategy", {"type": "RollingUpdate", "rollingUpdate": rolling})
    _check_selector(item)


def _replicas(item: Document) -> None:
    item.setdefault("spec", {}).setdefault("replicas", 1)
    _check_selector(item)


def _check_selector(item: Document) -> None:
    """The selector of a workload must match its own pods."""
    spec, name = item["spec"], item["metadata"].get("name", "")
    wanted = (spec.get("selector") or {}).get("matchLabels") or {}
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        problem = "`selector` does not match template `labels`"
        raise invalid(item["kind"], name, "spec.template.metadata.labels", problem)


def _definition(item: Document) -> None:
    spec, name = item["spec"], item["metadata"].get("name", "")
    names = {**spec["names"]}
    spec["names"] = names
    if name and name != f"{names['plural']}.{spec['group']}":
        raise invalid(
            item["kind"], name, "metadata.name", 'must be spec.names.plural+"."+spec.group'
        )
    names.setdefault("singular", names["kind"].lower())
    names.setdefault("listKind", names["kind"] + "List")
    if "status" not in item:
        conditions = [
            {
                "type": kind,
                "status": "True",
                "reason": reason,
                "message": "",
                "lastTransitionTime": now(),
            }
            for kind, reason in (
                ("NamesAccepted", "NoConflicts"),
                ("Established", "InitialNamesAccepted"),
            )
        ]
        stored = [version["name"] for version in spec["versions"] if version.get("storage")]
        item["status"] = {
            "conditions": conditions,
            "acceptedNames": names,
            "storedVersions": stored,
        }


FILLERS = {
    "secrets": _secret,
    "namespaces": _namespace,
    "services": _service,
    "pods": _pod,
    "deployments.apps": _deployment,
    "replicasets.apps": _replicas,
    "statefulsets.apps": _replicas,
    CRD: _definition,
}


def stored(api: ApiState, kind: ResourceType, item: Document) -> None:
    """What a write causes at once: a definition is served."""
    if kind.resource == CRD:
        api.catalogue.add_custom(item)
    elif (
        kind.resource == "namespaces"
        and ("", item["metadata"]["name"]) in api.store.objects["namespaces"]
    ):
        _namespace_objects(api, item["metadata"]["name"])


def _namespace_objects(api: ApiState, namespace: str) -> None:
    """The objects that controllers put in every namespace."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount"}
    bundle = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"ca.crt": "see the kubeconfig"}}
    named = (("serviceaccounts", "default", account), ("configmaps", "kube-root-ca.crt", bundle))
    for resource, name, item in named:
        if (namespace, name) not in api.store.objects.get(resource, {}):
            api.store.create(resource, {**item, "metadata": {"name": name, "namespace": namespace}})


def removed(api: ApiState, kind: ResourceType, item: Document, *, orphan: bool) -> None:
    """What a delete causes at once: contents and dependents go too."""
    store, name = api.store, item["metadata"]["name"]
    doomed: list[tuple[str, Document]] = []
    if kind.resource == "namespaces":
        doomed = [(other, one) for other in store.objects for one in store.select(other, name)]
    elif kind.resource == CRD:
        resource = f"{item['spec']['names']['plural']}.{item['spec']['group']}"
        doomed = [(resource, one) for one in store.select(resource)]
    elif not orphan:
        doomed = [
            (other, one)
            for other in store.objects
            for one in store.select(other, item["metadata"].get("namespace", ""))
            if any(owner["uid"] == item["metadata"]["uid"] for owner in owners(one))
        ]
    for resource, one in doomed:
        drop(api, resource, one)
    if kind.resource == CRD:
        api.catalogue.remove_custom(item)


def owners(item: Document) -> list[dict[str, Any]]:
    """The owner references of an object."""
    return item["metadata"].get("ownerReferences") or []


def drop(api: ApiState, resource: str, item: Document) -> None:
    """Deletes an object and its dependents; one already gone is fine."""
    if key_of(item) in api.store.objects.get(resource, {}):
        after = api.store.delete(resource, key_of(item))
        if "deletionTimestamp" not in after["metadata"]:
            removed(api, api.catalogue.of_resource(resource), after, orphan=False)
