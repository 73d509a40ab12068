"""Ended tokens, the descent of agents' certificates, and the sources of logins.

Revision: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them; each certificate that exists begins a lineage of its own."""
    _add_tables()
    with op.batch_alter_table("clusters") as table:
        table.add_column(_text("alert", 512))
    with op.batch_alter_table("agent_certificates") as table:
        table.add_column(_text("lineage", 40))
        table.add_column(sa.Column("parent", sa.String(length=40), nullable=True))
        table.add_column(_text("key_hash", 64))
        table.add_column(sa.Column("certificate_pem", sa.Text(), nullable=False, server_default=""))
        table.add_column(_text("revoked_why", 256))
        table.create_unique_constraint(op.f("uq_agent_certificates_parent"), ["parent"])
    certificates = sa.table("agent_certificates", sa.column("serial"), sa.column("lineage"))
    op.execute(certificates.update().values(lineage=certificates.c.serial))
    op.create_index(op.f("ix_agent_certificates_lineage"), "agent_certificates", ["lineage"])
    meta = sa.table("meta", sa.column("key"), sa.column("value"), sa.column("counter"))
    op.bulk_insert(meta, [{"key": "ended_tokens", "value": "", "counter": 0}])


def _add_tables() -> None:
    op.create_table(
        "ended_tokens",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ended_tokens")),
    )
    op.create_index(op.f("ix_ended_tokens_number"), "ended_tokens", ["number"])
    op.create_index(op.f("ix_ended_tokens_expires_at"), "ended_tokens", ["expires_at"])
    op.create_table(
        "login_sources",
        sa.Column("user_id", sa.String(length=36), nullable=False),
        sa.Column("source_hash", sa.String(length=64), nullable=False),
        sa.Column("last_used", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
            name=op.f("fk_login_sources_user_id_users"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("user_id", "source_hash", name=op.f("pk_login_sources")),
    )


def _text(name: str, length: int) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=length), nullable=False, server_default="")
