"""The audit in the database: one row for each request, its whole row beside it, places in journals.

Nothing was ever written to the table of 0001, so it is made anew.

Revision: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

INDEXED = (
    "user", "user_id", "cluster", "action", "resource", "namespace", "code", "denied",
)


def upgrade() -> None:
    """Make them, and the counter by which readers follow."""
    op.drop_table("audit_logs")
    op.create_table(
        "audit_logs",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("audit_id", sa.String(length=36), nullable=False),
        sa.Column("stage", sa.String(length=32), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user", sa.String(length=256), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("cluster", sa.String(length=63), nullable=False),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("code", sa.Integer(), nullable=False),
        sa.Column("duration_ms", sa.Float(), nullable=False),
        sa.Column("verb", sa.String(length=64), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("api_group", sa.String(length=256), nullable=False),
        sa.Column("resource", sa.String(length=256), nullable=False),
        sa.Column("subresource", sa.String(length=64), nullable=False),
        sa.Column("namespace", sa.String(length=256), nullable=False),
        sa.Column("name", sa.String(length=512), nullable=False),
        sa.Column("denied", sa.Boolean(), nullable=False),
        sa.Column("source_ip", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_logs")),
    )
    op.create_index("ix_audit_logs_audit_id", "audit_logs", ["audit_id"], unique=True)
    op.create_index("ix_audit_logs_number", "audit_logs", ["number"], unique=True)
    op.create_index("ix_audit_logs_created_at", "audit_logs", ["created_at", "id"])
    for column in INDEXED:
        op.create_index(f"ix_audit_logs_{column}", "audit_logs", [column, "created_at", "id"])
    op.create_table(
        "audit_events",
        sa.Column("log_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["log_id"],
            ["audit_logs.id"],
            name=op.f("fk_audit_events_log_id_audit_logs"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("log_id", name=op.f("pk_audit_events")),
    )
    op.create_table(
        "audit_positions",
        sa.Column("file", sa.String(length=64), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("moved_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("file", name=op.f("pk_audit_positions")),
    )
    meta = sa.table("meta", sa.column("key"), sa.column("value"), sa.column("counter"))
    op.bulk_insert(meta, [{"key": "audit_logs", "value": "", "counter": 0}])
