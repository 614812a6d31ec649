"""From the ticket to the file: polls, and the clip by poll or by link; or one poll that takes no clip."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from typing import Final

from attrs import define, evolve, field

from ..errors import (
    DownloadError,
    ProtocolError,
    TransportError,
    UsageError,
    VeniceError,
)
from ..io.delivery.destination import Destination, check_destination
from ..io.delivery.download import CAN_GO_ON, Delivery, abort
from ..io.delivery.stores import ObjectPlace
from ..io.journal.entries import LeaseLostError
from ..io.transport import Response
from ..results import Ticket
from ..sansio.clip.ranges import content_length
from ..sansio.http.wire import SUCCESS, carries_video, link_request, poll_request
from ..sansio.job.commands import Fetch, Poll
from ..sansio.job.events import (
    Completed,
    Delivered,
    Event,
    Interrupted,
    Missed,
    Refused,
    StillGoing,
)
from ..sansio.job.machine import NO_LINK, step
from ..sansio.job.states import Downloading, Failed, State, Waiting, ticket_of
from ..sansio.naming import known_values, own_key
from ..sansio.polling import PolledJob
from .spec import JobSpec, Shared

_PROGRESS: Final = 256 * 1024  # bytes: a delivery that gained as much was not in vain
_LINK_ANSWERS: Final = (200, 203, 206, 416)  # what the delivery itself can judge
_NO_RANGES: Final = (
    400,
    405,
    406,
    412,
    417,
    501,
)  # how hosts refuse a range, though they may send the whole clip


@define(eq=False)
class Retrieval:
    """Performs the commands of a job that has a ticket. It owns the delivery and the pacer's watch of it.

    Attributes:
        on_progress: called with the bytes received and announced.
        on_estimate: called with the seconds that are left, by what is known of the model before the first
            poll.
        check: raises `LeaseLostError`, before each request, if another process may have the job by now.
    """

    _shared: Shared
    _spec: JobSpec
    on_progress: Callable[[int, int | None], None]
    on_estimate: Callable[[float | None], None]
    check: Callable[[], None]
    _checked: Destination | None = field(init=False, default=None)
    _watch: PolledJob | None = field(init=False, default=None)
    _delivery: Delivery | None = field(init=False, default=None)

    async def check_target(self) -> None:
        """Check the destination.

        Raises:
            UsageError: it cannot be used.
            DownloadError: its disk is full or fails.
        """
        spec = self._spec
        if not isinstance(spec.to, str | os.PathLike | ObjectPlace):
            return
        ticket = ticket_of(spec.start[0])
        model = spec.request.model if spec.request is not None else ticket.model if ticket else ""
        date = datetime.fromtimestamp(self._shared.clock.time(), UTC).date().isoformat()
        values = known_values(spec.request, model=model, key=own_key(spec.key), tags=spec.tags, date=date)
        checked = await check_destination(
            spec.to, overwrite=spec.overwrite, recovering=spec.recovering, values=values
        )
        if checked.claim is not None:
            if checked.claim in self._shared.claims:
                msg = f"Another job of this client is bound for {checked.claim!r}"
                raise UsageError(msg, hint="Choose another name")
            self._shared.claims.add(checked.claim)
        self._checked = checked

    async def tidy(self) -> None:
        """Abort an unfinished download, and release the destination and the pacer's watch."""
        self.unclaim()
        if self._watch is not None:
            self._watch.close()
        if self._delivery is not None:
            await self._delivery.abort()
        elif not isinstance(self._spec.to, str | os.PathLike | ObjectPlace):
            await abort(self._spec.to)

    def unclaim(self) -> None:
        """Release the destination for other jobs; it must be checked again before it is used."""
        if self._checked is not None and self._checked.claim is not None:
            self._shared.claims.discard(self._checked.claim)
        self._checked = None

    async def poll(self, command: Poll) -> Event:
        """Poll at the job's turn; download the clip if the answer is the clip."""
        if self._watch is None:
            self._watch = self._shared.caller.pacer.watch(command.ticket.model, age=self._spec.age)
            self.on_estimate(self._watch.eta)
        watch = self._watch
        async with self._shared.caller.pacer.poll_turn(watch, after=command.after) as turn:
            try:
                self.check()
            except LeaseLostError:
                turn.unsent()
                raise
            try:
                with closing(await self._shared.caller.send(poll_request(command.ticket), turn)) as response:
                    succeeded = response.status in SUCCESS
                    if succeeded and carries_video(response.headers, await response.peek()):
                        async with self._shared.deliveries:
                            return await self._receive(command.ticket, response)
                    event = await self._shared.caller.read_poll(command.ticket, response)
            except (TransportError, ProtocolError) as error:
                return Missed(error)
        if isinstance(event, StillGoing):
            watch.progressed(age=event.elapsed, average=event.average)
            return evolve(event, eta=watch.eta)
        if isinstance(event, Completed):
            watch.completed(age=event.elapsed)
        return event

    async def fetch(self, command: Fetch) -> Event:
        """GET the link, from where the last download was cut if the server supports ranges."""
        delivery = self._deliver(command.ticket)
        await self._shared.clock.sleep(command.after)
        try:
            self.check()
            async with self._shared.deliveries:
                request = link_request(command.ticket, delivery.headers_for_next())
                with closing(await self._shared.caller.send(request)) as response:
                    judged = _LINK_ANSWERS + (_NO_RANGES if "Range" in request.headers else ())
                    if response.status in judged:
                        return await self._receive(command.ticket, response)
                    return Interrupted(await self._shared.caller.read_refusal(command.ticket, response))
        except CAN_GO_ON as error:
            return Interrupted(error)
        except DownloadError as error:
            return Refused(error)

    async def _receive(self, ticket: Ticket, response: Response) -> Event:
        delivery = self._deliver(ticket)
        try:
            await delivery.receive(response)
            if self._watch is not None:
                self._watch.completed(age=None)
            video = await delivery.finish()
            self._delivery = None  # there is nothing left to tidy up
        except CAN_GO_ON as error:
            return Interrupted(error, progressed=delivery.gained >= _PROGRESS)
        except DownloadError as error:
            return Refused(error)
        return Delivered(video)

    def _deliver(self, ticket: Ticket) -> Delivery:
        if self._delivery is None:
            sink = self._spec.to
            if isinstance(sink, str | os.PathLike | ObjectPlace):
                assert self._checked is not None  # noqa: S101 - the driver checks the destination first
                sink = self._checked.sink(ticket, resumed=ticket_of(self._spec.start[0]) is not None)
            self._delivery = Delivery(
                sink, ticket=ticket, clock=self._shared.clock, on_progress=self.on_progress
            )
        return self._delivery


