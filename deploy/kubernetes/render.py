"""Writes the plain manifests, and the one that the CLI carries, from the charts: one source.

    python deploy/kubernetes/render.py HELM

HELM is a helm binary, 3 or 4 (`python -m tests.support.helm` builds one). Without a change of the
charts nothing changes here; a test says so.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

CHECKOUT = Path(__file__).resolve().parents[2]
CHARTS = CHECKOUT / "deploy" / "helm"
AGENT = """\
# mk8s-agent in a cluster, rendered from deploy/helm/agent by deploy/kubernetes/render.py. Fill in
# the four values of ConfigMap and Secret as
#
#   mk8s admin clusters add NAME
#
# prints them, or let `mk8s admin clusters add NAME --manifest` print this file with them. Then:
#
#   kubectl apply -f agent.yaml
#   kubectl -n mk8s rollout status deployment/mk8s-agent
#
# The join token works once, within 15 minutes; what the agent makes of it is kept in the Secret
# mk8s-agent-identity, so a restart needs none.
#
# People get 403 until the cluster's RBAC allows the group mk8s:users something.
"""
CONSTRAINED = """\
# The agent's ClusterRole for Kubernetes 1.36 and newer, rendered from deploy/helm/agent by
# deploy/kubernetes/render.py: limits what is done while the agent impersonates (constrained
# impersonation, KEP-5284). Apply it after agent.yaml, whose ClusterRole it replaces.
#
#   kubectl apply -f agent.yaml -f agent-constrained.yaml
#
# This example lets people read and change workloads; change the rules under "What people may do".
"""
CENTRAL = """\
# mk8s-central on SQLite, rendered from deploy/helm/central by deploy/kubernetes/render.py. Put your
# name in place of mk8s.example.com, make the administrator's password, then:
#
#   kubectl create namespace mk8s
#   kubectl -n mk8s create secret generic mk8s-central-admin --from-literal=password=...
#   kubectl apply -f central.yaml
#
# The log of the container `init` has the CA pin and the command to log in with.
"""
CARRIED = "# Rendered from deploy/helm/agent by deploy/kubernetes/render.py.\n"
EMPTY = ("namespace.create=true",)


class Rendering(NamedTuple):
    """One file: which chart with which values."""

    chart: str
    header: str
    values: tuple[str, ...]
    only: str = ""
    """The one template that is wanted."""


FILES = {
    "deploy/kubernetes/agent.yaml": Rendering("agent", AGENT, EMPTY),
    "deploy/kubernetes/agent-constrained.yaml": Rendering(
        "agent",
        CONSTRAINED,
        ("impersonation.constrained.enabled=true",),
        "templates/clusterrole.yaml",
    ),
    "deploy/kubernetes/central.yaml": Rendering(
        "central",
        CENTRAL,
        ("publicUrl=https://mk8s.example.com", "admin.existingSecret=mk8s-central-admin"),
    ),
    # Bound to nothing unless the administrator names a role: the CLI leaves that object out.
    "mk8s_cli/agent_install/agent.yaml": Rendering(
        "agent", CARRIED, (*EMPTY, "users.clusterRole=none")
    ),
}


def template(helm: str, chart: str, *words: str) -> str:
    """What helm renders; ends with its complaint if it refuses."""
    command = [helm, "template", f"mk8s-{chart}", str(CHARTS / chart), "--namespace", "mk8s"]
    command += words
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def render(helm: str, file: Rendering) -> str:
    """The content of one file."""
    # What has to be filled in is empty here, which the schema rightly refuses elsewhere.
    words = ["--skip-schema-validation"]
    for value in file.values:
        words += ["--set", value]
    if file.only:
        words += ["--show-only", file.only]
    text = template(helm, file.chart, *words)
    text = re.sub(r"^# Source: .*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"^---\n(?=---\n)", "", text, flags=re.MULTILINE).removeprefix("---\n")
    text = text.replace("managed-by: Helm", "managed-by: mk8s")
    return file.header + "".join(f"{line.rstrip()}\n" for line in text.splitlines() if line.strip())


def stale(helm: str) -> list[str]:
    """The files that are not what the charts say."""
    return [
        name
        for name, file in FILES.items()
        if not (CHECKOUT / name).exists() or (CHECKOUT / name).read_text() != render(helm, file)
    ]


def main() -> None:
    """Write what is stale."""
    (helm,) = sys.argv[1:]
    for name in stale(helm):
        (CHECKOUT / name).write_text(render(helm, FILES[name]))
        print(name)


if __name__ == "__main__":
    main()
