"""`mk8s login` and `mk8s logout`. How one logs in is in `login_ways`.

Called through `mk8s_cli.command_table`.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from mk8s_cli.central.api import Central, segment, text
from mk8s_cli.commands import login_ways
from mk8s_cli.commands.login_ways import Asked, Opened
from mk8s_cli.commands.options import (
    chosen_central,
    exec_version_option,
    label_type,
    suffix_type,
    with_exec_version,
)
from mk8s_cli.kubeconfig import contexts
from mk8s_cli.kubeconfig import files as kubeconfig_files
from mk8s_cli.login import access_tokens, config, credentials, service_token, token_cache
from mk8s_cli.login.config import Config, Profile
from mk8s_cli.terminal import screen as terminal
from mk8s_cli.terminal.errors import CliError
from mk8s_cli.terminal.private_files import require_writable
from mk8s_cli.terminal.progress import waiting
from mk8s_cli.terminal.validation import central_url

WAYS = ("browser", "device", "password", "service-token", "federated")


@click.command(epilog="Example: mk8s login https://mk8s.example.com")
@click.argument("url", default="")
@click.option("--browser", is_flag=True, help="Sign in at an issuer in the browser here.")
@click.option("--device", is_flag=True, help="Sign in by a code, in a browser on any machine.")
@click.option("--issuer", default="", metavar="NAME", callback=label_type,
              help="Where to sign in, if central has several.")  # fmt: skip
@click.option("--password", is_flag=True, help="Log in with a password of central's.")
@click.option("--email", default="", help="Whose password; asked for if not given.")
@click.option(
    "--password-stdin",
    is_flag=True,
    help="Read the password from stdin; a new one, where it must be changed, from the next line.",
)
@click.option(
    "--service-token",
    is_flag=True,
    help="Log in by a service token: that of MK8S_TOKEN or MK8S_TOKEN_FILE, from stdin, or asked "
    "for.",
)
@click.option(
    "--federated",
    is_flag=True,
    help="Log in by the token of this job: GitHub's, GitLab's (MK8S_ID_TOKEN) or a pod's.",
)
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="With --federated: the file that holds the job's token.",
)
@click.option("--token-variable", default="", metavar="NAME",
              help="With --federated: the variable that holds the job's token.")  # fmt: skip
@click.option("--audience", default="", help="With --federated: what to ask GitHub's token for.")
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
    suffix: str | None,
    exec_version: str | None,
    authority_file: Path | None,
    pin: str,
    **asked: Any,
) -> None:
    """Log in to central and write one kubeconfig context per cluster you may use.

    Without options it does what it did last time there, or what central and this terminal allow:
    single sign-on in the browser, by a code where there is none, or a password.
    """
    from mk8s_cli.central import trust
    from mk8s_cli.central.transport import Transport, trusting

    way = _asked(asked)
    # Before a password is typed for a login that could not be kept.
    require_writable(token_cache.home_directory())
    stored = config.load()
    central = central_url(url or chosen_central() or stored.current or _which())
    known = with_exec_version(stored.profile(central) or Profile(central), exec_version)
    authority = trust.establish(central, known.certificate_authority, authority_file, pin)
    transport = Transport(central, trusting(authority))
    opened = login_ways.log_in(replace(known, certificate_authority=authority), transport, way)
    profile = _remember(known, opened)
    if suffix is not None:
        profile = contexts.set_suffix(profile, suffix)
    click.echo(f"logged in to {central} as {terminal.escape(profile.email)}")
    _write_contexts(profile, Central(transport, opened.bearer))


def _asked(words: dict[str, Any]) -> Asked:
    """Check that the options go together; raise `UsageError` if not."""
    ways = [way for way in WAYS if words.pop(way.replace("-", "_"))]
    if len(ways) > 1:
        raise click.UsageError(f"{' and '.join(f'--{way}' for way in ways)} exclude each other.")
    way = ways[0] if ways else ""
    asked = Asked(way, **words)
    if (asked.email or asked.password_stdin) and way not in {"", "password"}:
        raise click.UsageError(f"--email and --password-stdin are of no use with --{way}.")
    if asked.issuer and (way not in {"", "browser", "device"} or asked.email):
        raise click.UsageError("--issuer is for --browser and --device.")
    if (asked.token_file or asked.token_variable or asked.audience) and way != "federated":
        raise click.UsageError("--token-file, --token-variable and --audience need --federated.")
    if asked.token_file and asked.token_variable:
        raise click.UsageError("--token-file and --token-variable exclude each other.")
    return asked


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


def _remember(known: Profile, opened: Opened) -> Profile:
    """Store the tokens and make this central the current one; return the profile as stored."""
    profile = opened.profile
    with access_tokens.lock(profile.central):
        if known.email and (known.email != profile.email or not opened.secret):
            credentials.delete(profile.central, known.email)
        token_cache.clear(profile.central)
        where = config.JOB
        if opened.secret:
            where = credentials.save(profile.central, profile.email, opened.secret)
        profile = replace(profile, secrets=where)
        if opened.access is not None:
            token_cache.save(profile.central, "", opened.access)

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
        if profile.secrets == config.JOB:
            _end_of_job(profile)
            return
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


def _end_of_job(profile: Profile) -> None:
    """End the login of a job, unless it is over; no new one is opened for that."""
    held = token_cache.load(profile.central, "")
    if held is None:
        return
    central = Central(access_tokens.transport(profile), held.token)
    login = central.whoami().get("login")
    if isinstance(login, dict) and text(login, "id"):
        central.call("DELETE", f"/logins/{segment(text(login, 'id'))}", repeatable=True)
