"""`mk8s completion SHELL`: prints the script that completes commands, options and cluster names.

Called through `mk8s_cli.command_table`.
"""

import click
from click.shell_completion import get_completion_class

from mk8s_cli.terminal import powershell


@click.command(epilog='Example: eval "$(mk8s completion bash)"')
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish", powershell.NAME]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script for SHELL.

    In PowerShell: mk8s completion powershell | Out-String | Invoke-Expression
    """
    script = get_completion_class(shell)
    if script is None:
        raise click.UsageError(f"There is no completion for {shell}.")
    click.echo(script(context.find_root().command, {}, "mk8s", "_MK8S_COMPLETE").source())
