"""Objects that the operations create, as YAML or JSON; `lab/busybox:1` is the image of the node."""

import json
from typing import Any

COLOURS = """
apiVersion: v1
kind: ConfigMap
metadata:
  name: colours
  labels: {app: colours}
data:
  sky: blue
  grass: green
"""
QUIET = """
apiVersion: v1
kind: Pod
metadata: {name: quiet, labels: {app: quiet}}
spec:
  terminationGracePeriodSeconds: 0
  automountServiceAccountToken: false
  containers:
    - name: quiet
      image: lab/busybox:1
      imagePullPolicy: Never
      stdin: true
      command: [sh, -c]
      args: ["for i in 1 2 3 4 5; do echo line $i; done; cat"]
"""
VICTIM = """
apiVersion: v1
kind: Pod
metadata: {name: victim}
spec:
  terminationGracePeriodSeconds: 0
  nodeName: nowhere
  containers: [{name: main, image: lab/busybox:1, imagePullPolicy: Never}]
"""
SERVING = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: serving}
spec:
  replicas: 1
  selector: {matchLabels: {app: serving}}
  template:
    metadata: {labels: {app: serving}}
    spec:
      terminationGracePeriodSeconds: 0
      automountServiceAccountToken: false
      containers:
        - {name: main, image: "lab/busybox:1", imagePullPolicy: Never, command: [sleep, "100000"]}
"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: serving}
spec:
  selector: {app: serving}
  ports: [{port: 80}]
"""


def config_map(name: str, data: dict[str, str], **labels: str) -> dict[str, Any]:
    """A ConfigMap."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": labels},
        "data": data,
    }


def many(count: int, size: int, **labels: str) -> str:
    """A List of ConfigMaps with `size` bytes each."""
    items = [
        config_map(f"page-{number:03}", {"text": "abcdefgh" * (size // 8)}, **labels)
        for number in range(count)
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def definition(group: str) -> str:
    """A CustomResourceDefinition of widgets with a printed column."""
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {"size": {"type": "integer", "minimum": 1}},
            }
        },
    }
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
    }
    names = {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"}
    return json.dumps(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"widgets.{group}"},
            "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
        }
    )


def widget(group: str, size: int) -> str:
    """A widget."""
    return json.dumps(
        {
            "apiVersion": f"{group}/v1",
            "kind": "Widget",
            "metadata": {"name": "first"},
            "spec": {"size": size},
        }
    )


def signing_request(name: str, request: str) -> str:
    """A CertificateSigningRequest that nobody signs by itself."""
    return json.dumps(
        {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "metadata": {"name": name},
            "spec": {
                "request": request,
                "signerName": "example.com/nobody",
                "usages": ["client auth"],
            },
        }
    )
