"""Keys and certificates of the peers, and the Go tunnel's tokens; all made anew for each run.

The product makes its own; these are for the stub and the peers, so that everybody does TLS with
ECDSA P-256 on all legs.
"""

import datetime
import ipaddress
import time
from dataclasses import dataclass
from pathlib import Path

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

_LIFE = datetime.timedelta(days=2)
_PEM = serialization.Encoding.PEM
_PKCS8 = serialization.PrivateFormat.PKCS8
_PLAIN = serialization.NoEncryption()


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files in one folder, under the names that the Go tunnel expects."""

    folder: Path
    go_key: rsa.RSAPrivateKey

    @property
    def authority(self) -> Path:
        """The CA's certificate."""
        return self.folder / "ca.crt"

    @property
    def certificate(self) -> Path:
        """The server certificate for localhost."""
        return self.folder / "central.crt"

    @property
    def key(self) -> Path:
        """Its key."""
        return self.folder / "central.key"

    @property
    def both(self) -> Path:
        """Certificate and key in one file, for haproxy."""
        return self.folder / "central.pem"


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject: str, issuer: str, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + _LIFE)
    )


def make_certificates(folder: Path) -> Certificates:
    """A CA, a certificate for localhost and the Go tunnel's token key, written to `folder`."""
    folder.mkdir(mode=0o700, parents=True)
    authority_key, key = (
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP256R1()),
    )
    ca = (
        _builder("bench CA", "bench CA", authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    leaf = (
        _builder("localhost", "bench CA", key.public_key())
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    made = Certificates(folder, rsa.generate_private_key(public_exponent=65537, key_size=2048))
    certificate, private = leaf.public_bytes(_PEM), key.private_bytes(_PEM, _PKCS8, _PLAIN)
    made.authority.write_bytes(ca.public_bytes(_PEM))
    made.certificate.write_bytes(certificate)
    made.key.write_bytes(private)
    made.both.write_bytes(certificate + private)
    public = made.go_key.public_key().public_bytes(
        _PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (folder / "jwt.pub").write_bytes(public)
    return made


def go_token(key: rsa.RSAPrivateKey, email: str, seconds: float) -> str:
    """A token as the Go tunnel wants it: about as long as the product's."""
    claims = {
        "iss": "https://idp.local",
        "aud": "mk8s",
        "sub": email,
        "email": email,
        "groups": ["team-3", "team-4"],
        "exp": int(time.time() + seconds),
    }
    return jwt.encode(claims, key, algorithm="RS256")
