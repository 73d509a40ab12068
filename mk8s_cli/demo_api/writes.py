"""create, update, patch and delete of any served resource; called by `app`."""

import json
import re
from typing import Any

import yaml
from aiohttp import web

from mk8s_cli.demo_api import defaults, protobuf, validation
from mk8s_cli.demo_api.apply import Manager
from mk8s_cli.demo_api.catalogue import Document
from mk8s_cli.demo_api.patches import json_patch, merge_patch
from mk8s_cli.demo_api.reads import Form, answer, test_of
from mk8s_cli.demo_api.state import Call
from mk8s_cli.demo_api.status import ApiError, conflict, invalid, not_found, success
from mk8s_cli.demo_api.store import key_of

NAME_RULE = re.compile(r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
NAME_PROBLEM = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, "
    "'-' or '.', and must start and end with an alphanumeric character"
)
APPLY, PROTOBUF = "application/apply-patch+yaml", "application/vnd.kubernetes.protobuf"


async def read_body(call: Call) -> Any:
    """The body's object, from JSON, YAML or protobuf; None without a body; raises 400 and 415."""
    body, media = await call.request.read(), call.request.content_type
    if not body:
        return None
    if media == PROTOBUF:
        return protobuf.decode(call.api.catalogue, body)
    if not (media.endswith(("json", "yaml")) or media in {"*/*", "application/octet-stream"}):
        raise ApiError(415, f"the body of the request was in an unknown format: {media}")
    try:
        return yaml.safe_load(body) if media.endswith("yaml") else json.loads(body)
    except (ValueError, yaml.YAMLError) as error:
        raise ApiError(400, f"the body cannot be read: {error}") from error


def manager_of(call: Call, operation: str = "Update") -> Manager:
    """Who writes: the query's fieldManager or the program of the User-Agent."""
    agent = call.request.headers.get("User-Agent", "unknown").partition("/")[0]
    name = call.request.query.get("fieldManager") or agent
    shared = call.subresource if call.subresource in {"status", "scale"} else ""
    return Manager(name, operation, call.kind.api_version, shared)


def check_object(call: Call, item: Any, schema: Document) -> list[str]:
    """Refuses what is not an object of this type; returns warnings about unknown fields."""
    kind = call.kind
    if not isinstance(item, dict) or not isinstance(item.get("metadata") or {}, dict):
        raise ApiError(400, f"the body is not a {kind.kind}")
    got = (item.get("apiVersion"), item.get("kind"))
    if got != (kind.api_version, kind.kind):
        raise ApiError(
            400, f"the object is {got[0]} {got[1]}, this path takes {kind.api_version} {kind.kind}"
        )
    found = validation.problems(call.api.catalogue, item, schema)
    mode = call.request.query.get("fieldValidation", "Warn")
    handled = f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}'
    if found.types:
        raise ApiError(400, f"{handled}: {'; '.join(found.types)}")
    if found.unknown and mode == "Strict":
        raise ApiError(400, f"{handled}: strict decoding error: {', '.join(found.unknown)}")
    if found.missing and call.request.content_type != APPLY:
        name = (item.get("metadata") or {}).get("name", "")
        raise invalid(kind.kind, name, found.missing[0], "Required value", "FieldValueRequired")
    return [] if mode == "Ignore" else found.unknown


def place(call: Call, item: Document) -> Document:
    """The object with the namespace and name of the path; raises 400 when they differ."""
    meta = dict(item.get("metadata") or {})
    if call.kind.namespaced:
        if meta.get("namespace", call.namespace) != call.namespace:
            problem = "the namespace of the provided object does not match the namespace"
            raise ApiError(400, f"{problem} sent on the request")
        meta["namespace"] = call.namespace
    else:
        meta.pop("namespace", None)
    if call.name and meta.setdefault("name", call.name) != call.name:
        named = f"the name of the object ({meta['name']}) does not match the name on the URL"
        raise ApiError(400, f"{named} ({call.name})")
    return {**item, "metadata": meta}


def insert(call: Call, item: Document) -> Document:
    """Stores a new object: name, namespace, defaults."""
    meta, store, kind = item["metadata"], call.api.store, call.kind
    if not meta.get("name") and meta.get("generateName"):
        meta["name"] = store.unique_name(meta["generateName"])
    if not meta.get("name"):
        problem = "Required value: name or generateName is required"
        raise invalid(kind.kind, "", "metadata.name", problem, "FieldValueRequired")
    if not NAME_RULE.match(meta["name"]) and kind.group != "rbac.authorization.k8s.io":
        problem = f'Invalid value: "{meta["name"]}": {NAME_PROBLEM}'
        raise invalid(kind.kind, meta["name"], "metadata.name", problem)
    if meta.get("resourceVersion"):
        raise ApiError(400, "resourceVersion should not be set on objects to be created")
    if kind.namespaced and ("", call.namespace) not in store.objects.get("namespaces", {}):
        raise not_found("namespaces", call.namespace)
    if "status" in kind.subresources:
        item = {key: value for key, value in item.items() if key != "status"}
    item = defaults.complete(call.api, kind, item)
    stored = store.create(kind.resource, item, dry_run=call.dry_run)
    if not call.dry_run:
        defaults.stored(call.api, kind, stored)
    return stored


