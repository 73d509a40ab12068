"""create, update, patch, apply and delete of any resource; called by `server`."""

import re
import uuid
from typing import Any

from aiohttp import web

from mk8s_cli.demo_api import media
from mk8s_cli.demo_api.call import JSON_PATCH, MERGE_PATCH, Call
from mk8s_cli.demo_api.catalogue import data
from mk8s_cli.demo_api.objects import STATUS, ApiError, Document, details_of, dig, invalid
from mk8s_cli.demo_api.patches import apply, json_patch, merge_patch, strategic_patch, track
from mk8s_cli.demo_api.reads import selected
from mk8s_cli.demo_api.store import key_of
from mk8s_cli.demo_api.validation import known_part
from mk8s_cli.demo_api.views import view

KIND = ("apiVersion", "kind")
SUBDOMAIN = re.compile(
    r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
)
"""The form of most names."""


def placed(call: Call, item: Any) -> Document:
    """An object of the request's kind, with what the path says: kind, namespace, name; raises 400.

    As kube-apiserver reads it: the body of a built-in kind need not say its kind and version, that
    of a custom one must; what it says must fit, and a path with a name wants the same in the body.
    """
    item = of_kind(item, call.kind.api_version, call.kind.gvk["kind"], strict=call.kind.is_custom)
    meta = {**(item.get("metadata") or {})}
    if call.namespace and meta.setdefault("namespace", call.namespace) != call.namespace:
        words = "the namespace of the provided object does not match the namespace sent on the"
        raise ApiError(400, f"{words} request")
    if call.name and (name := meta.get("name")) != call.name:
        problem = f"({name}) does not match the name on the URL ({call.name})"
        if not name:
            problem = f"({call.name} based on URL) was undeterminable: name must be provided"
        raise ApiError(400, f"the name of the object {problem}")
    return known_part(call, {**item, "metadata": meta})


def of_kind(item: Any, version: str, kind: str, *, strict: bool = False) -> Document:
    """The object with its kind and version; 400 unless it says these or, not `strict`, nothing."""
    if not isinstance(item, dict):
        words = f"the object provided is unrecognized (must be of type {kind}): it is no object"
        raise ApiError(400, words)
    given, said = item.get("apiVersion"), item.get("kind")
    if strict and not said:
        raise ApiError(400, f"the object provided is unrecognized (must be of type {kind})")
    if (given or (version if not strict else "")) != version:
        words = f"the API version in the data ({given or ''}) does not match the expected API"
        raise ApiError(400, f"{words} version ({version})")
    if strict and said != kind:
        group, words = version.rpartition("/")[0], f'Invalid value: "{said}": must be {kind}'
        name = str(dig(item, "metadata.name", ""))
        raise invalid(str(said), group, name, "kind", "FieldValueInvalid", words)
    if (said or kind) != kind:
        raise ApiError(400, f'{said} in version "{version}" cannot be handled as a {kind}')
    return {**item, "apiVersion": version, "kind": kind}


def manager_of(call: Call) -> Document:
    """Who writes, for managedFields: the query's fieldManager or the User-Agent's program."""
    agent = call.request.headers.get("User-Agent", "unknown").partition("/")[0]
    name = call.request.query.get("fieldManager") or agent
    operation = "Apply" if call.is_apply else "Update"
    found = {"manager": name, "operation": operation, "apiVersion": call.kind.api_version}
    return found | ({"subresource": call.subresource} if call.subresource else {})


def check_name(kind: str, group: str, name: str) -> None:
    """Raises 422 unless an object may have this name; roles may have nearly any."""
    if not name:
        words = "Required value: name or generateName is required"
        raise invalid(kind, group, name, "metadata.name", "FieldValueRequired", words)
    if group != "rbac.authorization.k8s.io" and not SUBDOMAIN.fullmatch(name):
        words = f'Invalid value: "{name}": a lowercase RFC 1123 subdomain must consist of lower '
        words += "case alphanumeric characters, '-' or '.', and must start and end with one"
        raise invalid(kind, group, name, "metadata.name", "FieldValueInvalid", words)


