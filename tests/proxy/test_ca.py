"""The authorities: what they sign, what they refuse, and real handshakes over what they signed."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from sqlalchemy import text

from mk8s_agent.wire import pki
from mk8s_proxy.db import authorities as store
from mk8s_proxy.db import meta
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import Conflict, StoreError
from mk8s_proxy.db.meta import replace_meta
from mk8s_proxy.db.sealing import SealError
from mk8s_proxy.identity.authorities import (
    MOST_WAYS,
    Authorities,
    AuthorityKeeper,
    ensure_authorities,
    load_authorities,
    replace_authority,
    retire,
    rotate,
)
from mk8s_proxy.identity.ca import CaError, CertificateAuthority, issuer_key_id

CLUSTER = "0b1f3c1e-6a52-4d0f-9f4e-0a6a3c0d5b11"
NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def authorities() -> Authorities:
    return Authorities(CertificateAuthority.create("server"), CertificateAuthority.create("agent"))


def usages(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
    return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def test_an_authority_signs_leaves_only(authorities: Authorities) -> None:
    for authority in (authorities.server_ca, authorities.agent_ca):
        certificate = x509.load_pem_x509_certificate(authority.certificate_pem)
        limits = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        assert limits.critical
        assert (limits.value.ca, limits.value.path_length) == (True, 0)
        assert usage.key_cert_sign
        assert not usage.digital_signature
        assert authority.pin == pki.spki_pin(authority.certificate_pem)
        assert authority.purpose in repr(authority)


def test_an_authority_survives_its_stored_form(authorities: Authorities) -> None:
    first = authorities.agent_ca

    again = CertificateAuthority.load(first.certificate_pem, first.key_pem)

    assert (again.pin, again.purpose) == (first.pin, "agent")
    assert again.issued(first.sign_agent(pki.csr(pki.new_key(), "prod"), CLUSTER).certificate_pem)


def test_agent_certificate_says_cluster_and_client_only(authorities: Authorities) -> None:
    key = pki.new_key()

    signed = authorities.agent_ca.sign_agent(pki.csr(key, "prod"), CLUSTER, now=NOW)

    certificate = x509.load_pem_x509_certificate(signed.certificate_pem)
    assert pki.cluster_id_from_certificate(signed.certificate_pem) == CLUSTER
    assert usages(certificate) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert certificate.public_key() == key.public_key()
    assert signed.serial == f"{certificate.serial_number:x}"
    assert signed.not_after == certificate.not_valid_after_utc == NOW + timedelta(hours=24)
    assert certificate.not_valid_before_utc == NOW - timedelta(minutes=5)
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_agent_cannot_choose_who_it_is(authorities: Authorities) -> None:
    """A request full of wishes: another cluster, another common name, server and CA rights."""
    wishes = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "system:masters")]))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.UniformResourceIdentifier("mk8s://cluster/other"), x509.DNSName("central")]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(pki.new_key(), hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )

    signed = authorities.agent_ca.sign_agent(wishes, CLUSTER)

    certificate = x509.load_pem_x509_certificate(signed.certificate_pem)
    assert pki.cluster_id_from_certificate(signed.certificate_pem) == CLUSTER
    assert usages(certificate) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert "masters" not in certificate.subject.rfc4514_string()
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert len(list(names)) == 1


def forged_csr() -> bytes:
    """A request whose public key is not the one that signed it."""
    good = x509.load_pem_x509_csr(pki.csr(pki.new_key(), "prod"))
    der = bytearray(good.public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    return x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)


def csr_of(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize(
    ("request_pem", "reason"),
    [
        (b"", "not readable"),
        (b"x" * 20_000, "too large"),
        (forged_csr(), "not signed by its own key"),
        (csr_of(rsa.generate_private_key(65537, 2048)), "not ECDSA P-256"),
        (csr_of(ec.generate_private_key(ec.SECP384R1())), "not ECDSA P-256"),
    ],
    ids=["empty", "huge", "forged", "rsa", "p384"],
)
def test_a_bad_request_is_refused(
    authorities: Authorities, request_pem: bytes, reason: str
) -> None:
    with pytest.raises(CaError, match=reason):
        authorities.agent_ca.sign_agent(request_pem, CLUSTER)


def test_a_cluster_id_cannot_smuggle_a_path(authorities: Authorities) -> None:
    with pytest.raises(CaError, match="cluster id"):
        authorities.agent_ca.sign_agent(pki.csr(pki.new_key(), "x"), "a/../b")


def test_no_authority_does_the_others_work(authorities: Authorities) -> None:
    with pytest.raises(CaError, match="agent CA does not sign server"):
        authorities.agent_ca.issue_server(["localhost"], pki.new_key())
    with pytest.raises(CaError, match="server CA does not sign agent"):
        authorities.server_ca.sign_agent(pki.csr(pki.new_key(), "x"), CLUSTER)


def test_server_names_are_dns_wildcard_and_address(authorities: Authorities) -> None:
    pem = authorities.server_ca.issue_server(
        ["mk8s.example.com", "*.k8s.example.com", "127.0.0.1", "::1"], pki.new_key()
    )

    names = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert names.value.get_values_for_type(x509.DNSName) == [
        "mk8s.example.com",
        "*.k8s.example.com",
    ]
    assert [str(ip) for ip in names.value.get_values_for_type(x509.IPAddress)] == [
        "127.0.0.1",
        "::1",
    ]


@pytest.mark.parametrize("names", [[], ["bücher.example"]])
def test_server_without_a_usable_name_is_refused(
    authorities: Authorities, names: list[str]
) -> None:
    with pytest.raises(CaError, match="name"):
        authorities.server_ca.issue_server(names, pki.new_key())


def test_a_leaf_never_outlives_its_authority() -> None:
    old = CertificateAuthority.create("agent", now=NOW - timedelta(days=3649, hours=12))

    signed = old.sign_agent(pki.csr(pki.new_key(), "x"), CLUSTER, now=NOW)

    assert signed.not_after == old.not_after == NOW + timedelta(hours=12)


def test_foreign_parts_are_not_loaded(authorities: Authorities) -> None:
    server, agent = authorities.server_ca, authorities.agent_ca
    with pytest.raises(CaError, match="does not belong"):
        CertificateAuthority.load(server.certificate_pem, agent.key_pem)
    with pytest.raises(CaError, match="cannot be loaded"):
        CertificateAuthority.load(b"junk", agent.key_pem)
    key = pki.new_key()
    leaf = server.issue_server(["localhost"], key)
    with pytest.raises(CaError, match="not one of mk8s's"):
        CertificateAuthority.load(leaf, pki.key_to_pem(key))


def test_issued_tells_ours_from_others(authorities: Authorities) -> None:
    signed = authorities.agent_ca.sign_agent(pki.csr(pki.new_key(), "x"), CLUSTER)

    assert authorities.agent_ca.issued(signed.certificate_pem)
    assert not authorities.server_ca.issued(signed.certificate_pem)
    assert not CertificateAuthority.create("agent").issued(signed.certificate_pem)
    assert not authorities.agent_ca.issued(b"junk")


def handshake(client: ssl.SSLContext, server: ssl.SSLContext) -> dict[str, object]:
    """Run a TLS 1.3 handshake in memory; the client's certificate as the server sees it."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname="tunnel.mk8s.internal"),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return dict(ends[1].getpeercert() or {})


