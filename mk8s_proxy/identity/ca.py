"""A certificate authority of central: it signs servers, or it signs agents.

Made and kept by ``authorities``; used by ``server_certificate`` and by the join endpoint and the
tunnel's renewal (``sign_agent``). The two kinds are separate so that neither kind of certificate
can ever be taken for the other; each authority also carries its purpose in its own certificate and
has path length 0, so it can sign leaves only. certs/README.md has the trust map.
"""

import hashlib
import ipaddress
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mk8s_agent.wire import pki

AUTHORITY_LIFE = timedelta(days=3650)
"""An authority outlives many agents; its rotation is a planned act (certs/README.md)."""
SERVER_LIFE = timedelta(days=90)
AGENT_LIFE = timedelta(hours=24)
CLOCK_TOLERANCE = timedelta(minutes=5)
"""Certificates begin this long ago, for peers whose clock is behind ours."""
MAX_CSR_BYTES = 16384
"""A P-256 request is under 1 KiB; whatever is much larger is not one."""

Purpose = Literal["server", "agent"]

_USAGE = {
    "server": ExtendedKeyUsageOID.SERVER_AUTH,
    "agent": ExtendedKeyUsageOID.CLIENT_AUTH,
}
_COMMON_NAME = {"server": "mk8s server CA", "agent": "mk8s agent CA"}


class CaError(Exception):
    """Something cannot be signed or loaded; the message is one sentence."""


class SignedAgent(NamedTuple):
    """What :meth:`CertificateAuthority.sign_agent` gives."""

    certificate_pem: bytes
    serial: str
    """Lower-case hex, as ``db.agents`` keeps it."""
    not_after: datetime


