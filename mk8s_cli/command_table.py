"""The commands by name: help is shown from this table, a command's module is imported when it runs.

Called by `main.py`. A module that is missing (an extra that is not installed) costs one clear line
and only for the one command that needs it.
"""

import importlib
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from mk8s_cli.terminal.errors import CliError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class Entry(NamedTuple):
    """Where a command is and what the list of commands says about it."""

    module: str
    attribute: str
    help: str
    extra: str = ""
    hidden: bool = False


class LazyGroup(click.Group):
    """A group whose commands are imported at their first use."""

    def __init__(self, *args: Any, table: dict[str, Entry], **settings: Any) -> None:
        """Offer the commands of `table`, in its order."""
        super().__init__(*args, **settings)
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table, which is the order of a day's work."""
        return [name for name, entry in self.table.items() if not entry.hidden]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command; raise `CliError` if what it needs is not installed."""
        entry = self.table.get(cmd_name)
        if entry is None:
            return None
        try:
            module = importlib.import_module(f"mk8s_cli.{entry.module}")
        except ModuleNotFoundError as error:
            raise CliError(_missing(cmd_name, entry, error.name or "")) from error
        command = getattr(module, entry.attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{entry.module}.{entry.attribute} is no click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        rows = [(name, self.table[name].help) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        """Complete the names of commands without importing them, and options as click does."""
        from click.shell_completion import CompletionItem

        names = (name for name in self.list_commands(ctx) if name.startswith(incomplete))
        items = [CompletionItem(name, help=self.table[name].help) for name in names]
        return items + click.Command.shell_complete(self, ctx, incomplete)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; a name that is nearly one is answered with that one."""
        name = args[0] if args else ""
        if (
            name
            and not name.startswith("-")
            and name not in self.table
            and not ctx.resilient_parsing
        ):
            import difflib

            near = difflib.get_close_matches(name, self.table, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            ctx.fail(f"No such command {name!a}.{hint}")
        return super().resolve_command(ctx, args)


def _missing(name: str, entry: Entry, module: str) -> str:
    if module.startswith("mk8s_cli"):
        return f"'{name}' is not part of this installation; install a newer mk8s"
    wanted = f"mk8s[{entry.extra}]" if entry.extra else "mk8s"
    return f"'{name}' needs the Python module {module}; run: pip install '{wanted}'"


CLUSTERS = {
    "list": Entry("commands.clusters", "list_clusters", "List the clusters you may use."),
    "ls": Entry("commands.clusters", "list_clusters", "Same as list.", hidden=True),
    "use": Entry("commands.use", "use", "Make a cluster the current one."),
}

LOGINS = {
    "list": Entry("commands.logins", "list_own", "List your logins, on all machines."),
    "end": Entry("commands.logins", "end_own", "End one of your logins, or all others."),
}

CENTRALS = {
    "list": Entry("commands.centrals", "list_centrals", "List the centrals known here."),
    "use": Entry("commands.centrals", "use", "Make a central the current one."),
    "suffix": Entry("commands.centrals", "suffix", "Name its contexts CLUSTER-SUFFIX."),
    "remove": Entry("commands.centrals", "remove", "Log out of a central and forget it."),
}

AUDIT = {
    "list": Entry("commands.audit", "list_audit", "List requests, the newest first."),
    "tail": Entry("commands.audit", "tail", "Print the newest requests (-f follows)."),
    "show": Entry("commands.audit", "show_entry", "Show one request with its whole row."),
}

KUBECONFIG = {
    "sync": Entry("commands.kubeconfig", "sync", "Write one context per cluster you may use."),
    "path": Entry("commands.kubeconfig", "path", "Print the kubeconfig that is written to."),
    "remove": Entry("commands.kubeconfig", "remove", "Remove the contexts of mk8s."),
}

ADMIN_CLUSTERS = {
    "list": Entry("commands.clusters", "list_all", "List all clusters."),
    "add": Entry("commands.admin_clusters", "add", "Register a cluster; prints its join token."),
    "join-token": Entry("commands.admin_clusters", "join_token", "Issue a new join token."),
    "labels": Entry("commands.admin_clusters", "labels", "Set or remove labels."),
    "remove": Entry("commands.admin_clusters", "remove", "Remove a cluster and cut its agent off."),
}

ADMIN_AGENTS = {
    "list": Entry("commands.admin_agents", "list_agents", "List agents and their certificates."),
    "revoke": Entry("commands.admin_agents", "revoke", "Revoke an agent and cut it off."),
}

ADMIN_USERS = {
    "list": Entry("commands.admin_users", "list_users", "List users and their roles."),
    "add": Entry("commands.admin_users", "add", "Create a user."),
    "set-roles": Entry("commands.admin_users", "set_roles", "Replace a user's roles."),
    "set-password": Entry("commands.admin_users", "set_password", "Set a user's password."),
    "disable": Entry("commands.admin_users", "disable", "Lock a user out at once."),
    "enable": Entry("commands.admin_users", "enable", "Let a disabled user in again."),
    "remove": Entry("commands.admin_users", "remove", "Delete a user; ends what they have open."),
    "links": Entry("commands.admin_links", "links", "List whom single sign-on means by a user."),
    "link": Entry("commands.admin_links", "link", "Let a person of an issuer log in as a user."),
    "unlink": Entry("commands.admin_links", "unlink", "Take an issuer's links from a user."),
}

ADMIN_TOKENS = {
    "list": Entry("commands.admin_tokens", "list_tokens", "List service tokens."),
    "create": Entry("commands.admin_tokens", "create", "Make a service token; prints it once."),
    "rotate": Entry("commands.admin_tokens", "rotate", "Make its next secret; prints it once."),
    "revoke": Entry("commands.admin_tokens", "revoke", "Revoke one; ends what it has open."),
}

ADMIN_LOGINS = {
    "list": Entry("commands.logins", "list_all", "List everybody's logins, or one user's."),
    "end": Entry("commands.logins", "end_any", "End a login, or all of a user."),
}

ADMIN_ROLES = {
    "list": Entry("commands.admin_roles", "list_roles", "List roles."),
    "get": Entry("commands.admin_roles", "get", "Print a role as YAML."),
    "apply": Entry("commands.admin_roles", "apply", "Create or replace the roles of a YAML file."),
    "remove": Entry("commands.admin_roles", "remove", "Delete a role that nobody has."),
}

ADMIN_GROUPS = {
    "list": Entry("commands.admin_groups", "list_groups", "List groups, roles and members."),
    "set-roles": Entry("commands.admin_groups", "set_roles", "Replace a group's roles."),
    "set-members": Entry("commands.admin_groups", "set_members", "Replace a group's members."),
    "remove": Entry("commands.admin_groups", "remove", "Delete a group; its members lose roles."),
}

ADMIN_KEYS = {
    "list": Entry("commands.admin_keys", "list_keys", "List the keys that sign access tokens."),
    "rotate": Entry("commands.admin_keys", "rotate", "Publish a new signing key."),
    "retire": Entry("commands.admin_keys", "retire", "Refuse all tokens of a signing key."),
}

ADMIN_CA = {
    "show": Entry("commands.admin_ca", "show_authorities", "Show the certificate authorities."),
    "rotate": Entry("commands.admin_ca", "rotate", "Publish new certificate authorities."),
    "retire": Entry("commands.admin_ca", "retire", "Trust the old ones no more."),
}

ADMIN_LOCKS = {
    "list": Entry("commands.admin_locks", "list_locks", "List what is locked, by whom, how long."),
}

ADMIN = {
    "clusters": Entry("command_table", "admin_clusters", "Register clusters, issue join tokens."),
    "agents": Entry("command_table", "admin_agents", "List agents, revoke their certificates."),
    "users": Entry("command_table", "admin_users", "Create users, set roles and passwords."),
    "roles": Entry("command_table", "admin_roles", "Show and change roles."),
    "groups": Entry("command_table", "admin_groups", "Roles for many: of mk8s or of an issuer."),
    "tokens": Entry("command_table", "admin_tokens", "Service tokens for jobs."),
    "logins": Entry("command_table", "admin_logins", "See who is logged in; end logins."),
    "keys": Entry("command_table", "admin_keys", "List, rotate and retire signing keys."),
    "ca": Entry("command_table", "admin_ca", "Show, rotate and retire certificate authorities."),
    "lock": Entry("commands.admin_locks", "lock", "Shut a user, group, cluster, ... at once."),
    "unlock": Entry("commands.admin_locks", "unlock", "Open again what is locked."),
    "locks": Entry("command_table", "admin_locks", "List locks."),
    "cluster-rbac": Entry(
        "commands.admin_cluster_rbac", "cluster_rbac", "Print the roles as RBAC of a cluster."
    ),
    "apply": Entry("commands.admin_apply", "apply", "Apply a file of roles, users, groups."),
}

COMMANDS = {
    "login": Entry(
        "commands.login", "login", "Log in to central and write the kubeconfig contexts."
    ),
    "logout": Entry("commands.login", "logout", "Revoke the login and remove our contexts."),
    "logins": Entry("command_table", "logins", "See where you are logged in; end logins."),
    "passwd": Entry("commands.passwd", "passwd", "Change your password."),
    "status": Entry("commands.status", "status", "Who you are, what you may do, agent health."),
    "clusters": Entry("command_table", "clusters", "List and choose clusters."),
    "use": Entry("commands.use", "use", "Make a cluster the current one ('use -' goes back)."),
    "kubectl": Entry("commands.kubectl", "kubectl", "Run kubectl on the current cluster."),
    "k": Entry("commands.kubectl", "kubectl", "Same as kubectl."),
    "delegate": Entry("commands.delegate", "delegate", "A login that may do less than yours."),
    "centrals": Entry("command_table", "centrals", "Several centrals: list, choose, forget."),
    "kubeconfig": Entry("command_table", "kubeconfig", "Write or remove kubeconfig contexts."),
    "audit": Entry("command_table", "audit", "Find requests: yours, for administrators all."),
    "get-token": Entry("commands.get_token", "get_token", "Credential plugin that kubectl runs."),
    "admin": Entry("command_table", "admin", "Manage clusters, users and roles."),
    "demo": Entry("commands.demo", "demo", "The whole product on this machine.", extra="demo"),
    "completion": Entry("commands.completion", "completion", "Print the shell completion script."),
}


def _version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        click.echo(f"mk8s {version('mk8s')}")
    except PackageNotFoundError:
        click.echo("mk8s (not installed)")
    context.exit()


@click.group(
    cls=LazyGroup,
    table=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: mk8s login https://mk8s.example.com && mk8s use prod && kubectl get pods",
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version,
              help="Show the version and exit.")  # fmt: skip
@click.option("--central", envvar="MK8S_CENTRAL", default="", metavar="URL",
              help="Use this central instead of the current one.")  # fmt: skip
@click.pass_context
def mk8s(context: click.Context, central: str) -> None:
    """One way into many Kubernetes clusters, with plain kubectl."""
    context.obj = central


@click.group(cls=LazyGroup, table=CLUSTERS, epilog="Example: mk8s clusters list -o yaml")
def clusters() -> None:
    """List and choose clusters."""


@click.group(cls=LazyGroup, table=LOGINS, epilog="Example: mk8s logins list")
def logins() -> None:
    """Your logins on all machines: see them, end them."""


@click.group(cls=LazyGroup, table=CENTRALS, epilog="Example: mk8s centrals list")
def centrals() -> None:
    """The centrals that you have logged in to on this machine."""


@click.group(cls=LazyGroup, table=AUDIT, epilog="Example: mk8s audit list --since 2h --denied")
def audit() -> None:
    """Find requests in the audit: yours, for administrators everybody's."""


@click.group(cls=LazyGroup, table=KUBECONFIG, epilog="Example: mk8s kubeconfig sync")
def kubeconfig() -> None:
    """Write or remove the kubeconfig contexts of mk8s."""


@click.group(cls=LazyGroup, table=ADMIN, epilog="Example: mk8s admin clusters add prod")
def admin() -> None:
    """Manage clusters, users and roles (administrators of central only)."""


@click.group(cls=LazyGroup, table=ADMIN_CLUSTERS, epilog="Example: mk8s admin clusters add prod")
def admin_clusters() -> None:
    """Register clusters and issue join tokens for their agents."""


@click.group(cls=LazyGroup, table=ADMIN_AGENTS, epilog="Example: mk8s admin agents list")
def admin_agents() -> None:
    """List agents and revoke their certificates."""


@click.group(
    cls=LazyGroup,
    table=ADMIN_USERS,
    epilog="Example: mk8s admin users add dev@example.com --role developer",
)
def admin_users() -> None:
    """Create users and set their roles and passwords."""


@click.group(
    cls=LazyGroup,
    table=ADMIN_TOKENS,
    epilog="Example: mk8s admin tokens create ci --role developer --for 90d",
)
def admin_tokens() -> None:
    """Service tokens: what CI jobs and programs show instead of a login."""


@click.group(cls=LazyGroup, table=ADMIN_LOGINS, epilog="Example: mk8s admin logins list")
def admin_logins() -> None:
    """Everybody's logins: by what, from where, used when; and their ends."""


@click.group(cls=LazyGroup, table=ADMIN_ROLES, epilog="Example: mk8s admin roles get developer")
def admin_roles() -> None:
    """Show and change roles."""


@click.group(
    cls=LazyGroup, table=ADMIN_GROUPS, epilog="Example: mk8s admin groups set-roles acme:devs dev"
)
def admin_groups() -> None:
    """Give roles to groups: of mk8s (devs), or of an issuer that people log in by (acme:devs)."""


@click.group(cls=LazyGroup, table=ADMIN_KEYS, epilog="Example: mk8s admin keys list")
def admin_keys() -> None:
    """List, rotate and retire the keys that access tokens are signed with."""


@click.group(cls=LazyGroup, table=ADMIN_CA, epilog="Example: mk8s admin ca show")
def admin_ca() -> None:
    """Show, rotate and retire the authorities of central's and of the agents' certificates."""


@click.group(cls=LazyGroup, table=ADMIN_LOCKS, epilog="Example: mk8s admin locks list")
def admin_locks() -> None:
    """What is shut for now: see also lock and unlock."""
