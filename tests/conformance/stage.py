"""Everything that a run needs, started and ended: API servers, central, agents, every place.

Real API server: an admin kubeconfig that the caller has, or one that MK8S_TEST_CLUSTER starts.
Newer API server: the same where it is new enough, else the built-in one. The person is the same on
both ways: in the cluster, mk8s acts as `admin@example.com` of group `mk8s:users`; the direct place
has a client certificate for exactly that user and group, so that even `whoami` must be equal.
"""

import base64
import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from tests.conformance import place as places
from tests.conformance.extension_api import extension_api
from tests.conformance.name_proxy import name_proxy
from tests.conformance.operations import NEWER_SINCE
from tests.conformance.place import Place
from tests.conformance.restart import Restart
from tests.support.processes import Program, private_environment
from tests.support.world import WEB, World

DOMAIN = "clusters.mk8s.test"
PERSON = "admin@example.com"
GROUP = "mk8s:users"
HELPER = "helper@example.com"
"""As whom PERSON may act, by a role of mk8s."""
REAL = "prod"
NEWER = "newer"
POLICY = f"""
roles:
  - name: everything
    clusters: [{{name: "*", namespaces: ["*"], verbs: ["*"], resources: ["*", "*/*"]}}]
  - name: acting
    clusters: [{{name: "*", impersonate: {{users: [{HELPER}]}}}}]
users:
  - {{email: {PERSON}, roles: [admin, acting]}}
  - {{email: {HELPER}, roles: [everything]}}
"""


class ConformanceWorld(World):
    """The world with a wildcard domain, so that each of the three ways to address is open."""

    def central_environment(self, **extra: str) -> dict[str, str]:
        """As the world's, and the domain."""
        return super().central_environment(MK8S_DOMAIN=DOMAIN, **extra)

    def policy(self) -> str:
        """One person for everything, and somebody to act as."""
        return POLICY


class Stage:
    """The running whole and its places."""

    def __init__(self, folder: Path, real: Path | None, opened: ExitStack) -> None:
        self.folder = folder
        self._opened = opened
        clusters = {REAL: real} if real is not None else {}
        self.world = ConformanceWorld(folder, clusters)
        opened.callback(self.world.close)
        self.server = self._version(real) if real is not None else ""
        """The real API server's version, e.g. 1.37.2."""
        self.newer = REAL if self.server and _at_least(self.server, NEWER_SINCE) else NEWER
        if self.newer == NEWER:
            clusters[NEWER] = self._built_in()
        self._build(clusters)
        nodes = ("get", "nodes", "-o", "name")
        self.has_node = bool(real and self.world.direct(*nodes, kubeconfig=real).stdout)
        proxy = opened.enter_context(name_proxy())
        port = opened.enter_context(extension_api(folder))
        self.places = {
            f"{name} {way}": replace(
                place, extension_port=port, restart=Restart(self.world, name, way != "direct")
            )
            for name in clusters
            for way, place in self._places_of(name, proxy).items()
        }

    def place(self, cluster: str, way: str) -> Place:
        """One place: `way` is direct, path, host, token or static."""
        found = self.places[f"{cluster} {way}"]
        if way == "static":  # the token of the start may have ended
            document = yaml.safe_load(found.kubeconfig.read_text())
            document["users"][0]["user"]["token"] = self._token(cluster)
            found.kubeconfig.write_text(yaml.safe_dump(document, sort_keys=False))
        return found

    def _token(self, cluster: str) -> str:
        """What the exec plugin would hand out."""
        person = self.world.people["admin"]
        shown = person.mk8s("get-token", "--cluster", cluster, "--central", self.world.url)
        token: str = json.loads(shown.stdout)["status"]["token"]
        return token

    def _version(self, kubeconfig: Path) -> str:
        """An API server's version without its "v"."""
        told = self.world.direct("get", "--raw", "/version", kubeconfig=kubeconfig).stdout
        return str(json.loads(told)["gitVersion"]).removeprefix("v")

    def _built_in(self) -> Path:
        """Start the built-in API server; its admin kubeconfig."""
        home = self.folder / "built-in"
        home.mkdir()
        command = [sys.executable, "-m", "mk8s_cli.demo_api", "--data-dir", str(home)]
        program = Program("built-in API", command, private_environment(home))
        self._opened.enter_context(program)
        program.wait_for_line("kubeconfig")
        return home / "kubeconfig"

    def _build(self, clusters: Mapping[str, Path]) -> None:
        """The README's order, with one person: the administrator."""
        self.world.initialise()
        self.world.start_central()
        person = self.world.people["admin"] = self.world.log_in(PERSON)
        for name, kubeconfig in clusters.items():
            self.world.add_cluster(name, kubeconfig)
            person.use(name)

    def _places_of(self, cluster: str, proxy: str) -> dict[str, Place]:
        """Every place of one cluster. Homes have names of one length: columns must not shift."""
        world, person = self.world, self.world.people["admin"]
        ours = _entries((person.home / ".kube/config").read_text(), cluster)
        authority = ours["cluster"]["certificate-authority-data"]
        port = world.port
        path, root = f"{world.url}/k8s/{cluster}", world.url
        host = f"https://{cluster}.{DOMAIN}:{port}"
        ways: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
            "path": ({"server": path}, ours["user"]),
            "host": ({"server": host, "proxy-url": proxy}, ours["user"]),
            "token": ({"server": root}, ours["user"]),
            "static": ({"server": path}, {"token": self._token(cluster)}),
        }
        made = {"direct": self._direct(cluster)}
        for way, (endpoint, user) in ways.items():
            endpoint["certificate-authority-data"] = authority
            credential = _plugin_at_home(user, person.home)
            home = self.folder / f"at-{cluster}-{way:_<6}"
            made[way] = places.write(
                f"mk8s {way}", home, cluster=endpoint, user=credential, context=cluster
            )
        return made

    def _direct(self, cluster: str) -> Place:
        """The same person without mk8s."""
        home = self.folder / f"at-{cluster}-direct"
        entries = _entries(self.world.clusters[cluster].read_text(), "")
        user = entries["user"]
        if cluster == REAL:
            user = client_certificate(self.world, self.world.clusters[cluster])
        else:
            listed = json.loads(
                self.world.people["admin"].mk8s("admin", "users", "list", "-o", "json").stdout
            )
            (own,) = [user["id"] for user in listed if user["email"] == PERSON]
            user = {**user, "as": PERSON, "as-uid": own, "as-groups": [GROUP]}
        return places.write("direct", home, cluster=entries["cluster"], user=user, context=cluster)


