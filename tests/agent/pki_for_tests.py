"""A throw-away authority for agent certificates, and a clock that is set by hand."""

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from mk8s_agent.identity.store import AgentIdentity, make_identity
from mk8s_agent.wire import pki

TEN_YEARS = datetime.timedelta(days=3650)


class Clock:
    """Stands still until it is told otherwise."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def _moment(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


class Issuer:
    """Signs what central would sign."""

    def __init__(self) -> None:
        self._key = pki.new_key()
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - TEN_YEARS)
            .not_valid_after(now + TEN_YEARS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(serialization.Encoding.PEM)

    def sign(self, csr_pem: bytes, cluster_id: str, not_before: float, not_after: float) -> bytes:
        """Certify the key of a request for one cluster; gives PEM."""
        request = x509.load_pem_x509_csr(csr_pem)
        uri = x509.UniformResourceIdentifier(pki.cluster_uri(cluster_id))
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self._name)
            .public_key(request.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_moment(not_before))
            .not_valid_after(_moment(not_after))
            .add_extension(x509.SubjectAlternativeName([uri]), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)

    def identity(
        self, cluster_id: str, not_before: float, not_after: float, name: str = "prod"
    ) -> AgentIdentity:
        """A whole identity."""
        key = pki.new_key()
        return make_identity(
            cluster_name=name,
            private_key_pem=pki.key_to_pem(key),
            certificate_pem=self.sign(pki.csr(key, name), cluster_id, not_before, not_after),
            authority_pem=self.pem,
        )
