"""Makes mk8s_cli/demo_api/data/kubernetes.json.gz from the sources of Kubernetes.

Run by hand when the demo API moves to a newer release:

    go mod download -json k8s.io/kubernetes@v1.37.2 k8s.io/api@v0.37.2 k8s.io/apimachinery@v0.37.2
    python tests/demo/make_documents.py KUBERNETES_DIR API_DIR APIMACHINERY_DIR

The file holds, cut down to the kinds that the demo API serves: `resources` (discovery),
`definitions` (OpenAPI v2 schemas) and `messages` (field numbers of the protobuf form, in which new
kubectl sends objects of built-in kinds).
"""

import gzip
import json
import re
import sys
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[2] / "mk8s_cli/demo_api/data/kubernetes.json.gz"
GROUP_VERSIONS = {
    "": "v1",
    "apps": "v1",
    "batch": "v1",
    "autoscaling": "v2",
    "networking.k8s.io": "v1",
    "policy": "v1",
    "rbac.authorization.k8s.io": "v1",
    "storage.k8s.io": "v1",
    "scheduling.k8s.io": "v1",
    "coordination.k8s.io": "v1",
    "discovery.k8s.io": "v1",
    "apiextensions.k8s.io": "v1",
    "authentication.k8s.io": "v1",
    "authorization.k8s.io": "v1",
}
LEFT_OUT = {"componentstatuses", "bindings", "pods/proxy", "services/proxy", "nodes/proxy"}
LEFT_OUT |= {"namespaces/finalize", "volumeattachments", "volumeattachments/status"}
LEFT_OUT |= {"csinodes", "csinodes/status", "ipaddresses", "servicecidrs", "servicecidrs/status"}
LEFT_OUT |= {"serviceaccounts/token", "pods/binding", "workloads", "podgroups", "podgroups/status"}
EXTRA_KINDS = {("autoscaling", "Scale"), ("", "Status"), ("", "DeleteOptions")}
FIELD = re.compile(r"^\s*(optional|repeated|map<string,\s*[\w.]+>)\s*([\w.]+)?\s+(\w+) = (\d+);")
Definitions = dict[str, dict[str, Any]]


def resources(kubernetes: Path) -> list[dict[str, Any]]:
    """The APIResourceLists of the served groups."""
    found = []
    for group, version in GROUP_VERSIONS.items():
        name = f"apis__{group}__{version}" if group else f"api__{version}"
        document = json.loads((kubernetes / f"api/discovery/{name}.json").read_text())
        kept = [entry for entry in document["resources"] if entry["name"] not in LEFT_OUT]
        found.append({"group": group, "version": version, "resources": kept})
    return found


def closure(definitions: Definitions, roots: set[str]) -> Definitions:
    """The definitions named by the roots and all that these refer to."""
    kept: Definitions = {}
    todo = sorted(roots)
    while todo:
        name = todo.pop()
        if name not in kept:
            kept[name] = definitions[name]
            text = json.dumps(definitions[name])
            todo += re.findall(r'"#/definitions/([^"]+)"', text)
    return kept


def definitions(kubernetes: Path, served: list[dict[str, Any]]) -> Definitions:
    """The OpenAPI v2 schemas of the served kinds and of their lists."""
    swagger = json.loads((kubernetes / "api/openapi-spec/swagger.json").read_text())
    kinds = {(item["group"], entry["kind"]) for item in served for entry in item["resources"]}
    kinds |= {(group, kind + "List") for group, kind in kinds} | EXTRA_KINDS
    roots = set()
    for name, schema in swagger["definitions"].items():
        for gvk in schema.get("x-kubernetes-group-version-kind", []):
            version = {**GROUP_VERSIONS, "autoscaling": gvk["version"]}.get(gvk["group"])
            if (gvk["group"], gvk["kind"]) in kinds and gvk["version"] == version:
                roots.add(name)
    kept = closure(swagger["definitions"], roots)
    for schema in kept.values():
        own = schema.get("x-kubernetes-group-version-kind", [])
        if len(own) > 1:  # DeleteOptions and its like list every group that exists
            schema["x-kubernetes-group-version-kind"] = own[:1]
    return kept


def messages(sources: list[Path], kept: Definitions) -> dict[str, dict[str, list[str]]]:
    """Per definition: protobuf field number -> [JSON name ("" when inlined), label, type]."""
    bodies = {}
    for file in sorted(file for source in sources for file in source.rglob("generated.proto")):
        text = file.read_text()
        package = re.search(r"^package (\S+);", text, re.MULTILINE)
        for name, body in re.findall(
            r"^message (\w+) \{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL
        ):
            assert package is not None
            bodies[definition_name(f"{package[1]}.{name}")] = (package[1], body)
    found = {
        name: fields(*bodies[name], kept[name].get("properties", {}))
        for name in sorted(bodies.keys() & kept.keys())
    }
    inlined = {kind for entry in found.values() for name, _, kind in entry.values() if not name}
    for name in sorted(inlined & bodies.keys() - found.keys()):
        found[name] = fields(*bodies[name], None)
    return found


def fields(package: str, body: str, properties: dict[str, Any] | None) -> dict[str, list[str]]:
    """The fields of one message body."""
    found = {}
    for line in body.splitlines():
        if match := FIELD.match(line):
            label, kind, name, number = match.groups()
            if label.startswith("map"):
                label, kind = "map", label[4:-1].split(",")[1].strip()
            kind = f"{package}.{kind}" if kind[0].isupper() else kind.lstrip(".")
            name = name.replace("aPIGroup", "apiGroup")
            known = properties is None or name in properties
            found[number] = [name if known else "", label, definition_name(kind)]
    return found


def definition_name(message: str) -> str:
    """OpenAPI's name of a protobuf message: k8s.io.api.core.v1.Pod -> io.k8s.api.core.v1.Pod."""
    return re.sub(r"^k8s\.io\.", "io.k8s.", message)


def main(kubernetes: Path, api: Path, apimachinery: Path) -> None:
    """Writes the data file of the demo API."""
    served = resources(kubernetes)
    kept = definitions(kubernetes, served)
    document = {
        "resources": served,
        "definitions": kept,
        "messages": messages([api, apimachinery], kept),
    }
    raw = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    target = DATA
    target.write_bytes(gzip.compress(raw, 9, mtime=0))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
