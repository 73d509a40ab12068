"""The two certificate authorities of an installation, as all replicas share them.

Called by ``init``, ``app``, ``server_certificate``, the management API and the tunnels. They are
kept in the database, certificates in the clear and private keys sealed.

A rotation has two steps. `rotate` publishes a second pair. From then on both are trusted, and
everybody who comes is told so; once every replica knows the new pair, its agent CA signs for all
agents that have learned whom to trust. Central itself still shows a certificate of the old server
CA, since kubectl knows no other way to it before its kubeconfig was written anew. `retire` lets the
new pair take the old one's place, whose keys are gone then.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from mk8s_proxy.db import authorities as store
from mk8s_proxy.db.authorities import NEXT, AuthorityRecord
from mk8s_proxy.db.engine import Database
from mk8s_proxy.identity.ca import CaError, CertificateAuthority, Purpose

PURPOSES: tuple[Purpose, ...] = ("server", "agent")
MOST_WAYS: Final = 4
"""So many rotations may somebody miss who knows an older server CA: each is a certificate that
central shows to everybody."""


@dataclass(frozen=True, slots=True)
class Authorities:
    """The authorities of one installation at one moment."""

    server_ca: CertificateAuthority
    """Signs what central shows."""
    agent_ca: CertificateAuthority
    next_server_ca: CertificateAuthority | None = None
    """While a rotation is under way, what is to follow."""
    next_agent_ca: CertificateAuthority | None = None
    ways: tuple[bytes, ...] = ()
    """By which former server CAs vouch for the present one (PEM)."""
    rotated_at: datetime | None = None
    """When the next ones were published."""
    former_pem: bytes = b""
    """The server CA before, which some replica may have shown until it knew the present one."""
    retired_at: datetime | None = None
    """When the present one took that one's place."""

    @property
    def agents_pem(self) -> bytes:
        """What agents are verified by."""
        return _pem(self.agent_ca, self.next_agent_ca)

    @property
    def agent_key_ids(self) -> frozenset[str]:
        """Of the authorities whose agents are let in."""
        return frozenset(it.key_id for it in (self.agent_ca, self.next_agent_ca) if it is not None)


class AuthorityKeeper:
    """The authorities in force in this process; `take` replaces them as the database says.

    Args:
        current: what to begin with.
        settle_seconds: from the publication of new ones until they sign: so long a replica may take
            to know them.
    """

    def __init__(self, current: Authorities, settle_seconds: float = 0.0) -> None:
        self.current = current
        self._settle = timedelta(seconds=settle_seconds)
        self._records: Mapping[str, AuthorityRecord] = {}

    def take(self, records: Mapping[str, AuthorityRecord]) -> None:
        """Go by these records from now on. Raises as `load_authorities`; then nothing changes."""
        if records != self._records:
            self.current = authorities_of(records)
            self._records = dict(records)

    def servers_pem(self, now: datetime) -> bytes:
        """What central is to be verified by: one certificate, or two, the present one first."""
        current = self.current
        retired_at = current.retired_at
        shown_still = retired_at is not None and now < retired_at + self._settle
        former = current.former_pem if shown_still else b""
        return _pem(current.server_ca, current.next_server_ca) + former

    def fingerprint(self, now: datetime) -> str:
        """By which a CLI notices that central is to be verified by something else."""
        return hashlib.sha256(self.servers_pem(now)).hexdigest()

    @property
    def signs_from(self) -> datetime | None:
        """When the next agent CA begins to sign; None while no rotation is under way."""
        rotated_at = self.current.rotated_at
        return None if rotated_at is None else rotated_at + self._settle

    def following(self, now: datetime) -> CertificateAuthority | None:
        """The agent CA that all agents are to have their certificates of, if that is a new one."""
        since = self.signs_from
        return self.current.next_agent_ca if since is not None and since <= now else None

    def signer(self, now: datetime, trusts: Collection[str]) -> CertificateAuthority:
        """The agent CA that signs for an agent.

        Args:
            now: the time.
            trusts: pins of the server CAs that it trusts. One that does not know the next would be
                lost once that shows its certificate, so it gets no sign of having moved.
        """
        following, server = self.following(now), self.current.next_server_ca
        if following is None or server is None or server.pin not in trusts:
            return self.current.agent_ca
        return following


