"""`mk8s passwd`: change one's own password.

Called through `mk8s_cli.command_table`.
"""

import click

from mk8s_cli.central.api import Central
from mk8s_cli.commands.options import profile
from mk8s_cli.login import access_tokens, config
from mk8s_cli.terminal import screen as terminal
from mk8s_cli.terminal.errors import CliError, NotLoggedIn
from mk8s_cli.terminal.validation import EMAIL


@click.command(epilog="Example: mk8s passwd")
@click.option(
    "--password-stdin",
    is_flag=True,
    help="Read the old password from the first line of stdin, the new one from the second.",
)
def passwd(password_stdin: bool) -> None:
    """Change your password; your logins on other machines end, this one goes on."""
    known = profile()
    if not EMAIL.fullmatch(known.email):
        raise CliError("only people have passwords; for service tokens: mk8s admin tokens rotate")
    if known.source == config.SINGLE_SIGN_ON:
        raise CliError("you sign in at an issuer: your password is changed there")
    try:
        # So that this login goes on. One that has ended is no reason not to change the password.
        token = access_tokens.access_token(known, "").token
    except NotLoggedIn:
        token = ""
    old = terminal.read_password(f"old password of {known.email}", from_stdin=password_stdin)
    new = terminal.read_password("your new password", from_stdin=password_stdin, twice=True)
    Central(access_tokens.transport(known), token).change_password(known.email, old, new)
    click.echo("your password is changed; your logins on other machines have ended")
