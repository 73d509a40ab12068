"""create, update, patch, apply, scale, review and delete of any resource; called by `server`."""

import uuid
from typing import Any

from aiohttp import web

from mk8s_cli.demo_api.call import USER, Call
from mk8s_cli.demo_api.catalogue import data
from mk8s_cli.demo_api.objects import STATUS, ApiError, Document, dig
from mk8s_cli.demo_api.patches import apply, json_patch, merge_patch, strategic_patch, track
from mk8s_cli.demo_api.reads import selected
from mk8s_cli.demo_api.store import key_of
from mk8s_cli.demo_api.views import view

JSON_PATCH, MERGE_PATCH = "application/json-patch+json", "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"


def placed(call: Call, item: Any) -> Document:
    """An object of the request's kind, with the namespace and name of the path; raises 400."""
    wanted = {"apiVersion": call.kind.api_version, "kind": call.kind.gvk["kind"]}
    if not isinstance(item, dict) or any(item.get(key) != wanted[key] for key in wanted):
        raise ApiError(400, f"the body is no object that this path takes: {wanted}")
    meta = {**(item.get("metadata") or {})}
    for key, value in (("namespace", call.namespace), ("name", call.name)):
        if value and meta.setdefault(key, value) != value:
            raise ApiError(400, f"the {key} of the object does not match the {key} on the URL")
    return {**item, "metadata": meta}


def manager_of(call: Call) -> Document:
    """Who writes, for managedFields: the query's fieldManager or the User-Agent's program."""
    agent = call.request.headers.get("User-Agent", "unknown").partition("/")[0]
    name = call.request.query.get("fieldManager") or agent
    operation = "Apply" if call.request.content_type == APPLY else "Update"
    found = {"manager": name, "operation": operation, "apiVersion": call.kind.api_version}
    return found | ({"subresource": call.subresource} if call.subresource else {})


def insert(call: Call, item: Document, config: Document | None = None) -> web.Response:
    """Stores a new object; `config` is what was applied, if it was."""
    meta, kind = item["metadata"], call.kind
    if not meta.get("name") and meta.get("generateName"):
        meta["name"] = meta["generateName"] + uuid.uuid4().hex[:5]
    if not meta.get("name"):
        problem = "Required value: name or generateName is required"
        message = f'{kind.gvk["kind"]} "" is invalid: metadata.name: {problem}'
        raise ApiError(422, message, "Invalid")
    if meta.get("resourceVersion"):
        raise ApiError(400, "resourceVersion should not be set on objects to be created")
    if kind.entry["namespaced"]:
        call.store.get("namespaces", ("", call.namespace))
    if "status" in kind.subresources:
        item = {key: value for key, value in item.items() if key != "status"}
    item = track(None, item, manager_of(call), config)
    stored = call.store.create(kind.resource, item, dry_run=call.dry_run)
    return web.json_response(view(call, stored), status=201)


def replace(
    call: Call, before: Document, item: Document, config: Document | None = None
) -> Document:
    """Stores the new state of an object; each subresource writes only its own part."""
    if call.subresource == "status":
        version = item["metadata"].get("resourceVersion")
        meta = {**before["metadata"], "resourceVersion": version}
        item = {**before, "metadata": meta, "status": item.get("status", {})}
    elif "status" in call.kind.subresources and "status" in before:
        item = {**item, "status": before["status"]}
    item = track(before, item, manager_of(call), config)
    return call.store.update(call.kind.resource, item, dry_run=call.dry_run)


async def create(call: Call) -> web.StreamResponse:
    """POST on a collection."""
    if call.kind.gvk["group"].startswith("auth"):
        return await _review(call)
    return insert(call, placed(call, await call.body()))


async def update(call: Call) -> web.StreamResponse:
    """PUT of an object, or PATCH in one of the four patch types."""
    body = await call.body()
    if call.request.content_type == APPLY:
        return _server_side_apply(call, placed(call, body))
    before = call.current()
    after = patched(call, before, body) if call.request.method == "PATCH" else body
    return web.json_response(view(call, replace(call, before, placed(call, after))))


def _server_side_apply(call: Call, config: Document) -> web.Response:
    if not call.request.query.get("fieldManager"):
        problem = "Required value: is required for apply patch"
        raise ApiError(400, f"PatchOptions.fieldManager: {problem}")
    if config["metadata"].get("managedFields"):
        raise ApiError(400, "metadata.managedFields must be nil")
    live = call.store.find(call.kind.resource, (call.namespace, call.name))
    if live is None:
        return insert(call, config, config)
    after = apply(live, config, manager_of(call), force=call.flag("force"))
    return web.json_response(view(call, replace(call, live, after, config)))


def patched(call: Call, item: Document, body: Any) -> Document:
    """The object after a patch; raises 415 for a type that is unknown or not for this kind."""
    media = call.request.content_type
    if media == JSON_PATCH:
        return json_patch(item, body)
    if not isinstance(body, dict):
        raise ApiError(400, "the patch is not an object")
    if media == MERGE_PATCH:
        return dict(merge_patch(item, body))
    if media == STRATEGIC_PATCH and call.kind.columns is None:
        return strategic_patch(item, body, call.kind.schema)
    known = f"accepted media types include: {JSON_PATCH}, {MERGE_PATCH}, {APPLY}"
    raise ApiError(415, f"the body of the request was in an unknown format - {known}")


async def delete(call: Call) -> web.StreamResponse:
    """DELETE of an object, or of all that the selectors match, at once.

    Finalizers hold nothing, owner references take nothing along.
    """
    found = [call.current()] if call.name else selected(call)
    options = await call.body() or {}
    if not (call.dry_run or options.get("dryRun")):
        for item in found:
            call.store.delete(call.kind.resource, key_of(item))
    if not call.name:
        return web.json_response(view(call, found))
    uid = found[0]["metadata"]["uid"]
    details = {"name": call.name, "kind": call.kind.entry["name"], "uid": uid}
    return web.json_response({**STATUS, "status": "Success", "details": details})


async def scale(call: Call) -> web.StreamResponse:
    """GET, PUT or PATCH of .../scale."""
    item = call.current()
    if call.request.method != "GET":
        body = await call.body()
        if call.request.method == "PATCH":
            body = patched(call, _scale_of(item), body)
        meta = {**item["metadata"], "resourceVersion": dig(body, "metadata.resourceVersion")}
        spec = {**item["spec"], "replicas": dig(body, "spec.replicas", 0)}
        item = replace(call, item, {**item, "metadata": meta, "spec": spec})
    return web.json_response(_scale_of(item))


def _scale_of(item: Document) -> Document:
    labels = dig(item, "spec.selector.matchLabels", {})
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    names = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {name: item["metadata"][name] for name in names},
        "spec": {"replicas": dig(item, "spec.replicas", 1)},
        "status": {"replicas": dig(item, "status.replicas", 0), "selector": selector},
    }


async def _review(call: Call) -> web.Response:
    """The kinds of authentication.k8s.io and authorization.k8s.io: asked by POST, stored never."""
    kind, known = call.kind.gvk["kind"], data("defaults")["reviews"]
    status = known.get(kind, {"userInfo": call.request[USER]})
    head = {"kind": kind, "apiVersion": call.kind.api_version, "metadata": {}}
    found = {**head, "spec": dig(await call.body(), "spec", {}), "status": status}
    return web.json_response(found, status=201)
