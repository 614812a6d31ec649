"""What the page shows of a fleet: its workers, what waits for them, and questions for a person."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread

from ...errors import UsageError
from ...sansio.http.secrets import Secret

if TYPE_CHECKING:
    from ...fleet import Fleet, FleetWorker, WaitingConsent
    from ...requests import Consent

_STATEMENTS: Final = (
    ("terms_and_privacy", "I accept the terms and the privacy policy."),
    ("legal_right", "I have the legal right to use this media for this purpose."),
    ("screening", "I acknowledge that the media will be screened."),
)
_EVERY: Final = 5.0  # seconds between two looks whether a database has become that of a fleet
_LOST: Final = 30.0  # seconds without one, after which a worker whose jobs are taken over is shown no more
_SILENT: Final = 4.0  # seconds without a heartbeat, of which there is one a second


class FleetSeen:
    """The fleet in a database, from when there is one: a dashboard makes no tables."""

    def __init__(self, uri: str, stack: AsyncExitStack) -> None:
        self._uri = uri
        self._stack = stack
        self._fleet: Fleet | None = None
        self._looked = -_EVERY
        self._waiting: dict[str, tuple[str, str]] = {}

    async def questions(self) -> list[dict[str, Any]]:
        """Return the questions that nobody has answered."""
        fleet = await self._found()
        asked = [] if fleet is None else await fleet.consents()
        self._waiting = {
            f"{one.account}/{one.key}" if one.account else one.key: (one.account, one.key) for one in asked
        }
        return [
            {
                "key": name,
                "prompt": one.request.prompt if one.request else None,
                "about": ". ".join(filter(None, (one.message.rstrip("."), _faces(one)))),
                "policy": one.policy_text,
                "docs": one.docs_url,
                "statements": _STATEMENTS,
            }
            for name, one in zip(self._waiting, asked, strict=True)
        ]

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

    async def facts(self, owners: list[dict[str, Any]]) -> dict[str, Any]:
        """Return who works, the processes of the journal that belong to no worker included."""
        fleet = await self._found()
        if fleet is None:
            return {}
        workers = [one for one in await fleet.workers() if one.jobs or one.silent < _LOST]
        known = {owner[:8] for worker in workers for owner in worker.owners}
        others = [owner for owner in owners if owner["name"].removeprefix("process ") not in known]
        return {"owners": [*map(_shown, workers), *others], "submitted": await fleet.submitted()}

    async def _found(self) -> Fleet | None:
        now = time.monotonic()
        if self._fleet is None and now - self._looked >= _EVERY:
            self._looked = now
            self._fleet = await _entered(self._uri, self._stack)
        return self._fleet


async def _entered(uri: str, stack: AsyncExitStack) -> Fleet | None:
    try:
        from ...fleet import Fleet  # noqa: PLC0415 - in an extra, and the page does without
        from ...fleet.schema import is_fleet  # noqa: PLC0415 - see above
    except (ImportError, UsageError):
        return None
    if not await anyio.to_thread.run_sync(is_fleet, Secret(uri)):
        return None
    return await stack.enter_async_context(Fleet(uri))


def _faces(question: WaitingConsent) -> str:
    roles = ", ".join(role.replace("_", " ") for role in question.face_media_roles)
    return f"Faces were found in: {roles}" if roles else ""


def _shown(worker: FleetWorker) -> dict[str, Any]:
    names = [f"worker {worker.number}", *(owner[:8] for owner in worker.owners)]
    return {"name": ", ".join(names), "jobs": worker.jobs, "alive": worker.silent < _SILENT}
