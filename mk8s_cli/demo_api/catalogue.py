"""The kinds that are served: built-in ones from data, custom ones from their definitions.

Used by nearly every other module. `data/kubernetes.json.gz` is a real API server's discovery and
OpenAPI, made by `tests/demo/make_documents.py`.
"""

import functools
import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Document = dict[str, Any]
DATA = Path(__file__).with_name("data")
DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"
GVKS = "x-kubernetes-group-version-kind"
ALL_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


@functools.cache
def built_in() -> Document:
    """`resources` (discovery), `definitions` and `openapi_v2_protobuf`, `messages` (protobuf)."""
    found: Document = json.loads(gzip.decompress((DATA / "kubernetes.json.gz").read_bytes()))
    return found


@functools.cache
def definition_of(group: str, version: str, kind: str) -> str:
    """The OpenAPI name of a built-in kind, "" if it has none."""
    gvk = {"group": group, "version": version, "kind": kind}
    definitions = built_in()["definitions"].items()
    return next((name for name, schema in definitions if gvk in schema.get(GVKS, ())), "")


@functools.cache
def data(name: str) -> Any:
    """One of our own YAML files; whoever uses it must not change it."""
    found = yaml.safe_load((DATA / f"{name}.yaml").read_text())
    return json.loads(json.dumps(found))  # a YAML alias is one dict in two places, JSON has none


def resolve(schema: Document | None) -> Document:
    """A schema with its reference followed; annotations beside the reference are kept."""
    if schema and "$ref" in schema:
        return {**built_in()["definitions"][schema["$ref"].rpartition("/")[2]], **schema}
    return schema or {}


def child(schema: Document, key: str) -> Document:
    """The schema of a field of an object (or of a value of a map); an empty one knows nothing."""
    extra = schema.get("additionalProperties")
    found = schema.get("properties", {}).get(key)
    return resolve(found or (extra if isinstance(extra, dict) else None))


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource in one version."""

    gvk: dict[str, str]
    """Group, version and kind."""
    api_version: str
    """The `apiVersion` of its objects."""
    resource: str
    """The name in messages and the key of the store: "deployments.apps"."""
    namespaced: bool
    entry: Document
    """Its APIResource of classic discovery."""
    schema: Document
    subresources: dict[str, Document]
    """APIResources by name."""
    columns: list[Document] | None
    """additionalPrinterColumns of a custom resource, None for a built-in one."""


class Catalogue:
    """All served kinds."""

    def __init__(self) -> None:
        self.groups: dict[str, dict[str, dict[str, Kind]]] = {}
        """Kinds by group ("" is the core), version and plural name."""
        self.definitions: dict[str, Document] = dict(built_in()["definitions"])
        for served in built_in()["resources"]:
            for entry in served["resources"]:
                gvk = {"group": served["group"], "version": served["version"]}
                gvk["kind"] = entry["kind"]
                self._add(gvk, entry, self.definitions.get(definition_of(**gvk), {}))

    def _add(
        self, gvk: dict[str, str], entry: Document, schema: Document, columns: Any = None
    ) -> None:
        group, version = gvk["group"], gvk["version"]
        plural, _, subresource = entry["name"].partition("/")
        kinds = self.groups.setdefault(group, {}).setdefault(version, {})
        if subresource:
            kinds[plural].subresources[subresource] = entry
            return
        api_version = f"{group}/{version}" if group else version
        resource = f"{plural}.{group}" if group else plural
        namespaced = entry["namespaced"]
        kinds[plural] = Kind(gvk, api_version, resource, namespaced, entry, schema, {}, columns)

    def kinds(self) -> list[Kind]:
        """Every served kind."""
        versions = [version for group in self.groups.values() for version in group.values()]
        return [kind for version in versions for kind in version.values()]

    def find(self, group: str, version: str, plural: str) -> Kind | None:
        """The kind at a path."""
        return self.groups.get(group, {}).get(version, {}).get(plural)

    def add_custom(self, definition: Document) -> None:
        """Serves a CustomResourceDefinition; again after a change of it."""
        self.remove_custom(definition)
        spec = definition["spec"]
        names, group = spec["names"], spec["group"]
        entry = {key: names[key] for key in ("kind", "shortNames", "categories") if key in names}
        entry |= {"singularName": names["singular"], "namespaced": spec["scope"] == "Namespaced"}
        for version in spec["versions"]:
            if not version.get("served", True):
                continue
            own = {**entry, "name": names["plural"], "verbs": ALL_VERBS}
            gvk = {"group": group, "version": version["name"], "kind": names["kind"]}
            schema = (version.get("schema") or {}).get("openAPIV3Schema") or {}
            schema = {"type": "object", **schema, GVKS: [gvk]}
            self.definitions[".".join(gvk.values())] = schema
            columns = version.get("additionalPrinterColumns") or []
            self._add(gvk, own, schema, columns)
            for name in version.get("subresources") or {}:
                own = {**entry, "name": f"{names['plural']}/{name}", "verbs": ["get", "patch"]}
                self._add(gvk, own, {})

    def remove_custom(self, definition: Document) -> None:
        """Stops serving a CustomResourceDefinition."""
        spec = definition["spec"]
        versions = self.groups.get(spec["group"], {})
        for version in list(versions):
            versions[version].pop(spec["names"]["plural"], None)
            self.definitions.pop(f"{spec['group']}.{version}.{spec['names']['kind']}", None)
            if not versions[version]:
                del versions[version]
        if not versions:
            self.groups.pop(spec["group"], None)
