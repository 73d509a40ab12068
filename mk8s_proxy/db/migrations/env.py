"""What alembic runs for every command; the connection comes from ``migrations.upgrade``."""

from alembic import context

import mk8s_proxy.db.audit_models  # noqa: F401 -- the other tables are known by import
from mk8s_proxy.db.models import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    # SQLite cannot alter a table in place; alembic copies it instead.
    render_as_batch=connection.dialect.name == "sqlite",
    transactional_ddl=True,
)
context.run_migrations()
