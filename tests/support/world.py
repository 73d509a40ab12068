"""The whole path in real processes: central, agents on real clusters, people with the mk8s CLI.

Built once for the session by the `world` fixture, in the order of the README: `init`, `serve`,
log in as the administrator, register the clusters, start their agents, log everybody else in. What
a test changes, it changes in a namespace or a home of its own.
"""

import json
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from tests.support import kubectl as kubectls
from tests.support.kubectl import Kubectl
from tests.support.processes import Program, own_port, private_environment, run

MK8S = (sys.executable, "-m", "mk8s_cli")
CENTRAL = (sys.executable, "-m", "mk8s_proxy")
AGENT = (sys.executable, "-m", "mk8s_agent")

PASSWORDS = {
    "admin@example.com": "correct horse battery staple",
    "dev@example.com": "a developer's long password",
    "viewer@example.com": "a viewer's long password",
}
PEOPLE = tuple(PASSWORDS)
"""Those of the first policy; tests enrol others in one world."""
RBAC = """
roles:
  - name: developer
    clusters:
      - name: prod
        namespaces: ["*"]
        verbs: ["*"]
        resources: ["*"]
      - name: staging
        namespaces: ["*"]
        verbs: ["get", "list", "watch"]
        resources: ["*"]
  - name: viewer
    clusters:
      - name: prod
        namespaces: ["*"]
        verbs: ["get", "list", "watch", "logs"]
        resources: ["*"]
users:
  - email: dev@example.com
    roles: ["developer"]
  - email: viewer@example.com
    roles: ["viewer"]
"""
# The agent acts as each person; what a person may do is mk8s's policy, so inside the cluster the
# marker group of mk8s gets everything.
GRANT = ("create", "clusterrolebinding", "mk8s-users", "--clusterrole=cluster-admin")
WEB = """
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 0
  automountServiceAccountToken: false
  containers:
    - name: web
      image: lab/busybox:1
      imagePullPolicy: Never
      ports: [{containerPort: 8080}]
      command: [sh, -c]
      args: ["httpd -h /www -p 8080; i=0; while true; do i=$((i+1)); echo line $i; sleep 0.2; done"]
"""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody's login on a machine of their own."""

    email: str
    home: Path
    environment: Mapping[str, str]
    contexts: dict[str, str] = field(default_factory=dict)
    """The kubeconfig context of each cluster they chose with `mk8s use`."""

    def mk8s(
        self, *arguments: str, stdin: str = "", code: int | None = 0
    ) -> subprocess.CompletedProcess[str]:
        """Run the mk8s CLI as this person."""
        return run([*MK8S, *arguments], self.environment, stdin=stdin, code=code)

    def kubectl(self, binary: Path) -> Kubectl:
        """A stock kubectl in this person's hands."""
        return Kubectl(binary, self.environment)

    def use(self, cluster: str) -> str:
        """Make `cluster` current; the name of its kubeconfig context."""
        self.mk8s("use", cluster)
        kubectl = self.kubectl(kubectls.binaries()[0])
        context = kubectl("config", "current-context").stdout.strip()
        self.contexts[cluster] = context
        return context


@dataclass(frozen=True, slots=True)
class Joining:
    """What `mk8s admin clusters add` tells the one who starts the agent."""

    cluster: str
    join_token: str
    ca_pin: str