class CertificateAuthority:
    """An authority for one purpose: an ECDSA P-256 key and its self-signed certificate."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key
        self.purpose = _purpose_of(certificate)
        self.certificate_pem = certificate.public_bytes(serialization.Encoding.PEM)
        self.pin = pki.spki_pin(self.certificate_pem)
        """ "sha256:<hex>" of the public key: what an agent is given to know this authority by."""
        self.not_after = certificate.not_valid_after_utc

    def __repr__(self) -> str:
        return f"<CertificateAuthority {self.purpose} {self.pin}>"

    @classmethod
    def create(cls, purpose: Purpose, *, now: datetime | None = None) -> "CertificateAuthority":
        """Make a new authority."""
        moment = now or datetime.now(UTC)
        key = pki.new_key()
        name = _name(_COMMON_NAME[purpose])
        builder = (
            _builder(name, key.public_key(), moment, moment + AUTHORITY_LIFE)
            .issuer_name(name)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(authority=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([_USAGE[purpose]]), critical=False)
            .add_extension(_authority_key_id(key.public_key()), critical=False)
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def load(cls, certificate_pem: bytes, key_pem: bytes) -> "CertificateAuthority":
        """Take up an authority made before.

        Raises:
            CaError: the parts are unreadable or do not belong together.
        """
        try:
            certificate = pki.load_certificate(certificate_pem)
            key = pki.key_from_pem(key_pem)
        except pki.PkiError as error:
            raise CaError(f"the certificate authority cannot be loaded: {error}") from error
        if certificate.public_key() != key.public_key():
            raise CaError("the certificate authority's key does not belong to its certificate")
        return cls(certificate, key)

    @property
    def key_pem(self) -> bytes:
        """The private key. Secret."""
        return pki.key_to_pem(self._key)

    def issued(self, certificate_pem: bytes) -> bool:
        """Whether this authority signed a certificate; says nothing about its time or names."""
        try:
            pki.load_certificate(certificate_pem).verify_directly_issued_by(self._certificate)
        except (pki.PkiError, ValueError, TypeError, InvalidSignature):
            return False
        return True

    def issue_server(
        self,
        names: list[str],
        key: ec.EllipticCurvePrivateKey,
        *,
        now: datetime | None = None,
        life: timedelta = SERVER_LIFE,
    ) -> bytes:
        """Certify a server key for DNS names, wildcards and IP addresses. Returns PEM.

        Raises:
            CaError: no name, one that is no name, or this authority signs agents.
        """
        if not names:
            raise CaError("a server certificate needs at least one name")
        sans = x509.SubjectAlternativeName([_server_name(name) for name in names])
        certificate = self._sign_leaf(
            "server", _name(names[0]), sans, key.public_key(), (now, life)
        )
        return certificate.public_bytes(serialization.Encoding.PEM)

    def sign_agent(
        self,
        csr_pem: bytes,
        cluster_id: str,
        *,
        now: datetime | None = None,
        life: timedelta = AGENT_LIFE,
    ) -> SignedAgent:
        """Certify an agent's key for one cluster.

        Only the request's public key is used; its names and extensions are ignored, since the
        agent does not choose who it is.

        Raises:
            CaError: the request is unreadable, not signed by its key, not ECDSA P-256, or the
                cluster id cannot stand in a URI, or this authority signs servers.
        """
        public_key = _requested_key(csr_pem)
        try:
            uri = x509.UniformResourceIdentifier(pki.cluster_uri(cluster_id))
        except pki.PkiError as error:
            raise CaError(str(error)) from error
        sans = x509.SubjectAlternativeName([uri])
        certificate = self._sign_leaf(
            "agent", _name(f"agent of {cluster_id}"), sans, public_key, (now, life)
        )
        return SignedAgent(
            certificate.public_bytes(serialization.Encoding.PEM),
            f"{certificate.serial_number:x}",
            certificate.not_valid_after_utc,
        )

    def _sign_leaf(
        self,
        purpose: Purpose,
        subject: x509.Name,
        sans: x509.SubjectAlternativeName,
        public_key: ec.EllipticCurvePublicKey,
        validity: tuple[datetime | None, timedelta],
    ) -> x509.Certificate:
        if purpose != self.purpose:
            raise CaError(f"the {self.purpose} CA does not sign {purpose} certificates")
        moment = validity[0] or datetime.now(UTC)
        # A leaf that outlives its authority would stop working without a sign.
        end = min(moment + validity[1], self.not_after)
        builder = (
            _builder(subject, public_key, moment, end)
            .issuer_name(self._certificate.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([_USAGE[purpose]]), critical=False)
            .add_extension(_authority_key_id(self._key.public_key()), critical=False)
            .add_extension(sans, critical=False)
        )
        return builder.sign(self._key, hashes.SHA256())


def _purpose_of(certificate: x509.Certificate) -> Purpose:
    try:
        extensions = certificate.extensions
        usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        limits = extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        raise CaError("the certificate is not one of mk8s's authorities") from None
    if not limits.ca or limits.path_length != 0 or len(usage) != 1:
        raise CaError("the certificate is not one of mk8s's authorities")
    return "server" if ExtendedKeyUsageOID.SERVER_AUTH in usage else "agent"


def _builder(
    subject: x509.Name, public_key: ec.EllipticCurvePublicKey, moment: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - CLOCK_TOLERANCE)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_key_id(public_key: ec.EllipticCurvePublicKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(public_key)


def _name(common_name: str) -> x509.Name:
    # 64 is X.520's bound for a common name; nothing ever reads it but people.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _server_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError:
        raise CaError(f'"{name}" is neither an ASCII DNS name nor an IP address') from None


def requested_key_hash(csr_pem: bytes) -> str:
    """SHA-256 of the public key that a certificate is asked for, in hexadecimal.

    Raises:
        CaError: as :meth:`CertificateAuthority.sign_agent`.
    """
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    key = _requested_key(csr_pem).public_bytes(serialization.Encoding.DER, form)
    return hashlib.sha256(key).hexdigest()


def _requested_key(csr_pem: bytes) -> ec.EllipticCurvePublicKey:
    if len(csr_pem) > MAX_CSR_BYTES:
        raise CaError("the certificate request is too large")
    try:
        request = x509.load_pem_x509_csr(csr_pem)
        public_key = request.public_key()
        proven = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm):
        raise CaError("the certificate request is not readable") from None
    if not isinstance(public_key, ec.EllipticCurvePublicKey):
        raise CaError("the certificate request's key is not ECDSA P-256")
    if public_key.curve.name != "secp256r1":
        raise CaError("the certificate request's key is not ECDSA P-256")
    if not proven:
        raise CaError("the certificate request is not signed by its own key")
    return public_key
