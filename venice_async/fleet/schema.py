"""The tables of a fleet, beside those of the journal."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from importlib.resources import files
from typing import Final

import psycopg

from ..io.journal.postgres import PostgresDatabase, explained
from ..io.postgres import Connection, connect, unusable
from ..sansio.http.secrets import Secret

VERSION: Final = 1
LOCKS: Final = 0x564E46  # the class of our advisory locks: 0 for the schema, 1 for the janitor

_TABLES: Final = """
CREATE TABLE fleet (version integer NOT NULL, engine text NOT NULL);
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account text NOT NULL,
    key text NOT NULL, queue text NOT NULL, request text NOT NULL, body text, identity text NOT NULL,
    destination text NOT NULL, overwrite boolean NOT NULL, max_usd float8, priority integer NOT NULL,
    tags text NOT NULL, budget text, budget_usd float8, usd float8,
    created timestamptz NOT NULL DEFAULT now(), started timestamptz,
    updated timestamptz NOT NULL DEFAULT now(), ended timestamptz, kind text NOT NULL DEFAULT 'Submitted',
    state text, entry text,
    cancel boolean NOT NULL DEFAULT false, question text, answer text, UNIQUE (account, key));
CREATE INDEX orders_under_way ON orders (id) WHERE ended IS NULL;
CREATE INDEX orders_by_budget ON orders (budget) WHERE budget IS NOT NULL;
CREATE INDEX orders_unknown ON orders (entry) WHERE ended IS NOT NULL AND body IS NOT NULL;
"""


def is_fleet(uri: Secret) -> bool:
    """Tell whether a database has the tables of a fleet.

    Raises:
        JournalError: the database cannot be used.
    """
    with _connected(uri) as session:
        return _has_tables(session)


def migrate(uri: Secret) -> None:
    """Make the tables of journal, orders and tasks, or bring them up to date; several processes may at once.

    Raises:
        JournalError: the database cannot be used, or is of a newer version.
    """
    engine = files("procrastinate.sql")
    names = (step.name for step in engine.joinpath("migrations").iterdir())
    steps = sorted(name for name in names if name.endswith(".sql"))
    with _connected(uri, lock_timeout=15_000, statement_timeout=15_000) as session:
        journal = PostgresDatabase(uri.reveal())
        journal.open()
        journal.close()
        session.execute(f"BEGIN; SELECT pg_advisory_xact_lock({LOCKS}, 0)".encode())
        if not _has_tables(session):
            session.execute(_TABLES.encode())
            session.execute(engine.joinpath("schema.sql").read_bytes())
            session.execute("INSERT INTO fleet VALUES (%s, %s)", (VERSION, steps[-1]))
        ((version, done),) = session.execute("SELECT version, engine FROM fleet").fetchall()
        if version > VERSION:
            why = f"its version of the fleet is {version}, newer than {VERSION}"
            raise unusable(uri, why, "Update this library")
        for step in (step for step in steps if step > done):
            session.execute(engine.joinpath("migrations", step).read_bytes())
            session.execute("UPDATE fleet SET engine = %s", (step,))
        session.execute("COMMIT")


def _has_tables(session: Connection) -> bool:
    return session.execute("SELECT to_regclass('fleet')").fetchone() != (None,)


@contextmanager
def _connected(uri: Secret, **settings: object) -> Generator[Connection]:
    try:
        with connect(uri, **settings) as session:
            yield session
    except psycopg.Error as error:
        raise explained(uri, error) from None
