"""Discovery (classic, aggregated) and OpenAPI (v2, v3) of the catalogue; called by `server`.

The aggregated form is KEP-3352's. OpenAPI has only the paths that kubectl looks at.
"""

import functools
import json
import re
from collections.abc import Iterable

from aiohttp import web

from mk8s_cli.demo_api import openapi_protobuf
from mk8s_cli.demo_api.catalogue import GVKS, Catalogue, Kind, built_in, data
from mk8s_cli.demo_api.media import JSON, NO_CACHE, accepted, encode
from mk8s_cli.demo_api.media import answer as media_answer
from mk8s_cli.demo_api.objects import ApiError, Document, not_found

AGGREGATED = re.compile(r"(?=[^,]*;as=APIGroupDiscoveryList)[^,]*;v=(v2|v2beta1)\b")
AGGREGATED_TYPE = "application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList"
OPENAPI_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""Asked for with an "@" before v1.0, which no media type may have; kube-apiserver answers this."""
PARAMETERS = ("dryRun", "fieldManager", "fieldValidation")
"""What the server understands in a PATCH; without the last kubectl validates by itself."""


def answer(catalogue: Catalogue, path: str, request: web.Request) -> web.Response:
    """The answer to a request for a path that is no resource; raises 404, 405 and 406.

    As kube-apiserver does it: the index is served for any method, HEAD where no route of its own
    kinds is asked, and paths that belong to nobody are 404 in plain text.
    """
    accept = request.headers.get("Accept", "")
    if path in {"", "index.html"}:
        return _for_people({"paths": _index(catalogue)})
    found = _openapi_answer(catalogue, path, accept) or _document(catalogue, path, request)
    if found is None:
        return _nowhere(path)
    if request.method not in {"GET", "HEAD"} or (request.method == "HEAD" and _is_route(path)):
        raise ApiError(405, "the server does not allow this method on the requested resource")
    found.headers.update(NO_CACHE)
    return found


def _for_people(document: Document) -> web.Response:
    raw = encode(document, JSON, pretty=True)
    return web.Response(body=raw, content_type=JSON, headers=NO_CACHE)


def _index(catalogue: Catalogue) -> list[str]:
    """All paths that are worth a look."""
    known = {f"/{path}" for path in _classic(catalogue)} | {"/openapi/v2", "/openapi/v3"}
    return sorted({*known, "/healthz", "/livez", "/readyz"})


def _document(catalogue: Catalogue, path: str, request: web.Request) -> web.Response | None:
    accept = request.headers.get("Accept", "")
    if path in {"api", "apis"} and (wanted := AGGREGATED.search(accept)):
        text = json.dumps(_aggregated(catalogue, path, wanted[1]))
        return web.Response(text=text, headers={"Content-Type": AGGREGATED_TYPE.format(wanted[1])})
    found = _classic(catalogue).get(path)
    if found is None:
        return None
    if path == "version":
        accepted(accept, served=[JSON])
        return _for_people(found)
    return media_answer(request, found, accepted(accept))


def _openapi_answer(catalogue: Catalogue, path: str, accept: str) -> web.Response | None:
    below = path.removeprefix("openapi/")
    if below == path or (found := openapi(catalogue, below)) is None:
        return None
    if below == "v2" and "proto-openapi.spec.v2" in accept:
        return web.Response(body=openapi_protobuf.encode(found), content_type=OPENAPI_PROTOBUF)
    accepted(accept, served=[JSON])
    return web.Response(body=encode(found, JSON), content_type=JSON)


def _is_route(path: str) -> bool:
    """Whether a path is a route of the built-in kinds, for which there is no HEAD."""
    parts = path.split("/")
    is_own_version = len(parts) == 3 and _is_own(parts[1])
    return path == "version" or parts[0] == "api" or (parts[0] == "apis" and is_own_version)


def _nowhere(path: str) -> web.Response:
    parts = [*path.split("/"), ""]
    if parts[0] == "api" or (parts[0] == "apis" and len(parts) > 3 and _is_own(parts[1])):
        raise not_found()
    text = None if parts[0] == "openapi" else "404 page not found\n"
    return web.Response(status=404, text=text, headers=NO_CACHE)


def _is_own(group: str) -> bool:
    return group in _built_in_groups()


@functools.cache
def _built_in_groups() -> frozenset[str]:
    return frozenset(item["group"] for item in built_in()["resources"] if item["group"])


def _classic(catalogue: Catalogue) -> dict[str, Document]:
    """The documents of classic discovery by path."""
    found = {"version": data("defaults")["version"]}
    found["api"] = {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    groups: dict[str, Document] = {}
    for path, kinds in catalogue.served().items():
        name, version = kinds[0].gvk["group"], kinds[0].gvk["version"]
        this = {"groupVersion": kinds[0].api_version, "version": version}
        entries = [entry for kind in kinds for entry in (kind.entry, *kind.subresources.values())]
        head = {"kind": "APIResourceList"} | ({"apiVersion": "v1"} if name else {})
        found[path] = {**head, "groupVersion": this["groupVersion"], "resources": entries}
        if name:
            group = {"name": name, "versions": [], "preferredVersion": this}
            groups.setdefault(name, group)["versions"].append(this)
            found[f"apis/{name}"] = {"kind": "APIGroup", "apiVersion": "v1", **groups[name]}
    found["apis"] = {"kind": "APIGroupList", "apiVersion": "v1", "groups": [*groups.values()]}
    return found


def _aggregated(catalogue: Catalogue, prefix: str, form: str) -> Document:
    groups: dict[str, list[Document]] = {}
    for path, kinds in catalogue.served().items():
        if path.startswith(f"{prefix}/"):
            resources = [_resource(kind) for kind in kinds]
            version = {"version": kinds[0].gvk["version"], "freshness": "Current"}
            versions = groups.setdefault(kinds[0].gvk["group"], [])
            versions.append({**version, "resources": resources})
    items = [{"metadata": {"name": name}, "versions": groups[name]} for name in groups]
    head = {"kind": "APIGroupDiscoveryList", "apiVersion": f"apidiscovery.k8s.io/{form}"}
    return {**head, "metadata": {}, "items": items}


def _resource(kind: Kind) -> Document:
    subresources = []
    for name, entry in kind.subresources.items():
        response = {key: entry.get(key, value) for key, value in kind.gvk.items()}
        own = {"subresource": name, "responseKind": response, "verbs": entry["verbs"]}
        subresources.append(own)
    return {
        "resource": kind.entry["name"],
        "responseKind": kind.gvk,
        "scope": "Namespaced" if kind.entry["namespaced"] else "Cluster",
        "singularResource": kind.entry["singularName"],
        **{key: kind.entry.get(key, []) for key in ("verbs", "shortNames", "categories")},
        "subresources": subresources,
    }


def openapi(catalogue: Catalogue, path: str) -> Document | None:
    """The OpenAPI document at a path below /openapi, None if there is none."""
    version, _, below = path.partition("/")
    head = {"title": "Kubernetes (mk8s demo)", "version": data("defaults")["version"]["gitVersion"]}
    served = catalogue.served()
    if path == "v2":
        paths = _paths(catalogue.kinds.values(), {"type": "string"})
        found = {"swagger": "2.0", "info": head, "paths": paths}
        return {**found, "definitions": catalogue.schemas()}
    if path == "v3":
        return {"paths": {at: {"serverRelativeURL": f"/openapi/v3/{at}"} for at in served}}
    if version != "v3" or below not in served:
        return None
    text = json.dumps({"schemas": catalogue.schemas()})
    components = json.loads(text.replace('"#/definitions/', '"#/components/schemas/'))
    paths = _paths(served[below], {"schema": {"type": "string"}})
    return {"openapi": "3.0.0", "info": head, "paths": paths, "components": components}


def _paths(kinds: Iterable[Kind], parameter: Document) -> Document:
    """One PATCH per kind: kubectl looks there for the parameters that the server understands."""
    parameters = [{"name": name, "in": "query", **parameter} for name in PARAMETERS]
    common = {"responses": {"200": {"description": "OK"}}, "parameters": parameters}
    found = {}
    for kind in kinds:
        inner = "/namespaces/{namespace}" if kind.entry["namespaced"] else ""
        path = f"/{kind.path}{inner}/{kind.entry['name']}/{{name}}"
        found[path] = {"patch": {**common, GVKS: kind.gvk}}
    return found