def contexts(
    folder: Path, authorities: Authorities, client_chain: bytes, client_key: bytes
) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    key = pki.new_key()
    chain = authorities.server_ca.issue_server(["tunnel.mk8s.internal"], key)
    pki.write_private(folder / "server.pem", pki.key_to_pem(key) + chain)
    pki.write_private(folder / "client.pem", client_key + client_chain)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "server.pem")
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(cadata=authorities.agent_ca.certificate_pem.decode())
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    client.load_verify_locations(cadata=authorities.server_ca.certificate_pem.decode())
    client.load_cert_chain(folder / "client.pem")
    server.verify_flags |= ssl.VERIFY_X509_STRICT
    return client, server


def test_agent_and_central_know_each_other(tmp_path: Path, authorities: Authorities) -> None:
    key = pki.new_key()
    signed = authorities.agent_ca.sign_agent(pki.csr(key, "prod"), CLUSTER)

    peer = handshake(*contexts(tmp_path, authorities, signed.certificate_pem, pki.key_to_pem(key)))

    assert pki.cluster_id_from_certificate(peer) == CLUSTER


@pytest.mark.parametrize(
    "attack", ["server certificate", "foreign CA", "expired", "signed by leaf"]
)
def test_forged_agent_certificates_fail_the_handshake(
    tmp_path: Path, authorities: Authorities, attack: str
) -> None:
    key = pki.new_key()
    request = pki.csr(key, "prod")
    if attack == "server certificate":
        chain = authorities.server_ca.issue_server(["localhost"], key)
    elif attack == "foreign CA":
        chain = CertificateAuthority.create("agent").sign_agent(request, CLUSTER).certificate_pem
    elif attack == "expired":
        past = datetime.now(UTC) - timedelta(days=2)
        chain = authorities.agent_ca.sign_agent(request, CLUSTER, now=past).certificate_pem
    else:
        chain, key = signed_by_a_leaf(authorities)

    with pytest.raises(ssl.SSLError):
        handshake(*contexts(tmp_path, authorities, chain, pki.key_to_pem(key)))


