"""A real PostgreSQL for tests, made in a temporary folder and thrown away at the end.

`postgres_server` (opened by tests/proxy/conftest.py) is started once per run, on a free loopback
port, from the distribution's binaries; without them its tests are skipped with that reason.
PostgreSQL refuses to run as root, so for root it runs as "postgres" or "nobody".
"""

import dataclasses
import getpass
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.support.processes import own_port

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
UNPRIVILEGED = ("postgres", "nobody")
QUICK = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=60"


@dataclasses.dataclass(frozen=True)
class PostgresServer:
    """A running server, trusting whoever connects from this machine."""

    port: int
    numbers: Iterator[int] = dataclasses.field(default_factory=itertools.count)

    def url(self, database: str) -> str:
        return f"postgresql://mk8s@127.0.0.1:{self.port}/{database}"

    def create(self, template: str = "template1") -> str:
        """Make an empty database, or a copy of one, and return its name."""
        name = f"test_{next(self.numbers)}"
        self._run(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return name

    def drop(self, name: str) -> None:
        self._run(f'DROP DATABASE "{name}" WITH (FORCE)')

    def _run(self, statement: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """A server for the length of a block, of a test run or a benchmark."""
    binaries = _binaries()
    folder = Path(tempfile.mkdtemp(prefix="mk8s-postgres-"))
    user = _user()
    if user is not None:
        shutil.chown(folder, user)
    try:
        data = folder / "data"
        initdb = ["initdb", "-D", str(data), "-U", "mk8s", "-A", "trust", "-N", "-E", "UTF8"]
        _run(binaries, [*initdb, "--locale=C.UTF-8"], user, folder)
        port = own_port()
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 {QUICK}"
        start = ["pg_ctl", "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options]
        _run(binaries, [*start, "start"], user, folder)
        try:
            yield PostgresServer(port)
        finally:
            stop = ["pg_ctl", "-D", str(data), "-w", "-m", "immediate", "stop"]
            _run(binaries, stop, user, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _binaries() -> Path:
    for folder in BINARIES:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    found = shutil.which("initdb")
    if found is None:
        pytest.skip("PostgreSQL's initdb is not installed (package postgresql)")
    return Path(found).parent


def _user() -> str | None:
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    for name in UNPRIVILEGED:
        if name in known:
            return name
    pytest.skip("PostgreSQL does not run as root, and there is no user postgres or nobody")


def _run(binaries: Path, command: list[str], user: str | None, folder: Path) -> None:
    # A file, since the server that pg_ctl leaves behind would keep a pipe open for ever.
    with (folder / "output").open("w+") as output:
        group = pwd.getpwnam(user or getpass.getuser()).pw_gid
        result = subprocess.run(
            [binaries / command[0], *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            user=user,
            group=group if user else None,
            extra_groups=[] if user else None,
        )
        output.seek(0)
        assert result.returncode == 0, output.read()