async def load_authorities(database: Database) -> Authorities:
    """The authorities that ``init`` made.

    Raises:
        CaError: there are none yet, or the stored ones are damaged.
        StoreError: they cannot be read, or their keys cannot be opened.
    """
    return authorities_of(await store.load_authorities(database))


def authorities_of(records: Mapping[str, AuthorityRecord]) -> Authorities:
    """Take up what is stored. Raises as `load_authorities`."""
    if any(purpose not in records for purpose in PURPOSES):
        raise CaError("there is no certificate authority yet; run: mk8s-central init")
    present, agents = (_taken_up(records[purpose], purpose) for purpose in PURPOSES)
    server = records["server"]
    found = Authorities(
        present,
        agents,
        ways=tuple(way.encode() for way in server.ways),
        former_pem=server.former_pem.encode(),
        retired_at=server.made_at,
    )
    if any(purpose + NEXT not in records for purpose in PURPOSES):
        return found
    following = [_taken_up(records[purpose + NEXT], purpose) for purpose in PURPOSES]
    return replace(
        found,
        next_server_ca=following[0],
        next_agent_ca=following[1],
        rotated_at=records["server" + NEXT].made_at,
    )


async def ensure_authorities(database: Database) -> tuple[Authorities, bool]:
    """The authorities, made now if they are missing; the flag tells whether any was."""
    made = False
    present = await store.load_authorities(database)
    for purpose in PURPOSES:
        if purpose not in present:
            fresh = _record(CertificateAuthority.create(purpose))
            made |= await store.keep_authority(database, purpose, fresh)
    return await load_authorities(database), made


async def rotate(database: Database, now: datetime) -> None:
    """Publish the authorities that are to follow the present ones.

    Raises:
        Conflict: a rotation is under way.
    """
    present = await store.load_authorities(database)
    taken = authorities_of(present)
    server, agent = (CertificateAuthority.create(purpose, now=now) for purpose in PURPOSES)
    way = taken.server_ca.vouch(server, now=now).decode()
    ways = (way, *present["server"].ways)[:MOST_WAYS]
    following = {"server": _record(server, ways, now), "agent": _record(agent, (), now)}
    await store.publish_next(database, following)


async def retire(database: Database, now: datetime) -> None:
    """Let those that follow take the place of the present ones, which sign nothing any more.

    Until every replica knows it, one may still show a certificate of the old server CA, so people
    and agents are told to drop that one a little later.

    Raises:
        Conflict: no rotation is under way.
    """
    await store.promote_next(database, now)


async def replace_authority(database: Database, purpose: Purpose) -> CertificateAuthority:
    """Make a new authority in place of the present one; what that signed is worthless then.

    Called by `certs/init.py`, when a key may have become known.
    """
    fresh = CertificateAuthority.create(purpose)
    await store.replace_authority(database, purpose, _record(fresh))
    return fresh


def _pem(*authorities: CertificateAuthority | None) -> bytes:
    return b"".join(it.certificate_pem for it in authorities if it is not None)


def _record(
    authority: CertificateAuthority, ways: tuple[str, ...] = (), made_at: datetime | None = None
) -> AuthorityRecord:
    certificate, key = authority.certificate_pem.decode(), authority.key_pem.decode()
    return AuthorityRecord(certificate, key, ways, made_at)


def _taken_up(record: AuthorityRecord, purpose: Purpose) -> CertificateAuthority:
    certificate, key = record.certificate_pem.encode(), record.private_pem.encode()
    authority = CertificateAuthority.load(certificate, key)
    if authority.purpose != purpose:
        raise CaError(f"in place of the {purpose} CA, one for {authority.purpose}s is stored")
    return authority
