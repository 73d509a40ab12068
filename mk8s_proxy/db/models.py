"""The tables. Only the stores of this package and the migrations import them.

Times are UTC and aware on both databases; identifiers are UUID strings; private keys and CA keys
live here so that replicas share them, which makes the database as secret as they are.
"""

from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import uuid4

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Integer, Text, TypeDecorator
from sqlmodel import Field, SQLModel

CONSTRAINT_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
"""Names that both databases agree on, so that later migrations can refer to them."""

metadata = SQLModel.metadata
metadata.naming_convention = CONSTRAINT_NAMES

BIG_SERIAL = BigInteger().with_variant(Integer(), "sqlite")
"""SQLite numbers rows by itself only when the type is exactly INTEGER."""


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC: ``timestamptz`` on PostgreSQL, naive UTC text on SQLite, aware outside."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a naive time, whose zone nobody knows."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("the database takes aware times only")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give back the zone that SQLite cannot store."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def new_id() -> str:
    """A fresh identifier."""
    return str(uuid4())


def utc_now() -> datetime:
    """The wall clock as an aware UTC time."""
    return datetime.now(UTC)


class User(SQLModel, table=True):
    """A person or a service that may log in."""

    __tablename__: ClassVar[str] = "users"

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    email: str = Field(unique=True, max_length=254)
    name: str = Field(default="", max_length=256)
    password_hash: str | None = Field(default=None, max_length=256)
    must_change_password: bool = False
    """Somebody else knows the password: it is good for its own change and nothing else."""
    disabled: bool = False
    token_epoch: int = 0
    created_at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)


class Cluster(SQLModel, table=True):
    """A registered Kubernetes cluster and what its agent last said of itself."""

    __tablename__: ClassVar[str] = "clusters"

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    name: str = Field(unique=True, max_length=63)
    labels: dict[str, str] = Field(default_factory=dict, sa_type=JSON)
    agent_version: str = Field(default="", max_length=64)
    kubernetes_version: str = Field(default="", max_length=64)
    last_seen: datetime | None = Field(default=None, sa_type=UtcDateTime)
    alert: str = Field(default="", max_length=512)
    created_at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)


class Role(SQLModel, table=True):
    """A named list of rules: the ``clusters:`` list of a role, as it was written."""

    __tablename__: ClassVar[str] = "roles"

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    name: str = Field(unique=True, max_length=128)
    rules: list[dict[str, Any]] = Field(default_factory=list, sa_type=JSON)
    limits: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    """The ``limits:`` of a role, as they were written."""
    built_in: bool = False
    created_at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)


class UserRole(SQLModel, table=True):
    """That a user has a role."""

    __tablename__: ClassVar[str] = "user_roles"

    user_id: str = Field(
        primary_key=True, max_length=36, foreign_key="users.id", ondelete="CASCADE"
    )
    role_id: str = Field(
        primary_key=True, max_length=36, foreign_key="roles.id", ondelete="RESTRICT", index=True
    )


class Login(SQLModel, table=True):
    """A login, which access tokens are minted from: its id is their claim ``sid``.

    ``subject`` is the id of the user or of the service token that it speaks for, ``source`` what
    proved that. It stays for some days after its end, so that a late comer is told why.
    """

    __tablename__: ClassVar[str] = "logins"

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    subject: str = Field(max_length=36, index=True)
    source: str = Field(max_length=32)
    issuer: str = Field(default="", max_length=63)
    """The configured issuer whose token proved it, "" for a source that has none."""
    client: str = Field(default="", max_length=256)
    address: str = Field(default="", max_length=64)
    label: str = Field(default="", max_length=128)
    groups: list[str] = Field(default_factory=list, sa_type=JSON)
    """As policy knows them, with the prefix of their source; none of mk8s's own."""
    claims: dict[str, str] = Field(default_factory=dict, sa_type=JSON)
    """What the source said that people and the audit read; no decision does."""
    narrowing: str = Field(default="", max_length=4096)
    """Canonical JSON; "" for a login that may do all that its subject may."""
    parent: str = Field(default="", max_length=36, index=True)
    """The login that this one was delegated by: it ends with that one."""
    opened_at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)
    last_seen: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)
    ends_at: datetime = Field(sa_type=UtcDateTime, index=True)
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    ended_why: str = Field(default="", max_length=64)


