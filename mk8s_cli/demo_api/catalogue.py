"""The kinds that are served: built-in ones from data, custom ones from their definitions.

Used by every other module; discovery and OpenAPI documents are made from it in `documents`.
"""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Document = dict[str, Any]
ALL_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
META = "io.k8s.apimachinery.pkg.apis.meta.v1."


@dataclass(frozen=True, slots=True)
class ResourceType:
    """One resource in one version."""

    group: str
    version: str
    name: str
    """Plural, "deployments"."""
    kind: str
    namespaced: bool
    entry: Document
    """Its APIResource of classic discovery."""
    subresources: dict[str, Document] = field(default_factory=dict)
    columns: tuple[Document, ...] = ()
    """additionalPrinterColumns of a custom resource."""

    @property
    def api_version(self) -> str:
        """The `apiVersion` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """The name in messages and the key of the store: "deployments.apps"."""
        return f"{self.name}.{self.group}" if self.group else self.name


class Catalogue:
    """All served types, their schemas and their protobuf field numbers."""

    def __init__(self) -> None:
        raw = Path(__file__).with_name("data").joinpath("kubernetes.json.gz").read_bytes()
        document = json.loads(gzip.decompress(raw))
        self.definitions: dict[str, Document] = document["definitions"]
        self.messages: dict[str, dict[str, list[str]]] = document["messages"]
        self.types: dict[tuple[str, str, str], ResourceType] = {}
        self._custom: set[tuple[str, str, str]] = set()
        self.revision = 0
        """Grows when custom resources come and go."""
        for served in document["resources"]:
            self._add(served["group"], served["version"], served["resources"])
        self._names = {
            (gvk["group"], gvk["version"], gvk["kind"]): name
            for name, schema in self.definitions.items()
            for gvk in schema.get("x-kubernetes-group-version-kind", [])
        }

    def _add(self, group: str, version: str, entries: list[Document], columns: Any = ()) -> None:
        for entry in entries:
            plural, _, sub = entry["name"].partition("/")
            if sub:
                self.types[group, version, plural].subresources[sub] = entry
                continue
            found = ResourceType(
                group,
                version,
                plural,
                entry["kind"],
                entry["namespaced"],
                entry,
                {},
                tuple(columns),
            )
            self.types[group, version, plural] = found

    def find(self, group: str, version: str, name: str) -> ResourceType | None:
        """The type at a path, or None."""
        return self.types.get((group, version, name))

    def of_resource(self, resource: str) -> ResourceType:
        """The type by its store key, in any version."""
        return next(item for item in self.types.values() if item.resource == resource)

    def versions(self, group: str) -> list[str]:
        """Served versions of a group, the preferred one first."""
        return list(dict.fromkeys(key[1] for key in self.types if key[0] == group))

    def groups(self) -> list[str]:
        """Served groups but the core one."""
        return list(dict.fromkeys(key[0] for key in self.types if key[0]))

    def in_version(self, group: str, version: str) -> list[ResourceType]:
        """The types of one group version."""
        return [item for key, item in self.types.items() if key[:2] == (group, version)]

    def definition_name(self, group: str, version: str, kind: str) -> str:
        """The OpenAPI name of a kind, "" if it has none."""
        found = self._names.get((group, version, kind), "")
        meta = META + kind
        return found or (meta if meta in self.definitions else "")

    def schema(self, kind: ResourceType) -> Document:
        """The schema of a type; an empty one knows nothing."""
        name = self.definition_name(kind.group, kind.version, kind.kind)
        return self.definitions.get(name, {})

    def resolve(self, schema: Document | None) -> Document:
        """A schema with its reference followed; annotations beside the reference are kept."""
        schema = schema or {}
        reference = schema.get("$ref")
        if reference is None:
            return schema
        return {**self.definitions[reference.removeprefix("#/definitions/")], **schema}

    def child(self, schema: Document, key: str) -> Document:
        """The schema of a field of an object (or of a value of a map)."""
        extra = schema.get("additionalProperties")
        found = schema.get("properties", {}).get(key)
        return self.resolve(found or (extra if isinstance(extra, dict) else None))

    def is_custom(self, kind: ResourceType) -> bool:
        """Whether the type comes from a CustomResourceDefinition."""
        return (kind.group, kind.version, kind.name) in self._custom

    def add_custom(self, definition: Document) -> None:
        """Serves a CustomResourceDefinition; again after a change of it."""
        self.remove_custom(definition)
        spec = definition["spec"]
        for version in spec["versions"]:
            if version.get("served", True):
                entries = list(_custom_entries(spec, version))
                columns = version.get("additionalPrinterColumns") or ()
                self._add(spec["group"], version["name"], entries, columns)
                self._custom.add((spec["group"], version["name"], spec["names"]["plural"]))
                self._add_schema(spec, version)

    def _add_schema(self, spec: Document, version: Document) -> None:
        group, kind = spec["group"], spec["names"]["kind"]
        name = ".".join([*reversed(group.split(".")), version["name"], kind])
        schema = (version.get("schema") or {}).get("openAPIV3Schema") or {}
        head = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}
        head["metadata"] = {"$ref": f"#/definitions/{META}ObjectMeta"}
        gvk = {"group": group, "version": version["name"], "kind": kind}
        self.definitions[name] = {
            **schema,
            "type": "object",
            "properties": {**schema.get("properties", {}), **head},
            "x-kubernetes-group-version-kind": [gvk],
        }
        self._names[group, version["name"], kind] = name

    def remove_custom(self, definition: Document) -> None:
        """Stops serving a CustomResourceDefinition."""
        self.revision += 1
        spec = definition["spec"]
        for key in [
            key
            for key in self.types
            if key[0] == spec["group"] and key[2] == spec["names"]["plural"]
        ]:
            gone = self.types.pop(key)
            name = self._names.pop((gone.group, gone.version, gone.kind), "")
            self.definitions.pop(name, None)


def _custom_entries(spec: Document, version: Document) -> Iterator[Document]:
    """APIResources of one version of a custom resource."""
    names, namespaced = spec["names"], spec["scope"] == "Namespaced"
    common = {"singularName": "", "namespaced": namespaced, "kind": names["kind"]}
    singular = names.get("singular") or names["kind"].lower()
    extra = {key: names[key] for key in ("shortNames", "categories") if names.get(key)}
    yield {**common, "name": names["plural"], "singularName": singular, "verbs": ALL_VERBS, **extra}
    for sub in version.get("subresources") or {}:
        entry = {**common, "name": f"{names['plural']}/{sub}", "verbs": ["get", "patch", "update"]}
        scale = {"group": "autoscaling", "version": "v1", "kind": "Scale"}
        yield {**entry, **(scale if sub == "scale" else {})}
