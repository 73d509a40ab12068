"""`mk8s centrals list/use/suffix/remove`: the centrals that one has logged in to on this machine.

Called through `mk8s_cli.command_table`. What the current cluster is decides `kubeconfig.contexts`.
"""

from typing import Any

import click

from mk8s_cli.commands.options import suffix_type
from mk8s_cli.kubeconfig import contexts
from mk8s_cli.kubeconfig import files as kubeconfig_files
from mk8s_cli.login import config
from mk8s_cli.login.config import Config, Profile
from mk8s_cli.terminal.errors import CliError
from mk8s_cli.terminal.output import format_option, show
from mk8s_cli.terminal.screen import escape
from mk8s_cli.terminal.validation import central_url

COLUMNS = ("current", "central", "user", "suffix", "cluster")


def complete_central(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Return the addresses that are known here."""
    try:
        known = [it.central for it in config.load().profiles]
    except CliError:
        return []
    return [it for it in known if it.startswith(incomplete)]


@click.command("list", epilog="Example: mk8s centrals list")
@format_option()
def list_centrals(form: str) -> None:
    """List the centrals that this machine knows, and who is logged in there."""
    stored = config.load()
    if not stored.profiles and form == "table":
        click.echo("no central is known here; run: mk8s login URL", err=True)
        return
    listed = [
        {
            "name": known.central,
            "current": known.central == stored.current,
            "user": known.email,
            "suffix": known.suffix,
            "cluster": known.cluster,
        }
        for known in stored.profiles
    ]
    show(form, listed, COLUMNS, _row)


def _row(central: dict[str, Any]) -> tuple[str, ...]:
    user = central["user"] or "(logged out)"
    current = "*" if central["current"] else ""
    return current, central["name"], user, central["suffix"], central["cluster"]


@click.command(epilog="Example: mk8s centrals use https://mk8s.example.com")
@click.argument("url", shell_complete=complete_central)
def use(url: str) -> None:
    """Make a central the current one, and its cluster chosen last that of kubectl.

    Where none was chosen there, kubectl is left without a current context rather than at a cluster
    of another central.
    """
    known = _known(url)
    if not known.email:
        raise CliError(f"not logged in; run: mk8s login {known.central}")
    with kubeconfig_files.editing() as kubeconfig:
        stored = config.load()
        left = kubeconfig.current_context
        place = contexts.current(kubeconfig, stored, known.central)
        if place is not None:
            kubeconfig.use_context(place.context)
        elif any(left == it.context for it in contexts.places(kubeconfig, stored)):
            kubeconfig.use_no_context()
    contexts.remember(known.central, place.cluster if place else known.cluster, left)
    where = f"current context: {escape(place.context)}" if place else "next: mk8s use NAME"
    click.echo(f"current central: {known.central} ({where})")


@click.command(epilog="Example: mk8s centrals suffix https://mk8s.example.com eu")
@click.argument("url", shell_complete=complete_central)
@click.argument("suffix", callback=suffix_type)
def suffix(url: str, suffix: str) -> None:
    """Let the contexts of a central be called CLUSTER-SUFFIX; "" takes the suffix away."""
    known = contexts.set_suffix(_known(url), suffix)
    names = [
        it.context for it in contexts.places(kubeconfig_files.read(), config.load(), known.central)
    ]
    click.echo(f"contexts: {escape(', '.join(names)) or 'none'}")


@click.command(epilog="Example: mk8s centrals remove https://mk8s.example.com")
@click.argument("url", shell_complete=complete_central)
def remove(url: str) -> None:
    """Log out of a central, remove its contexts, and forget it and its certificate authority."""
    from mk8s_cli.commands import login

    known = _known(url)
    if known.email:
        login.end(known)
    else:
        with kubeconfig_files.editing() as kubeconfig:
            kubeconfig.remove(known.central)

    def change(stored: Config) -> Config:
        return stored.without(known.central)

    left = config.update(change)
    click.echo(f"forgotten: {known.central}")
    if left.current:
        click.echo(f"current central: {left.current}")


def _known(url: str) -> Profile:
    """Return the profile of a central; a suffix names it as well as its address does."""
    stored = config.load()
    named = [it for it in stored.profiles if it.suffix and it.suffix == url]
    found = named[0] if len(named) == 1 else stored.profile(central_url(url))
    if found is None:
        raise CliError(f"{central_url(url)} is not known here; run: mk8s centrals list")
    return found
