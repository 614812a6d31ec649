"""What a shell completes beyond commands and options: models by the catalogue, and jobs by the journal.

A shell waits for the answer, so a catalogue is kept for a day, and is asked for two seconds at most. Whatever
goes wrong, nothing is offered.
"""

from __future__ import annotations

import json
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

import anyio
from cyclopts import Parameter

from ..errors import VeniceError
from .options import Connection, Journalling
from .session import journal_path, open_journal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cyclopts.completion import CompletionContext

    from ..io.journal.entries import JournalEntry

_DAY: Final = 24 * 3600.0
_PATIENCE: Final = 2.0  # seconds that a person waits for after a key press


def models(context: CompletionContext) -> dict[str, str]:
    """Return the ids of models, each with what it is for."""
    connection = _connection(context)
    if connection.sandbox:
        from ..sandbox import CATALOGUE  # noqa: PLC0415 - for those who ask for it

        return {model.id: model.kind for model in CATALOGUE}
    path = _cache(connection)
    known, fresh = _read(path)
    if not fresh:
        known = anyio.run(_ask, connection) or known
        if path is not None and known:
            with suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(known), encoding="utf-8")
    return known


def jobs(context: CompletionContext) -> dict[str, str]:
    """Return the ids of unfinished jobs, each with its key or prompt."""
    given = context.get("--journal")
    journal = given.raw if given is not None else None
    return anyio.run(_unfinished, _connection(context), Journalling(journal=journal))


def _connection(context: CompletionContext) -> Connection:
    base_url, sandbox = context.get("--base-url"), context.get("--sandbox")
    return Connection(
        base_url=base_url.raw if base_url is not None else None,
        sandbox=sandbox is not None and sandbox.provided,
    )


async def _ask(connection: Connection) -> dict[str, str]:
    from ..client import VeniceClient  # noqa: PLC0415 - the network is loaded by those who use it

    try:
        with anyio.move_on_after(_PATIENCE):
            async with VeniceClient(base_url=connection.url) as venice:
                return {model.id: model.model_type for model in await venice.models() if not model.offline}
    except VeniceError:
        pass
    return {}


async def _unfinished(connection: Connection, journalling: Journalling) -> dict[str, str]:
    try:
        async with open_journal(journal_path(connection, journalling)) as journal:
            entries: Sequence[JournalEntry] = () if journal is None else await journal.pending()
    except VeniceError:
        return {}
    found: dict[str, str] = {}
    for entry in entries:
        prompt = entry.request.prompt if entry.request else None
        found[entry.ticket.queue_id if entry.ticket else entry.id] = " ".join((prompt or "").split())[:60]
    return found


def _cache(connection: Connection) -> Path | None:
    said = os.environ.get("XDG_CACHE_HOME", "")
    try:
        folder = Path(said) if said.startswith("/") else Path.home() / ".cache"
        place = re.sub(r"[^A-Za-z0-9.]+", "-", connection.parts.netloc.rpartition("@")[2])
    except (RuntimeError, VeniceError):
        return None
    return folder / "venice-async" / f"models-{place}.json"


def _read(path: Path | None) -> tuple[dict[str, str], bool]:
    """Return the models that are kept, and whether they are of today."""
    if path is None:
        return {}, False
    try:
        known: object = json.loads(path.read_text(encoding="utf-8"))
        age = time.time() - path.stat().st_mtime
    except (OSError, ValueError):
        return {}, False
    if not isinstance(known, dict):
        return {}, False
    items = cast("dict[str, Any]", known).items()
    return {name: str(kind) for name, kind in items}, age < _DAY


JOBS: Final = Parameter(completer=jobs)
Model = Annotated[str, Parameter(name=["--model", "-m"], metavar="ID", completer=models)]
