"""Make the authorities and certificates of a laboratory, or replace an authority of a central.

Run from a checkout with the extra `central` installed. `mk8s-central init` is what production
uses; this is for looking, for tests by hand, and for the rotation described in certs/README.md.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import get_args

import click

from mk8s_agent.wire import pki
from mk8s_proxy.db import migrations
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import StoreError
from mk8s_proxy.identity.authorities import replace_authority
from mk8s_proxy.identity.ca import CaError, CertificateAuthority, Purpose
from mk8s_proxy.process.vault import open_secrets
from mk8s_proxy.settings.load import CONFIG_VARIABLE, load_settings
from mk8s_proxy.settings.model import Settings, SettingsError


@click.command(help=__doc__)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder to write.")
@click.option("--name", "names", multiple=True, default=["localhost"], help="Name of the server.")
@click.option("--cluster", default="lab", help="Cluster id in the agent's certificate.")
@click.option("--replace", type=click.Choice(get_args(Purpose)), help="Authority to replace.")
@click.option("--config", type=click.Path(path_type=Path), envvar=CONFIG_VARIABLE)
def init(
    out: Path | None,
    names: tuple[str, ...],
    cluster: str,
    replace: Purpose | None,
    config: Path | None,
) -> None:
    """Write a laboratory's files, or replace one authority in the database."""
    if (out is None) == (replace is None):
        raise click.UsageError("say either --out FOLDER or --replace server|agent")
    try:
        if out is not None:
            _laboratory(out, list(names), cluster)
        elif replace is not None:
            _replace(replace, config)
    except (CaError, StoreError, SettingsError, OSError) as error:
        raise click.ClickException(str(error)) from error


def _laboratory(out: Path, names: list[str], cluster: str) -> None:
    server_ca, agent_ca = (
        CertificateAuthority.create("server"),
        CertificateAuthority.create("agent"),
    )
    server_key, agent_key = pki.new_key(), pki.new_key()
    signed = agent_ca.sign_agent(pki.csr(agent_key, cluster), cluster)
    files = {
        "server-ca.pem": server_ca.certificate_pem,
        "server-ca.key": server_ca.key_pem,
        "agent-ca.pem": agent_ca.certificate_pem,
        "agent-ca.key": agent_ca.key_pem,
        "server.pem": server_ca.issue_server(names, server_key) + server_ca.certificate_pem,
        "server.key": pki.key_to_pem(server_key),
        "agent.pem": signed.certificate_pem,
        "agent.key": pki.key_to_pem(agent_key),
    }
    for name, content in files.items():
        pki.write_private(out / name, content)
        click.echo(f"wrote {out / name}")
    click.echo(f"CA pin: {server_ca.pin}")


def _replace(purpose: Purpose, config: Path | None) -> None:
    who = "every agent" if purpose == "agent" else "every agent and every person's CLI"
    click.confirm(f"Replace the {purpose} CA? {who} must be given new trust.", abort=True)
    settings = load_settings(config, os.environ)
    if migrations.pending(settings.database_url):
        raise CaError("the database is not ready; run: mk8s-central init")
    pin = asyncio.run(_replaced(settings, purpose))
    click.echo(f"the new {purpose} CA has the pin {pin}; restart every mk8s-central")


async def _replaced(settings: Settings, purpose: Purpose) -> str:
    database = Database(settings.database_url)
    await database.start()
    try:
        await open_secrets(settings, database, make=False)
        return (await replace_authority(database, purpose)).pin
    finally:
        await database.close()


if __name__ == "__main__":
    sys.exit(init())
