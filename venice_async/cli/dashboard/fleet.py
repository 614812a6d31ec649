"""What the page shows of a fleet: its workers, what waits for them, and questions for a person."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread
from attrs import define, field

from ...errors import UsageError
from ...sansio.http.secrets import Secret

if TYPE_CHECKING:
    from ...fleet import Fleet
    from ...requests import Consent

_STATEMENTS: Final = (
    ("terms_and_privacy", "I accept the terms and the privacy policy."),
    ("legal_right", "I have the legal right to use this media for this purpose."),
    ("screening", "I acknowledge that the media will be screened."),
)
_EVERY: Final = 5.0  # seconds between two looks whether a database has become that of a fleet
_LOST: Final = 30.0  # seconds without one, after which a worker whose jobs are taken over is shown no more
_SILENT: Final = 4.0  # seconds without a heartbeat, of which there is one a second


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
    _waiting: dict[str, tuple[str, str]] = field(factory=dict, init=False)

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
