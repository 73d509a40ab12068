"""``mk8s-central check-config``: the effective settings, and what would go wrong with them.

Looks only: makes no folder, no database, no key.
"""

import dataclasses
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from mk8s_agent.wire.log import redact
from mk8s_agent.wire.volume_modes import others_write
from mk8s_proxy.db import migrations
from mk8s_proxy.db.engine import DatabaseUnavailable, parse_database_url, shown_url
from mk8s_proxy.db.sealing import SealError
from mk8s_proxy.identity.ca import CaError
from mk8s_proxy.identity.server_certificate import read_operator_certificate
from mk8s_proxy.process.vault import makes_own_key, read_vault
from mk8s_proxy.settings.login import IdentitySource, is_loopback
from mk8s_proxy.settings.model import Settings, parse_address


@dataclasses.dataclass(frozen=True, slots=True)
class Findings:
    """What a check found. Each entry is one line."""

    problems: list[str]
    """``serve`` would refuse to start."""
    notes: list[str]
    """It would start, but look at this."""


def effective(settings: Settings) -> str:
    """The settings as YAML, defaults filled in and secrets left out."""
    values = _plain(settings)
    try:
        values["database_url"] = shown_url(settings.database_url)
    except DatabaseUnavailable:
        values["database_url"] = "(unusable)"
    values["secrets"] = {"key_file": str(settings.key_path)}
    if settings.secrets.key:
        values["secrets"] = {"key": "(given)"}
    values["audit"]["path"] = str(settings.journal_path)
    return redact(yaml.safe_dump(values, sort_keys=False, allow_unicode=False)).rstrip()


def check(settings: Settings) -> Findings:
    """Look at everything the settings point to."""
    findings = Findings([], [])
    _check_folder(settings.data_dir, "data_dir", findings)
    _check_folder(settings.journal_path.parent, "audit.path", findings)
    _check_database(settings, findings)
    _check_secrets(settings, findings)
    _check_addresses(settings, findings)
    for source in settings.login.sources:
        _check_trust(source, findings)
    if settings.tls.certificate is not None:
        try:
            read_operator_certificate(settings)
        except CaError as error:
            findings.problems.append(str(error))
    return findings


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        entries = dataclasses.fields(value)
        return {it.name: _shown(it, _plain(getattr(value, it.name))) for it in entries}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _shown(entry: "dataclasses.Field[Any]", value: Any) -> Any:
    return value if entry.repr or not value else "(secret)"


def _check_folder(path: Path, name: str, findings: Findings) -> None:
    try:
        facts = path.stat()
    except FileNotFoundError:
        findings.notes.append(f"{name}: {path} does not exist yet; mk8s-central init makes it")
        return
    except OSError as error:
        findings.problems.append(f"{name}: cannot use {path}: {error.strerror}")
        return
    if not path.is_dir():
        findings.problems.append(f"{name}: {path} is not a folder")
    elif others_write(facts):
        findings.problems.append(f"{name}: others can write in {path}; run: chmod go-w {path}")


def _check_database(settings: Settings, findings: Findings) -> None:
    try:
        parsed = parse_database_url(settings.database_url)
        if settings.is_sqlite and not Path(parsed.database or "").exists():
            findings.notes.append("database_url: no database yet; run: mk8s-central init")
        elif migrations.pending(settings.database_url):
            which = findings.notes if settings.is_sqlite else findings.problems
            which.append("database_url: the schema is not current; run: mk8s-central migrate")
    except DatabaseUnavailable as error:
        findings.problems.append(str(error))


def _check_secrets(settings: Settings, findings: Findings) -> None:
    try:
        missing = read_vault(settings) is None
    except SealError as error:
        findings.problems.append(str(error))
        return
    if missing:
        line = f"secrets.key_file: {settings.key_path} does not exist; "
        if makes_own_key(settings):
            findings.notes.append(f"{line}it is made where nothing in the database is sealed yet")
        else:
            findings.problems.append(f"{line}mk8s-central init makes it once for all replicas")


def _check_trust(source: IdentitySource, findings: Findings) -> None:
    if source.ca_file is not None and not source.ca_file.is_file():
        findings.problems.append(f"login: {source.name}: ca_file: {source.ca_file} is no file")


def _check_addresses(settings: Settings, findings: Findings) -> None:
    host = parse_address(settings.admin_listen)[0] if settings.admin_listen else "127.0.0.1"
    if not is_loopback(host):
        findings.notes.append(
            f"admin_listen: {settings.admin_listen} is not a loopback address; "
            "health and metrics have no login"
        )
    public = urlsplit(settings.public_url).hostname or ""
    if is_loopback(public) and not is_loopback(parse_address(settings.listen)[0]):
        findings.notes.append(
            f"public_url: {settings.public_url} works on this machine only; "
            "set it to the name that clients and agents use"
        )
