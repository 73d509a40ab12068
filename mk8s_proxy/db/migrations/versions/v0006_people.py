"""What logins say of their source; groups, issuers' subjects, locks and rules of federation.

Revision: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Every login so far is one of a person or a service token, with no groups of its own."""
    _extend_logins()
    _add_groups()
    _add_issuers()
    _add_locks()
    _add_federation()
    with op.batch_alter_table("audit_logs") as table:
        table.add_column(_short("delegate", 256))


def _extend_logins() -> None:
    with op.batch_alter_table("logins") as table:
        lengths = {"issuer": 63, "address": 64, "label": 128, "narrowing": 4096, "parent": 36}
        for name, length in lengths.items():
            table.add_column(_short(name, length))
        for name, empty in {"groups": "[]", "claims": "{}"}.items():
            table.add_column(sa.Column(name, sa.JSON(), nullable=False, server_default=empty))
        table.create_index(op.f("ix_logins_parent"), ["parent"])


def _add_groups() -> None:
    op.create_table(
        "groups",
        _text("name", 256),
        _moment("created_at"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_groups")),
    )
    op.create_table(
        "group_roles",
        _text("group_name", 256),
        _text("role_id", 36),
        _reference("group_roles", "group_name", "groups.name", "CASCADE"),
        _reference("group_roles", "role_id", "roles.id", "RESTRICT"),
        sa.PrimaryKeyConstraint("group_name", "role_id", name=op.f("pk_group_roles")),
    )
    op.create_index(op.f("ix_group_roles_role_id"), "group_roles", ["role_id"])
    op.create_table(
        "group_members",
        _text("group_name", 256),
        _text("user_id", 36),
        _reference("group_members", "group_name", "groups.name", "CASCADE"),
        _reference("group_members", "user_id", "users.id", "CASCADE"),
        sa.PrimaryKeyConstraint("group_name", "user_id", name=op.f("pk_group_members")),
    )
    op.create_index(op.f("ix_group_members_user_id"), "group_members", ["user_id"])


def _add_issuers() -> None:
    op.create_table(
        "user_identities",
        _text("issuer", 256),
        _text("subject", 256),
        _text("user_id", 36),
        _moment("created_at"),
        _moment("last_used"),
        _reference("user_identities", "user_id", "users.id", "CASCADE"),
        sa.PrimaryKeyConstraint("issuer", "subject", name=op.f("pk_user_identities")),
    )
    op.create_index(op.f("ix_user_identities_user_id"), "user_identities", ["user_id"])
    op.create_table(
        "upstream_tokens",
        _text("login_id", 36),
        sa.Column("sealed", sa.Text(), nullable=False),
        _reference("upstream_tokens", "login_id", "logins.id", "CASCADE"),
        sa.PrimaryKeyConstraint("login_id", name=op.f("pk_upstream_tokens")),
    )
    op.create_table(
        "pending_logins",
        _text("id", 64),
        _text("kind", 16),
        sa.Column("user_code", sa.String(length=16), nullable=True),
        sa.Column("state", sa.JSON(), nullable=False),
        _moment("expires_at"),
        _moment("used_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pending_logins")),
        sa.UniqueConstraint("user_code", name=op.f("uq_pending_logins_user_code")),
    )
    op.create_index(op.f("ix_pending_logins_expires_at"), "pending_logins", ["expires_at"])


def _add_locks() -> None:
    op.create_table(
        "locks",
        _text("id", 36),
        _text("kind", 16),
        _text("target", 256),
        _text("reason", 512),
        _text("created_by", 254),
        _moment("created_at"),
        _moment("ends_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_locks")),
    )


def _add_federation() -> None:
    op.create_table(
        "federation_rules",
        _text("name", 63),
        _text("issuer", 63),
        sa.Column("claims", sa.JSON(), nullable=False),
        sa.Column("seconds", sa.Integer(), nullable=False),
        _moment("created_at"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_federation_rules")),
    )
    op.create_table(
        "federation_rule_roles",
        _text("rule_name", 63),
        _text("role_id", 36),
        _reference("federation_rule_roles", "rule_name", "federation_rules.name", "CASCADE"),
        _reference("federation_rule_roles", "role_id", "roles.id", "RESTRICT"),
        sa.PrimaryKeyConstraint("rule_name", "role_id", name=op.f("pk_federation_rule_roles")),
    )
    op.create_index(op.f("ix_federation_rule_roles_role_id"), "federation_rule_roles", ["role_id"])


def _text(name: str, length: int) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=length), nullable=False)


def _short(name: str, length: int) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=length), nullable=False, server_default="")


def _moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _reference(table: str, column: str, to: str, on_delete: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_{column}_{to.partition('.')[0]}")
    return sa.ForeignKeyConstraint([column], [to], name=name, ondelete=on_delete)