class World:
    """One central, its agents, its people."""

    def __init__(self, folder: Path, clusters: Mapping[str, Path], **settings: str) -> None:
        self.folder = folder
        self.settings = settings
        """More variables for central, beside those of `central_environment`."""
        self.clusters = clusters
        self.port = own_port()
        self.admin_port = own_port()
        self.url = f"https://localhost:{self.port}"
        self.data = folder / "central"
        self.people: dict[str, Person] = {}
        self.central: Program
        self.agents: dict[str, Program] = {}
        self.joinings: dict[str, Joining] = {}
        self.pin = ""
        self._open = ExitStack()

    # Set-up, in the README's order.

    def central_environment(self, **extra: str) -> dict[str, str]:
        """The environment of the central of this world."""
        home = self.folder / "operator"
        home.mkdir(exist_ok=True)
        settings = {
            "MK8S_DATA_DIR": str(self.data),
            "MK8S_AUDIT_STRANGERS_PER_SECOND": "1000",
            "MK8S_LISTEN": f"127.0.0.1:{self.port}",
            "MK8S_PUBLIC_URL": self.url,
            "MK8S_ADMIN_LISTEN": f"127.0.0.1:{self.admin_port}",
            "MK8S_LOG_FORMAT": "text",
            "MK8S_LOGIN_FEDERATION": json.dumps([self.federation]),
            "MK8S_LOGIN_IMPERSONATE_GROUPS": "federated:*",
        }
        return private_environment(home, **(settings | self.settings | extra))

    @property
    def federation(self) -> dict[str, str]:
        """The issuer of tokens of ServiceAccounts; its keys are where a test puts them."""
        return {
            "name": "prod",
            "issuer": "https://kubernetes.default.svc",
            "audience": "mk8s",
            "jwks_file": str(self.folder / "jwks.json"),
        }

    def policy(self) -> str:
        """The RBAC file that central begins with."""
        return RBAC

    def initialise(self) -> None:
        """`mk8s-central init`: keys, CA, the administrator, roles and users."""
        rbac = self.folder / "rbac.yaml"
        rbac.write_text(self.policy())
        command = [*CENTRAL, "init", "-f", rbac, "--admin", "admin@example.com"]
        password = PASSWORDS["admin@example.com"]
        environment = self.central_environment()
        done = run([*command, "--password-stdin"], environment, stdin=f"{password}\n")
        found = re.search(r"sha256:[0-9a-f]{64}", done.stdout)
        assert found, f"init tells no CA pin:\n{done.stdout}{done.stderr}"
        self.pin = found[0]

    def start_central(self) -> None:
        """`mk8s-central serve`, until it accepts connections."""
        program = Program("mk8s-central", [*CENTRAL, "serve"], self.central_environment())
        self.central = self._open.enter_context(program)
        self.central.wait_for_port(self.port)

    def set_passwords(self) -> None:
        """Users of a policy file have no password yet: the administrator sets them."""
        for email in PEOPLE:
            password = PASSWORDS[email]
            if not email.startswith("admin"):
                command = ("admin", "users", "set-password", email, "--password-stdin")
                self.people["admin"].mk8s(*command, "--no-must-change", stdin=f"{password}\n")

    def join_command(self, cluster: str) -> Joining:
        """Register a cluster; what its agent needs."""
        shown = self.people["admin"].mk8s("admin", "clusters", "add", cluster, "-o", "json")
        told = json.loads(shown.stdout)
        return Joining(cluster, told["join_token"], told["ca_pin"])

    def agent(
        self,
        joining: Joining,
        kubeconfig: Path,
        *,
        name: str = "",
        program: Sequence[str] = AGENT,
    ) -> Program:
        """Start an agent outside its cluster; the caller ends it."""
        data = self.agent_data(name or joining.cluster)
        command = [*program, "--kubeconfig", kubeconfig, "--data-dir", data]
        environment = private_environment(
            self.folder / "operator",
            CENTRAL_URL=self.url,
            CLUSTER_NAME=joining.cluster,
            AGENT_TOKEN=joining.join_token,
            CA_PIN=joining.ca_pin,
        )
        return Program(f"agent of {name or joining.cluster}", command, environment)

    def agent_data(self, name: str) -> Path:
        """Where the agent that was started under this name keeps its identity."""
        return self.folder / f"agent-{name}"

    def add_cluster(self, name: str, kubeconfig: Path) -> None:
        """Register a cluster, start its agent, let mk8s's people act inside it."""
        self.direct(*GRANT, "--group=mk8s:users", kubeconfig=kubeconfig, code=None)
        self.joinings[name] = self.join_command(name)
        self.restart_agent(name)

    def restart_agent(self, name: str) -> None:
        """Start the agent of a cluster; one that has joined before finds its identity again."""
        program = self.agent(self.joinings[name], self.clusters[name])
        self.agents[name] = self._open.enter_context(program)
        self.wait_until_connected(name)

    def wait_until_connected(self, name: str, *, seconds: float = 30) -> None:
        """Return once central says that the cluster has an agent."""

        def connected() -> bool:
            assert self.agents[name].running, f"the agent ended:\n{self.agents[name].output}"
            listed = json.loads(self.people["admin"].mk8s("clusters", "list", "-o", "json").stdout)
            return any(item["name"] == name and item["status"] == "connected" for item in listed)

        wait_until(connected, seconds, lambda: f"{name} never connected:\n{self.output()}")

    def log_in(self, email: str) -> Person:
        """`mk8s login` on a fresh machine, then `mk8s use prod` where there is one."""
        home = self.folder / self.fresh_name("home")
        home.mkdir()
        person = Person(email, home, private_environment(home))
        command = ("login", self.url, "--ca-pin", self.pin, "--email", email, "--password-stdin")
        person.mk8s(*command, *kubectls.FOR_ALL_OF_THEM, stdin=f"{PASSWORDS[email]}\n")
        return person

    # Looking on.

    def direct(
        self, *arguments: str, stdin: str = "", kubeconfig: Path | None = None, code: int | None = 0
    ) -> subprocess.CompletedProcess[str]:
        """Kubectl past mk8s, as the cluster's own administrator."""
        config = kubeconfig or self.clusters["prod"]
        environment = private_environment(self.folder / "operator", KUBECONFIG=str(config))
        newest = max(kubectls.binaries(), key=kubectls.version_of)
        return run([newest, *arguments], environment, stdin=stdin, code=code)

    @cached_property
    def server_version(self) -> tuple[int, int]:
        """The cluster's major and minor version, e.g. (1, 37)."""
        told = json.loads(self.direct("get", "--raw", "/version").stdout)
        return int(told["major"]), int(told["minor"])

    def audit(self, **wanted: Any) -> list[dict[str, Any]]:
        """The journal's rows whose fields equal `wanted`; "__" reaches into an inner object."""
        time.sleep(1.2)  # rows of strangers are written once a second
        files = [self.data / "audit" / f"journal{name}.jsonl" for name in ("", "-strangers")]
        rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        rows.sort(key=lambda row: str(row["stageTimestamp"]))
        return [row for row in rows if _has(row, wanted)]

    def upstream_audit(self, cluster: str = "prod") -> list[dict[str, Any]]:
        """What reached the cluster through mk8s, by the API server's own audit log.

        One row for each request that ended; those of the cluster's own controllers are left out.
        """
        log = self.clusters[cluster].with_name("audit.log")
        rows = [json.loads(line) for line in log.read_text().splitlines()]
        return [
            row for row in rows if row["stage"] == "ResponseComplete" and "impersonatedUser" in row
        ]

    def output(self) -> str:
        """What central and the agents have printed, for a failure's message."""
        programs = [self.central, *self.agents.values()]
        return "\n".join(f"--- {program.name}\n{program.output}" for program in programs)

    def fresh_name(self, prefix: str) -> str:
        """A name that nothing else of this session has."""
        return f"{prefix}-{secrets.token_hex(4)}"

    def close(self) -> None:
        """End every process of this world."""
        self._open.close()


