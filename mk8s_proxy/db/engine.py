"""The connection to SQLite or PostgreSQL. Made once by ``app`` or a command, given to the stores.

Reading and writing are two doors. On SQLite a transaction that begins by reading cannot always
become a writing one (SQLITE_BUSY_SNAPSHOT, which no timeout heals), so writers say so at the
start with BEGIN IMMEDIATE and then wait for each other. On PostgreSQL readers get one snapshot
for all their statements (REPEATABLE READ), so that several tables are read as of one moment.

Nothing here waits for ever: a database that is frozen, or reached through a dead network, is an
outage after some seconds. A SQLite file that somebody removes or replaces is one at once, since
what is written into it would be lost.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import event, make_url, text
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import ArgumentError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from mk8s_proxy.db.errors import StoreError
from mk8s_proxy.db.sealing import Vault

SQLITE_BUSY_SECONDS = 10
"""How long a SQLite writer waits for another process's transaction."""
POOL_SIZE = 5
POOL_OVERFLOW = 10
CONNECT_SECONDS = 5
READ_SECONDS = 5.0
"""For everything that is read in one session, the wait for a connection included."""
WRITE_SECONDS = SQLITE_BUSY_SECONDS + 5.0
_WRITE_MILLISECONDS = int(WRITE_SECONDS * 1000)
"""For a whole transaction; writers wait for each other."""

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
}


WAYS_IN: Final = "ways in"
"""Under which each session that writes has its database's `WaysIn` in its `info`."""


@dataclass(frozen=True, slots=True)
class WaysIn:
    """How people log in, as the settings say: what must leave an administrator goes by it."""

    passwords: bool = True
    issuers: frozenset[str] | None = None
    """The names of those that vouch for people; None for any."""


class DatabaseUnavailable(StoreError):
    """The database cannot be reached, or its URL cannot be used."""


