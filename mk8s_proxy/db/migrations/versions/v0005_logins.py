"""Logins as rows, from what families of refresh tokens said; service tokens; first passwords.

Revision: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nobody is logged out: each family of refresh tokens becomes a login of its id."""
    _add_logins()
    _make_them_of_families()
    _leave_to_logins_what_is_theirs()
    _add_service_tokens()
    with op.batch_alter_table("users") as table:
        table.add_column(
            sa.Column("must_change_password", sa.Boolean(), nullable=False, server_default="0")
        )


def _add_logins() -> None:
    op.create_table(
        "logins",
        _text("id", 36),
        _text("subject", 36),
        _text("source", 32),
        _text("client", 256),
        _moment("opened_at"),
        _moment("last_seen"),
        _moment("ends_at"),
        _moment("ended_at", nullable=True),
        _text("ended_why", 64),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_logins")),
    )
    op.create_index(op.f("ix_logins_subject"), "logins", ["subject"])
    op.create_index(op.f("ix_logins_ends_at"), "logins", ["ends_at"])


def _make_them_of_families() -> None:
    columns = ("family_id", "user_id", "created_at", "used_at", "expires_at", "revoked_at")
    old = sa.table("refresh_tokens", *(sa.column(name) for name in columns)).c
    ended = sa.func.max(old.revoked_at)
    families = sa.select(
        old.family_id,
        sa.func.min(old.user_id),
        sa.literal("password"),
        sa.literal(""),
        sa.func.min(old.created_at),
        sa.func.max(sa.func.coalesce(old.used_at, old.created_at)),
        sa.func.max(old.expires_at),
        ended,
        sa.case((ended.is_(None), ""), else_="unknown"),
    ).group_by(old.family_id)
    names = (
        "id", "subject", "source", "client", "opened_at", "last_seen", "ends_at", "ended_at",
        "ended_why",
    )  # fmt: skip
    logins = sa.table("logins", *(sa.column(name) for name in names))
    op.execute(logins.insert().from_select(list(names), families))


def _leave_to_logins_what_is_theirs() -> None:
    op.drop_index(op.f("ix_refresh_tokens_user_id"), "refresh_tokens")
    op.drop_index(op.f("ix_refresh_tokens_family_id"), "refresh_tokens")
    with op.batch_alter_table("refresh_tokens") as table:
        table.drop_constraint(op.f("fk_refresh_tokens_user_id_users"), type_="foreignkey")
        for name in ("user_id", "expires_at", "revoked_at"):
            table.drop_column(name)
        table.alter_column("family_id", new_column_name="login_id")
    with op.batch_alter_table("refresh_tokens") as table:
        table.create_foreign_key(
            op.f("fk_refresh_tokens_login_id_logins"),
            "logins",
            ["login_id"],
            ["id"],
            ondelete="CASCADE",
        )
    op.create_index(op.f("ix_refresh_tokens_login_id"), "refresh_tokens", ["login_id"])


def _add_service_tokens() -> None:
    op.create_table(
        "service_tokens",
        _text("id", 36),
        _text("name", 63),
        sa.Column("clusters", sa.JSON(), nullable=False),
        _text("created_by", 254),
        _text("creator_id", 36),
        _moment("created_at"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_tokens")),
        sa.UniqueConstraint("name", name=op.f("uq_service_tokens_name")),
    )
    op.create_table(
        "service_token_roles",
        _text("token_id", 36),
        _text("role_id", 36),
        _reference("service_token_roles", "token_id", "service_tokens", "CASCADE"),
        _reference("service_token_roles", "role_id", "roles", "RESTRICT"),
        sa.PrimaryKeyConstraint("token_id", "role_id", name=op.f("pk_service_token_roles")),
    )
    op.create_index(op.f("ix_service_token_roles_role_id"), "service_token_roles", ["role_id"])
    op.create_table(
        "service_secrets",
        _text("login_id", 36),
        _text("token_id", 36),
        _text("secret_hash", 64),
        _reference("service_secrets", "login_id", "logins", "CASCADE"),
        _reference("service_secrets", "token_id", "service_tokens", "CASCADE"),
        sa.PrimaryKeyConstraint("login_id", name=op.f("pk_service_secrets")),
        sa.UniqueConstraint("secret_hash", name=op.f("uq_service_secrets_secret_hash")),
    )
    op.create_index(op.f("ix_service_secrets_token_id"), "service_secrets", ["token_id"])


def _text(name: str, length: int) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=length), nullable=False)


def _moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _reference(table: str, column: str, to: str, on_delete: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_{column}_{to}")
    return sa.ForeignKeyConstraint([column], [f"{to}.id"], name=name, ondelete=on_delete)
