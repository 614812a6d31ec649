"""The tables of a fleet, beside those of the journal, and the connection of what hands out tasks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from importlib.resources import files
from typing import Any, Final, cast

import psycopg
from procrastinate import PsycopgConnector
from procrastinate.exceptions import ConnectorException
from psycopg.sql import SQL, Identifier

from ..errors import JournalError
from ..io.journal.postgres import PostgresDatabase
from ..io.postgres import connect, parameters, reason, unusable
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
log: logging.Logger = logging.getLogger(__name__)


class Engine(PsycopgConnector):
    """Procrastinate's connector; its loss of the LISTEN connection is an error, not a pause.

    Attributes:
        lost: whether it is lost.
    """

    def __init__(self, uri: Secret) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType] - its options are untyped
        self._uri = uri
        self.lost: asyncio.Event = asyncio.Event()

    async def listen_notify(self, on_notification: Any, channels: Iterable[str]) -> None:
        """Listen until the connection is lost.

        Raises:
            ConnectorException: it is.
        """
        try:
            async with await psycopg.AsyncConnection.connect(
                "", autocommit=True, **parameters(self._uri)
            ) as connection:
                for name in channels:
                    await connection.execute(SQL("LISTEN {}").format(Identifier(name)))
                await self._loop_notify(on_notification=on_notification, connection=connection)
        except psycopg.Error as error:
            log.debug("LISTEN: %s", type(error).__name__)
        self.lost.set()
        msg = "The connection that listens for new jobs was lost"
        raise ConnectorException(msg)


def is_fleet(uri: Secret) -> bool:
    """Tell whether a database has the tables of a fleet.

    Raises:
        JournalError: the database cannot be used.
    """
    problem: JournalError
    try:
        with connect(uri) as session:
            return session.execute("SELECT to_regclass('fleet')").fetchone() != (None,)
    except psycopg.Error as error:
        problem = unusable(uri, reason(error))
    raise problem


def migrate(uri: Secret) -> None:
    """Make the tables of journal, orders and tasks, or bring them up to date, whoever does so just now.

    Raises:
        JournalError: the database cannot be used, or is of a newer version.
    """
    journal = PostgresDatabase(uri.reveal(), account="", secret=None)
    journal.open()
    journal.close()
    engine = files("procrastinate.sql")
    steps = sorted(
        step.name for step in engine.joinpath("migrations").iterdir() if step.name.endswith(".sql")
    )
    problem: JournalError
    try:
        with connect(uri, lock_timeout=15_000, statement_timeout=15_000) as session:
            session.execute(f"BEGIN; SELECT pg_advisory_xact_lock({LOCKS}, 0)".encode())
            there = session.execute("SELECT to_regclass('fleet')").fetchone()
            if there == (None,):
                session.execute(_TABLES.encode())
                session.execute(engine.joinpath("schema.sql").read_bytes())
                session.execute("INSERT INTO fleet VALUES (%s, %s)", (VERSION, steps[-1]))
            (version, done) = cast(
                "tuple[int, str]", session.execute("SELECT version, engine FROM fleet").fetchone()
            )
            if version > VERSION:
                why = f"its version of the fleet is {version}, newer than {VERSION}"
                raise unusable(uri, why, "Update this library")
            for step in (step for step in steps if step > done):
                session.execute(engine.joinpath("migrations", step).read_bytes())
                session.execute("UPDATE fleet SET engine = %s", (step,))
            session.execute("COMMIT")
            return
    except psycopg.Error as error:
        problem = unusable(uri, reason(error))
    raise problem
