"""What a client does with its journal: what is unfinished, what ended, what it cost."""

from __future__ import annotations

import logging
import os
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from .engine.reconcile import Settlement, reconcile
from .engine.runtime import Runtime
from .engine.spec import checked_key, checked_name, recovery
from .errors import UsageError
from .io.journal.entries import JournalEntry
from .io.journal.history import Wanted, grouped, kinds_of, moment
from .job import VideoJob
from .notebook import Listing
from .options import check_kind, check_number
from .sansio.http.secrets import Secret
from .sansio.job.states import State

if TYPE_CHECKING:
    from .io.journal.entries import Unfinished
    from .io.journal.journal import Journal

log: logging.Logger = logging.getLogger(__name__)


class JournalCalls:
    """The calls of a `VeniceClient` that need a journal.

    Raises:
        UsageError: the client keeps none, or is not open.
        JournalError: the journal cannot be read or written.
    """

    _runtime: Runtime

    async def pending(self) -> Unfinished:
        """Return the unfinished jobs in the journal, oldest first.

        Jobs that another living client watches are left out; the list's `held` says how many.
        """
        return await self._journal().pending()

    async def recover(self) -> list[VideoJob]:
        """Start a job for every unfinished entry of the journal that no living process works on.

        Each goes to its recorded destination. A paid request of unknown outcome is not sent again: its job
        raises `QueueOutcomeUnknownError`. The number of jobs that another living client holds is logged.
        """
        journal, now = self._journal(), self._runtime.shared().clock.time()
        jobs = Listing(self._runtime.start(recovery(entry, now)) for entry in await journal.adopt())
        if held := (await journal.pending()).held:
            log.warning("%d unfinished jobs are held by another living process, and not recovered", held)
        return jobs

    async def find(self, key: str) -> JournalEntry | None:
        """Return the job that has a key, finished or not, as the journal knows it; None for a free key."""
        return await self._journal().find(checked_key(key), failed=True)

    async def forget(self, entry: JournalEntry) -> None:
        """Remove an unfinished job from the journal, once you know what became of it, and free its key.

        It is for a paid request of unknown outcome, a job whose clip will not come any more, and the key of
        one that failed: the next `generate` with it, or batch, pays again.

        Raises:
            UsageError: the job has ended and its key is not to be freed, or somebody works on it.
        """
        check_kind("entry", entry, JournalEntry, what="an entry of the journal, such as pending() returns")
        if not await self._journal().forget(entry.id):
            msg = "Only an unfinished job that nothing works on can be forgotten"
            raise UsageError(msg, hint="Cancel the job first, or leave the client that works on it")

    async def reconcile(self, *, admin_key: str | None = None) -> list[Settlement]:
        """Settle the paid requests of unknown outcome in the journal by the account's ledger.

        A charge belongs to a request if it has its model and price, came within minutes of it, and no job in
        the journal accounts for it. A request with several such charges stays unsettled, and so does one
        that another process works on.

        Args:
            admin_key: an ADMIN key of the same account; `VENICE_ADMIN_KEY` by default.

        Returns:
            what was found of each request, the unsettled ones with a reason.

        Raises:
            UsageError: there is no admin key, or no journal.
            AuthenticationError: it is no ADMIN key.
        """
        secret = Secret(admin_key or os.environ.get("VENICE_ADMIN_KEY", ""))
        del admin_key
        check_kind("admin_key", secret.reveal(), str, what="text")
        secret = Secret(secret.reveal().strip())
        journal = self._journal()
        async with self._runtime.caller_with(secret) as caller:
            return await reconcile(self._runtime.shared(), journal, caller)

    async def history(
        self,
        *,
        state: str | type[State] | None = None,
        model: str | None = None,
        key: str | None = None,
        tag: str | None = None,
        since: datetime | timedelta | str | None = None,
        limit: int | None = None,
    ) -> list[JournalEntry]:
        """Return the journal's jobs, ended or not, newest first. It keeps them for 400 days, without links.

        Args:
            state: a state's class or its name, such as `"succeeded"`, or `"unfinished"`.
            model: the model's id.
            key: the key of the job, or of its line in a batch.
            tag: the name of a tag, or name and text, such as `"project=dawn"`.
            since: when they began or later: a moment, or how long ago, such as `"7d"` or a `timedelta`.
            limit: how many at most.

        Raises:
            UsageError: there is no journal, or an argument makes no sense.
        """
        journal, now = self._journal(), self._runtime.shared().clock.time()
        for name, value in {"model": model, "key": key, "tag": tag}.items():
            if value is not None:
                checked_name(value, name)
        check_number("limit", limit, low=0, whole=True, or_none=True)
        wanted = Wanted(
            kinds=kinds_of(state), model=model, key=key, tag=tag, since=moment(since, now), limit=limit
        )
        return Listing(await journal.history(wanted))

    async def spend(
        self, *, since: datetime | timedelta | str | None = None, by: str = "model"
    ) -> dict[str, float]:
        """Return what the journal's jobs have cost in USD, by name, the most expensive first.

        A request of unknown outcome counts, one that was refused or refunded does not. Only jobs whose price
        was asked count: those with a `max_usd`, of a batch with a limit, or under a budget.

        Args:
            since: as for `history`.
            by: `"model"`, `"day"` (of UTC, in their order), `"folder"`, `"tag"` (each as `"name=text"`: a job
                with two tags counts twice), or `"tag:project"` (by the texts of one tag). What has no such
                name counts under `""`.

        Raises:
            UsageError: there is no journal, or an argument makes no sense.
        """
        journal, now = self._journal(), self._runtime.shared().clock.time()
        check_kind("by", by, str, what="text")
        return grouped(await journal.paid(moment(since, now)), by)

    def _journal(self) -> Journal:
        self._runtime.shared()
        if self._runtime.journal is None:
            msg = "This client keeps no journal"
            raise UsageError(msg, hint="Make it with journal='jobs.db'")
        return self._runtime.journal
