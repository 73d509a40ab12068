"""`mk8s delegate`: a login that may do less than one's own, for a command or somebody else.

Called through `mk8s_cli.command_table`. The delegation has a home of its own: a private directory
with a configuration, its refresh token and a kubeconfig whose plugin looks nowhere else. So nothing
that runs with it needs the login of its owner, or the keyring.
"""

import os
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from mk8s_cli.central.api import Central, Delegated
from mk8s_cli.commands import delegate_home as homes
from mk8s_cli.commands.delegate_child import Child
from mk8s_cli.commands.options import profile, span_type
from mk8s_cli.kubeconfig import contexts
from mk8s_cli.kubeconfig import files as kubeconfig_files
from mk8s_cli.login import access_tokens, config
from mk8s_cli.login.config import Profile
from mk8s_cli.terminal.errors import CliError
from mk8s_cli.terminal.output import moment
from mk8s_cli.terminal.progress import waiting
from mk8s_cli.terminal.screen import escape, note, warn

LIFE = "30m"


def _words(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> list[str]:
    """Split what may be repeated and may have commas (a click callback)."""
    return [word for text in given for word in text.split(",")]


def _narrows(
    name: str, metavar: str, text: str
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(f"--{name}", f"{name}s", multiple=True, metavar=metavar, callback=_words,
                        help=text)  # fmt: skip


@click.command(
    context_settings={"allow_interspersed_args": False},
    epilog="Example: mk8s delegate --for 30m --verb get,list -- k9s",
)
@click.option("--for", "life", default=LIFE, show_default=True, callback=span_type, metavar="SPAN",
              help="How long it is good; with a command no longer than that runs.")  # fmt: skip
@_narrows("cluster", "GLOB", "Only where a cluster's name matches (default: all of yours).")
@_narrows("namespace", "GLOB", 'Only there; "" is what is outside of namespaces (default: all).')
@_narrows("verb", "VERB", "Only these, as in roles; * is all (default: get,list,watch,logs).")
@_narrows("resource", "NAME", "Only these: pods, deployments.apps, pods/log (default: *). Secrets "
          "must be named.")  # fmt: skip
@click.option("--label", default="", help="Whom it is for, as the audit names them (default: the "
              "command).")  # fmt: skip
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              help="Without a command: the directory to make.")  # fmt: skip
@click.option("--end", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR",
              help="End the delegation of this directory, and remove it.")  # fmt: skip
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND ...]")
def delegate(
    life: int,
    label: str,
    out: Path | None,
    end: Path | None,
    command: tuple[str, ...],
    **parts: list[str],
) -> int:
    """Run a command with a login that may do less than yours, and end it afterwards.

    Without a command, make a directory with a kubeconfig to be used elsewhere.
    """
    if end is not None:
        _end(end)
        return 0
    if command and out is not None:
        raise click.UsageError("--out is for a delegation without a command.")
    program = _found(command[0]) if command else ""
    asked = {part: words for part, words in parts.items() if words}
    asked_for = {"seconds": life, "label": label or Path(program).name[:64], **asked}
    if command:
        return _run(asked_for, program, command)
    _hand_out(asked_for, out)
    return 0


def _found(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise CliError(f"{program} is not on PATH")
    return found


def _run(asked_for: dict[str, Any], program: str, command: tuple[str, ...]) -> int:
    """Run the command in a home that is gone with it."""
    with Child() as child, _directory() as directory:
        known = profile()
        wanted = _current_cluster(known)
        with waiting("delegating"):
            grant, about = access_tokens.connect(known).delegate(asked_for)
        try:
            home = homes.furnish(directory, known, grant, about, wanted)
            note(f"{_summary(about, home)}; ends with the command")
            return child.run(program, command, homes.environment(home))
        finally:
            child.ignore_signals()
            _revoke(known, grant.refresh_token)


@contextmanager
def _directory() -> Iterator[Path]:
    """A private directory, in memory where the system has a place for such ones."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    place = runtime if runtime and Path(runtime).is_dir() else None
    directory = Path(tempfile.mkdtemp(prefix="mk8s-delegate-", dir=place))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _hand_out(asked_for: dict[str, Any], out: Path | None) -> None:
    """Make a directory that somebody else may work with."""
    known = profile()
    if out is not None and out.exists() and any(out.iterdir()):
        raise CliError(f"{out} is not empty: choose another directory")
    homes.forget_ended()
    wanted = _current_cluster(known)
    with waiting("delegating"):
        grant, about = access_tokens.connect(known).delegate(asked_for)
    try:
        directory = (out or homes.usual_place(about)).absolute()
        home = homes.furnish(directory, known, grant, about, wanted)
    except BaseException:
        _revoke(known, grant.refresh_token)
        raise
    click.echo(_summary(about, home))
    click.echo(f"use it: export KUBECONFIG={shlex.quote(str(home.kubeconfig))}")
    click.echo(f"end it: mk8s delegate --end {shlex.quote(str(directory))}")
    note("whoever can read this directory may do that; it serves one machine at a time")


def _summary(about: Delegated, home: homes.Home) -> str:
    """What was delegated to whom; the clusters are those that there are."""
    what = about.allowed.rpartition(", clusters ")[0]
    until = f"until {moment(about.ends_at)}"
    return escape(f"delegated to {about.delegate} {until}: {what}, on {', '.join(home.contexts)}")


def _current_cluster(known: Profile) -> str:
    """The cluster that its owner works with, "" for none."""
    with suppress(CliError, OSError):
        place = contexts.current(kubeconfig_files.read(), config.load(), known.central)
        return place.cluster if place is not None else ""
    return ""


def _end(directory: Path) -> None:
    home = homes.opened(directory)
    _revoke(home.profile, home.refresh_token)
    homes.remove(directory)
    click.echo(escape(f"the delegation {home.delegate} has ended"))


def _revoke(known: Profile, refresh_token: str) -> None:
    """End the login at central; a token that was used up names it as well."""
    try:
        Central(access_tokens.transport(known, quiet=True)).logout(refresh_token)
    except CliError as error:
        warn(f"the delegation could not be ended at central ({error}); it ends by itself")