class RefreshToken(SQLModel, table=True):
    """One refresh token of a login, by its hash; it lives as long as the login."""

    __tablename__: ClassVar[str] = "refresh_tokens"

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    login_id: str = Field(max_length=36, foreign_key="logins.id", ondelete="CASCADE", index=True)
    token_hash: str = Field(unique=True, max_length=128)
    created_at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)
    used_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class ServiceToken(SQLModel, table=True):
    """What a job is known by: its roles, and the globs of the only clusters that they count on."""

    __tablename__: ClassVar[str] = "service_tokens"

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    name: str = Field(unique=True, max_length=63)
    clusters: list[str] = Field(default_factory=list, sa_type=JSON)
    created_by: str = Field(default="", max_length=254)
    creator_id: str = Field(default="", max_length=36)
    created_at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)


class ServiceTokenRole(SQLModel, table=True):
    """That a service token has a role."""

    __tablename__: ClassVar[str] = "service_token_roles"

    token_id: str = Field(
        primary_key=True, max_length=36, foreign_key="service_tokens.id", ondelete="CASCADE"
    )
    role_id: str = Field(
        primary_key=True, max_length=36, foreign_key="roles.id", ondelete="RESTRICT", index=True
    )


class ServiceSecret(SQLModel, table=True):
    """A secret of a service token, by its hash. Each is a login; a rotation overlaps two."""

    __tablename__: ClassVar[str] = "service_secrets"

    login_id: str = Field(
        primary_key=True, max_length=36, foreign_key="logins.id", ondelete="CASCADE"
    )
    token_id: str = Field(
        max_length=36, foreign_key="service_tokens.id", ondelete="CASCADE", index=True
    )
    secret_hash: str = Field(unique=True, max_length=64)


class Group(SQLModel, table=True):
    """A group that roles are given to: of mk8s, or, with ":" in its name, of an issuer."""

    __tablename__: ClassVar[str] = "groups"

    name: str = Field(primary_key=True, max_length=256)
    created_at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)


class GroupRole(SQLModel, table=True):
    """That a group has a role."""

    __tablename__: ClassVar[str] = "group_roles"

    group_name: str = Field(
        primary_key=True, max_length=256, foreign_key="groups.name", ondelete="CASCADE"
    )
    role_id: str = Field(
        primary_key=True, max_length=36, foreign_key="roles.id", ondelete="RESTRICT", index=True
    )


class GroupMember(SQLModel, table=True):
    """That a user is in a group of mk8s; who is in an issuer's is its word at each login."""

    __tablename__: ClassVar[str] = "group_members"

    group_name: str = Field(
        primary_key=True, max_length=256, foreign_key="groups.name", ondelete="CASCADE"
    )
    user_id: str = Field(
        primary_key=True, max_length=36, foreign_key="users.id", ondelete="CASCADE", index=True
    )


class UserIdentity(SQLModel, table=True):
    """Whom an issuer means by a subject: an email address alone is no proof."""

    __tablename__: ClassVar[str] = "user_identities"

    issuer: str = Field(primary_key=True, max_length=256)
    subject: str = Field(primary_key=True, max_length=256)
    user_id: str = Field(max_length=36, foreign_key="users.id", ondelete="CASCADE", index=True)
    created_at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)
    last_used: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)


class UpstreamToken(SQLModel, table=True):
    """The issuer's refresh token of a login, sealed: a refresh asks the issuer again."""

    __tablename__: ClassVar[str] = "upstream_tokens"

    login_id: str = Field(
        primary_key=True, max_length=36, foreign_key="logins.id", ondelete="CASCADE"
    )
    sealed: str = Field(sa_type=Text)


