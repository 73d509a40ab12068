"""Keys, requests, pins, private files, and whose agent a certificate belongs to."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from mk8s_agent.wire import pki

CLUSTER = "0b1f3c1e-6a52-4d0f-9f4e-0a6a3c0d5b11"


def certificate(*names: x509.GeneralName, common_name: str = "x") -> bytes:
    key = pki.new_key()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=1))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def uri(text: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(text)


def test_a_key_survives_its_file_form() -> None:
    key = pki.new_key()

    again = pki.key_from_pem(pki.key_to_pem(key))

    assert again.private_numbers() == key.private_numbers()


@pytest.mark.parametrize(
    ("pem", "reason"),
    [
        (b"nonsense", "not readable PEM"),
        (
            rsa.generate_private_key(65537, 2048).private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
            "not ECDSA P-256",
        ),
        (
            ec.generate_private_key(ec.SECP384R1()).private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
            "not ECDSA P-256",
        ),
        (
            pki.new_key().private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"secret"),
            ),
            "encrypted",
        ),
    ],
    ids=["not-pem", "rsa", "p384", "encrypted"],
)
def test_another_kind_of_key_is_refused(pem: bytes, reason: str) -> None:
    with pytest.raises(pki.PkiError, match=reason):
        pki.key_from_pem(pem)


def test_request_proves_the_key_and_shows_the_cluster() -> None:
    key = pki.new_key()

    request = x509.load_pem_x509_csr(pki.csr(key, "prod" * 30))

    assert request.is_signature_valid
    assert request.public_key() == key.public_key()
    assert request.subject.rfc4514_string().startswith("CN=prod")


def test_pin_is_of_the_key_not_of_the_certificate() -> None:
    authority = trustme.CA()
    pem = authority.cert_pem.bytes()
    der = x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)

    pin = pki.spki_pin(pem)

    assert pin == pki.spki_pin(der) == pki.parse_pin(f" {pin.upper()}\n")
    assert pin != pki.spki_pin(trustme.CA().cert_pem.bytes())


@pytest.mark.parametrize(
    "text", ["", "sha256:", "sha256:" + "g" * 64, "ab" * 32, "sha1:" + "a" * 64]
)
def test_what_is_no_pin_is_refused(text: str) -> None:
    with pytest.raises(pki.PkiError, match="looks like"):
        pki.parse_pin(text)


@pytest.mark.parametrize("data", [b"", b"junk", b"-----BEGIN CERTIFICATE-----\nAA\n"])
def test_unreadable_certificate_is_refused(data: bytes) -> None:
    with pytest.raises(pki.PkiError, match="not readable"):
        pki.spki_pin(data)
    with pytest.raises(pki.PkiError, match="not readable"):
        pki.cluster_id_from_certificate(data)


def test_certificate_with_a_broken_name_is_refused() -> None:
    good = x509.load_pem_x509_certificate(certificate(uri(pki.cluster_uri(CLUSTER))))
    der = good.public_bytes(serialization.Encoding.DER)
    broken = der.replace(b"mk8s://cluster", b"mk8s://cl\xffster")
    assert broken != der

    with pytest.raises(pki.PkiError, match="not readable"):
        pki.cluster_id_from_certificate(broken)


def test_cluster_comes_from_the_one_uri() -> None:
    pem = certificate(uri(pki.cluster_uri(CLUSTER)), x509.DNSName("other"))

    assert pki.cluster_id_from_certificate(pem) == CLUSTER
    peer = {"subjectAltName": (("DNS", "other"), ("URI", f"mk8s://cluster/{CLUSTER}"))}
    assert pki.cluster_id_from_certificate(peer) == CLUSTER


@pytest.mark.parametrize(
    "names",
    [
        (),
        (x509.DNSName(CLUSTER),),
        (uri(f"mk8s://cluster/{CLUSTER}"), uri("mk8s://cluster/other")),
        (uri(f"mk8s://cluster/{CLUSTER}"), uri(f"mk8s://cluster/{CLUSTER}")),
        (uri(f"spiffe://cluster/{CLUSTER}"),),
        (uri(f"mk8s://user/{CLUSTER}"),),
        (uri(f"mk8s://cluster/{CLUSTER}/other"),),
        (uri(f"mk8s://cluster//{CLUSTER}"),),
        (uri(f"mk8s://cluster/{CLUSTER}?x=1"),),
        (uri(f"mk8s://cluster/{CLUSTER}#x"),),
        (uri(f"mk8s://x@cluster/{CLUSTER}"),),
        (uri(f"mk8s://cluster:1/{CLUSTER}"),),
        (uri(f"MK8S://CLUSTER/{CLUSTER}"),),
        (uri(f"mk8s://cluster/{CLUSTER.upper()}"),),
        (uri("mk8s://cluster/%70rod"),),
        (uri("mk8s://cluster/../prod"),),
        (uri("mk8s://cluster/"),),
        (uri("mk8s://[/prod"),),
        (uri(""),),
    ],
)
def test_agent_certificate_confusion(names: tuple[x509.GeneralName, ...]) -> None:
    with pytest.raises(pki.PkiError, match="agent certificate"):
        pki.cluster_id_from_certificate(certificate(*names, common_name=CLUSTER))


@given(st.text(max_size=80))
def test_no_uri_raises_anything_but_a_refusal(text: str) -> None:
    try:
        found = pki.cluster_id_from_certificate({"subjectAltName": (("URI", text),)})
    except pki.PkiError:
        return
    assert text == pki.cluster_uri(found)


@pytest.mark.parametrize("cluster_id", ["", "a/b", "A", "../x", "-a", "a" * 65])
def test_a_cluster_id_that_could_be_misread_is_refused(cluster_id: str) -> None:
    with pytest.raises(pki.PkiError, match="cluster id"):
        pki.cluster_uri(cluster_id)


def test_private_file_is_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "key.pem"

    pki.write_private(path, b"first")
    pki.write_private(path, b"second")

    assert pki.read_private(path) == b"second"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]


def test_private_file_replaces_a_planted_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    path = tmp_path / "key.pem"
    path.symlink_to(victim)

    pki.write_private(path, b"secret")

    assert victim.read_bytes() == b"untouched"
    assert not path.is_symlink()


def test_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.mkdir()

    with pytest.raises(OSError):
        pki.write_private(path, b"secret")

    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o620, 0o666, 0o601])
def test_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key.pem"
    pki.write_private(path, b"secret")
    path.chmod(mode)

    with pytest.raises(pki.PkiError, match=f"chmod 600 {path}"):
        pki.read_private(path)


def test_key_mounted_for_a_group_is_read(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    pki.write_private(path, b"secret")
    path.chmod(0o440)

    assert pki.read_private(path) == b"secret"


def test_missing_key_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(pki.PkiError, match=r"cannot read .*: No such file"):
        pki.read_private(tmp_path / "none.pem")
