"""What the page is told: rows of a journal, numbered as they change, so that news are what came since."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
from attrs import define, field, frozen

from ...errors import JournalError
from ...options import Budget
from ...sansio.limits.ration import UnknownVersionError, load
from .rows import gauges, row_of, spend_since, spending, typical_seconds

if TYPE_CHECKING:
    from ...io.journal.entries import Look, Mark
    from ...io.journal.history import Paid
    from ...io.journal.journal import Journal
    from .fleet import FleetSeen

MOST: Final = 5_000  # ended jobs that are shown, the newest
PAUSE: Final = 1.0  # seconds between two looks


@frozen
class News:
    """What changed since a number: an event's id and its data as JSON."""

    id: str
    text: str


@define(eq=False)
class Feed:
    """The rows of a journal, looked at once a second as long as somebody listens.

    Attributes:
        journal: whose jobs are shown.
        place: what it is called.
        fleet: the fleet in the journal's database.
        trouble: why the journal cannot be read at present; None when it can.
    """

    journal: Journal
    place: str
    fleet: FleetSeen | None = None
    trouble: str | None = field(default=None, init=False)
    _run: str = field(factory=partial(secrets.token_hex, 4), init=False)  # numbers of another mean nothing
    _number: int = field(default=0, init=False)
    _rows: dict[str, tuple[int, str, Path | None]] = field(factory=dict, init=False)  # number, JSON, clip
    _gone: dict[str, int] = field(factory=dict[str, int], init=False)
    _facts: dict[str, Any] = field(factory=dict[str, Any], init=False)
    _marks: Mapping[str, Mark] = field(factory=dict, init=False)
    _typical: dict[str, float] = field(factory=dict[str, float], init=False)
    _paid: list[Paid] = field(factory=list, init=False)
    _listeners: int = field(default=0, init=False)
    _listened: asyncio.Event = field(factory=asyncio.Event, init=False)
    _changed: asyncio.Event = field(factory=asyncio.Event, init=False)

    def file(self, job: str) -> Path | None:
        """Return the clip that the journal names for a job."""
        return self._rows[job][2] if job in self._rows else None

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
        """Read what changed in the journal."""
        look = await self.journal.watch(self._marks, most=MOST)
        made, facts = await anyio.to_thread.run_sync(self._made, look)
        if look.changed or look.gone or not self._number:
            self._paid = await self.journal.paid(spend_since(time.time()))
        facts["spend"] = spending(self._paid, Budget.of_environment(), time.time())
        if self.fleet is not None:
            facts |= await self.fleet.facts(facts["owners"])
        self._marks = look.marks
        facts = {**self._facts, **facts}
        if not (made or look.gone or facts != self._facts):
            return
        self._number += 1
        self._facts = facts
        for name, row, file in made:
            self._gone.pop(name, None)
            self._rows[name] = self._number, json.dumps(row), file
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
        rows = ",".join(text for number, text, _ in self._rows.values() if number > since)
        gone = [name for name, number in self._gone.items() if number > since]
        said = {"title": "Jobs", "place": self.place, **self._facts, "gone": gone, "whole": since < 0}
        return News(f"{self._run}-{self._number}", f'{json.dumps(said)[:-1]}, "rows": [{rows}]}}')

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
        rations: list[dict[str, Any]] = []
        for name, text in sorted(look.rations.items()):
            with suppress(UnknownVersionError):
                if (ration := load(text)) is None:
                    continue
                self._typical |= typical_seconds(ration)
                rations.append(gauges(name, ration))
        made: list[tuple[str, dict[str, Any], Path | None]] = []
        for seen in look.changed:
            row = row_of(seen, self._typical)
            file = row.pop("file", None)
            if file is not None:
                row |= {"clip": f"clips/{seen.entry.id}", "poster": f"posters/{seen.entry.id}"}
            made.append((seen.entry.id, row, file))
        owners = Counter(worker for _, worker, _ in look.marks.values() if worker is not None)
        shown = [{"name": f"process {one[:8]}", "jobs": jobs, "alive": True} for one, jobs in owners.items()]
        return made, {"rations": rations, "owners": shown}
