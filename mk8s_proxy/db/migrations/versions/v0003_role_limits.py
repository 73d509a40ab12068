"""What a role lets one person have open.

Revision: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them; the roles that exist say nothing of it."""
    with op.batch_alter_table("roles") as table:
        table.add_column(sa.Column("limits", sa.JSON(), nullable=False, server_default="{}"))
