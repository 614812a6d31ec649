"""Connections to Postgres, and what to say when there is none: never what is in the URI or in a row."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import suppress
from typing import Any, Final, TypeAlias

import psycopg
from psycopg.conninfo import conninfo_to_dict

from ..errors import JournalError, UsageError
from ..sansio.http.secrets import Secret
from ..validators import without_password

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

SCHEMA: Final = "venice_async"
"""The schema of our tables, beside those of the user."""

HINT: Final = "Check the URI, the database and the way to it"

_REFUSALS: Final = {
    "password authentication failed": "the password is wrong",
    "no password supplied": "it wants a password",
    r'role ".*" does not exist': "it does not know the user",
    "no pg_hba.conf entry": "it does not take this user from here",
    r'database ".*" does not exist': "there is no such database",
    "could not translate host name": "its host is not known",
    "Name or service not known": "its host is not known",
    "too many clients": "it has no connection left for us",
    "connection slots": "it has no connection left for us",
}

# An @ too many, or one behind a /: a piece of the password would be taken for the host, and be shown.
_MISPLACED: Final = re.compile(r"[^:]*://(?:[^?@]*@[^?]*@|[^?@]*/[^?@]*@)")

_PATIENCE: Final = 10.0  # seconds until a session that was opened has to be of use

# A machine that is gone is noticed after 11 s, and so is a database that is.
_DEFAULTS: Final = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 2,
    "tcp_user_timeout": 11_000,
    "application_name": "venice-async",
    "client_encoding": "utf8",
}


def connect(uri: Secret, **settings: object) -> Connection:
    """Return a connection in which every statement is its own transaction, unless `BEGIN` says otherwise.

    Raises:
        UsageError: the URI makes no sense.
        psycopg.Error: there is none to be had.
    """
    connection: Connection = psycopg.connect("", autocommit=True, prepare_threshold=None, **parameters(uri))
    try:
        isolation = "'read committed'"  # whatever the database's default: locks are followed by new reads
        settings = {"search_path": SCHEMA, "default_transaction_isolation": isolation, **settings}
        giving_up = threading.Timer(_PATIENCE, cut, [connection])  # a pooler may have no session left
        giving_up.daemon = True
        giving_up.start()
        try:
            connection.execute(
                "; ".join(f"SET {name} = {value}" for name, value in settings.items()).encode()
            )
        finally:
            giving_up.cancel()
    except BaseException:
        connection.close()
        raise
    return connection


def reason(error: Exception) -> str:
    """Return what an error of Postgres says without values: they may be a link, or a password."""
    if isinstance(error, psycopg.OperationalError) and error.sqlstate is None:
        text = str(error)  # of a connection that was refused; it has no code
        return next(
            (said for sign, said in _REFUSALS.items() if re.search(sign, text)), "it cannot be reached"
        )
    if isinstance(error, psycopg.Error):
        known = {
            "42501": "the user may not make or use our tables",
            "25006": "it may only be read, as a replica may",
            "55P03": "another process keeps it locked",
            "08P01": "a pooler in between has no session for us; it has to be in session mode",
        }
        state = error.sqlstate or "?"
        return known.get(state, f"Postgres says {type(error).__name__} ({state})")
    return type(error).__name__


def unusable(uri: Secret, why: str, hint: str = HINT) -> JournalError:
    """Return the error that says why a database cannot be used."""
    return JournalError(f"The journal {without_password(uri.reveal())!r} cannot be used: {why}", hint=hint)


def cut(connection: Connection) -> None:
    """End a connection that another thread waits for."""
    with suppress(OSError, psycopg.Error), socket.socket(fileno=connection.fileno()) as borrowed:
        try:
            borrowed.shutdown(socket.SHUT_RDWR)
        finally:
            borrowed.detach()


def parameters(uri: Secret) -> dict[str, Any]:
    """Return what a connection is made with.

    Raises:
        UsageError: the URI makes no sense.
    """
    found: dict[str, Any] | None = None
    with suppress(psycopg.Error, UnicodeError):  # its words would show the URI
        found = dict(conninfo_to_dict(uri.reveal()))
    if found is None or _MISPLACED.match(uri.reveal()):
        msg = "The journal's URI of Postgres makes no sense"
        raise UsageError(
            msg,
            hint="Write postgresql://user:password@host/database, with %40 for an @ and %2F for a / within",
        )
    return {**_DEFAULTS, **found}