async def ask_status(shared: Shared, ticket: Ticket) -> State:
    """Poll once, at its turn, and return what the answer means; see `VeniceClient.status`."""
    caller = shared.caller
    watch = caller.pacer.watch(ticket.model, age=None)
    try:
        async with caller.pacer.poll_turn(watch) as turn:
            with closing(await caller.send(poll_request(ticket), turn)) as response:
                if response.status in SUCCESS and carries_video(response.headers, await response.peek()):
                    # Closing drops the rest of the body: the clip stays at the server.
                    return Downloading(ticket=ticket, via="poll", total=content_length(response.headers))
                event = await caller.read_poll(ticket, response)
        if isinstance(event, StillGoing):
            watch.progressed(age=event.elapsed, average=event.average)
            event = evolve(event, eta=watch.eta)
        state, _ = step(Waiting(ticket=ticket), event)
        if isinstance(state, Downloading):
            return evolve(state, gets=0)  # nothing was fetched
        if isinstance(event, Completed):
            raise DownloadError(NO_LINK)
        if isinstance(state, Failed) and not state.job_failed:
            raise state.error
        if isinstance(event, Missed) and not isinstance(state, Failed):
            raise event.error
    except VeniceError as error:
        raise error.with_traceback(None).with_ticket(ticket) from None
    else:
        return state
    finally:
        watch.close()
