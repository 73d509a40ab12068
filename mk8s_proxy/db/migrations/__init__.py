"""The schema's history, by alembic. Called by ``migrate``, ``init`` and ``serve``.

:func:`upgrade` brings a database to the newest revision, :func:`pending` tells whether that is
needed. Both are synchronous and open a connection of their own: they run before the event loop,
or in a thread beside it. Several processes may upgrade at once; they wait for each other.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from mk8s_proxy.db.engine import (
    CONNECT_SECONDS,
    SQLITE_BUSY_SECONDS,
    DatabaseUnavailable,
    first_line,
    parse_database_url,
    private_file,
    shown_url,
)

_ADVISORY_LOCK = 0x6D6B3873
"""Any number no other program locks in this database: "mk8s" in ASCII."""
_SETUP_LOCK = _ADVISORY_LOCK + 1
_PATIENCE_SECONDS = 120
"""How long a second ``init`` waits for the first, where somebody may be typing a password."""


def head_revision() -> str:
    """The revision that this version of the program needs."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


def current_revision(url: str) -> str | None:
    """The revision of a database; None when it is empty or, with SQLite, not there yet.

    Raises:
        DatabaseUnavailable: it does not answer.
    """
    parsed = parse_database_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").exists():
        return None
    try:
        with _engine(url).connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    except SQLAlchemyError as error:
        raise _unavailable(url, error) from error


def pending(url: str) -> bool:
    """Whether the database needs :func:`upgrade` before this program can use it."""
    return current_revision(url) != head_revision()


def upgrade(url: str) -> tuple[str | None, str]:
    """Bring a database to the newest revision. Returns the revisions before and after.

    Raises:
        DatabaseUnavailable: it does not answer, or was made by a newer version of mk8s.
    """
    try:
        with _engine(url).begin() as connection:
            _wait_for_others(connection)
            before = MigrationContext.configure(connection).get_current_revision()
            _refuse_newer(before)
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except SQLAlchemyError as error:
        raise _unavailable(url, error) from error
    return before, head_revision()


@contextmanager
def exclusive(url: str) -> Iterator[None]:
    """Be the only one who sets up this database: a second one waits until the first is done.

    Raises:
        DatabaseUnavailable: it does not answer, or the other one takes too long.
    """
    parsed = parse_database_url(url)
    if parsed.get_backend_name() == "sqlite":
        with _locked_folder(Path(parsed.database or "").parent):
            yield
        return
    with ExitStack() as stack:
        try:
            connection = stack.enter_context(_engine(url).connect())
            connection.execute(text(f"SET lock_timeout = '{_PATIENCE_SECONDS}s'"))
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _SETUP_LOCK})
        except SQLAlchemyError as error:
            raise _unavailable(url, error) from error
        yield


@contextmanager
def _locked_folder(folder: Path) -> Iterator[None]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not _locked(descriptor):
            if time.monotonic() > deadline:
                raise DatabaseUnavailable(f"another mk8s-central init is at work in {folder}")
            time.sleep(0.1)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    return config


def _engine(url: str) -> Engine:
    parsed = parse_database_url(url)
    if parsed.get_backend_name() == "sqlite":
        private_file(Path(parsed.database or ""))
        return create_engine(
            parsed.set(drivername="sqlite"),
            poolclass=NullPool,
            connect_args={"timeout": SQLITE_BUSY_SECONDS},
        )
    return create_engine(
        parsed,
        poolclass=NullPool,
        # no prepared statements: PgBouncer before 1.21 gives a transaction any session
        connect_args={"connect_timeout": CONNECT_SECONDS, "prepare_threshold": None},
    )


def _wait_for_others(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
    else:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _refuse_newer(revision: str | None) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if revision is not None and revision not in known:
        raise DatabaseUnavailable(
            f'the database is at revision "{revision}", which this version of mk8s-central does '
            "not know; run a version at least as new as the one that made it"
        )


def _unavailable(url: str, error: SQLAlchemyError) -> DatabaseUnavailable:
    return DatabaseUnavailable(
        f"the database {shown_url(url)} does not answer: {first_line(error)}"
    )