class PendingLogin(SQLModel, table=True):
    """A login on its way through a browser, by the hash of what its owner shows."""

    __tablename__: ClassVar[str] = "pending_logins"

    id: str = Field(primary_key=True, max_length=64)
    kind: str = Field(max_length=16)
    user_code: str | None = Field(default=None, unique=True, max_length=16)
    state: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    expires_at: datetime = Field(sa_type=UtcDateTime, index=True)
    used_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class Lock(SQLModel, table=True):
    """That something is shut until somebody opens it again, or until its end."""

    __tablename__: ClassVar[str] = "locks"

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    kind: str = Field(max_length=16)
    target: str = Field(max_length=256)
    reason: str = Field(default="", max_length=512)
    created_by: str = Field(default="", max_length=254)
    created_at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)
    ends_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class FederationRule(SQLModel, table=True):
    """Which tokens of a trusted issuer let a job in, by what they claim."""

    __tablename__: ClassVar[str] = "federation_rules"

    name: str = Field(primary_key=True, max_length=63)
    issuer: str = Field(max_length=63)
    claims: dict[str, list[str]] = Field(default_factory=dict, sa_type=JSON)
    """Globs, one of which each of these claims must match."""
    seconds: int = Field(default=3600)
    created_at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)


class FederationRuleRole(SQLModel, table=True):
    """That a federation rule gives a role."""

    __tablename__: ClassVar[str] = "federation_rule_roles"

    rule_name: str = Field(
        primary_key=True, max_length=63, foreign_key="federation_rules.name", ondelete="CASCADE"
    )
    role_id: str = Field(
        primary_key=True, max_length=36, foreign_key="roles.id", ondelete="RESTRICT", index=True
    )


class EndedToken(SQLModel, table=True):
    """The id of an access token, or of a login with all of its tokens, that was ended early.

    ``number`` counts them in the order of their commits, so that replicas read what is new to them.
    """

    __tablename__: ClassVar[str] = "ended_tokens"

    id: str = Field(primary_key=True, max_length=64)
    number: int = Field(sa_type=BigInteger, index=True)
    expires_at: datetime = Field(sa_type=UtcDateTime, index=True)


class LoginSource(SQLModel, table=True):
    """That a user has logged in from a source address, which is kept as a hash."""

    __tablename__: ClassVar[str] = "login_sources"

    user_id: str = Field(
        primary_key=True, max_length=36, foreign_key="users.id", ondelete="CASCADE"
    )
    source_hash: str = Field(primary_key=True, max_length=64)
    last_used: datetime = Field(sa_type=UtcDateTime)


class JoinToken(SQLModel, table=True):
    """One join token, by its hash; it admits one agent of one cluster once."""

    __tablename__: ClassVar[str] = "join_tokens"

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    cluster_id: str = Field(
        max_length=36, foreign_key="clusters.id", ondelete="CASCADE", index=True
    )
    token_hash: str = Field(unique=True, max_length=128)
    created_by: str = Field(default="", max_length=254)
    created_at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)
    expires_at: datetime = Field(sa_type=UtcDateTime)
    used_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class AgentCertificate(SQLModel, table=True):
    """A certificate our agent CA signed. Outlives its cluster, to stay on the deny list.

    ``lineage`` is the serial of the one that a join token gave; ``parent`` the one that this one
    renewed. Unique, since a certificate can be renewed into one other only.
    """

    __tablename__: ClassVar[str] = "agent_certificates"

    serial: str = Field(primary_key=True, max_length=40)
    cluster_id: str = Field(index=True, max_length=36)
    lineage: str = Field(default="", index=True, max_length=40)
    parent: str | None = Field(default=None, unique=True, max_length=40)
    key_hash: str = Field(default="", max_length=64)
    certificate_pem: str = Field(default="", sa_type=Text)
    not_after: datetime = Field(sa_type=UtcDateTime)
    created_at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)
    revoked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    revoked_why: str = Field(default="", max_length=256)


class SigningKey(SQLModel, table=True):
    """An RSA key that signs, or has signed, access tokens."""

    __tablename__: ClassVar[str] = "signing_keys"

    kid: str = Field(primary_key=True, max_length=64)
    private_pem: str = Field(sa_type=Text)
    created_at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)
    retired_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class Meta(SQLModel, table=True):
    """Single facts: the policy version in ``counter``, the authorities in ``value``."""

    __tablename__: ClassVar[str] = "meta"

    key: str = Field(primary_key=True, max_length=64)
    value: str = Field(default="", sa_type=Text)
    counter: int = Field(default=0, sa_type=BigInteger)