def signed_by_a_leaf(authorities: Authorities) -> tuple[bytes, ec.EllipticCurvePrivateKey]:
    """An agent of one cluster makes a certificate for another (chain depth 2)."""
    leaf_key, key = pki.new_key(), pki.new_key()
    leaf = authorities.agent_ca.sign_agent(pki.csr(leaf_key, "own"), "own").certificate_pem
    issuer = x509.load_pem_x509_certificate(leaf)
    forged = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(issuer.not_valid_before_utc)
        .not_valid_after(issuer.not_valid_after_utc)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(pki.cluster_uri(CLUSTER))]),
            critical=True,
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(leaf_key.public_key()),
            critical=False,
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(leaf_key, hashes.SHA256())
    )
    return forged.public_bytes(serialization.Encoding.PEM) + leaf, key


async def test_authorities_are_made_once_for_all_replicas(database: Database) -> None:
    with pytest.raises(CaError, match="mk8s-central init"):
        await load_authorities(database)

    first, made = await ensure_authorities(database)
    second, made_again = await ensure_authorities(database)

    assert (made, made_again) == (True, False)
    assert (first.server_ca.pin, first.agent_ca.pin) == (second.server_ca.pin, second.agent_ca.pin)
    assert first.server_ca.pin != first.agent_ca.pin


async def test_of_two_racing_starts_both_keep_the_same_authority(database: Database) -> None:
    assert await meta.keep_meta(database, "ca.server", "first") == "first"
    assert await meta.keep_meta(database, "ca.server", "second") == "first"


@pytest.mark.parametrize("stored", ["not json", "{}", '{"certificate": 1, "key": 2}', "[]"])
async def test_damaged_authority_is_one_clear_line(sqlite_database: Database, stored: str) -> None:
    await meta.keep_meta(sqlite_database, "ca.server", stored)

    with pytest.raises(StoreError, match="stored server CA is damaged"):
        await load_authorities(sqlite_database)


async def test_a_row_of_one_authority_in_the_place_of_the_other_is_refused(
    sqlite_database: Database,
) -> None:
    await ensure_authorities(sqlite_database)
    agent = await meta.read_meta(sqlite_database, "ca.agent")
    assert agent is not None
    await replace_meta(sqlite_database, "ca.server", agent)

    with pytest.raises(SealError, match=r"meta/ca\.server was damaged, or put there from another"):
        await load_authorities(sqlite_database)


async def test_an_authority_that_was_stored_for_the_other_purpose_is_refused(
    sqlite_database: Database,
) -> None:
    await ensure_authorities(sqlite_database)
    agent = (await store.load_authorities(sqlite_database))["agent"]
    await store.replace_authority(sqlite_database, "server", agent)

    with pytest.raises(CaError, match="one for agents is stored"):
        await load_authorities(sqlite_database)


async def test_replaced_authority_knows_nothing_of_the_old(database: Database) -> None:
    before, _ = await ensure_authorities(database)

    fresh = await replace_authority(database, "agent")

    after = await load_authorities(database)
    assert after.agent_ca.pin == fresh.pin != before.agent_ca.pin
    assert after.server_ca.pin == before.server_ca.pin
    signed = before.agent_ca.sign_agent(pki.csr(pki.new_key(), "prod"), CLUSTER)
    assert not after.agent_ca.issued(signed.certificate_pem)


