"""What `mk8s admin clusters add --install` and `remove --uninstall` do: options and order.

Called by `mk8s_cli.commands.admin_clusters`. The cluster is asked first and central second, so that
a wrong context registers nothing; a registration that is there already gets a new join token, so a
failed install is begun again by the same command.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from mk8s_cli.central.api import Document, segment, text
from mk8s_cli.commands.options import label_type
from mk8s_cli.terminal.errors import CliError, Refused
from mk8s_cli.terminal.screen import escape

if TYPE_CHECKING:
    from mk8s_cli.agent_install.cluster import KubeCluster
    from mk8s_cli.central.api import Central

GONE_SECONDS = 60.0
"""For the agent's pods to end: they drain for half of that."""
CONFLICT, NOT_FOUND = 409, 404

namespace_option = click.option(
    "--namespace",
    default="mk8s",
    show_default=True,
    callback=label_type,
    help="Where the agent is in the cluster.",
)
context_option = click.option(
    "--kube-context",
    metavar="CONTEXT",
    default="",
    help="Context of your kubeconfig that administers the cluster.",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What the options of `clusters add` say; the fields are their names."""

    install: bool
    manifest: bool
    helm: bool
    kube_context: str
    namespace: str
    image: str
    users_role: str
    timeout: float

    @property
    def is_wanted(self) -> bool:
        """Whether there is more to do than to print the agent's command."""
        return self.install or self.manifest or self.helm

    def check(self) -> None:
        """Raise `UsageError` for options that contradict each other."""
        if self.install + self.manifest + self.helm > 1:
            raise click.UsageError("--install, --manifest and --helm exclude each other")
        if self.install != bool(self.kube_context):
            raise click.UsageError("--install and --kube-context CONTEXT need each other")
        if not self.is_wanted and (self.image or self.users_role):
            raise click.UsageError(
                "--image and --users-role belong to --install, --manifest or --helm"
            )


def install_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of `Plan`."""
    for option in reversed(
        (
            click.option("--install", is_flag=True, help="Put the agent into the cluster, too."),
            click.option("--manifest", is_flag=True, help="Print YAML for kubectl apply -f -."),
            click.option("--helm", is_flag=True, help="Print the command for helm."),
            context_option,
            namespace_option,
            click.option("--image", default="", help="The agent's image; by default the chart's."),
            click.option(
                "--users-role",
                metavar="CLUSTERROLE",
                default="",
                help="Let everybody who comes through mk8s do what this allows, "
                "instead of the upper bounds of the roles (mk8s admin cluster-rbac).",
            ),
            click.option(
                "--timeout",
                type=click.FloatRange(1, 3600),
                default=180.0,
                show_default=True,
                metavar="SECONDS",
                help="For the agent to come.",
            ),
        )
    ):
        function = option(function)
    return function


def add(central: "Central", body: Document, plan: Plan) -> None:
    """Register the cluster of `body` and do what the plan says.

    Raises:
        CliError: the cluster or central says no, or the agent does not come; says why.
    """
    name = str(body["name"])
    if plan.install:
        _install(central, body, plan)
        return
    from mk8s_cli.agent_install import manifest

    _, issued = _registered(central, body)
    joining, choices = manifest.joining(name, issued), _choices(plan)
    if not plan.helm:
        objects = _with_bounds(central, name, plan, manifest.documents(joining, choices))
        click.echo(manifest.as_yaml(objects), nl=False)
        return
    click.echo(manifest.helm_command(joining, choices), nl=False)
    if not plan.users_role:
        agent = f"{plan.namespace}:{manifest.RELEASE}"
        apply = f"mk8s admin cluster-rbac --cluster {name} --agent {agent}"
        click.echo(f"{apply} | kubectl apply --server-side -f -")


def uninstall(context: str, namespace: str, name: str) -> Callable[[], None]:
    """Look at the agent's place; return what takes the agent of cluster `name` away from there.

    Raises:
        CliError: the cluster does not answer, or another agent is there.
    """
    from mk8s_cli.agent_install import cluster as clusters
    from mk8s_cli.agent_install import install, manifest

    cluster = clusters.connect(context)
    install.check_place(cluster, namespace, name)
    choices = manifest.Choices(namespace=namespace, users_role="any")
    objects = manifest.documents(manifest.Joining(name, "", "", ""), choices)
    return lambda: install.remove_all(cluster, objects, GONE_SECONDS, _say)


def _install(central: "Central", body: Document, plan: Plan) -> None:
    from mk8s_cli.agent_install import cluster as clusters
    from mk8s_cli.agent_install import install, manifest

    name, begun = str(body["name"]), time.monotonic()
    cluster = clusters.connect(plan.kube_context)
    _say(f"the cluster of context {plan.kube_context} is Kubernetes {cluster.version()}")
    install.check_place(cluster, plan.namespace, name)
    draft = manifest.Joining(name, "", "", "")
    install.check_rights(cluster, manifest.documents(draft, _choices(plan)))
    is_new, issued = _registered(central, body)
    _say(f"cluster {name} is registered at central" if is_new else f"{name} is registered already")
    objects = manifest.documents(manifest.joining(name, issued), _choices(plan))
    objects = _with_bounds(central, name, plan, objects)
    if is_new:
        install.forget_identity(cluster, plan.namespace)
    install.apply_all(cluster, objects, _say)
    _wait(central, cluster, name, plan)
    _say(f"cluster {name} is connected, after {time.monotonic() - begun:.1f} seconds")


def _with_bounds(
    central: "Central", name: str, plan: Plan, objects: list[Document]
) -> list[Document]:
    """Return the objects with the cluster's RBAC for the roles, which is there before the agent."""
    if plan.users_role:
        return objects
    from mk8s_cli.agent_install.manifest import RELEASE
    from mk8s_cli.commands.admin_cluster_rbac import fetch

    bounds, notes = fetch(central, name, f"{plan.namespace}:{RELEASE}")
    for note in notes:
        _say(f"note: {note}")
    return [*objects[:-1], *bounds, objects[-1]]


def _wait(central: "Central", cluster: "KubeCluster", name: str, plan: Plan) -> None:
    from mk8s_cli.agent_install import install

    def connected() -> bool:
        return any(it.name == name and it.status == "connected" for it in central.clusters())

    try:
        install.wait_until_serving(cluster, plan.namespace, connected, plan.timeout, _say)
    except CliError as error:
        raise CliError(
            f"{error}. What was applied is still there: mend it and run the same command again, or "
            f"mk8s admin clusters remove {name} --uninstall --kube-context {plan.kube_context}"
        ) from error


def _registered(central: "Central", body: Document) -> tuple[bool, Document]:
    """Return whether the cluster is new, and central's answer with a join token."""
    try:
        return True, central.call("POST", "/clusters", body)
    except Refused as refusal:
        if refusal.code != CONFLICT:
            raise
    path = f"/clusters/{segment(text(body, 'name'))}/join-token"
    return False, central.call("POST", path)


def _choices(plan: Plan) -> Any:
    from mk8s_cli.agent_install.manifest import Choices

    return Choices(plan.namespace, plan.image, plan.users_role)


def _say(line: str) -> None:
    """Tell what is done, beside the output."""
    click.echo(f"  {escape(line)}", err=True)