def parse_database_url(url: str) -> URL:
    """Read a database URL and choose the asynchronous driver that mk8s is tested with.

    Raises:
        DatabaseUnavailable: it is no URL, or names another database.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise DatabaseUnavailable("database_url is not a URL like postgresql://...") from None
    kind = parsed.drivername.partition("+")[0]
    if kind not in _DRIVERS:
        raise DatabaseUnavailable(
            f'database_url: "{parsed.drivername}" is not supported; use sqlite or postgresql'
        )
    if kind == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise DatabaseUnavailable(
            "database_url: SQLite needs a file, as in sqlite:////var/lib/x.db"
        )
    return parsed.set(drivername=_DRIVERS[kind])


def shown_url(url: str) -> str:
    """A URL without password and driver, for people. Raises :class:`DatabaseUnavailable`."""
    parsed = parse_database_url(url)
    parsed = parsed.set(drivername=parsed.get_backend_name())
    return parsed.difference_update_query(["password"]).render_as_string(hide_password=True)


class Database:
    """One pool of connections.

    ``url`` is what was configured; never print it, it may hold a password (``__repr__`` hides it).
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.vault = Vault()
        """What opens the secrets in it; without a key until `process.vault` gives one."""
        self.ways_in = WaysIn()
        """Of the settings; `app` gives it."""
        self._url = parse_database_url(url)
        self._engine: AsyncEngine | None = None
        self._file: tuple[int, int] | None = None

    def __repr__(self) -> str:
        return f"<Database {shown_url(self.url)}>"

    @property
    def is_sqlite(self) -> bool:
        """Whether this is the embedded database."""
        return self._url.get_backend_name() == "sqlite"

    @property
    def intact(self) -> bool:
        """Whether the SQLite file is still the one that was opened; another database always is."""
        return self._file is None or self._file == _file_identity(self._path)

    @property
    def _path(self) -> Path:
        return Path(self._url.database or "")

    async def start(self) -> None:
        """Open the pool and prove with one query that the database answers.

        Raises:
            DatabaseUnavailable: it does not.
        """
        if self._engine is not None:
            return
        self._engine = self._make_engine()
        try:
            async with asyncio.timeout(WRITE_SECONDS), self._engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
        except (SQLAlchemyError, OSError) as error:  # TimeoutError is an OSError
            await self.close()
            reason = first_line(error) or "it took too long"
            raise DatabaseUnavailable(f"{self!r} does not answer: {reason}") from error
        if self.is_sqlite:
            self._file = _file_identity(self._path)

    async def close(self) -> None:
        """Close every connection; the database can be started again."""
        engine, self._engine = self._engine, None
        self._file = None
        if engine is not None:
            await engine.dispose()

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """A session that only reads, as of one moment. Raises :class:`DatabaseUnavailable`."""
        with _outages():
            async with (
                asyncio.timeout(READ_SECONDS),
                AsyncSession(self._reading(), expire_on_commit=False) as session,
            ):
                yield session

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """A session that writes: committed when the block ends, rolled back when it raises.

        Raises:
            DatabaseUnavailable: the database does not answer; the change may or may not be there
                when the connection broke during the commit.
        """
        info = {WAYS_IN: self.ways_in}
        with _outages():
            async with (
                asyncio.timeout(WRITE_SECONDS),
                AsyncSession(self._writing(), expire_on_commit=False, info=info) as session,
                session.begin(),
            ):
                yield session

    def _make_engine(self) -> AsyncEngine:
        if not self.is_sqlite:
            engine = create_async_engine(
                self._url,
                pool_size=POOL_SIZE,
                max_overflow=POOL_OVERFLOW,
                pool_timeout=READ_SECONDS,
                pool_pre_ping=True,
                connect_args={
                    "connect_timeout": CONNECT_SECONDS,
                    "keepalives_idle": 15,  # seconds; balancers forget a silent one after 60
                    "keepalives_interval": 10,
                    "keepalives_count": 3,
                    # PgBouncer before 1.21 gives a transaction any session, prepared or not
                    "prepare_threshold": None,
                },
            )
            event.listen(engine.sync_engine, "begin", _begin_postgresql)
            return engine
        private_file(self._path)
        engine = create_async_engine(self._url, connect_args={"timeout": SQLITE_BUSY_SECONDS})
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
        return engine

    def _started(self) -> AsyncEngine:
        if self._engine is None:
            raise RuntimeError("Database.start() was not awaited")
        if not self.intact:
            raise DatabaseUnavailable(
                f"the file {self._path} was removed or replaced under us: put it back, or restart "
                "central to use what is there now"
            )
        return self._engine

    def _reading(self) -> AsyncEngine:
        engine = self._started()
        return (
            engine
            if self.is_sqlite
            else engine.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
        )

    def _writing(self) -> AsyncEngine:
        return self._started().execution_options(mk8s_begin="BEGIN IMMEDIATE")


@contextmanager
def _outages() -> Iterator[None]:
    """Let callers know outages without knowing the drivers; constraint errors pass unchanged."""
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeoutError) as error:
        raise DatabaseUnavailable(f"the database failed: {first_line(error)}") from error
    except TimeoutError as error:
        raise DatabaseUnavailable("the database does not answer in time") from error


def _file_identity(path: Path) -> tuple[int, int] | None:
    """Which file a path names; None when there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if status.st_nlink else None


def private_file(path: Path) -> None:
    """Create the SQLite file readable by its owner only: it holds signing keys.

    Raises:
        DatabaseUnavailable: the folder cannot be used.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600, exist_ok=True)
    except OSError as error:
        raise DatabaseUnavailable(f"cannot write {path}: {error.strerror}") from error


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver must not begin transactions of its own; _begin_sqlite does, and says which kind.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute(f"PRAGMA busy_timeout={SQLITE_BUSY_SECONDS * 1000}")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _begin_postgresql(connection: Connection) -> None:
    """What we gave up does not go on there, and holds no lock.

    Told in each transaction: PgBouncer takes no such options at a connection's start, and the next
    transaction may have another session (https://www.pgbouncer.org/features.html).
    """
    connection.exec_driver_sql(
        f"SELECT set_config('statement_timeout', '{_WRITE_MILLISECONDS}', true), "
        f"set_config('idle_in_transaction_session_timeout', '{_WRITE_MILLISECONDS}', true)"
    )


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("mk8s_begin", "BEGIN"))


def first_line(error: BaseException) -> str:
    """The first line of a driver's complaint: its later lines repeat statements and values."""
    cause = getattr(error, "orig", None) or error
    return str(cause).strip().partition("\n")[0]