def test_an_authority_vouches_for_the_one_that_follows_it_and_for_no_other_kind() -> None:
    old, new = (CertificateAuthority.create("server") for _ in range(2))
    way = old.vouch(new)
    assert old.issued(way)
    assert pki.spki_pin(way) == new.pin
    certificate = pki.load_certificate(way)
    assert issuer_key_id(certificate) == old.key_id
    assert certificate.not_valid_after_utc == min(old.not_after, new.not_after)
    with pytest.raises(CaError, match="does not vouch for the agent CA"):
        old.vouch(CertificateAuthority.create("agent"))


def test_a_leaf_names_the_key_of_its_authority(authorities: Authorities) -> None:
    signed = authorities.agent_ca.sign_agent(pki.csr(pki.new_key(), "prod"), CLUSTER)
    assert issuer_key_id(pki.load_certificate(signed.certificate_pem)) == (
        authorities.agent_ca.key_id
    )


@pytest.mark.parametrize("named", [False, True])
def test_a_certificate_that_names_no_key_of_its_issuer(named: bool) -> None:
    key, name = pki.new_key(), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
    )
    if named:  # by its issuer's name instead
        issuer = x509.AuthorityKeyIdentifier(None, [x509.DirectoryName(name)], 7)
        builder = builder.add_extension(issuer, critical=False)
    assert issuer_key_id(builder.sign(key, hashes.SHA256())) == ""


async def test_a_rotation_is_one_at_a_time_and_ends_with_the_new_ones(database: Database) -> None:
    before, _ = await ensure_authorities(database)
    with pytest.raises(Conflict, match="no rotation is under way"):
        await retire(database, NOW)
    await rotate(database, NOW)
    with pytest.raises(Conflict, match="under way already"):
        await rotate(database, NOW)
    under_way = await load_authorities(database)
    assert under_way.server_ca.pin == before.server_ca.pin
    assert under_way.next_server_ca is not None
    assert under_way.next_agent_ca is not None
    assert under_way.rotated_at == NOW
    await retire(database, NOW + timedelta(hours=1))
    after = await load_authorities(database)
    assert after.server_ca.pin == under_way.next_server_ca.pin
    assert after.agent_ca.pin == under_way.next_agent_ca.pin
    assert after.next_agent_ca is after.next_server_ca is None
    assert [before.server_ca.issued(way) for way in after.ways] == [True]
    async with database.session() as session:
        stored = await session.execute(text("SELECT key, value FROM meta WHERE key LIKE 'ca.%'"))
        rows = {row.key: row.value for row in stored}
    assert set(rows) == {"ca.agent", "ca.server"}
    assert not any("PRIVATE" in value for value in rows.values())


async def test_of_two_who_rotate_at_once_one_is_refused(database: Database) -> None:
    await ensure_authorities(database)
    done = await asyncio.gather(*(rotate(database, NOW) for _ in range(2)), return_exceptions=True)
    assert [type(it) for it in done].count(Conflict) == 1
    assert (await load_authorities(database)).next_agent_ca is not None


async def test_ways_are_kept_for_the_last_rotations_only(sqlite_database: Database) -> None:
    await ensure_authorities(sqlite_database)
    for _ in range(MOST_WAYS + 1):
        await rotate(sqlite_database, NOW)
        await retire(sqlite_database, NOW)
    assert len((await load_authorities(sqlite_database)).ways) == MOST_WAYS


async def test_a_keeper_goes_by_what_is_stored(sqlite_database: Database) -> None:
    first, _ = await ensure_authorities(sqlite_database)
    keeper = AuthorityKeeper(first, 100.0)
    keeper.take(await store.load_authorities(sqlite_database))
    taken = keeper.current
    keeper.take(await store.load_authorities(sqlite_database))
    assert keeper.current is taken, "no news"
    assert keeper.following(NOW) is None
    await rotate(sqlite_database, NOW)
    keeper.take(await store.load_authorities(sqlite_database))
    assert keeper.following(NOW) is None
    later = NOW + timedelta(seconds=100)
    following = keeper.following(later)
    assert following is keeper.current.next_agent_ca is not None
    with pytest.raises(CaError, match="no certificate authority yet"):
        keeper.take({})
    assert keeper.following(later) is following, "the former ones stay"
