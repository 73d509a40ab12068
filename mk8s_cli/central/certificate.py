"""Pins of certificates without a crypto library: finds SubjectPublicKeyInfo in DER and hashes it.

Called by the login. The base install has no `cryptography`; this reads only the outer fields of
RFC 5280's Certificate (definite lengths, as DER demands) and refuses everything it does not know.
"""

import base64
import binascii
import hashlib
import re

from mk8s_cli.terminal.errors import CliError

_SEQUENCE, _INTEGER, _VERSION = 0x30, 0x02, 0xA0
_BEFORE_KEY = (_INTEGER, _SEQUENCE, _SEQUENCE, _SEQUENCE, _SEQUENCE)
"""serialNumber, signature, issuer, validity, subject."""

_PEM = re.compile(
    r"-----BEGIN CERTIFICATE-----\s+([A-Za-z0-9+/=\s]{1,65536})-----END CERTIFICATE-----"
)
MAX_CERTIFICATES = 8


def split_pem(text: str) -> tuple[str, ...]:
    """Return the certificates of `text` in canonical PEM; raise `CliError` if there is none."""
    found = _PEM.findall(text)
    if not 0 < len(found) <= MAX_CERTIFICATES:
        raise CliError(f"expected 1 to {MAX_CERTIFICATES} PEM certificates, found {len(found)}")
    return tuple(_canonical(body) for body in found)


def _canonical(body: str) -> str:
    try:
        der = base64.b64decode("".join(body.split()), validate=True)
    except binascii.Error:
        raise CliError("the PEM certificate is damaged") from None
    _public_key(der)
    text = base64.encodebytes(der).decode().replace("\n", "")
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""])


def pin(certificate_pem: str) -> str:
    """Return "sha256:<hex>" of the SubjectPublicKeyInfo, as `mk8s-agent` pins it too."""
    body = _PEM.fullmatch(certificate_pem.strip())
    if body is None:
        raise CliError("expected one PEM certificate")
    der = base64.b64decode("".join(body.group(1).split()))
    return f"sha256:{hashlib.sha256(_public_key(der)).hexdigest()}"


def _public_key(der: bytes) -> bytes:
    """Return the whole SubjectPublicKeyInfo element of a DER certificate."""
    certificate, _ = _element(der, 0, _SEQUENCE)
    position, _ = _element(der, certificate, _SEQUENCE)
    if position < len(der) and der[position] == _VERSION:
        position = _element(der, position, _VERSION)[1]
    for tag in _BEFORE_KEY:
        position = _element(der, position, tag)[1]
    return der[position : _element(der, position, _SEQUENCE)[1]]


def _element(der: bytes, position: int, tag: int) -> tuple[int, int]:
    """Return where the content of the element at `position` starts and ends; it must have `tag`."""
    header = der[position : position + 2]
    if len(header) < 2 or header[0] != tag:
        raise CliError("the certificate is not X.509 in DER")
    start, length = position + 2, header[1]
    if length >= 0x80:
        octets = length & 0x7F
        length = int.from_bytes(der[start : start + octets], "big")
        start += octets
        # At most 4 octets; the indefinite form (0) is BER.
        if not 0 < octets <= 4 or length < 0x80:
            raise CliError("the certificate is not X.509 in DER")
    if start + length > len(der):
        raise CliError("the certificate is cut off")
    return start, start + length
