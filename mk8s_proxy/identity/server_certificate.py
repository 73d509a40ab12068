"""The certificates that central shows to clients and agents, made or renewed when needed.

Called by ``init`` and by ``app`` at the start; a central that runs for months has to call it again.
Certificates of our own server CA are kept in ``data_dir/tls``, each replica its own; the
operator's certificate, when configured, is only read and checked.
"""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from mk8s_agent.wire import pki
from mk8s_proxy.db.engine import Database
from mk8s_proxy.identity.authorities import load_authorities
from mk8s_proxy.identity.ca import CaError, CertificateAuthority
from mk8s_proxy.settings.model import TUNNEL_SERVER_NAME, Settings

RENEW_FRACTION = 3
"""A certificate is replaced when less than 1/3 of its life remains."""


async def ensure_server_certificate(
    database: Database, settings: Settings, *, now: datetime | None = None
) -> tuple[bytes, bytes]:
    """The chain and key (PEM) for the public names: the operator's, or our own CA's.

    Raises:
        CaError: no CA yet, or the operator's files cannot be used.
        OSError: ``data_dir`` cannot be written.
    """
    if settings.tls.certificate and settings.tls.key:
        return read_operator_certificate(settings, now=now)
    return await ensure_own_certificate(database, settings, now=now)


async def ensure_own_certificate(
    database: Database, settings: Settings, *, now: datetime | None = None
) -> tuple[bytes, bytes]:
    """The chain and key (PEM) of our own CA, for agents whatever the public certificate is.

    The chain ends with the CA itself, so that an agent that knows only its pin can find it there.

    Raises:
        CaError: no CA yet.
        OSError: ``data_dir`` cannot be written.
    """
    authority = (await load_authorities(database)).server_ca
    moment = now or datetime.now(UTC)
    return await asyncio.to_thread(_kept_or_new, authority, settings, moment)


def server_names(settings: Settings) -> list[str]:
    """Every name by which central is reached, the public one first."""
    names = [settings.public_host]
    if settings.domain:
        names += [settings.domain, f"*.{settings.domain}"]
    names += ["localhost", "127.0.0.1", TUNNEL_SERVER_NAME]
    return list(dict.fromkeys(names))


def read_operator_certificate(
    settings: Settings, *, now: datetime | None = None
) -> tuple[bytes, bytes]:
    """Read ``tls.certificate`` and ``tls.key``.

    Raises:
        CaError: a file is unreadable, others can read the key, the two do not belong together,
            or the certificate's time is not now.
    """
    certificate_path, key_path = settings.tls.certificate, settings.tls.key
    assert certificate_path is not None
    assert key_path is not None
    try:
        chain = certificate_path.read_bytes()
        certificate = pki.load_certificate(chain)
        key = pki.read_private(key_path)
        public_key = serialization.load_pem_private_key(key, password=None).public_key()
    except OSError as error:
        raise CaError(f"cannot read {certificate_path}: {error.strerror}") from error
    except pki.PkiError as wrong:
        raise CaError(f"tls: {wrong}") from wrong
    except (ValueError, TypeError):
        raise CaError(f"tls.key: {key_path} is not an unencrypted PEM private key") from None
    if certificate.public_key() != public_key:
        raise CaError(f"tls: {key_path} is not the key of {certificate_path}")
    moment = now or datetime.now(UTC)
    if not certificate.not_valid_before_utc <= moment < certificate.not_valid_after_utc:
        raise CaError(
            f"tls.certificate: {certificate_path} is valid from "
            f"{certificate.not_valid_before_utc:%Y-%m-%d} to "
            f"{certificate.not_valid_after_utc:%Y-%m-%d}; install a current one"
        )
    return chain, key


def _kept_or_new(
    authority: CertificateAuthority, settings: Settings, moment: datetime
) -> tuple[bytes, bytes]:
    # One file holds key and chain, so that a crash can never leave an unmatched pair.
    path = settings.data_dir / "tls" / "server.pem"
    names = server_names(settings)
    kept = _read_kept(path)
    if kept is not None and _still_good(kept[0], authority, names, moment):
        return kept
    key = pki.new_key()
    chain = authority.issue_server(names, key, now=moment) + authority.certificate_pem
    key_pem = pki.key_to_pem(key)
    pki.write_private(path, key_pem + chain)
    return chain, key_pem


def _read_kept(path: Path) -> tuple[bytes, bytes] | None:
    try:
        content = pki.read_private(path)
        start = content.index(b"-----BEGIN CERTIFICATE-----")
        key_pem, chain = content[:start], content[start:]
        if pki.key_from_pem(key_pem).public_key() != pki.load_certificate(chain).public_key():
            return None
    except (pki.PkiError, ValueError):
        return None
    return chain, key_pem


def _still_good(
    chain: bytes, authority: CertificateAuthority, names: list[str], moment: datetime
) -> bool:
    if not authority.issued(chain):
        return False
    certificate = pki.load_certificate(chain)
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if moment < begin or (end - moment) * RENEW_FRACTION < end - begin:
        return False
    sans = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    present = {str(name.value) for name in sans}
    return present == set(names)