def _at_least(version: str, since: tuple[int, int]) -> bool:
    major, minor = version.split(".")[:2]
    return (int(major), int(minor)) >= since


def _entries(kubeconfig: str, context: str) -> dict[str, Any]:
    """The cluster and user entries of a context ("": the current one)."""
    document = yaml.safe_load(kubeconfig)
    name = context or document["current-context"]
    found = next(entry["context"] for entry in document["contexts"] if entry["name"] == name)
    return {
        kind: next(entry[kind] for entry in document[f"{kind}s"] if entry["name"] == found[kind])
        for kind in ("cluster", "user")
    }


def _plugin_at_home(user: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """The user entry whose plugin finds the login in `home`, whoever runs it."""
    if "exec" not in user:
        return dict(user)
    environment = [{"name": "HOME", "value": str(home)}]
    return {"exec": {**user["exec"], "env": environment}}


def client_certificate(world: World, kubeconfig: Path) -> dict[str, Any]:
    """A user entry for PERSON, signed by the cluster itself."""
    # Of the two kinds of keys the one that every client reads (fabric8: no EC without more JARs).
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, GROUP),
            x509.NameAttribute(NameOID.COMMON_NAME, PERSON),
        ]
    )
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    pem = request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    name = world.fresh_name("conformance")
    document = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": name},
        "spec": {
            "request": base64.b64encode(pem).decode(),
            "signerName": "kubernetes.io/kube-apiserver-client",
            "usages": ["client auth"],
        },
    }
    world.direct("create", "-f", "-", stdin=json.dumps(document), kubeconfig=kubeconfig)
    world.direct("certificate", "approve", name, kubeconfig=kubeconfig)
    signed = _signed(world, name, kubeconfig)
    world.direct("delete", "csr", name, kubeconfig=kubeconfig)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    return {
        "client-certificate-data": signed,
        "client-key-data": base64.b64encode(private).decode(),
    }


def _signed(world: World, name: str, kubeconfig: Path) -> str:
    """The certificate of an approved request, once it is there."""
    for _ in range(100):
        template = "jsonpath={.status.certificate}"
        found = world.direct("get", "csr", name, "-o", template, kubeconfig=kubeconfig).stdout
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError("the cluster signs no client certificates")


def prepare_namespace(world: World, namespace: str, kubeconfig: Path, more: str = "") -> None:
    """A namespace with the pod `web` and those of `more`."""
    there = ("-n", namespace)
    world.direct("create", "namespace", namespace, kubeconfig=kubeconfig)
    pods = WEB.replace("namespace: shop", f"namespace: {namespace}") + "---" + more
    world.direct(*there, "apply", "-f", "-", stdin=pods, kubeconfig=kubeconfig)


def wait_for_pods(world: World, namespace: str, kubeconfig: Path) -> None:
    """Return once all pods of the namespace are ready."""
    ready = ("wait", "--for=condition=Ready", "pods", "--all", "--timeout=60s")
    world.direct("-n", namespace, *ready, kubeconfig=kubeconfig)


@contextmanager
def stage(folder: Path, real: Path | None) -> Iterator[Stage]:
    """Everything up for the length of the block."""
    with ExitStack() as opened:
        yield Stage(folder, real, opened)
