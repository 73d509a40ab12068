"""Options and arguments that several commands share.

Called by the command modules.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import click

from mk8s_cli.kubeconfig import known_names
from mk8s_cli.login import cached_token, config
from mk8s_cli.terminal import validation
from mk8s_cli.terminal.errors import CliError
from mk8s_cli.terminal.screen import confirm, is_interactive


def chosen_central() -> str:
    """Return what `mk8s --central URL` or MK8S_CENTRAL says, "" for the current one."""
    chosen = click.get_current_context().find_root().obj
    return chosen if isinstance(chosen, str) else ""


def profile() -> config.Profile:
    """Return the profile that this command works with; raises `NotLoggedIn` if there is none."""
    return config.profile_for(chosen_central())


def complete_cluster(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Return the clusters whose contexts were written: no network, since a shell waits for it."""
    home = cached_token.home_path()
    names = known_names.load(home)
    if names is None:
        stamped = known_names.stamp(home)
        try:
            names = _context_names()
        except CliError:
            return []
        known_names.save(home, stamped, names)
    return [name for name in names if name.startswith(incomplete)]


def _context_names() -> list[str]:
    """Return what `mk8s use` takes: our contexts and their clusters."""
    from mk8s_cli.kubeconfig import files as kubeconfig_files

    kubeconfig = kubeconfig_files.read()
    centrals = [known.central for known in config.load().profiles]
    found = [kubeconfig.contexts_of(central) for central in centrals]
    names = {name for pairs in found for pair in pairs.items() for name in pair}
    # What a shell would take for two words, or a terminal for a command, nobody types either.
    return sorted(name for name in names if name.isprintable() and " " not in name)


def cluster_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument NAME, completed from the kubeconfig."""
    return click.argument("name", shell_complete=complete_cluster)(function)


def exec_version_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --exec-version, None where it is not given."""
    return click.option(
        "--exec-version",
        type=click.Choice(["auto", *config.EXEC_VERSIONS]),
        help="Version of kubectl's plugin API in the entries, remembered for this central; auto "
        "writes v1 where the kubectl on PATH and the cluster are 1.22 or newer.",
    )(function)


def with_exec_version(known: config.Profile, chosen: str | None) -> config.Profile:
    """Return the profile with what --exec-version says, if it says anything."""
    if chosen is None:
        return known
    return replace(known, exec_version="" if chosen == "auto" else chosen)


def label_type(_: click.Context, parameter: click.Parameter, value: str) -> str:
    """Check a DNS-1123 label such as a namespace (a click callback)."""
    if value and not validation.LABEL.fullmatch(value):
        raise click.BadParameter("use a-z, 0-9 and '-', at most 63 characters", param=parameter)
    return value


def span_type(_: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """Check a span of time (a click callback); its seconds."""
    if value is None:
        return None
    seconds = validation.span(value)
    if seconds is None:
        raise click.BadParameter("write 90m, 12h, 30d or 8w", param=parameter)
    return seconds


def suffix_type(_: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Check the suffix of contexts (a click callback): "" takes it away."""
    if value and not validation.LABEL.fullmatch(value):
        raise click.BadParameter("use a-z, 0-9 and '-', at most 63 characters", param=parameter)
    return value


def yes_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --yes for commands that ask before they destroy something."""
    return click.option("-y", "--yes", is_flag=True, help="Do not ask.")(function)


def agree(question: str, *, yes: bool) -> None:
    """Return if the person agrees; raise `CliError` if not, or if nobody can be asked."""
    if yes:
        return
    if not is_interactive():
        raise CliError(f"{question} There is no terminal to ask at: add --yes")
    if not confirm(question):
        raise CliError("nothing was changed")
