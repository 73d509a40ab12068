"""Discovery (classic, aggregated) and OpenAPI (v2, v3) of the catalogue; called by `server`.

The aggregated form is KEP-3352's. OpenAPI has only the paths that kubectl looks at, and in its
protobuf form is a constant without custom resources: only kubectl before 1.27 reads that for more
than the built-in kinds.
"""

import base64
import json
import re
from collections.abc import Iterable

from aiohttp import web

from mk8s_cli.demo_api.catalogue import GVKS, Catalogue, Kind, built_in, data
from mk8s_cli.demo_api.objects import Document

AGGREGATED = re.compile(r"(?=[^,]*;as=APIGroupDiscoveryList)[^,]*;v=(v2|v2beta1)\b")
AGGREGATED_TYPE = "application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList"
OPENAPI_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""Asked for with an "@" before v1.0, which no media type may have; kube-apiserver answers this."""
PARAMETERS = ("dryRun", "fieldManager")
"""What the server understands in a PATCH; without fieldValidation kubectl validates by itself."""


def answer(catalogue: Catalogue, path: str, accept: str) -> web.Response | None:
    """The document at a path in the form that the client accepts, None if there is none."""
    if path == "openapi/v2" and "proto-openapi.spec.v2" in accept:
        body = base64.b64decode(built_in()["openapi_v2_protobuf"])
        return web.Response(body=body, content_type=OPENAPI_PROTOBUF)
    if path in {"api", "apis"} and (wanted := AGGREGATED.search(accept)):
        text = json.dumps(_aggregated(catalogue, path, wanted[1]))
        return web.Response(text=text, headers={"Content-Type": AGGREGATED_TYPE.format(wanted[1])})
    below = path.removeprefix("openapi/")
    found = _classic(catalogue).get(path) if below == path else openapi(catalogue, below)
    return None if found is None else web.json_response(found)


def _classic(catalogue: Catalogue) -> dict[str, Document]:
    """The documents of classic discovery by path."""
    found = {"version": data("defaults")["version"]}
    found["api"] = {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    groups: dict[str, Document] = {}
    for path, kinds in catalogue.served().items():
        name, version = kinds[0].gvk["group"], kinds[0].gvk["version"]
        this = {"groupVersion": kinds[0].api_version, "version": version}
        entries = [entry for kind in kinds for entry in (kind.entry, *kind.subresources.values())]
        head = {"kind": "APIResourceList", "apiVersion": "v1"}
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
