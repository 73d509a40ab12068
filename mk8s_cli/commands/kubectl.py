"""`mk8s kubectl` and `mk8s k`: stock kubectl on the current cluster of mk8s.

Called through `mk8s_cli.command_table`. This process becomes kubectl, so signals, terminal and exit
code are kubectl's own, and so are the arguments, plugins and what follows their names included.
Where kubectl's current context is another one, ours is named in a small kubeconfig before the
person's own: of several files, client-go takes the first that names a current context.
"""

import os
import shutil
from collections.abc import Sequence

import click

from mk8s_cli.commands.options import chosen_central
from mk8s_cli.kubeconfig import contexts
from mk8s_cli.kubeconfig import files as kubeconfig_files
from mk8s_cli.login import config
from mk8s_cli.terminal.errors import CliError, Unwritable
from mk8s_cli.terminal.interpreter import become

OWN_CHOICE = ("--context", "--kubeconfig")
NEEDS_NO_CLUSTER = frozenset({"-h", "--help", "help", "completion", "options"})
READS_CONFIG = frozenset({"view", "current-context", "get-contexts"})
"""Of `kubectl config`, what shows the current context. What writes new things writes them into the
first file, which must then be the person's."""


class Untouched(click.Command):
    """A command whose arguments are not looked at: no option, no `--`, no `--help` is taken out."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep every word."""
        ctx.args = list(args)
        return []


@click.command(cls=Untouched, add_help_option=False)
@click.pass_context
def kubectl(context: click.Context) -> None:
    """Run kubectl on the current cluster; arguments and exit code are kubectl's."""
    program = shutil.which("kubectl")
    if program is None:
        raise CliError("kubectl is not on PATH; install it: https://kubernetes.io/docs/tasks/tools")
    words, variable = prepared(context.args, chosen_central())
    if variable:
        os.environ["KUBECONFIG"] = variable
    become(program, ["kubectl", *words])


def prepared(words: Sequence[str], central: str) -> tuple[list[str], str]:
    """Return the words for kubectl and the value of KUBECONFIG, "" where it stays as it is.

    Raises:
        CliError: no cluster was chosen, or nobody is logged in.
    """
    if chooses_itself(words) or is_help(words) or _writes_config(words):
        return list(words), ""
    try:
        context = current_context(central)
    except CliError:
        if words[0] != "config":
            raise
        return list(words), ""  # it shows what there is
    if kubeconfig_files.read().current_context == context:
        return list(words), ""
    try:
        return list(words), kubeconfig_files.with_current(context)
    except Unwritable:
        return with_context(words, context), ""


def _writes_config(words: Sequence[str]) -> bool:
    """Whether this is a `kubectl config` that changes more than the current context's entry."""
    plain = [word for word in words if not word.startswith("-")]
    if plain[:1] != ["config"] or "--current" in words:
        return False
    return not READS_CONFIG.intersection(plain[1:2])


def chooses_itself(words: Sequence[str]) -> bool:
    """Whether the caller names a context or file; what follows `--` belongs to another program."""
    own = words[: words.index("--")] if "--" in words else words
    return any(
        word in OWN_CHOICE or word.startswith(("--context=", "--kubeconfig=")) for word in own
    )


def is_help(words: Sequence[str]) -> bool:
    """Whether kubectl only explains itself, which it does for everybody, logged in or not."""
    own = words[: words.index("--")] if "--" in words else words
    return not own or own[0] in NEEDS_NO_CLUSTER or "--help" in own


def with_context(words: Sequence[str], context: str) -> list[str]:
    """Return `words` with the context named after the first one: where no file can be written.

    Not before it, since kubectl finds no plugin behind a flag; not at the end, which may lie behind
    a `--`.
    """
    if not words or words[0].startswith("-"):
        return [f"--context={context}", *words]
    return [words[0], f"--context={context}", *words[1:]]


def current_context(central: str = "") -> str:
    """Return kubectl's current context if it is ours, else the context of the last `mk8s use`.

    Raises:
        CliError: no cluster was chosen, or nobody is logged in.
    """
    known = contexts.profile_in_use(central)
    place = contexts.current(kubeconfig_files.read(), config.load(), central and known.central)
    if place is not None:
        return place.context
    raise CliError("no cluster is chosen; run: mk8s use NAME (mk8s clusters list shows them)")
