"""The command ``mk8s-central``: init, serve, migrate, check-config. Options in, one call out.

The only module that reads the process's arguments and environment. What an operator can do wrong
ends here as one line per problem and exit code 1; anything else is a bug and keeps its traceback.
What a command needs is imported when it runs: `--help` must not pay for a server.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mk8s_proxy.settings.config_variable import CONFIG_VARIABLE

if TYPE_CHECKING:
    from mk8s_proxy.settings.model import Settings


def refusals() -> tuple[type[Exception], ...]:
    """What an operator can cause and mend; each message is made of lines that say how."""
    from mk8s_agent.wire.settings import SettingsError
    from mk8s_proxy.db.errors import StoreError
    from mk8s_proxy.identity.ca import CaError
    from mk8s_proxy.process.init import InstallationError
    from mk8s_proxy.process.rbac_file import RbacFileError
    from mk8s_proxy.process.worker import WorkersFailed

    return SettingsError, StoreError, CaError, RbacFileError, InstallationError, WorkersFailed


class Refusal(click.ClickException):
    """A refusal on its way to standard error: exit code 1, no traceback."""

    def show(self, file: Any = None) -> None:
        """Print each line with the program's name."""
        from mk8s_agent.wire import log

        for line in self.message.splitlines():
            click.echo(f"mk8s-central: {log.redact(line)}", file=file, err=file is None)


class Commands(click.Group):
    """The commands, with the one place where refusals become lines."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise Refusal(f"{where}{error.strerror or error}") from error
        except refusals() as error:
            raise Refusal(str(error)) from error


config_option = click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar=CONFIG_VARIABLE,
    show_envvar=True,
    help="YAML file with settings; MK8S_* environment variables go over it.",
)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mk8s", prog_name="mk8s-central", message="%(prog)s %(version)s")
def main() -> None:
    """The central of mk8s: one way into many Kubernetes clusters.

    First "mk8s-central init", then "mk8s-central serve".
    """


@main.command(short_help="Make database, keys, CAs and the first admin.")
@config_option
@click.option(
    "-f",
    "--file",
    "rbac",
    type=click.Path(dir_okay=False, path_type=Path),
    help="YAML file with roles and users to create or change.",
)
@click.option("--admin", metavar="EMAIL", help="The first admin (default admin@localhost).")
@click.option("--password-stdin", is_flag=True, help="Read the admin's password from stdin.")
def init(config: Path | None, rbac: Path | None, admin: str | None, password_stdin: bool) -> None:
    """Make the database, keys, certificate authorities and first admin.

    Can be run again: it keeps what is there. Without --password-stdin the admin's password is
    asked for on a terminal, or generated and shown once.

    Example: mk8s-central init -f rbac.yaml --admin you@example.com
    """
    import asyncio

    from mk8s_proxy.process.init import AdminChoice, install

    settings = _settings(config)
    password = sys.stdin.readline().rstrip("\r\n") if password_stdin else None
    choice = AdminChoice(admin, password, _ask_password)
    pin = asyncio.run(install(settings, choice, rbac, click.echo))
    suffix = f" --config {config}" if config else ""
    click.echo("\nNext:")
    click.echo(f"  mk8s-central serve{suffix}")
    click.echo(f"  mk8s login {settings.public_url} --ca-pin {pin}")
    click.echo("  mk8s admin clusters add <name>")


@main.command()
@config_option
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    help="Processes that share the port, instead of the setting of that name.",
)
def serve(config: Path | None, workers: int | None) -> None:
    """Serve clients and agents until SIGTERM.

    Example: mk8s-central serve --config /etc/mk8s/central.yaml --workers 4
    """
    import dataclasses

    from mk8s_agent.wire import log
    from mk8s_proxy.process import supervisor

    settings = _settings(config)
    if workers is not None:
        settings = dataclasses.replace(settings, workers=workers)
    log.configure(settings.log.level, settings.log.format)
    require_schema(settings)
    sys.exit(supervisor.serve(settings))


@main.command()
@config_option
def migrate(config: Path | None) -> None:
    """Bring the database to the schema of this version.

    Several replicas may do it at once; they wait for each other.

    Example: mk8s-central migrate --config /etc/mk8s/central.yaml
    """
    from mk8s_proxy.db import migrations
    from mk8s_proxy.db.engine import shown_url

    settings = _settings(config)
    before, after = migrations.upgrade(settings.database_url)
    shown = shown_url(settings.database_url)
    if before == after:
        click.echo(f"{shown} is at revision {after} already")
    else:
        click.echo(f"{shown} went from {before or 'empty'} to revision {after}")


@main.command("check-config")
@config_option
def check_config(config: Path | None) -> None:
    """Show the effective settings and everything wrong with them.

    Exit code 1 if "serve" would refuse to start. Changes nothing.

    Example: MK8S_LISTEN=0.0.0.0:443 mk8s-central check-config
    """
    from mk8s_proxy.process import check_config as config_check

    settings = _settings(config)
    click.echo(config_check.effective(settings))
    findings = config_check.check(settings)
    for note in findings.notes:
        click.echo(f"note: {note}", err=True)
    if findings.problems:
        raise Refusal("\n".join(findings.problems))
    click.echo("no problems found", err=True)


def require_schema(settings: "Settings") -> None:
    """Migrate the embedded database; PostgreSQL is shared, so there somebody must say so.

    Raises:
        DatabaseUnavailable: the schema is not the one of this version.
    """
    from mk8s_proxy.db import migrations
    from mk8s_proxy.db.engine import DatabaseUnavailable, shown_url

    if settings.is_sqlite:
        migrations.upgrade(settings.database_url)
    elif migrations.pending(settings.database_url):
        raise DatabaseUnavailable(
            f"the schema of {shown_url(settings.database_url)} is not the one of this version; "
            "run: mk8s-central migrate (or init, if it is new)"
        )


def _settings(config: Path | None) -> "Settings":
    from mk8s_proxy.settings.load import load_settings

    return load_settings(config, os.environ)


def _ask_password(email: str) -> str:
    if not _is_terminal():
        return ""
    question = f"Password for {email} (empty: generate one)"
    answer: str = click.prompt(
        question, default="", hide_input=True, confirmation_prompt=True, show_default=False
    )
    return answer


def _is_terminal() -> bool:
    return sys.stdin.isatty()