def wait_until(condition: Callable[[], bool], seconds: float, message: Callable[[], str]) -> None:
    """Return once the condition holds; AssertionError when it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, message()
        time.sleep(0.05)


def _has(row: dict[str, Any], wanted: Mapping[str, Any]) -> bool:
    for path, value in wanted.items():
        found: Any = row
        for key in path.split("__"):
            found = found.get(key) if isinstance(found, dict) else None
        if found != value:
            return False
    return True


def build(folder: Path, clusters: Mapping[str, Path]) -> World:
    """Everything up and everybody logged in."""
    world = World(folder, clusters)
    try:
        world.initialise()
        world.start_central()
        world.people["admin"] = world.log_in("admin@example.com")
        world.set_passwords()
        for name, kubeconfig in clusters.items():
            world.add_cluster(name, kubeconfig)
        world.direct("create", "namespace", "shop", code=None)
        world.direct("apply", "-f", "-", stdin=WEB)
        world.direct("-n", "shop", "wait", "--for=condition=Ready", "pod/web", "--timeout=60s")
        for name in ("dev", "viewer"):
            world.people[name] = world.log_in(f"{name}@example.com")
        world.people["dev"].use("staging")
        for person in world.people.values():
            person.use("prod")
    except BaseException:
        world.close()
        raise
    return world


@pytest.fixture(scope="session")
def world(
    kube_cluster: Path, second_cluster: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """Central, two clusters with agents, three people; ended with the session."""
    made = build(
        tmp_path_factory.mktemp("world"), {"prod": kube_cluster, "staging": second_cluster}
    )
    yield made
    made.close()
