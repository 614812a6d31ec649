"""What a shell completes beyond commands and options: models by the catalogue, and jobs by the journal.

A shell waits for the answer, so a catalogue is kept for a day, and is asked for two seconds at most. Whatever
goes wrong, nothing is offered.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, cast

import anyio
from cyclopts import Parameter

from ..errors import VeniceError
from ..io.journal.history import Wanted
from .options import Access
from .session import open_journal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cyclopts.completion import CompletionContext

    from ..io.journal.entries import JournalEntry

_DAY: Final = 24 * 3600.0
_ABOUT: Final = 60  # characters of a description
_LATEST: Final = 500  # jobs of which keys are offered
_PATIENCE: Final = 2.0  # seconds that a person waits for after a key press


def models(context: CompletionContext) -> dict[str, str]:
    """Return the ids of models, each with what it is for."""
    access = _access(context)
    if access.sandbox:
        from ..sandbox import CATALOGUE  # noqa: PLC0415 - for those who ask for it

        return {model.id: model.kind for model in CATALOGUE}
    said = os.environ.get("XDG_CACHE_HOME", "")
    try:
        folder = Path(said) if said.startswith("/") else Path.home() / ".cache"
        path = folder / "venice-async" / f"models-{access.host}.json"
    except (RuntimeError, VeniceError):  # no home folder, or a base URL that is none
        return anyio.run(_ask, access)
    kept: object = None
    age = _DAY
    with suppress(OSError, ValueError):
        kept, age = json.loads(path.read_text(encoding="utf-8")), time.time() - path.stat().st_mtime
    known = cast("dict[str, str]", kept) if isinstance(kept, dict) else {}
    if known and age < _DAY:
        return known
    if found := anyio.run(_ask, access):
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(found), encoding="utf-8")
    return found or known


async def _ask(access: Access) -> dict[str, str]:
    from ..client import VeniceClient  # noqa: PLC0415 - the network is loaded by those who use it

    with suppress(VeniceError), anyio.move_on_after(_PATIENCE):
        async with VeniceClient(base_url=access.url) as venice:
            return {model.id: model.model_type for model in await venice.models() if not model.offline}
    return {}


def jobs(context: CompletionContext) -> dict[str, str]:
    """Return the ids of unfinished jobs, each with its key and prompt."""
    found: dict[str, str] = {}
    for entry in anyio.run(_entries, _access(context), None):
        about = ": ".join(filter(None, (entry.name, _prompt(entry))))
        found[entry.ticket.queue_id if entry.ticket else entry.id] = about[:_ABOUT]
    return found


def keys(context: CompletionContext) -> dict[str, str]:
    """Return the keys of the latest jobs, each with its prompt."""
    entries = anyio.run(_entries, _access(context), _LATEST)
    return {entry.name: _prompt(entry)[:_ABOUT] for entry in entries if entry.name}


async def _entries(access: Access, latest: int | None) -> Sequence[JournalEntry]:
    """Return the latest jobs, or those that are unfinished and worked on by nobody."""
    with suppress(VeniceError):
        async with open_journal(access.journal_path) as journal:
            if journal is not None:
                return await (journal.pending() if latest is None else journal.history(Wanted(limit=latest)))
    return ()


def _access(context: CompletionContext) -> Access:
    base_url, journal, sandbox = (context.get(name) for name in ("--base-url", "--journal", "--sandbox"))
    return Access(
        base_url=None if base_url is None else base_url.raw,
        journal=None if journal is None else journal.raw,
        sandbox=sandbox is not None and sandbox.provided,
    )


def _prompt(entry: JournalEntry) -> str:
    return " ".join(((entry.request and entry.request.prompt) or "").split())


JOBS: Final = Parameter(completer=jobs)
KEYS: Final = Parameter(completer=keys)
Model = Annotated[str, Parameter(name=["--model", "-m"], metavar="ID", completer=models)]
