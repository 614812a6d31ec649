"""Deletes the server's copy of a clip that is saved, without taking a turn from any other request."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import anyio

from ..errors import APIError, TransportError, VeniceError
from ..io.caller import Caller
from ..results import Ticket
from ..sansio.http.queries import Complete, Revoke
from ..sansio.job.events import CleanedUp

_LONGEST: Final = 15.0  # seconds: the clip is safe, so nobody should wait for this for long
_QUIET: Final = 3600.0  # seconds without a clean-up by poll, once the server has refused one
_PAUSE: Final = 60.0  # seconds, after one that failed otherwise

log: logging.Logger = logging.getLogger(__name__)


class CleanUps:
    """Deletes the server's copies for all jobs of a client.

    `/video/complete` answers 400 to everybody at times, and each such answer counts against the key, like any
    failed request. So one is sent at a time, and after one that failed none for a while.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._one = anyio.Lock()
        self._quiet_until = -math.inf

    async def clean_up(self, ticket: Ticket, check: Callable[[], None]) -> CleanedUp:
        """Delete the server's copy of a job's clip, or leave it to expire. It never raises.

        Nothing is sent once `check` raises: then another process has the job, and cleans up itself.
        """
        if ticket.download_url is not None:
            event = await self._sent(Revoke(ticket), check)
            if event.error is not None:
                log.warning("The link of job %s may still work: %s", ticket.queue_id, event.error.message)
            return event
        with anyio.move_on_after(_LONGEST) as waiting:
            await self._one.acquire()
        if waiting.cancelled_caught:
            return CleanedUp()
        try:
            now = self._caller.clock.monotonic()
            if now < self._quiet_until:
                return CleanedUp()
            event = await self._sent(Complete(ticket), check)
            if event.error is not None:
                log.debug("The copy of job %s is left to expire: %s", ticket.queue_id, event.error.message)
            match event.error:
                case APIError(status=status) if status < HTTPStatus.INTERNAL_SERVER_ERROR:
                    self._quiet_until = now + _QUIET
                case APIError() | TransportError():
                    self._quiet_until = now + _PAUSE
                case _:  # "success": false, for one, counts for nothing
                    pass
            return event
        finally:
            self._one.release()

    async def _sent(self, query: Complete | Revoke, check: Callable[[], None]) -> CleanedUp:
        with anyio.move_on_after(_LONGEST):
            try:
                await self._caller.ask(query, check=check)
            except VeniceError as error:
                return CleanedUp(error)
            return CleanedUp()
        return CleanedUp(TransportError(f"The clean-up took longer than {_LONGEST:.0f} s"))
