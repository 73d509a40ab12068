"""Pins computed without a crypto library equal those of one, and bad certificates are one line."""

import base64
import contextlib
import datetime
import hashlib

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from mk8s_cli.central import certificate
from mk8s_cli.terminal.errors import CliError

AUTHORITY = trustme.CA().cert_pem.bytes().decode()
DER = base64.b64decode("".join(AUTHORITY.splitlines()[1:-1]))


def made_with(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey,
) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x" * 60)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
    )
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP256R1()),
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["ecdsa", "rsa", "ed25519"],
)
def test_pin_is_the_hash_of_the_public_key(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey,
) -> None:
    public = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert certificate.pin(made_with(key)) == f"sha256:{hashlib.sha256(public).hexdigest()}"


def test_split_keeps_every_certificate_and_drops_what_is_around() -> None:
    other = trustme.CA().cert_pem.bytes().decode()
    text = f"comment\n{AUTHORITY}\r\n\r\n{other.replace(chr(10), chr(13) + chr(10))}tail"
    assert certificate.split_pem(text) == (AUTHORITY, other)
    with pytest.raises(CliError, match="found 9"):
        certificate.split_pem(AUTHORITY * 9)
    with pytest.raises(CliError, match="found 0"):
        certificate.split_pem("")


@pytest.mark.parametrize("body", ["AAA", "AAAA", "MIIB", "A=A=", "MIAA"])
def test_damaged_body_is_refused(body: str) -> None:
    with pytest.raises(CliError):
        certificate.split_pem(f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")


def test_pin_of_something_else_is_refused() -> None:
    for text in ("", "x", AUTHORITY * 2):
        with pytest.raises(CliError):
            certificate.pin(text)


@pytest.mark.parametrize("length", range(0, len(DER), 7))
def test_certificate_cut_off_anywhere_is_refused(length: int) -> None:
    with pytest.raises(CliError):
        certificate._public_key(DER[:length])


@pytest.mark.parametrize(
    "der", [b"\x30\x80\x00\x00", b"\x30\x81\x05", b"\x30\x85\x00\x00\x00\x00\x01", b"\x31\x00"]
)
def test_lengths_that_der_forbids_are_refused(der: bytes) -> None:
    with pytest.raises(CliError):
        certificate._public_key(der + b"\x00" * 300)


@given(position=st.integers(0, len(DER) - 1), value=st.integers(0, 255))
def test_changed_byte_never_breaks_the_reader(position: int, value: int) -> None:
    changed = bytearray(DER)
    changed[position] = value
    with contextlib.suppress(CliError):
        assert certificate._public_key(bytes(changed))[0] == 0x30


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(der: bytes) -> None:
    with contextlib.suppress(CliError):
        assert certificate._public_key(der)
