"""What a role lets one person have open.

Revision: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them; the roles that exist say nothing of it."""
    with op.batch_alter_table("roles") as table:
        table.add_column(sa.Column("limits", sa.JSON(), nullable=False, server_default="{}"))
