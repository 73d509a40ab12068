"""helm 3 and helm 4 as clients of the runner: built from the Go module proxy."""

import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.conformance import golang
from tests.conformance.outcome import Outcome
from tests.conformance.place import Place

VERSIONS = {3: ("v3.22.0", "MK8S_TEST_HELM3"), 4: ("v4.3.2", "MK8S_TEST_HELM4")}
"""What is built, and the variable that names a binary instead."""
TEMPLATE = """
apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}-colours}
data: {sky: {{ .Values.sky | quote }}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}-none}
spec:
  replicas: 0
  selector: {matchLabels: {app: none}}
  template:
    metadata: {labels: {app: none}}
    spec: {containers: [{name: main, image: "lab/busybox:1"}]}
"""
CHART = "apiVersion: v2\nname: colours\nversion: 0.1.0\n"


@dataclass(slots=True)
class HelmSession:
    """One run at one place."""

    binary: str
    place: Place
    namespace: str
    folder: Path
    outcomes: list[Outcome] = field(default_factory=list)

    def perform(self, key: str) -> list[Outcome]:
        """Do one operation; its steps."""
        self.outcomes = []
        OPERATIONS[key](self)
        return self.outcomes

    def close(self) -> None:
        """Nothing stays."""

    def __call__(self, *words: str, noted: bool = True) -> None:
        """Run helm to its end.

        Helm 4 tells the kinds of a release in the order of a Go map, which is chance: the lines of
        a status are compared in an order of their own.
        """
        done = subprocess.run(
            [self.binary, "-n", self.namespace, *words],
            env=dict(self.place.environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            cwd=self.folder,
        )
        if noted:
            step = f"helm {' '.join(words)}"
            lines = done.stdout.splitlines()
            output = "\n".join(sorted(lines) if words[0] == "status" else lines)
            self.outcomes.append(Outcome(step, done.returncode, output, done.stderr))

    def chart(self) -> None:
        """Write the local chart."""
        templates = self.folder / "colours/templates"
        templates.mkdir(parents=True, exist_ok=True)
        (templates / "all.yaml").write_text(TEMPLATE)
        (self.folder / "colours/Chart.yaml").write_text(CHART)
        (self.folder / "colours/values.yaml").write_text("sky: blue\n")


def release(helm: HelmSession) -> None:
    """A release's whole life."""
    helm.chart()
    helm("install", "first", "colours", "--wait", "--timeout", "60s")
    helm("install", "first", "colours")
    helm("upgrade", "first", "colours", "--set", "sky=grey", "--wait")
    helm("rollback", "first", "1", "--wait")
    helm("get", "values", "first")
    helm("test", "first")
    helm("uninstall", "first", "--wait")
    helm("uninstall", "first")


def read(helm: HelmSession) -> None:
    """What is told of a release."""
    helm.chart()
    helm("install", "second", "colours", noted=False)
    for words in ("list", "status second", "history second", "get manifest second"):
        helm(*words.split())
    helm("upgrade", "second", "colours", "--dry-run=server", "--set", "sky=grey")
    helm("uninstall", "second", noted=False)


OPERATIONS: dict[str, Callable[[HelmSession], None]] = {
    "helm-release": release,
    "helm-read": read,
}


@dataclass(frozen=True, slots=True)
class HelmClient:
    """One binary."""

    binary: str
    name: str

    def keys(self) -> Mapping[str, str]:
        """Its rows."""
        return dict.fromkeys(OPERATIONS, "")

    def open(self, place: Place, namespace: str, folder: Path) -> HelmSession:
        """Begin at a place."""
        return HelmSession(self.binary, place, namespace, folder)


def client(major: int) -> HelmClient | str:
    """The client of a major version, or why there is none."""
    binary, problem = golang.program(f"helm.sh/helm/v{major}/cmd/helm", *VERSIONS[major])
    if problem:
        return problem
    told = subprocess.run([binary, "version", "--short"], capture_output=True, text=True).stdout
    found = re.search(r"v(\d+\.\d+)", told)
    return HelmClient(binary, f"helm {found[1] if found else told.strip()}")
