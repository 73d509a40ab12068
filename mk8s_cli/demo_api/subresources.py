"""Scale, eviction, binding and tokens, and the reviews; called by `app`."""

import json
from typing import Any

from aiohttp import web

from mk8s_cli.demo_api import writes
from mk8s_cli.demo_api.catalogue import Document
from mk8s_cli.demo_api.reads import answer
from mk8s_cli.demo_api.state import Call
from mk8s_cli.demo_api.status import ApiError
from mk8s_cli.demo_api.tables import dig

SCALE_TYPE = {"apiVersion": "autoscaling/v1", "kind": "Scale"}


def scale_of(call: Call, item: Document) -> Document:
    """The Scale of a workload."""
    names = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    meta = {key: item["metadata"][key] for key in names if key in item["metadata"]}
    labels = dig(item, "spec.selector.matchLabels", {})
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    return {
        **SCALE_TYPE,
        "metadata": meta,
        "spec": {"replicas": dig(item, "spec.replicas", 1)},
        "status": {"replicas": dig(item, "status.replicas", 0), "selector": selector},
    }


async def scale(call: Call) -> web.StreamResponse:
    """GET, PUT or PATCH of .../scale."""
    before = call.current()
    shown = scale_of(call, before)
    if call.request.method == "GET":
        return answer(shown)
    body = await writes.read_body(call)
    if call.request.method == "PATCH":
        schema = call.api.catalogue.definitions["io.k8s.api.autoscaling.v1.Scale"]
        body = writes.patched(call, shown, body, schema)
    replicas = dig(body, "spec.replicas", 0)
    if not isinstance(replicas, int) or replicas < 0:
        raise ApiError(400, "spec.replicas: a number of 0 or more is needed")
    version = dig(body, "metadata.resourceVersion", "") or before["metadata"]["resourceVersion"]
    meta = {**before["metadata"], "resourceVersion": version}
    after = {**before, "metadata": meta, "spec": {**before["spec"], "replicas": replicas}}
    return answer(scale_of(call, writes.replace(call, before, after)))


async def eviction(call: Call) -> web.StreamResponse:
    """POST of pods/eviction: the pod goes at once."""
    await writes.read_body(call)
    item = call.current()
    if not call.dry_run:
        writes.remove(call, item, {})
    return answer({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}, 201)


async def binding(call: Call) -> web.StreamResponse:
    """POST of pods/binding: puts the pod on a node."""
    target = dig(await writes.read_body(call), "target.name", "")
    item = call.current()
    item = {**item, "spec": {**item["spec"], "nodeName": target}}
    call.api.store.update("pods", item, dry_run=call.dry_run)
    return answer({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}, 201)


async def token(call: Call) -> web.StreamResponse:
    """POST of serviceaccounts/token: a token that is worth nothing, here or elsewhere."""
    body = await writes.read_body(call) or {}
    status = {
        "token": f"demo.{call.namespace}.{call.name}",
        "expirationTimestamp": "2099-01-01T00:00:00Z",
    }
    head = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1"}
    return answer({**head, "metadata": {}, "spec": body.get("spec", {}), "status": status}, 201)


async def review(call: Call) -> web.StreamResponse:
    """The kinds of authentication.k8s.io and authorization.k8s.io: asked by POST, stored never."""
    body: Any = await writes.read_body(call) or {}
    if call.kind.name == "selfsubjectreviews":
        status: Document = {"userInfo": call.user.document()}
    elif call.kind.name == "selfsubjectrulesreviews":
        status = {
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            "incomplete": False,
        }
    else:
        status = {"allowed": True, "reason": "the demo API allows everything"}
    head = {"kind": call.kind.kind, "apiVersion": call.kind.api_version, "metadata": {}}
    found = {**head, "spec": body.get("spec", {}), "status": status}
    return answer(json.loads(json.dumps(found)), 201)
