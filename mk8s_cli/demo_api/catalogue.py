"""The kinds that are served: built-in ones from data, custom ones from their definitions.

Used by nearly every other module. `data/kubernetes.json.gz` is a real API server's discovery and
OpenAPI, made by `tests/demo/make_documents.py`.
"""

import functools
import gzip
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mk8s_cli.demo_api.objects import Document

DATA = Path(__file__).with_name("data")
DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"
GVKS = "x-kubernetes-group-version-kind"
OF_EVERY_OBJECT: Document = {
    "apiVersion": {"type": "string"},
    "kind": {"type": "string"},
    "metadata": {"$ref": "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"},
}
"""Properties that the schemas of custom resources need not name."""
OWN_VERBS = ["get", "patch", "update"]
"""Of subresources."""
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
    path: str
    """Of its group and version: "apis/apps/v1"."""
    resource: str
    """The name in messages and the key of the store: "deployments.apps"."""
    entry: Document
    """Its APIResource of classic discovery."""
    schema: Document
    columns: list[Document] | None
    """additionalPrinterColumns of a custom resource, None for a built-in one."""
    subresources: dict[str, Document] = field(default_factory=dict)
    """APIResources by name."""

    @property
    def is_custom(self) -> bool:
        """Whether a CustomResourceDefinition defines it."""
        return self.columns is not None


class Catalogue:
    """All served kinds."""

    def __init__(self) -> None:
        self.kinds: dict[tuple[str, str, str], Kind] = {}
        """By group ("" is the core), version and plural name."""
        for served in built_in()["resources"]:
            for entry in served["resources"]:
                self.add(served["group"], served["version"], entry)

    def add(
        self, group: str, version: str, entry: Document, schema: Any = None, columns: Any = None
    ) -> None:
        """Serves an APIResource: a kind, or a subresource of one that is there already."""
        plural, _, subresource = entry["name"].partition("/")
        if subresource:
            self.kinds[group, version, plural].subresources[subresource] = entry
            return
        gvk = {"group": group, "version": version, "kind": entry["kind"]}
        schema = schema or built_in()["definitions"].get(definition_of(**gvk), {})
        api_version = f"{group}/{version}" if group else version
        path = f"apis/{api_version}" if group else f"api/{version}"
        resource = f"{plural}.{group}" if group else plural
        kind = Kind(gvk, api_version, path, resource, entry, schema, columns)
        self.kinds[group, version, plural] = kind

    def has_generation(self, resource: str) -> bool:
        """Whether the server counts the generations of this resource's objects."""
        return resource in data("defaults")["generations"] or any(
            kind.is_custom and kind.resource == resource for kind in self.kinds.values()
        )

    def served(self) -> dict[str, list[Kind]]:
        """The kinds by the path of their group and version."""
        found: dict[str, list[Kind]] = {}
        for kind in self.kinds.values():
            found.setdefault(kind.path, []).append(kind)
        return found

    def schemas(self) -> Document:
        """The OpenAPI definitions of all kinds and of what they are made of."""
        own = {}
        for kind in self.kinds.values():
            if kind.is_custom:
                properties = {**kind.schema.get("properties", {}), **OF_EVERY_OBJECT}
                schema = {**kind.schema, "properties": properties, GVKS: [kind.gvk]}
                own[".".join(kind.gvk.values())] = schema
        return {**built_in()["definitions"], **own}

    def define(self, definition: Document, *, served: bool) -> None:
        """Serves what a CustomResourceDefinition defines, or serves it no more."""
        spec, gone = definition["spec"], definition["metadata"]["name"]
        self.kinds = {key: kind for key, kind in self.kinds.items() if kind.resource != gone}
        names, group = spec["names"], spec["group"]
        entry = {key: names[key] for key in ("kind", "shortNames", "categories") if key in names}
        entry |= {"singularName": names["singular"], "namespaced": spec["scope"] == "Namespaced"}
        for version in spec["versions"] if served else ():
            if version.get("served", True):
                schema = (version.get("schema") or {}).get("openAPIV3Schema") or {}
                own = {**entry, "name": names["plural"], "verbs": ALL_VERBS}
                columns = version.get("additionalPrinterColumns") or []
                self.add(group, version["name"], own, {"type": "object", **schema}, columns)
                for name in version.get("subresources") or {}:
                    own = {**entry, "name": f"{names['plural']}/{name}", "verbs": OWN_VERBS}
                    self.add(group, version["name"], own)
