"""create, update, patch, apply and delete of any served resource; called by `app`."""

import json
import uuid
from typing import Any

import yaml
from aiohttp import web

from mk8s_cli.demo_api import protobuf
from mk8s_cli.demo_api.apply import apply, track
from mk8s_cli.demo_api.catalogue import Document
from mk8s_cli.demo_api.errors import STATUS, ApiError
from mk8s_cli.demo_api.patches import json_patch, merge_patch, strategic_patch
from mk8s_cli.demo_api.reads import answer, many, one, selected
from mk8s_cli.demo_api.state import Call

JSON_PATCH, MERGE_PATCH = "application/json-patch+json", "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY, PROTOBUF = "application/apply-patch+yaml", "application/vnd.kubernetes.protobuf"


async def read_body(call: Call) -> Any:
    """The body's object, from JSON, YAML or protobuf; None without a body; raises 400 and 415."""
    body, media = await call.request.read(), call.request.content_type
    if not body:
        return None
    if media == PROTOBUF:
        return protobuf.decode(body)
    if not (media.endswith(("json", "yaml")) or media == "application/octet-stream"):
        raise ApiError(415, f"the body of the request was in an unknown format: {media}")
    try:
        return yaml.safe_load(body) if media.endswith("yaml") else json.loads(body)
    except (ValueError, yaml.YAMLError) as error:
        raise ApiError(400, f"the body cannot be read: {error}") from error


def placed(call: Call, item: Any) -> Document:
    """An object of the request's kind, with the namespace and name of the path; raises 400."""
    wanted = {"apiVersion": call.kind.api_version, "kind": call.kind.entry["kind"]}
    if not isinstance(item, dict) or any(item.get(key) != wanted[key] for key in wanted):
        raise ApiError(400, f"the body is no object that this path takes: {wanted}")
    meta = {**(item.get("metadata") or {})}
    for key, value in (("namespace", call.namespace), ("name", call.name)):
        if value and meta.setdefault(key, value) != value:
            raise ApiError(400, f"the {key} of the object does not match the {key} on the URL")
    return {**item, "metadata": meta}


def manager_of(call: Call, operation: str = "Update") -> Document:
    """Who writes, for managedFields: the query's fieldManager or the User-Agent's program."""
    agent = call.request.headers.get("User-Agent", "unknown").partition("/")[0]
    name = call.request.query.get("fieldManager") or agent
    found = {"manager": name, "operation": operation, "apiVersion": call.kind.api_version}
    return found | ({"subresource": call.subresource} if call.subresource else {})


def insert(call: Call, item: Document) -> Document:
    """Stores a new object."""
    meta, kind = item["metadata"], call.kind
    if not meta.get("name") and meta.get("generateName"):
        meta["name"] = meta["generateName"] + uuid.uuid4().hex[:5]
    if not meta.get("name"):
        problem = "Required value: name or generateName is required"
        message = f'{kind.entry["kind"]} "" is invalid: metadata.name: {problem}'
        raise ApiError(422, message, "Invalid")
    if meta.get("resourceVersion"):
        raise ApiError(400, "resourceVersion should not be set on objects to be created")
    if kind.namespaced:
        call.api.store.get("namespaces", ("", call.namespace))
    if "status" in kind.subresources:
        item = {key: value for key, value in item.items() if key != "status"}
    return call.api.write(call.api.store.create, kind.resource, item, dry_run=call.dry_run)


def replace(call: Call, before: Document, item: Document) -> Document:
    """Stores the new state of an object; each subresource writes only its own part."""
    meta = {**before["metadata"], "resourceVersion": item["metadata"].get("resourceVersion")}
    if call.subresource == "status":
        item = {**before, "metadata": meta, "status": item.get("status", {})}
    elif "status" in call.kind.subresources and "status" in before:
        item = {**item, "status": before["status"]}
    api, resource = call.api, call.kind.resource
    return api.write(api.store.update, resource, item, dry_run=call.dry_run)


async def create(call: Call) -> web.StreamResponse:
    """POST on a collection."""
    item = placed(call, await read_body(call))
    item = insert(call, track(None, item, manager_of(call)))
    return answer(one(call, item), 201)


async def update(call: Call) -> web.StreamResponse:
    """PUT on an object."""
    before, item = call.current(), placed(call, await read_body(call))
    item = track(before, item, manager_of(call))
    return answer(one(call, replace(call, before, item)))


async def patch(call: Call) -> web.StreamResponse:
    """PATCH on an object, in one of the four patch types."""
    body = await read_body(call)
    if call.request.content_type == APPLY:
        return _server_side_apply(call, placed(call, body))
    before = call.current()
    after = placed(call, patched(call, before, body))
    after = track(before, after, manager_of(call))
    return answer(one(call, replace(call, before, after)))


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


def _server_side_apply(call: Call, config: Document) -> web.Response:
    if not call.request.query.get("fieldManager"):
        problem = "Required value: is required for apply patch"
        raise ApiError(400, f"PatchOptions.fieldManager: {problem}")
    if config["metadata"].get("managedFields"):
        raise ApiError(400, "metadata.managedFields must be nil")
    live = call.api.store.find(call.kind.resource, (call.namespace, call.name))
    after = apply(live, config, manager_of(call, "Apply"), force=call.flag("force"))
    if live is None:
        return answer(one(call, insert(call, after)), 201)
    return answer(one(call, replace(call, live, after)))


async def delete(call: Call) -> web.StreamResponse:
    """DELETE of an object, at once: finalizers and owner references hold or take nothing."""
    options = await read_body(call) or {}
    item = call.current()
    if not (call.dry_run or options.get("dryRun")):
        call.api.remove(call.kind.resource, item)
    details = {"name": call.name, "kind": call.kind.entry["name"], "uid": item["metadata"]["uid"]}
    return answer({**STATUS, "status": "Success", "details": details})


async def delete_collection(call: Call) -> web.StreamResponse:
    """DELETE of all that the selectors match."""
    options = await read_body(call) or {}
    found = selected(call)
    if not (call.dry_run or options.get("dryRun")):
        for item in found:
            call.api.remove(call.kind.resource, item)
    return answer(many(call, found))
