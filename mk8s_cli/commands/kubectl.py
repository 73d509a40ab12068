"""`mk8s kubectl` and `mk8s k`: stock kubectl on the current cluster of mk8s.

Called through `mk8s_cli.command_table`. This process becomes kubectl, so signals, terminal and exit
code are kubectl's own.
"""

import shutil
from collections.abc import Sequence

import click

from mk8s_cli.commands.options import chosen_central
from mk8s_cli.kubeconfig import contexts
from mk8s_cli.kubeconfig import files as kubeconfig_files
from mk8s_cli.login import config
from mk8s_cli.terminal.errors import CliError
from mk8s_cli.terminal.interpreter import become

OWN_CHOICE = ("--context", "--kubeconfig")
NEEDS_NO_CLUSTER = frozenset({"-h", "--help", "help", "completion", "options"})


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
    words = context.args
    if not chooses_itself(words) and not is_help(words):
        words = with_context(words, current_context(chosen_central()))
    become(program, ["kubectl", *words])


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
    """Return `words` with the context named after the first one.

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
