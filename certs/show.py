"""Show certificates in words: those of this central, or of PEM files.

Run from a checkout with the extra `central` installed: `python certs/show.py [PEM...]`.
"""

import asyncio
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import click
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from mk8s_agent.wire import pki
from mk8s_proxy.db import migrations
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import StoreError
from mk8s_proxy.identity.authorities import Authorities, load_authorities
from mk8s_proxy.identity.ca import CaError
from mk8s_proxy.process.vault import open_secrets
from mk8s_proxy.settings.load import CONFIG_VARIABLE, load_settings
from mk8s_proxy.settings.model import Settings, SettingsError

WARN_DAYS = 365

Extension = TypeVar("Extension", bound=x509.ExtensionType)


@click.command(help=__doc__)
@click.option("--config", type=click.Path(path_type=Path), envvar=CONFIG_VARIABLE)
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def show(config: Path | None, files: tuple[Path, ...]) -> None:
    """Print each certificate's names, purpose, life and pin."""
    try:
        if files:
            for path in files:
                _show_pem(str(path), path.read_bytes())
        else:
            _show_central(config)
    except (CaError, StoreError, SettingsError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error


def describe(certificate: x509.Certificate, now: datetime) -> list[str]:
    """A certificate in words, one fact a line."""
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    left = certificate.not_valid_after_utc - now
    limits = _extension(certificate, x509.BasicConstraints)
    is_authority = limits is not None and limits.ca
    life = (
        f"{_minute(certificate.not_valid_before_utc)} to {_minute(certificate.not_valid_after_utc)}"
    )
    lines = [
        f"subject   {certificate.subject.rfc4514_string()}",
        f"issuer    {certificate.issuer.rfc4514_string()}",
        f"serial    {certificate.serial_number:x}",
        f"valid     {life} UTC ({left.days} days left)",
        f"purpose   {'signs: ' if is_authority else ''}{_purpose(certificate)}",
        f"pin       {pki.spki_pin(pem)}",
    ]
    sans = _extension(certificate, x509.SubjectAlternativeName)
    if sans is not None:
        lines.insert(2, f"names     {', '.join(str(san.value) for san in sans)}")
    if left.total_seconds() <= 0:
        lines.append("WARNING   it has expired")
    elif is_authority and left.days < WARN_DAYS:
        lines.append("WARNING   plan its rotation: certs/README.md")
    return lines


def _show_central(config: Path | None) -> None:
    settings = load_settings(config, os.environ)
    if migrations.pending(settings.database_url):
        raise CaError("the database is not ready; run: mk8s-central init")
    authorities = asyncio.run(_authorities(settings))
    _show_pem(
        "server CA (this is the CA pin that agents and people get)",
        authorities.server_ca.certificate_pem,
    )
    _show_pem("agent CA", authorities.agent_ca.certificate_pem)
    own = settings.data_dir / "tls" / "server.pem"
    for path in (own, settings.tls.certificate):
        if path is not None and path.exists():
            _show_pem(f"server certificate {path}", path.read_bytes())


async def _authorities(settings: Settings) -> Authorities:
    database = Database(settings.database_url)
    await database.start()
    try:
        await open_secrets(settings, database, make=False)
        return await load_authorities(database)
    finally:
        await database.close()


def _show_pem(title: str, content: bytes) -> None:
    for certificate in x509.load_pem_x509_certificates(content):
        click.echo(title)
        for line in describe(certificate, datetime.now(UTC)):
            click.echo(f"  {line}")


def _minute(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M")


def _purpose(certificate: x509.Certificate) -> str:
    usages = _extension(certificate, x509.ExtendedKeyUsage)
    if usages is None:
        return "not restricted"
    known = {"1.3.6.1.5.5.7.3.1": "servers", "1.3.6.1.5.5.7.3.2": "clients"}
    return ", ".join(known.get(usage.dotted_string, usage.dotted_string) for usage in usages)


def _extension(certificate: x509.Certificate, kind: type[Extension]) -> Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


if __name__ == "__main__":
    sys.exit(show())
