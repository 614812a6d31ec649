"""Where a job stands, by one poll that never takes its clip."""

from __future__ import annotations

from typing import Final

from attrs import evolve

from ..errors import DownloadError, VeniceError
from ..results import Ticket
from ..sansio.clip.ranges import content_length
from ..sansio.http.wire import SUCCESS, carries_video
from ..sansio.job.events import Completed, Missed, StillGoing
from ..sansio.job.machine import step
from ..sansio.job.states import Downloading, Failed, State, Waiting
from .spec import Shared

_NO_LINK: Final = (
    "The job is completed, but the server sends neither a file nor a link, and the ticket has none"
)


async def ask_status(shared: Shared, ticket: Ticket) -> State:
    """Poll once, at its turn, and return what the answer means; see `VeniceClient.status`."""
    caller = shared.caller
    watch = caller.pacer.watch(ticket.model, age=None)
    try:
        async with caller.pacer.poll_turn(watch) as turn, caller.poll(ticket, turn) as response:
            if response.status in SUCCESS and carries_video(response.headers, await response.peek()):
                # Leaving drops the rest of the body: the clip stays at the server.
                return Downloading(ticket=ticket, via="poll", total=content_length(response.headers))
            event = await caller.read_poll(ticket, response)
        if isinstance(event, StillGoing):
            watch.progressed(age=event.elapsed, average=event.average)
            event = evolve(event, eta=watch.eta)
        state, _ = step(Waiting(ticket=ticket), event)
        if isinstance(state, Downloading):
            return evolve(state, gets=0)  # nothing was fetched
        if isinstance(event, Completed):
            raise DownloadError(_NO_LINK)
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
