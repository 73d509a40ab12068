"""`mk8s login` and `mk8s logout`.

Called through `mk8s_cli.command_table`.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mk8s_cli.central.access_token import AccessToken
from mk8s_cli.central.api import Central, Grant, text
from mk8s_cli.commands.options import (
    chosen_central,
    exec_version_option,
    suffix_type,
    with_exec_version,
)
from mk8s_cli.kubeconfig import contexts
from mk8s_cli.kubeconfig import files as kubeconfig_files
from mk8s_cli.login import access_tokens, config, credentials, service_token, token_cache
from mk8s_cli.login.config import Config, Profile
from mk8s_cli.terminal import screen as terminal
from mk8s_cli.terminal.errors import CliError, Refused
from mk8s_cli.terminal.private_files import require_writable
from mk8s_cli.terminal.progress import waiting
from mk8s_cli.terminal.validation import EMAIL, SERVICE_USER, central_url

if TYPE_CHECKING:
    from mk8s_cli.central.transport import Transport

PATIENCE_SECONDS = 30.0
"""How much of what central asks to wait (Retry-After) a login waits by itself, in all."""
WAIT_CODES = frozenset({429, 503})
FORBIDDEN = 403
"""What a login with the right password gets when that must be changed first."""
NEW_PASSWORD = "your new password"


@click.command(epilog="Example: mk8s login https://mk8s.example.com --email dev@example.com")
@click.argument("url", default="")
@click.option("--email", default="", help="Who you are; asked for if not given.")
@click.option(
    "--password-stdin",
    is_flag=True,
    help="Read the password from stdin; a new one, where it must be changed, from the next line.",
)
@click.option(
    "--service-token",
    "by_token",
    is_flag=True,
    help="Log in by a service token: that of MK8S_TOKEN or MK8S_TOKEN_FILE, from stdin, or asked "
    "for.",
)
@click.option(
    "--ca-file",
    "authority_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Trust exactly the certificate authority in this PEM file.",
)
@click.option(
    "--ca-pin", "pin", default="", metavar="sha256:HEX", help="Trust the authority of this pin."
)
@click.option(
    "--suffix",
    default=None,
    metavar="NAME",
    callback=suffix_type,
    help="Name the contexts CLUSTER-NAME, to tell them from another central's.",
)
@exec_version_option
def login(
    url: str,
    email: str,
    password_stdin: bool,
    by_token: bool,
    suffix: str | None,
    exec_version: str | None,
    **vouched: Any,
) -> None:
    """Log in to central and write one kubeconfig context per cluster you may use."""
    from mk8s_cli.central import trust
    from mk8s_cli.central.transport import Transport, trusting

    # Before a password is typed for a login that could not be kept.
    require_writable(token_cache.home_directory())
    stored = config.load()
    central = central_url(url or chosen_central() or stored.current or _which())
    known = with_exec_version(stored.profile(central) or Profile(central), exec_version)
    authority = trust.establish(central, known.certificate_authority, **vouched)
    transport = Transport(central, trusting(authority))
    known = replace(known, certificate_authority=authority)
    if by_token:
        profile, token = _log_in_by_token(known, transport)
    else:
        profile, token = _log_in_by_password(known, transport, email, password_stdin)
    if suffix is not None:
        profile = contexts.set_suffix(profile, suffix)
    click.echo(f"logged in to {central} as {terminal.escape(profile.email)}")
    _write_contexts(profile, Central(transport, token))


def _log_in_by_password(
    known: Profile, transport: "Transport", email: str, password_stdin: bool
) -> tuple[Profile, str]:
    """Return the profile as stored, and an access token bound to no cluster."""
    email = _email(email or known.email, ask=not email)
    password = terminal.read_password(f"password of {email}", from_stdin=password_stdin)
    try:
        grant = _grant(Central(transport), email, password)
    except Refused as refused:
        if refused.code != FORBIDDEN or not (password_stdin or terminal.is_interactive()):
            raise
        terminal.note("this password was chosen by somebody else: choose one of your own")
        new = terminal.read_password(NEW_PASSWORD, from_stdin=password_stdin, twice=True)
        Central(transport).change_password(email, password, new)
        grant = _grant(Central(transport), email, new)
    profile = _remember(known, grant.refresh_token, _named(grant, email), grant.access_token)
    return profile, grant.access_token.token


def _log_in_by_token(known: Profile, transport: "Transport") -> tuple[Profile, str]:
    """The same for a service token, which is kept as a refresh token is, and serves as it is."""
    if service_token.in_use():
        token = service_token.of_environment().token
    else:
        from_stdin = not terminal.is_interactive()
        typed = terminal.read_password("service token", from_stdin=from_stdin)
        token = service_token.checked(typed, "stdin" if from_stdin else "what was typed")
    user = Central(transport, token).whoami().get("user")
    named = text(user, "email") if isinstance(user, dict) else ""
    if not SERVICE_USER.fullmatch(named):
        raise CliError("central's answer is refused: it names no service token")
    return _remember(known, token, named, None), token


@click.command(epilog="Example: mk8s logout")
def logout() -> None:
    """Revoke the login at central, forget it here and remove our kubeconfig contexts."""
    end(config.profile_for(chosen_central()))


def end(profile: Profile) -> None:
    """Log out of one central; also what `mk8s centrals remove` does first."""
    # Under the lock of the refresh: one that runs now must not store a token after we forgot it.
    with access_tokens.lock(profile.central):
        _revoke(profile)
        credentials.delete(profile.central, profile.email)
        token_cache.clear(profile.central)
        config.update(lambda stored: stored.with_profile(replace(profile, email="")))
    with kubeconfig_files.editing() as kubeconfig:
        removed = kubeconfig.remove(profile.central)
        is_adrift = kubeconfig.current_context in removed and kubeconfig.foreign_entries()
    gone = f" (contexts removed: {terminal.escape(', '.join(removed))})" if removed else ""
    click.echo(f"logged out of {profile.central}{gone}")
    if is_adrift:
        click.echo("kubectl's current context was one of these: kubectl config use-context NAME")


def _which() -> str:
    raise click.UsageError("Which central? Example: mk8s login https://mk8s.example.com")


def _email(email: str, *, ask: bool) -> str:
    if ask and terminal.is_interactive():
        default = f" [{email}]" if email else ""
        email = terminal.ask(f"email{default}") or email
    if not EMAIL.fullmatch(email):
        raise CliError("whose login? add --email you@example.com")
    return email


def _grant(central: Central, email: str, password: str) -> Grant:
    """Log in; a short wait that central asks for is waited here, with a word about it."""
    left = PATIENCE_SECONDS
    while True:
        try:
            with waiting("logging in"):
                return central.login(email, password)
        except Refused as refused:
            pause = refused.retry_after
            if refused.code not in WAIT_CODES or pause is None or pause > left:
                raise
        pause = max(1.0, pause)
        left -= pause
        terminal.note(f"central asks to wait {pause:.0f} s before the next try: waiting")
        time.sleep(pause)


def _named(grant: Grant, email: str) -> str:
    return grant.email if EMAIL.fullmatch(grant.email) else email


def _remember(profile: Profile, secret: str, named: str, access: AccessToken | None) -> Profile:
    """Store the tokens and make this central the current one; return the profile as stored."""
    with access_tokens.lock(profile.central):
        if profile.email and profile.email != named:
            credentials.delete(profile.central, profile.email)
        token_cache.clear(profile.central)
        where = credentials.save(profile.central, named, secret)
        profile = replace(profile, email=named, secrets=where)
        if access is not None:
            token_cache.save(profile.central, "", access)

        def change(stored: Config) -> Config:
            return replace(stored.with_profile(profile), current=profile.central)

        config.update(change)
    return profile


def _write_contexts(profile: Profile, central: Central) -> None:
    with waiting("reading the clusters"):
        clusters = central.clusters()
    outcome = contexts.sync(profile, clusters)
    click.echo(f"clusters: {contexts.names(clusters)}")
    if not outcome.contexts:
        click.echo("no cluster is yours yet: ask an administrator for a role")
        click.echo("administrators add one with: mk8s admin clusters add NAME")
        return
    click.echo(
        f"contexts written to {kubeconfig_files.target_path(kubeconfig_files.listed_paths())}"
    )
    others = any(it.email and it.central != profile.central for it in config.load().profiles)
    mk8s = f"mk8s --central {profile.central}" if others else "mk8s"
    click.echo(f"next: {mk8s} use {next(iter(outcome.contexts))} && kubectl get pods")


def _revoke(profile: Profile) -> None:
    """Tell central; that it cannot be told does not keep anybody logged in here."""
    try:
        kept = credentials.load(profile.central, profile.email, profile.secrets)
        if service_token.is_one(kept.refresh_token):
            terminal.note(
                "the service token is forgotten here and stays good elsewhere; "
                "an administrator ends it with: mk8s admin tokens revoke"
            )
        elif kept.refresh_token:
            Central(access_tokens.transport(profile)).logout(kept.refresh_token)
    except CliError as error:
        terminal.warn(f"the login could not be revoked at central ({error}); it ends by itself")
