"""Who this agent is to central: key, certificate and authority, and where they are kept.

Made by ``mk8s_agent.identity.join``, replaced by ``mk8s_agent.identity.renewal``, kept by one of
two stores: the 0600 file below, or a Secret (``mk8s_agent.identity.secret_store``). An identity is
stored as one document, so that no crash can leave a new key beside an old certificate.
"""

import dataclasses
import time
from pathlib import Path
from typing import Final, Protocol

import orjson
from cryptography.exceptions import UnsupportedAlgorithm

from mk8s_agent.wire import pki

IDENTITY_FILE: Final = "identity.json"
"""Name of the file in the data directory, and of the key in the Secret."""

CLOCK_LEEWAY_SECONDS: Final = 5.0
"""How far the clocks may differ before a fresh certificate counts as not yet valid."""


class IdentityError(Exception):
    """The identity cannot be used, read or kept; the sentence says what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class AgentIdentity:
    """A key with its certificate, and whom it belongs to."""

    cluster_name: str
    cluster_id: str
    """From the certificate's URI name, the only thing about it that central believes."""
    private_key_pem: bytes = dataclasses.field(repr=False)
    certificate_pem: bytes = dataclasses.field(repr=False)
    """The leaf first, then its issuers."""
    authority_pem: bytes = dataclasses.field(repr=False)
    """What the tunnel trusts: the authority of central's own certificate."""
    not_before: float
    not_after: float
    """Seconds since the epoch, as in the certificate."""
    next_key_pem: bytes = dataclasses.field(default=b"", repr=False)
    """The key of the certificate that renews this one, once it is made; kept before it is used, so
    that after a crash the same key is asked for again. Central takes another one for a thief's."""


class IdentityStore(Protocol):
    """Where the identity survives a restart."""

    location: str
    """For messages: what to look at or to remove."""

    async def load(self) -> AgentIdentity | None:
        """Give what is kept, None when nothing is.

        Raises:
            IdentityError: it cannot be read, or is damaged.
        """
        ...

    async def save(self, identity: AgentIdentity) -> None:
        """Replace what is kept.

        Raises:
            IdentityError: it cannot be written.
        """
        ...

    async def check_writable(self) -> None:
        """Find out before the join token is spent whether `save` will work.

        Raises:
            IdentityError: it will not.
        """
        ...


def make_identity(
    *, cluster_name: str, private_key_pem: bytes, certificate_pem: bytes, authority_pem: bytes
) -> AgentIdentity:
    """Put an identity together and check that its parts belong to each other.

    Raises:
        IdentityError: they do not, or one cannot be read.
    """
    try:
        certificate = pki.load_certificate(certificate_pem)
        pki.load_certificate(authority_pem)
        private_key = pki.key_from_pem(private_key_pem)
        cluster_id = pki.cluster_id_from_certificate(certificate_pem)
        same = certificate.public_key() == private_key.public_key()
    except (pki.PkiError, UnsupportedAlgorithm, ValueError) as error:
        raise IdentityError(f"the agent's identity cannot be read: {error}") from error
    if not same:
        raise IdentityError("the certificate belongs to another key than this agent's")
    return AgentIdentity(
        cluster_name=cluster_name,
        cluster_id=cluster_id,
        private_key_pem=private_key_pem,
        certificate_pem=certificate_pem,
        authority_pem=authority_pem,
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
    )


def check_clock(identity: AgentIdentity, now: float) -> None:
    """Refuse an identity that is not valid yet, which means that a clock is wrong.

    Raises:
        IdentityError: it begins in the future.
    """
    early = identity.not_before - now
    if early > CLOCK_LEEWAY_SECONDS:
        raise IdentityError(
            f"the agent's certificate is not valid for another {early:.0f} seconds: "
            f"check the clock of this machine, it says {_utc(now)}"
        )


def check_expiry(identity: AgentIdentity, now: float) -> None:
    """Refuse an identity whose time is over.

    Raises:
        IdentityError: it has ended.
    """
    if now >= identity.not_after:
        raise IdentityError(
            f"the agent's certificate ended at {_utc(identity.not_after)} (it is {_utc(now)} "
            f"here); get a new join token: mk8s admin clusters join-token {identity.cluster_name}"
        )


def check_cluster(identity: AgentIdentity, cluster_name: str, location: str) -> None:
    """Refuse the identity of another cluster.

    Raises:
        IdentityError: it is of another.
    """
    if identity.cluster_name != cluster_name:
        raise IdentityError(
            f"{location} holds the identity of cluster {identity.cluster_name!r}, not of "
            f"{cluster_name!r}; give another --data-dir, or remove {location} to join anew"
        )


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def encode_identity(identity: AgentIdentity) -> bytes:
    """Give the document that is stored."""
    return orjson.dumps(
        {
            "version": 1,
            "cluster": identity.cluster_name,
            "private_key": identity.private_key_pem.decode(),
            "certificate": identity.certificate_pem.decode(),
            "authority": identity.authority_pem.decode(),
            "next_key": identity.next_key_pem.decode(),
        }
    )


def decode_identity(document: bytes, location: str) -> AgentIdentity:
    """Read the document that was stored.

    Raises:
        IdentityError: it is damaged.
    """
    try:
        members = orjson.loads(document)
        values = [members[key] for key in ("cluster", "private_key", "certificate", "authority")]
        cluster_name, *pems = values
        private_key, certificate, authority = (pem.encode() for pem in pems)
        next_key = members.get("next_key", "").encode()
        if next_key:
            pki.key_from_pem(next_key)
        identity = make_identity(
            cluster_name=str(cluster_name),
            private_key_pem=private_key,
            certificate_pem=certificate,
            authority_pem=authority,
        )
        return dataclasses.replace(identity, next_key_pem=next_key)
    except (IdentityError, pki.PkiError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f" ({error})" if isinstance(error, IdentityError) else ""
        raise IdentityError(
            f"{location} is damaged{reason}; remove it and start with a new join token"
        ) from error


class FileStore:
    """A file that only its owner may read, in the data directory."""

    def __init__(self, data_directory: Path) -> None:
        self._path = data_directory / IDENTITY_FILE
        self.location = str(self._path)

    async def load(self) -> AgentIdentity | None:
        """Read the file; it is refused when others may read it."""
        if not self._path.exists():
            return None
        try:
            document = pki.read_private(self._path)
        except pki.PkiError as error:
            raise IdentityError(str(error)) from error
        return decode_identity(document, self.location)

    async def save(self, identity: AgentIdentity) -> None:
        """Replace the file in one step."""
        self._write(self._path, encode_identity(identity))

    async def check_writable(self) -> None:
        """Write and remove a file beside it."""
        trial = self._path.with_name(".writable")
        self._write(trial, b"")
        trial.unlink(missing_ok=True)

    def _write(self, path: Path, content: bytes) -> None:
        try:
            pki.write_private(path, content)
        except OSError as error:
            raise IdentityError(
                f"cannot write to {path.parent}: {error.strerror}; give another --data-dir"
            ) from error
