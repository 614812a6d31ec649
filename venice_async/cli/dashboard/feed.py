"""What the page is told: rows of a journal, numbered as they change, so that news are what came since."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio
from attrs import define, frozen

from ...errors import JournalError
from ...options import Budget
from .rows import gauges, loaded, row_of, spend_since, spending, typical_seconds

if TYPE_CHECKING:
    from ...io.journal.entries import Look, Mark
    from ...io.journal.history import Paid
    from ...io.journal.journal import Journal
    from ...requests import Consent

MOST: Final = 5_000  # ended jobs that are shown, the newest
PAUSE: Final = 1.0  # seconds between two looks


class Questions(Protocol):
    """Where questions of consent wait for a person."""

    async def questions(self) -> list[dict[str, Any]]:
        """Return those that nobody has answered: key, prompt, about, policy, docs, statements."""
        ...

    async def answer(self, key: str, consent: Consent | None) -> bool:
        """Answer one, with None for no; tell whether it still waited."""
        ...


@frozen
class News:
    """What changed since a number: an event's id and its data as JSON."""

    id: str
    text: str


@define
class _Row:
    number: int
    text: str
    file: Path | None


class Feed:
    """The rows of a journal, looked at once a second as long as somebody listens.

    Attributes:
        trouble: why the journal cannot be read at present; None when it can.
        questions: where questions of consent wait; None where they do not.

    Args:
        journal: whose jobs are shown.
        place: what it is called.
        questions: see above.
        workers: adds to the processes that have jobs those that wait for some, and what waits for them.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        place: str,
        questions: Questions | None = None,
        workers: Callable[[list[dict[str, Any]]], Awaitable[dict[str, Any]]] | None = None,
    ) -> None:
        self.trouble: str | None = None
        self.questions: Questions | None = questions
        self._journal = journal
        self._workers = workers
        self._run = secrets.token_hex(4)  # numbers of another run mean nothing here
        self._number = 0
        self._rows: dict[str, _Row] = {}
        self._gone: dict[str, int] = {}
        self._facts: dict[str, Any] = {"title": "Jobs", "place": place}
        self._facts_text = ""
        self._marks: Mapping[str, Mark] = {}
        self._typical: dict[str, float] = {}
        self._paid: list[Paid] = []
        self._listeners = 0
        self._listened = asyncio.Event()
        self._changed = asyncio.Event()

    def file(self, job: str) -> Path | None:
        """Return the clip that the journal names for a job."""
        row = self._rows.get(job)
        return None if row is None else row.file

    async def keep_looking(self) -> None:
        """Look once a second, as long as somebody listens."""
        while True:
            await self._listened.wait()
            try:
                await self.look()
                self.trouble = None
            except JournalError as error:
                self.trouble = error.message
                self.tell()
            await anyio.sleep(PAUSE)

    async def look(self) -> None:
        """Take in what changed in the journal."""
        look = await self._journal.watch(self._marks, most=MOST)
        made, facts = await anyio.to_thread.run_sync(self._made, look)
        if look.changed or look.gone or not self._number:
            self._paid = await self._journal.paid(spend_since(time.time()))
        facts["spend"] = spending(self._paid, Budget.of_environment(), time.time())
        if self.questions is not None:
            facts["questions"] = await self.questions.questions()
        if self._workers is not None:
            facts |= await self._workers(facts["owners"])
        self._marks = look.marks
        text = json.dumps(facts)
        if not (made or look.gone or text != self._facts_text):
            return
        self._number += 1
        self._facts_text = text
        self._facts = {**self._facts, **facts}
        for name, row, file in made:
            self._gone.pop(name, None)
            self._rows[name] = _Row(self._number, json.dumps(row), file)
        for name in look.gone:
            self._rows.pop(name, None)
            self._gone[name] = self._number
        self.tell()

    def news(self, after: str) -> News | None:
        """Return what came after an event of that id, or everything; None when nothing did."""
        run, _, number = after.partition("-")
        since = int(number) if run == self._run and number.isdigit() else -1
        if since == self._number or not self._number:
            return None
        rows = ",".join(row.text for row in self._rows.values() if row.number > since)
        gone = [name for name, number in self._gone.items() if number > since]
        facts = json.dumps({**self._facts, "gone": gone, "whole": since < 0})
        return News(f"{self._run}-{self._number}", f'{facts[:-1]}, "rows": [{rows}]}}')

    async def changed(self, within: float) -> None:
        """Wait until there may be news, at most so many seconds."""
        with anyio.move_on_after(within):
            await self._changed.wait()

    def listen(self, listeners: int) -> None:
        """Count listeners: 1 for one that comes, -1 for one that leaves."""
        self._listeners += listeners
        if self._listeners:
            self._listened.set()
        else:
            self._listened.clear()

    def tell(self) -> None:
        """Wake all who wait for changes."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _made(self, look: Look) -> tuple[list[tuple[str, dict[str, Any], Path | None]], dict[str, Any]]:
        """Return the rows that changed and what else is shown; in a thread, since it looks for files."""
        known = {name: ration for name, text in look.rations.items() if (ration := loaded(text)) is not None}
        for ration in known.values():
            self._typical.update(typical_seconds(ration))
        made: list[tuple[str, dict[str, Any], Path | None]] = []
        for seen in look.changed:
            row = row_of(seen, self._typical)
            file = row.pop("file", None)
            if file is not None:
                row |= {"clip": f"clips/{seen.entry.id}", "poster": f"posters/{seen.entry.id}"}
            made.append((seen.entry.id, row, file))
        owners: dict[str, int] = {}
        for _, worker, _ in look.marks.values():
            if worker is not None:
                owners[worker] = owners.get(worker, 0) + 1
        return made, {
            "rations": [gauges(name, ration) for name, ration in sorted(known.items())],
            "owners": [
                {"name": f"process {owner[:8]}", "jobs": jobs, "alive": True}
                for owner, jobs in owners.items()
            ],
        }
