"""The tables of the audit. Only its stores of this package and the migrations import them."""

from datetime import datetime
from typing import ClassVar

from sqlalchemy import BigInteger, Index, Text
from sqlmodel import Field, SQLModel

from mk8s_proxy.db.models import BIG_SERIAL, UtcDateTime

SEARCHED = (
    "user", "user_id", "cluster", "action", "resource", "namespace", "code", "denied",
)  # fmt: skip
"""Columns of the audit by each of which pages of it are found without a look at other rows."""


class AuditLog(SQLModel, table=True):
    """A request, from the rows of a journal, for searching.

    ``number`` is the next one of a counter whenever the row is written, in the order of the
    commits: readers that follow see each change once. ``action`` is the verb
    as roles name it. PostgreSQL wants column ``"user"`` quoted.
    """

    __tablename__: ClassVar[str] = "audit_logs"
    __table_args__: ClassVar[tuple[Index, ...]] = (
        Index("ix_audit_logs_created_at", "created_at", "id"),
        *(Index(f"ix_audit_logs_{name}", name, "created_at", "id") for name in SEARCHED),
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=BIG_SERIAL)
    number: int = Field(sa_type=BigInteger, unique=True, index=True)
    audit_id: str = Field(max_length=36, unique=True, index=True)
    stage: str = Field(max_length=32)
    created_at: datetime = Field(sa_type=UtcDateTime)
    user: str = Field(max_length=256)
    user_id: str = Field(max_length=64)
    cluster: str = Field(max_length=63)
    command: str = Field(sa_type=Text)
    status: str = Field(max_length=16)
    code: int
    duration_ms: float
    verb: str = Field(max_length=64)
    action: str = Field(max_length=64)
    api_group: str = Field(max_length=256)
    resource: str = Field(max_length=256)
    subresource: str = Field(max_length=64)
    namespace: str = Field(max_length=256)
    name: str = Field(max_length=512)
    denied: bool
    source_ip: str = Field(max_length=64)
    delegate: str = Field(default="", max_length=256)


class AuditEvent(SQLModel, table=True):
    """The whole row of the journal: apart, since searches go through a million of the others."""

    __tablename__: ClassVar[str] = "audit_events"

    log_id: int = Field(
        primary_key=True, sa_type=BIG_SERIAL, foreign_key="audit_logs.id", ondelete="CASCADE"
    )
    event: str = Field(sa_type=Text)


class AuditPosition(SQLModel, table=True):
    """How far a journal's file is shipped, in bytes; the file is named by its first row."""

    __tablename__: ClassVar[str] = "audit_positions"

    file: str = Field(primary_key=True, max_length=64)
    position: int = Field(sa_type=BigInteger)
    moved_at: datetime = Field(sa_type=UtcDateTime)
