"""Discovery (classic and aggregated) and OpenAPI (v2 as JSON and protobuf, v3) of the catalogue.

Called by `app`. The aggregated form is KEP-3352's; the protobuf form is gnostic's OpenAPIv2.proto,
whose field numbers are named here.
"""

import json
from typing import Any

from mk8s_cli.demo_api.catalogue import Catalogue, Document, ResourceType

VERSION = {
    "major": "1",
    "minor": "33",
    "gitVersion": "v1.33.0-mk8s-demo",
    "gitCommit": "in-memory API of mk8s demo, not a cluster",
    "gitTreeState": "clean",
    "buildDate": "2025-01-01T00:00:00Z",
    "goVersion": "none",
    "compiler": "none",
    "platform": "mk8s/demo",
}
PARAMETERS = ("dryRun", "fieldManager", "fieldValidation")


def group_version(group: str, version: str) -> str:
    """ "apps/v1", or "v1" for the core group."""
    return f"{group}/{version}" if group else version


def resource_list(catalogue: Catalogue, group: str, version: str) -> Document:
    """APIResourceList of a group version."""
    entries = []
    for item in catalogue.in_version(group, version):
        entries += [item.entry, *item.subresources.values()]
    head = {"kind": "APIResourceList", "apiVersion": "v1"}
    return {**head, "groupVersion": group_version(group, version), "resources": entries}


def group(catalogue: Catalogue, name: str) -> Document:
    """One entry of APIGroupList."""
    versions = [
        {"groupVersion": group_version(name, version), "version": version}
        for version in catalogue.versions(name)
    ]
    return {"name": name, "versions": versions, "preferredVersion": versions[0]}


def group_list(catalogue: Catalogue) -> Document:
    """The classic answer of /apis."""
    groups = [group(catalogue, name) for name in catalogue.groups()]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def api_versions(host: str) -> Document:
    """The classic answer of /api."""
    addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": host}]
    head = {"kind": "APIVersions", "versions": ["v1"]}
    return {**head, "serverAddressByClientCIDRs": addresses}


def aggregated(catalogue: Catalogue, groups: list[str], api_version: str) -> Document:
    """The aggregated answer of /api (groups [""]) and /apis."""
    items = []
    for name in groups:
        versions = [
            {
                "version": version,
                "freshness": "Current",
                "resources": [_aggregated(item) for item in catalogue.in_version(name, version)],
            }
            for version in catalogue.versions(name)
        ]
        items.append({"metadata": {"name": name} if name else {}, "versions": versions})
    head = {"kind": "APIGroupDiscoveryList", "apiVersion": api_version}
    return {**head, "metadata": {}, "items": items}


def _aggregated(item: ResourceType) -> Document:
    found: Document = {
        "resource": item.name,
        "responseKind": {"group": item.group, "version": item.version, "kind": item.kind},
        "scope": "Namespaced" if item.namespaced else "Cluster",
        "singularResource": item.entry.get("singularName") or item.kind.lower(),
        "verbs": item.entry["verbs"],
    }
    found |= {key: item.entry[key] for key in ("shortNames", "categories") if key in item.entry}
    if item.subresources:
        found["subresources"] = [
            {
                "subresource": name,
                "responseKind": _response_kind(item, entry),
                "verbs": entry["verbs"],
            }
            for name, entry in item.subresources.items()
        ]
    return found


def _response_kind(item: ResourceType, entry: Document) -> Document:
    group = entry.get("group", item.group)
    return {"group": group, "version": entry.get("version", item.version), "kind": entry["kind"]}


def paths(types: list[ResourceType], parameter: Document) -> dict[str, Document]:
    """One PATCH per type: kubectl looks there for the parameters that the server understands."""
    found = {}
    for item in types:
        prefix = f"/apis/{item.group}" if item.group else "/api"
        inner = f"/namespaces/{{namespace}}/{item.name}" if item.namespaced else f"/{item.name}"
        gvk = {"group": item.group, "version": item.version, "kind": item.kind}
        patch = {
            "responses": {"200": {"description": "OK"}},
            "parameters": [{"name": name, "in": "query", **parameter} for name in PARAMETERS],
            "x-kubernetes-group-version-kind": gvk,
        }
        found[f"{prefix}/{item.version}{inner}/{{name}}"] = {"patch": patch}
    return found


