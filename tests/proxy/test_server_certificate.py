"""The certificates that central shows: kept, renewed, or the operator's own."""

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509

from mk8s_agent.wire import pki
from mk8s_proxy.db.engine import Database
from mk8s_proxy.identity.authorities import Authorities, ensure_authorities, replace_authority
from mk8s_proxy.identity.ca import CaError
from mk8s_proxy.identity.server_certificate import (
    ensure_own_certificate,
    ensure_server_certificate,
    read_operator_certificate,
    server_names,
)
from mk8s_proxy.settings.model import Settings, TlsSettings

NOW = datetime.now(UTC)


@pytest.fixture
async def authorities(sqlite_database: Database) -> Authorities:
    return (await ensure_authorities(sqlite_database))[0]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        data_dir=tmp_path / "data", public_url="https://mk8s.example.com", domain="k8s.example.com"
    )


def test_every_name_that_clients_and_agents_use(settings: Settings) -> None:
    assert server_names(settings) == [
        "mk8s.example.com",
        "k8s.example.com",
        "*.k8s.example.com",
        "localhost",
        "127.0.0.1",
        "tunnel.mk8s.internal",
    ]


async def test_without_authorities_there_is_no_certificate(
    sqlite_database: Database, settings: Settings
) -> None:
    with pytest.raises(CaError, match="mk8s-central init"):
        await ensure_server_certificate(sqlite_database, settings)


async def test_the_chain_ends_with_the_pinned_authority(
    sqlite_database: Database, settings: Settings, authorities: Authorities
) -> None:
    chain, key = await ensure_server_certificate(sqlite_database, settings)

    leaf, root = x509.load_pem_x509_certificates(chain)
    assert leaf.public_key() == pki.key_from_pem(key).public_key()
    assert pki.spki_pin(root.public_bytes(pki.serialization.Encoding.PEM)) == (
        authorities.server_ca.pin
    )
    assert authorities.server_ca.issued(chain)


async def test_a_good_certificate_is_kept(
    sqlite_database: Database, settings: Settings, authorities: Authorities
) -> None:
    first = await ensure_server_certificate(sqlite_database, settings, now=NOW)

    later = NOW + timedelta(days=59)
    assert await ensure_server_certificate(sqlite_database, settings, now=later) == first


async def spoil(what: str, database: Database, settings: Settings) -> tuple[Settings, datetime]:
    path = settings.data_dir / "tls" / "server.pem"
    if what == "less than a third of its life remains":
        return settings, NOW + timedelta(days=61)
    if what == "the clock went back":
        return settings, NOW - timedelta(days=1)
    if what == "another name":
        return dataclasses.replace(settings, public_url="https://new.example.com"), NOW
    if what == "another authority":
        await replace_authority(database, "server")
    elif what == "others can read it":
        path.chmod(0o644)
    elif what == "damaged":
        path.write_bytes(b"junk")
    elif what == "key of another":
        chain = path.read_bytes().partition(b"-----BEGIN CERTIFICATE")
        path.write_bytes(pki.key_to_pem(pki.new_key()) + b"".join(chain[1:]))
    return settings, NOW


@pytest.mark.parametrize(
    "what",
    [
        "less than a third of its life remains",
        "the clock went back",
        "another name",
        "another authority",
        "others can read it",
        "damaged",
        "key of another",
    ],
)
async def test_a_certificate_that_is_not_good_is_replaced(
    sqlite_database: Database, settings: Settings, authorities: Authorities, what: str
) -> None:
    first = await ensure_own_certificate(sqlite_database, settings, now=NOW)
    changed, now = await spoil(what, sqlite_database, settings)

    second = await ensure_own_certificate(sqlite_database, changed, now=now)

    assert second != first
    assert await ensure_own_certificate(sqlite_database, changed, now=now) == second


def operator(folder: Path, leaf: trustme.LeafCert, settings: Settings) -> Settings:
    chain, key = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    pki.write_private(key, leaf.private_key_pem.bytes())
    return dataclasses.replace(settings, tls=TlsSettings(chain, key))


async def test_the_operators_certificate_serves_the_public_names(
    sqlite_database: Database, settings: Settings, tmp_path: Path, authorities: Authorities
) -> None:
    leaf = trustme.CA().issue_cert("mk8s.example.com", key_type=trustme.KeyType.RSA)
    chosen = operator(tmp_path, leaf, settings)

    chain, key = await ensure_server_certificate(sqlite_database, chosen)
    own, _ = await ensure_own_certificate(sqlite_database, chosen)

    assert chain == leaf.cert_chain_pems[0].bytes()
    assert key == leaf.private_key_pem.bytes()
    assert authorities.server_ca.issued(own)


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("world-readable key", "can be read by other users"),
        ("missing key", "cannot read"),
        ("missing certificate", "cannot read"),
        ("junk key", "not an unencrypted PEM private key"),
        ("junk certificate", "certificate is not readable"),
        ("another key", "is not the key of"),
        ("expired", "install a current one"),
    ],
)
def test_operators_mistakes_are_one_clear_line(
    settings: Settings, tmp_path: Path, what: str, reason: str
) -> None:
    past = NOW - timedelta(days=1) if what == "expired" else None
    leaf = trustme.CA().issue_cert("mk8s.example.com", not_after=past)
    chosen = operator(tmp_path, leaf, settings)
    chain, key = chosen.tls.certificate, chosen.tls.key
    assert chain is not None
    assert key is not None
    {
        "world-readable key": lambda: key.chmod(0o644),
        "missing key": key.unlink,
        "missing certificate": chain.unlink,
        "junk key": lambda: pki.write_private(key, b"junk"),
        "junk certificate": lambda: chain.write_bytes(b"junk"),
        "another key": lambda: pki.write_private(key, pki.key_to_pem(pki.new_key())),
        "expired": lambda: None,
    }[what]()

    with pytest.raises(CaError, match=reason) as refusal:
        read_operator_certificate(chosen)
    assert "\n" not in str(refusal.value)
