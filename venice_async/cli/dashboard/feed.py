"""What the page is told: rows of a journal, numbered as they change, so that news are what came since."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio
from attrs import define, field, frozen

from ...errors import JournalError, UsageError
from ...options import Budget
from ...sansio.http.secrets import Secret
from ...sansio.limits.ration import UnknownVersionError, load
from .rows import gauges, row_of, spend_since, spending, typical_seconds

if TYPE_CHECKING:
    from ...fleet import Fleet
    from ...io.journal.entries import Look, Mark
    from ...io.journal.history import Paid
    from ...io.journal.journal import Journal
    from ...requests import Consent

MOST: Final = 5_000  # ended jobs that are shown, the newest
PAUSE: Final = 1.0  # seconds between two looks
_STATEMENTS: Final = (
    ("terms_and_privacy", "I accept the terms and the privacy policy."),
    ("legal_right", "I have the legal right to use this media for this purpose."),
    ("screening", "I acknowledge that the media will be screened."),
)
_EVERY: Final = 5.0  # seconds between two looks whether a database has become that of a fleet
_LOST: Final = 30.0  # seconds without one, after which a worker whose jobs are taken over is shown no more
_SILENT: Final = 4.0  # seconds without a heartbeat, of which there is one a second


_Row: TypeAlias = tuple[int, str, Path | None]
"""The number of its last change, the row as JSON, and its clip."""


@define(eq=False)
class FleetSeen:
    """The fleet in a database, from when there is one: a dashboard makes no tables.

    Attributes:
        uri: the database.
        stack: closes what is opened.
    """

    uri: str
    stack: AsyncExitStack
    _fleet: Fleet | None = field(default=None, init=False)
    _looked: float = field(default=-_EVERY, init=False)
    _waiting: dict[str, tuple[str, str]] = field(factory=dict[str, tuple[str, str]], init=False)

    async def facts(self, owners: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the questions that nobody has answered, what waits for a worker, and who works.

        Those are the workers, and of `owners`, the processes that have jobs, those that are none of them.
        """
        now = time.monotonic()
        if self._fleet is None and now - self._looked >= _EVERY:
            self._looked = now
            with suppress(ImportError, UsageError):  # in an extra, and the page does without
                from ...fleet import Fleet  # noqa: PLC0415 - see above
                from ...fleet.schema import is_fleet  # noqa: PLC0415 - see above

                if await anyio.to_thread.run_sync(is_fleet, Secret(self.uri)):
                    self._fleet = await self.stack.enter_async_context(Fleet(self.uri))
        if self._fleet is None:
            return {"questions": []}
        asked = await self._fleet.consents()
        self._waiting = {
            f"{one.account}/{one.key}" if one.account else one.key: (one.account, one.key) for one in asked
        }
        questions: list[dict[str, Any]] = []
        for name, one in zip(self._waiting, asked, strict=True):
            roles = ", ".join(role.replace("_", " ") for role in one.face_media_roles)
            faces = f"Faces were found in: {roles}" if roles else ""
            question = {
                "key": name,
                "prompt": one.request.prompt if one.request else None,
                "about": ". ".join(filter(None, (one.message.rstrip("."), faces))),
                "policy": one.policy_text,
                "docs": one.docs_url,
                "statements": _STATEMENTS,
            }
            questions.append(question)
        workers = [one for one in await self._fleet.workers() if one.jobs or one.silent < _LOST]
        known = {owner[:8] for worker in workers for owner in worker.owners}
        shown: list[dict[str, Any]] = [
            {
                "name": ", ".join([f"worker {worker.number}", *(owner[:8] for owner in worker.owners)]),
                "jobs": worker.jobs,
                "alive": worker.silent < _SILENT,
            }
            for worker in workers
        ]
        shown += [owner for owner in owners if owner["name"].removeprefix("process ") not in known]
        return {"questions": questions, "owners": shown, "submitted": await self._fleet.submitted()}

    async def answer(self, key: str, consent: Consent | None) -> bool:
        """Answer a question; tell whether it still waited."""
        if self._fleet is None or key not in self._waiting:
            return False
        account, name = self._waiting[key]
        try:
            await self._fleet.answer(name, consent, account=account)
        except UsageError:
            return False
        return True


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
    _rows: dict[str, _Row] = field(factory=dict[str, _Row], init=False)
    _gone: dict[str, int] = field(factory=dict[str, int], init=False)
    _facts: dict[str, Any] = field(factory=dict[str, Any], init=False)
    _marks: Mapping[str, Mark] = field(factory=dict[str, "Mark"], init=False)
    _typical: dict[str, float] = field(factory=dict[str, float], init=False)
    _paid: list[Paid] = field(factory=list["Paid"], init=False)
    _listeners: int = field(default=0, init=False)
    _listened: asyncio.Event = field(factory=asyncio.Event, init=False)
    _changed: asyncio.Event = field(factory=asyncio.Event, init=False)

    def file(self, job: str) -> Path | None:
        """Return the clip that the journal names for a job."""
        return self._rows[job][2] if job in self._rows else None

    async def keep_looking(self) -> None:
        """Look once a second while there are listeners."""
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
        """Return what changed after the event of that id, or everything; None when nothing did."""
        run, _, number = after.partition("-")
        since = int(number) if run == self._run and number.isdigit() else -1
        if since == self._number or not self._number:
            return None
        rows = ",".join(text for number, text, _ in self._rows.values() if number > since)
        gone = [name for name, number in self._gone.items() if number > since]
        said = {"title": "Jobs", "place": self.place, **self._facts, "gone": gone, "whole": since < 0}
        return News(f"{self._run}-{self._number}", f'{json.dumps(said)[:-1]}, "rows": [{rows}]}}')

    async def changed(self, within: float) -> None:
        """Wait for a change, at most `within` seconds."""
        with anyio.move_on_after(within):
            await self._changed.wait()

    def listen(self, listeners: int) -> None:
        """Add to the number of listeners: 1 or -1."""
        self._listeners += listeners
        if self._listeners:
            self._listened.set()
        else:
            self._listened.clear()

    def tell(self) -> None:
        """Wake all that wait for a change."""
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
        for entry in look.changed:
            row = row_of(entry, self._typical)
            file = row.pop("file", None)
            if file is not None:
                row |= {"clip": f"clips/{entry.id}", "poster": f"posters/{entry.id}"}
            made.append((entry.id, row, file))
        owners = Counter(worker for _, worker, _ in look.marks.values() if worker is not None)
        shown = [{"name": f"process {one[:8]}", "jobs": jobs, "alive": True} for one, jobs in owners.items()]
        return made, {"rations": rations, "owners": shown}