async def create(call: Call) -> web.StreamResponse:
    """POST on a collection."""
    schema = call.api.catalogue.schema(call.kind)
    item = await read_body(call)
    warnings = check_object(call, item, schema)
    item = place(call, item)
    tracked = call.api.fields.track(None, item, schema, manager_of(call))
    return _written(call, insert(call, tracked), 201, warnings)


def _written(call: Call, item: Document, code: int, warnings: list[str]) -> web.Response:
    response = answer(Form.of(call).one(item), code)
    for text in warnings:
        quoted = text.replace('"', '\\"')
        response.headers.add("Warning", f'299 - "{quoted}"')
    return response


def replace(call: Call, before: Document, item: Document) -> Document:
    """Stores the new state of an object; each subresource writes only its own part."""
    status_only = call.subresource == "status"
    if "status" in call.kind.subresources:
        rest, own = (before, item) if status_only else (item, before)
        item = {**rest, "metadata": {**rest["metadata"]}}
        item.pop("status", None)
        if "status" in own:
            item["status"] = own["status"]
    schema = call.api.catalogue.schema(call.kind)
    if call.request.content_type != APPLY:
        item = call.api.fields.track(before, item, schema, manager_of(call))
    item = defaults.complete(call.api, call.kind, item)
    stored = call.api.store.update(call.kind.resource, item, dry_run=call.dry_run)
    if not call.dry_run:
        defaults.stored(call.api, call.kind, stored)
    return stored


async def update(call: Call) -> web.StreamResponse:
    """PUT on an object."""
    schema = call.api.catalogue.schema(call.kind)
    item = await read_body(call)
    warnings = check_object(call, item, schema)
    item = place(call, item)
    return _written(call, replace(call, call.current(), item), 200, warnings)


async def patch(call: Call) -> web.StreamResponse:
    """PATCH on an object, in one of the four patch types."""
    body, media = await read_body(call), call.request.content_type
    if media == APPLY:
        return _server_side_apply(call, body)
    before = call.current()
    schema = call.api.catalogue.schema(call.kind)
    after = patched(call, before, body, schema)
    warnings = check_object(call, after, schema)
    return _written(call, replace(call, before, place(call, after)), 200, warnings)


def patched(call: Call, item: Document, body: Any, schema: Document) -> Document:
    """The object after a patch; raises 415 for an unknown patch type."""
    media = call.request.content_type
    if media == "application/json-patch+json":
        return json_patch(item, body)
    if not isinstance(body, dict):
        raise ApiError(400, "the patch is not an object")
    if media == "application/merge-patch+json":
        merged: Document = merge_patch(item, body)
        return merged
    if media != "application/strategic-merge-patch+json":
        raise ApiError(415, f"the patch type {media} is unknown")
    if call.api.catalogue.is_custom(call.kind):
        raise ApiError(
            415,
            "the body of the request was in an unknown format - accepted media types "
            "include: application/json-patch+json, application/merge-patch+json, " + APPLY,
        )
    return call.api.strategic.apply(item, body, schema)


def _server_side_apply(call: Call, config: Any) -> web.StreamResponse:
    schema = call.api.catalogue.schema(call.kind)
    if not call.request.query.get("fieldManager"):
        raise ApiError(
            400, "PatchOptions.fieldManager: Required value: is required for apply patch"
        )
    warnings = check_object(call, config, schema)
    config = place(call, config)
    if config["metadata"].get("managedFields"):
        raise ApiError(400, "metadata.managedFields must be nil")
    live = call.api.store.objects.get(call.kind.resource, {}).get((call.namespace, call.name))
    after = call.api.fields.apply(
        live, config, schema, manager=manager_of(call, "Apply"), force=call.flag("force")
    )
    if live is None:
        return _written(call, insert(call, after), 201, warnings)
    return _written(call, replace(call, live, after), 200, warnings)


async def delete(call: Call) -> web.StreamResponse:
    """DELETE of an object; answers the object while its finalizers keep it."""
    options = await read_body(call) or {}
    before = call.current()
    meta = before["metadata"]
    wanted = options.get("preconditions") or {}
    if any(meta[name] != wanted[name] for name in ("uid", "resourceVersion") if name in wanted):
        raise conflict(call.kind.resource, call.name)
    if call.dry_run or options.get("dryRun"):
        return answer(Form.of(call).one(before))
    after = remove(call, before, options)
    if "deletionTimestamp" in after["metadata"]:
        return answer(Form.of(call).one(after))
    return answer(success(call.name, call.kind.name, meta["uid"]))


def remove(call: Call, item: Document, options: Document) -> Document:
    """Deletes an object, and its dependents unless they are to be orphaned."""
    policy = options.get("propagationPolicy") or call.request.query.get("propagationPolicy")
    orphan = policy == "Orphan" or bool(options.get("orphanDependents"))
    after = call.api.store.delete(call.kind.resource, key_of(item))
    if "deletionTimestamp" not in after["metadata"]:
        defaults.removed(call.api, call.kind, after, orphan=orphan)
    return after


async def delete_collection(call: Call) -> web.StreamResponse:
    """DELETE of all that the selectors match."""
    options = await read_body(call) or {}
    matches = test_of(call)
    found = [
        item for item in call.api.store.select(call.kind.resource, call.namespace) if matches(item)
    ]
    if not call.dry_run:
        for item in found:
            remove(call, item, options)
    return answer(Form.of(call).many(found, {"resourceVersion": str(call.api.store.version)}))
