"""Discovery (classic, aggregated) and OpenAPI (v2, v3) of the catalogue; called by `app`.

The aggregated form is KEP-3352's. OpenAPI has only the paths that kubectl looks at.
"""

import base64
import json
import re

from mk8s_cli.demo_api.catalogue import Catalogue, Document, Kind, built_in, data

AGGREGATED = re.compile(r"application/json;(?=.*as=APIGroupDiscoveryList).*v=(v2|v2beta1)(?:;|$)")
PARAMETERS = ("dryRun", "fieldManager")
"""What the server understands in a PATCH; without fieldValidation kubectl validates by itself."""


def document(catalogue: Catalogue, parts: list[str]) -> Document | None:
    """The classic document at a path, None if there is none."""
    match parts:
        case [""]:
            return {"paths": ["/api", "/apis", "/healthz", "/openapi/v2", "/openapi/v3"]}
        case ["version"]:
            return dict(data("defaults")["version"])
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
        case ["apis"]:
            found = [_group(catalogue, name) for name in catalogue.groups if name]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": found}
        case ["apis", name] if name in catalogue.groups:
            return {"kind": "APIGroup", "apiVersion": "v1", **_group(catalogue, name)}
        case ["api", version]:
            return _resources(catalogue.groups[""].get(version, {}))
        case ["apis", name, version] if name:
            return _resources(catalogue.groups.get(name, {}).get(version, {}))
    return None


def _group(catalogue: Catalogue, name: str) -> Document:
    found = [{"groupVersion": f"{name}/{it}", "version": it} for it in catalogue.groups[name]]
    return {"name": name, "versions": found, "preferredVersion": found[0]}


def _resources(kinds: dict[str, Kind]) -> Document | None:
    found: list[Document] = []
    for kind in kinds.values():
        found += [kind.entry, *kind.subresources.values()]
        head = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": kind.api_version}
    return {**head, "resources": found} if found else None


def aggregated(catalogue: Catalogue, prefix: str, accept: str) -> tuple[str, Document] | None:
    """The media type and the document of /api and /apis for clients that accept this form."""
    wanted = next(filter(None, map(AGGREGATED.search, accept.split(","))), None)
    if wanted is None:
        return None
    items = []
    for name in [""] if prefix == "api" else [name for name in catalogue.groups if name]:
        versions = [
            {"version": version, "freshness": "Current", "resources": [*map(_aggregated, kinds)]}
            for version, kinds in ((it, one.values()) for it, one in catalogue.groups[name].items())
        ]
        items.append({"metadata": {"name": name} if name else {}, "versions": versions})
    head = {"kind": "APIGroupDiscoveryList", "apiVersion": f"apidiscovery.k8s.io/{wanted[1]}"}
    return wanted.string.strip(), {**head, "metadata": {}, "items": items}


def _aggregated(kind: Kind) -> Document:
    subresources = []
    for name, entry in kind.subresources.items():
        response = {key: entry.get(key, value) for key, value in kind.gvk.items()}
        own = {"subresource": name, "responseKind": response, "verbs": entry["verbs"]}
        subresources.append(own)
    return {
        "resource": kind.entry["name"],
        "responseKind": kind.gvk,
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.entry["singularName"],
        **{key: kind.entry.get(key, []) for key in ("verbs", "shortNames", "categories")},
        "subresources": subresources,
    }


def openapi(catalogue: Catalogue, parts: list[str], *, as_protobuf: bool) -> bytes | None:
    """The OpenAPI document at a path below /openapi, None if there is none.

    As protobuf it is a constant, without custom resources: only kubectl before 1.27 reads it for
    more than the built-in kinds.
    """
    kinds = {_path(one): one for one in catalogue.kinds()}
    head = {"info": {"title": "Kubernetes (mk8s demo)", "version": "v1.33.0-mk8s-demo"}}
    match parts:
        case ["v2"] if as_protobuf:
            return base64.b64decode(built_in()["openapi_v2_protobuf"])
        case ["v2"]:
            paths = _paths(catalogue.kinds(), {"type": "string"})
            found = {"swagger": "2.0", **head, "paths": paths}
            return json.dumps({**found, "definitions": catalogue.definitions}).encode()
        case ["v3"]:
            urls = {path: {"serverRelativeURL": f"/openapi/v3/{path}"} for path in kinds}
            return json.dumps({"paths": urls}).encode()
        case ["v3", *path] if one := kinds.get("/".join(path)):
            served = list(catalogue.groups[one.gvk["group"]][one.gvk["version"]].values())
            found = {"openapi": "3.0.0", **head}
            found["paths"] = _paths(served, {"schema": {"type": "string"}})
            text = json.dumps({**found, "components": {"schemas": catalogue.definitions}})
            return text.replace('"#/definitions/', '"#/components/schemas/').encode()
    return None


def _path(kind: Kind) -> str:
    return f"apis/{kind.api_version}" if kind.gvk["group"] else f"api/{kind.api_version}"


def _paths(kinds: list[Kind], parameter: Document) -> Document:
    """One PATCH per kind: kubectl looks there for the parameters that the server understands."""
    parameters = [{"name": name, "in": "query", **parameter} for name in PARAMETERS]
    common = {"responses": {"200": {"description": "OK"}}, "parameters": parameters}
    found = {}
    for kind in kinds:
        inner = "/namespaces/{namespace}" if kind.namespaced else ""
        patch = {**common, "x-kubernetes-group-version-kind": kind.gvk}
        found[f"/{_path(kind)}{inner}/{kind.entry['name']}/{{name}}"] = {"patch": patch}
    return found
