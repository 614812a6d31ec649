"""What the page shows of a fleet: its workers, what waits for them, and questions for a person."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread

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
        shown: list[dict[str, Any]] = []
        for name, one in zip(self._waiting, asked, strict=True):
            roles = ", ".join(role.replace("_", " ") for role in one.face_media_roles)
            faces = f"Faces were found in: {roles}" if roles else ""
            shown.append(
                {
                    "key": name,
                    "prompt": one.request.prompt if one.request else None,
                    "about": ". ".join(filter(None, (one.message.rstrip("."), faces))),
                    "policy": one.policy_text,
                    "docs": one.docs_url,
                    "statements": _STATEMENTS,
                }
            )
        return shown

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
        shown: list[dict[str, Any]] = [
            {
                "name": ", ".join([f"worker {worker.number}", *(owner[:8] for owner in worker.owners)]),
                "jobs": worker.jobs,
                "alive": worker.silent < _SILENT,
            }
            for worker in workers
        ]
        return {"owners": [*shown, *others], "submitted": await fleet.submitted()}

    async def _found(self) -> Fleet | None:
        """Return the fleet, if its extra is installed and the database has become one, at the next look."""
        now = time.monotonic()
        if self._fleet is not None or now - self._looked < _EVERY:
            return self._fleet
        self._looked = now
        try:
            from ...fleet import Fleet  # noqa: PLC0415 - in an extra, and the page does without
            from ...fleet.schema import is_fleet  # noqa: PLC0415 - see above
        except (ImportError, UsageError):
            return None
        if await anyio.to_thread.run_sync(is_fleet, Secret(self._uri)):
            self._fleet = await self._stack.enter_async_context(Fleet(self._uri))
        return self._fleet
