"""The agent's objects: the chart's rendering with what central gave filled in.

`agent.yaml` is made by `deploy/kubernetes/render.py` of the chart's templates, so a manifest, an
install and a release of helm are the same objects.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from typing import Any

from mk8s_cli.central.api import Document, text
from mk8s_cli.terminal.errors import CliError
from mk8s_cli.terminal.validation import PIN, TOKEN, central_url, cluster_name

RELEASE = "mk8s-agent"
"""The name of the Deployment, and what the other objects' names begin with."""
NAMESPACE = "mk8s"
_CLUSTER_WIDE = f"{NAMESPACE}:"
"""How names of objects begin that are in no namespace; so agents of several do not share them."""
_USERS = ":mk8s-agent-users"
"""How the binding's name ends that says what people may do at the most."""
MANAGED_BY = ("app.kubernetes.io/managed-by", "mk8s")
_SETTINGS = "mk8s.io/settings"


@dataclass(frozen=True, slots=True)
class Joining:
    """What central gives an agent to join with."""

    cluster: str
    central_url: str
    ca_pin: str
    token: str


@dataclass(frozen=True, slots=True)
class Choices:
    """What the administrator chooses."""

    namespace: str = NAMESPACE
    image: str = ""
    """The chart's own where it is empty."""
    users_role: str = ""
    """ClusterRole that is bound to everybody who comes through mk8s; "" binds nothing."""


def joining(cluster: str, issued: Document) -> Joining:
    """Return what central's answer to a registration holds, checked.

    Raises:
        CliError: it is not what central promises.
    """
    token, pin = text(issued, "join_token"), text(issued, "ca_pin")
    if not TOKEN.fullmatch(token) or not PIN.fullmatch(pin):
        raise CliError("central's answer is refused: it holds no join token and CA pin")
    return Joining(cluster_name(cluster), central_url(text(issued, "central_url")), pin, token)


def documents(joining: Joining, choices: Choices) -> list[Document]:
    """Return all objects, in the order in which they are to be applied."""
    found = [_filled_in(it, joining, choices) for it in read_template()]
    return [it for it in found if choices.users_role or not _is_for_users(it)]


def read_template() -> list[Document]:
    """Return the chart's rendering, in which nothing is filled in."""
    import yaml

    source = resources.files(__package__).joinpath("agent.yaml").read_text("utf-8")
    return [it for it in yaml.safe_load_all(source) if it]


def as_yaml(objects: Iterable[Document]) -> str:
    """Return one file for `kubectl apply -f -`."""
    import yaml

    return yaml.safe_dump_all(objects, sort_keys=False, allow_unicode=False)


def helm_command(joining: Joining, choices: Choices) -> str:
    """Return the command that installs the same by helm; the token is no argument of a process."""
    import yaml

    values: dict[str, Any] = {
        "centralUrl": joining.central_url,
        "clusterName": joining.cluster,
        "caPin": joining.ca_pin,
        "join": {"token": joining.token},
    }
    if choices.image:
        values["image"] = _image_values(choices.image)
    if choices.users_role:
        values["users"] = {"clusterRole": choices.users_role}
    lines = yaml.safe_dump(values, sort_keys=False, allow_unicode=False)
    return (
        f"helm upgrade --install {RELEASE} deploy/helm/agent --namespace {choices.namespace} "
        f"--create-namespace --values - <<'EOF'\n{lines}EOF\n"
    )


def name_of(document: Document) -> str:
    """Return an object's name."""
    return str(document["metadata"]["name"])


def _image_values(image: str) -> dict[str, str]:
    """Return an image as the chart's values: REPOSITORY[:TAG] or REPOSITORY@DIGEST."""
    repository, at, digest = image.partition("@")
    if at:
        return {"repository": repository, "digest": digest}
    name, colon, tag = image.rpartition(":")
    # a colon before the last slash is a registry's port
    return {"repository": name, "tag": tag} if colon and "/" not in tag else {"repository": image}


def _filled_in(document: Document, joining: Joining, choices: Choices) -> Document:
    metadata = document["metadata"]
    if document["kind"] == "Namespace":
        metadata["name"] = choices.namespace
    elif "namespace" in metadata:
        metadata["namespace"] = choices.namespace
    else:
        _rename(metadata, choices.namespace)
        _rename(document.get("roleRef", {}), choices.namespace)
    for subject in document.get("subjects", ()):
        if "namespace" in subject:
            subject["namespace"] = choices.namespace
    if _is_for_users(document):
        document["roleRef"]["name"] = choices.users_role
    elif document["kind"] == "ConfigMap":
        document["data"] |= {
            "CENTRAL_URL": joining.central_url,
            "CLUSTER_NAME": joining.cluster,
            "CA_PIN": joining.ca_pin,
        }
    elif "AGENT_TOKEN" in document.get("stringData", ()):
        document["stringData"]["AGENT_TOKEN"] = joining.token
    elif document["kind"] == "Deployment":
        _fill_in_pod(document["spec"]["template"], joining, choices)
    return document


def _rename(named: Document, namespace: str) -> None:
    name = str(named.get("name", ""))
    if name.startswith(_CLUSTER_WIDE):
        named["name"] = f"{namespace}:{name.removeprefix(_CLUSTER_WIDE)}"


def _is_for_users(document: Document) -> bool:
    return name_of(document).endswith(_USERS)


def _fill_in_pod(template: Document, joining: Joining, choices: Choices) -> None:
    """Other settings or another token are another pod, as in the chart."""
    told = " ".join((joining.central_url, joining.cluster, joining.ca_pin, joining.token))
    template["metadata"]["annotations"][_SETTINGS] = hashlib.sha256(told.encode()).hexdigest()[:16]
    (container,) = template["spec"]["containers"]
    container["image"] = choices.image or container["image"]