def insert(call: Call, item: Document, config: Document | None = None) -> web.Response:
    """Stores a new object; `config` is what was applied, if it was."""
    meta, kind = item["metadata"], call.kind
    if not meta.get("name") and meta.get("generateName"):
        meta["name"] = meta["generateName"] + uuid.uuid4().hex[:5]
    check_name(kind.gvk["kind"], kind.gvk["group"], str(meta.get("name") or ""))
    if meta.get("resourceVersion"):
        raise ApiError(500, "resourceVersion should not be set on objects to be created", "")
    if kind.entry["namespaced"]:
        call.store.get("namespaces", ("", call.namespace))
    if "status" in kind.subresources:
        item = {key: value for key, value in item.items() if key != "status"}
    item = track(None, item, manager_of(call), config)
    stored = call.store.create(kind.resource, item, dry_run=call.dry_run)
    return call.answer(view(call, stored), 201)


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
    return insert(call, placed(call, await call.body()))


async def update(call: Call) -> web.StreamResponse:
    """PUT of an object, or PATCH in one of the four patch types."""
    body = await call.body()
    if call.is_apply:
        return _server_side_apply(call, body)
    if call.request.method == "PUT":
        item = placed(call, body)
        return call.answer(view(call, replace(call, call.current(), item)))
    before = call.current()
    after = patched(call, before, body)
    if [after.get(key) for key in KIND] != [before[key] for key in KIND]:
        words = "Invalid value: it would change what kind of object this is"
        raise invalid("", "", "", "patch", "FieldValueInvalid", words)
    return call.answer(view(call, replace(call, before, placed(call, after))))


def _server_side_apply(call: Call, body: Any) -> web.Response:
    if not call.request.query.get("fieldManager"):
        words, options = "Required value: is required for apply patch", "PatchOptions"
        kind = (options, "meta.k8s.io", "")
        raise invalid(*kind, "fieldManager", "FieldValueRequired", words)
    said = [dig(body, key) for key in KIND]
    if said != [call.kind.api_version, call.kind.gvk["kind"]]:
        raise ApiError(400, f"invalid object type: {said[0] or '/'}, Kind={said[1] or ''}")
    config = placed(call, body)
    if config["metadata"].get("managedFields"):
        raise ApiError(400, "metadata.managedFields must be nil")
    live = call.store.find(call.kind.resource, (call.namespace, call.name))
    if live is None:
        return insert(call, config, config)
    after = apply(live, config, manager_of(call), force=call.flag("force"))
    return call.answer(view(call, replace(call, live, after, config)))


def patched(call: Call, item: Document, body: Any) -> Document:
    """The object after a patch, whose type `Call.body` has checked."""
    found = media.media_of(call.request)
    if found == JSON_PATCH:
        return json_patch(item, body)
    if not isinstance(body, dict):
        raise ApiError(400, "the patch is not an object")
    if found == MERGE_PATCH:
        return dict(merge_patch(item, body))
    return strategic_patch(item, body, call.kind.schema)


async def delete(call: Call) -> web.StreamResponse:
    """DELETE of an object, or of all that the selectors match, at once.

    Finalizers hold nothing, owner references take nothing along.
    """
    options = await call.body() or {}
    found = [call.current()] if call.name else selected(call)
    for item in found:
        _check_preconditions(call, item, dig(options, "preconditions", {}))
    if not (call.dry_run or options.get("dryRun")):
        for item in found:
            call.store.delete(call.kind.resource, key_of(item))
    if not call.name:
        return call.answer(view(call, found))
    if call.kind.resource in data("defaults")["deleted_shown"]:
        return call.answer(view(call, found[0]))
    details = {**details_of(call.kind.resource, call.name), "uid": found[0]["metadata"]["uid"]}
    return call.answer({**STATUS, "status": "Success", "details": details})


def _check_preconditions(call: Call, item: Document, wanted: Document) -> None:
    for key in ("uid", "resourceVersion"):
        if wanted.get(key) not in {None, "", own := item["metadata"][key]}:
            kind, name = call.kind.gvk["kind"], item["metadata"]["name"]
            words = f"the {key} in the precondition ({wanted[key]}) does not match {own}"
            message = f'Operation cannot be fulfilled on {kind} "{name}": {words}'
            raise ApiError(409, message, name=name, kind=kind)