def _info() -> Document:
    return {"title": "Kubernetes (in-memory API of mk8s demo)", "version": VERSION["gitVersion"]}


def openapi_v2(catalogue: Catalogue) -> Document:
    """The Swagger document, custom resources included."""
    served = paths(list(catalogue.types.values()), {"type": "string"})
    head = {"swagger": "2.0", "info": _info()}
    return {**head, "paths": served, "definitions": catalogue.definitions}


def openapi_v3_index(catalogue: Catalogue) -> Document:
    """Where the document of each group version is."""
    found = {}
    for name, version in dict.fromkeys(key[:2] for key in catalogue.types):
        path = f"apis/{name}/{version}" if name else f"api/{version}"
        found[path] = {"serverRelativeURL": f"/openapi/v3/{path}"}
    return {"paths": found}


def openapi_v3(catalogue: Catalogue, types: list[ResourceType]) -> bytes:
    """The document of one group version, with all schemas it refers to."""
    schemas: dict[str, Document] = {}
    names = [catalogue.definition_name(item.group, item.version, item.kind) for item in types]
    while names:
        name = names.pop()
        if name and name not in schemas:
            schemas[name] = catalogue.definitions[name]
            names += list(_references(schemas[name]))
    document = {
        "openapi": "3.0.0",
        "info": _info(),
        "paths": paths(types, {"schema": {"type": "string"}}),
        "components": {"schemas": schemas},
    }
    text = json.dumps(document)
    return text.replace('"#/definitions/', '"#/components/schemas/').encode()


def _references(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*map(_references, value))
    if not isinstance(value, dict):
        return set()
    own = value.get("$ref")
    found = {own.removeprefix("#/definitions/")} if isinstance(own, str) else set()
    return found.union(*map(_references, value.values()))


def _field(number: int, value: bytes | str) -> bytes:
    """A length-delimited protobuf field."""
    raw = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(raw)) + raw


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def _extensions(number: int, source: Document) -> bytes:
    """The x- fields as NamedAny with YAML (here JSON) values."""
    return b"".join(
        _field(number, _field(1, key) + _field(2, _field(2, json.dumps(value))))
        for key, value in source.items()
        if key.startswith("x-")
    )


def _schema(schema: Document) -> bytes:
    """OpenAPIv2.proto Schema: what kubectl reads of it."""
    numbers = {"$ref": 1, "format": 2, "description": 4}
    found = [_field(number, schema[key]) for key, number in numbers.items() if schema.get(key)]
    found += [_field(19, name) for name in schema.get("required", [])]
    extra = schema.get("additionalProperties")
    if isinstance(extra, dict):
        found.append(_field(21, _field(1, _schema(extra))))
    if "type" in schema:
        found.append(_field(22, _field(1, schema["type"])))
    if "items" in schema:
        found.append(_field(23, _field(1, _schema(schema["items"]))))
    if "properties" in schema:
        found.append(_field(25, _named_schemas(schema["properties"])))
    return b"".join(found) + _extensions(31, schema)


def _named_schemas(schemas: dict[str, Document]) -> bytes:
    return b"".join(
        _field(1, _field(1, name) + _field(2, _schema(schema))) for name, schema in schemas.items()
    )


def _operation(operation: Document) -> bytes:
    parameters = b"".join(
        # ParametersItem.parameter.non_body_parameter.query_parameter_sub_schema {in, name, type}
        _field(
            8,
            _field(
                1,
                _field(
                    2, _field(3, _field(2, "query") + _field(4, item["name"]) + _field(6, "string"))
                ),
            ),
        )
        for item in operation["parameters"]
    )
    return parameters + _extensions(13, operation)


def openapi_v2_protobuf(catalogue: Catalogue) -> bytes:
    """OpenAPIv2.proto Document."""
    document = openapi_v2(catalogue)
    info = _field(1, document["info"]["title"]) + _field(2, document["info"]["version"])
    items = b"".join(
        _field(2, _field(1, path) + _field(2, _field(8, _operation(item["patch"]))))
        for path, item in document["paths"].items()
    )
    definitions = _named_schemas(document["definitions"])
    return _field(1, "2.0") + _field(2, info) + _field(8, items) + _field(9, definitions)
