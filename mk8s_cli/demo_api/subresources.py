"""Subresources with a kind of their own: scale and eviction; called by `server`."""

from aiohttp import web

from mk8s_cli.demo_api.call import Call
from mk8s_cli.demo_api.objects import STATUS, ApiError, Document, dig
from mk8s_cli.demo_api.store import key_of
from mk8s_cli.demo_api.writes import of_kind, patched, replace


async def scale(call: Call) -> web.StreamResponse:
    """GET, PUT or PATCH of .../scale."""
    item = call.current()
    if call.request.method != "GET":
        body = await call.body()
        if call.request.method == "PATCH":
            body = patched(call, _scale_of(item), body)
        body = of_kind(body, "autoscaling/v1", "Scale")
        if dig(body, "metadata.name") != call.name:
            raise ApiError(400, "the name of the object does not match the name on the URL")
        meta = {**item["metadata"], "resourceVersion": dig(body, "metadata.resourceVersion")}
        spec = {**item["spec"], "replicas": dig(body, "spec.replicas", 0)}
        item = replace(call, item, {**item, "metadata": meta, "spec": spec})
    return call.answer(_scale_of(item))


def _scale_of(item: Document) -> Document:
    labels = dig(item, "spec.selector.matchLabels", {})
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    names = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: item["metadata"][name] for name in names},
        "spec": {"replicas": dig(item, "spec.replicas", 1)},
        "status": {"replicas": dig(item, "status.replicas", 0), "selector": selector},
    }


async def evict(call: Call) -> web.StreamResponse:
    """POST of .../eviction, by which `kubectl drain` deletes pods; no budget forbids it here."""
    body = of_kind(await call.body(), "policy/v1", "Eviction")
    if dig(body, "metadata.name") != call.name:
        raise ApiError(400, "name in URL does not match name in Eviction object")
    pod = call.current()
    if not (call.dry_run or dig(body, "deleteOptions.dryRun")):
        call.store.delete(call.kind.resource, key_of(pod))
    return call.answer({**STATUS, "status": "Success", "code": 201}, 201)
