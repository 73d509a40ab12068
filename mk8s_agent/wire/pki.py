"""The end-entity half of the PKI: keys, certificate requests, pins and private files.

Used by the agent (join, renewal, identity) and by central (pins, the identity of a tunnel's
peer). Signing code is not here: the agent's image contains none. Everything is ECDSA P-256.
"""

import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mk8s_agent.wire.volume_modes import group_is_ours

PIN_PREFIX = "sha256:"
CLUSTER_URI_SCHEME = "mk8s"
CLUSTER_URI_HOST = "cluster"
CLUSTER_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")
"""What may stand behind ``mk8s://cluster/``: the id of a cluster, in one spelling only."""
MAX_AUTHORITIES = 8
"""That central may be verified by at once: two while one follows the other, and some to spare."""
FORBIDDEN_MODE = 0o027
"""Mode bits that a private file must not have: group write, and anything for others."""


class PkiError(Exception):
    """A key, a certificate or a pin is not what it must be; the message is one sentence."""


def new_key() -> ec.EllipticCurvePrivateKey:
    """A fresh ECDSA P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_to_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The key as unencrypted PKCS#8 PEM, for a file made by :func:`write_private`."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def key_from_pem(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Read a key.

    Raises:
        PkiError: not PEM, encrypted, or not ECDSA P-256.
    """
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except TypeError:
        raise PkiError("the private key is encrypted; store it without a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise PkiError("the private key is not readable PEM") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise PkiError("the private key is not ECDSA P-256")
    return key


def csr(key: ec.EllipticCurvePrivateKey, cluster_name: str) -> bytes:
    """A certificate request in PEM, proving possession of the key.

    Central ignores every name in it; the cluster's name is there for people who look at it.
    """
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, cluster_name[:64])])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


def load_certificate(data: bytes) -> x509.Certificate:
    """Read one certificate, PEM (the first of a chain) or DER. Raises :class:`PkiError`."""
    try:
        if b"-----BEGIN" in data:
            return x509.load_pem_x509_certificate(data)
        return x509.load_der_x509_certificate(data)
    except ValueError:
        raise PkiError("the certificate is not readable") from None


def spki_pin(certificate: bytes) -> str:
    """The pin of a certificate's public key: "sha256:" and 64 hex digits.

    The hash covers the DER SubjectPublicKeyInfo, as in ``kubeadm --discovery-token-ca-cert-hash``
    and RFC 7469, so it survives a renewed certificate of the same key.

    Raises:
        PkiError: the certificate is not readable.
    """
    public_key = load_certificate(certificate).public_key()
    spki = public_key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return PIN_PREFIX + hashlib.sha256(spki).hexdigest()


def spki_pins(certificates_pem: bytes) -> tuple[str, ...]:
    """The pins of one or several certificates.

    Raises:
        PkiError: there is none, there are more than `MAX_AUTHORITIES`, or one is not readable.
    """
    try:
        found = x509.load_pem_x509_certificates(certificates_pem)
    except ValueError:
        raise PkiError("the certificates are not readable") from None
    if len(found) > MAX_AUTHORITIES:
        raise PkiError(f"there are more than {MAX_AUTHORITIES} certificates")
    return tuple(spki_pin(it.public_bytes(serialization.Encoding.PEM)) for it in found)


def parse_pin(text: str) -> str:
    """A pin as a person typed it, in the spelling of :func:`spki_pin`. Raises :class:`PkiError`."""
    pin = text.strip().lower()
    if not re.fullmatch(PIN_PREFIX + "[0-9a-f]{64}", pin):
        raise PkiError('a CA pin looks like "sha256:" and 64 hex digits')
    return pin


def cluster_uri(cluster_id: str) -> str:
    """The URI that names a cluster in a certificate. Raises :class:`PkiError`."""
    if not CLUSTER_ID.fullmatch(cluster_id):
        raise PkiError(f"{cluster_id!r} cannot be a cluster id")
    return f"{CLUSTER_URI_SCHEME}://{CLUSTER_URI_HOST}/{cluster_id}"


def cluster_id_from_certificate(certificate: bytes | Mapping[str, Any]) -> str:
    """The cluster whose agent a verified certificate belongs to.

    Only the URI SAN counts, never the common name; a certificate with none or two URIs says
    nothing. Call it with the peer certificate of a handshake that
    verified the chain: DER, PEM, or the mapping of ``ssl.SSLObject.getpeercert()``.

    Raises:
        PkiError: there is not exactly one URI, or it is not ``mk8s://cluster/<id>``.
    """
    uris = _uris(certificate)
    if len(uris) != 1:
        raise PkiError(f"the agent certificate has {len(uris)} URI names instead of one")
    try:
        parts = urlsplit(uris[0])
    except ValueError:
        raise PkiError("the agent certificate names no cluster") from None
    cluster_id = parts.path.removeprefix("/")
    if not CLUSTER_ID.fullmatch(cluster_id) or uris[0] != cluster_uri(cluster_id):
        raise PkiError("the agent certificate names no cluster")
    return cluster_id


def write_private(path: Path, content: bytes) -> None:
    """Write a secret so that only its owner can read it, whole or not at all.

    The folder is made 0700 when missing. A link in the file's place is replaced, not followed.

    Raises:
        OSError: the folder cannot be written.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # mkstemp makes the file 0600 with O_EXCL; the rename puts it in place in one step.
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_private(path: Path) -> bytes:
    """Read a secret, refusing one that any user of this machine could read too.

    A group may read it, since Kubernetes mounts Secrets so for a process that is not root, and
    write it where it is that of the volume and ours alone (``mk8s_agent.wire.volume_modes``).

    Raises:
        PkiError: unreadable, or its mode lets others in or the group write.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            facts = os.fstat(file.fileno())
            mode = facts.st_mode
            if mode & FORBIDDEN_MODE and not _is_a_volumes(path, facts):
                raise PkiError(
                    f"{path} can be read by other users (mode {mode & 0o777:o}); "
                    f"run: chmod 600 {path}"
                )
            return file.read()
    except OSError as error:
        raise PkiError(f"cannot read {path}: {error.strerror}") from error


def _is_a_volumes(path: Path, facts: os.stat_result) -> bool:
    """Whether all that the mode allows too much is group write, and the group is ourselves."""
    return facts.st_mode & FORBIDDEN_MODE == stat.S_IWGRP and group_is_ours(path, facts)


def _uris(certificate: bytes | Mapping[str, Any]) -> list[str]:
    if isinstance(certificate, Mapping):
        names = certificate.get("subjectAltName", ())
        return [value for kind, value in names if kind == "URI"]
    try:
        extensions = load_certificate(certificate).extensions
        sans = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    except (ValueError, x509.DuplicateExtension):
        raise PkiError("the certificate is not readable") from None
    return sans.get_values_for_type(x509.UniformResourceIdentifier)
