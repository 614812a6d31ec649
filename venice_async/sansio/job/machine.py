"""The whole life of a job: `step(state, event) -> (state, command)`. The end is where no command is left.

Quoting ─Priced─► Queueing ─Accepted─► Waiting ─Completed─► Downloading ─Delivered─► Saved ─► Succeeded
                   │    ▲               │  ▲ └─ StillGoing     │    │
       ConsentNeeded  Answered          │  └── Interrupted ◄───┘    │        from anywhere but the end:
                   ▼    │               └───── Delivered ───────────┘        Refused ► Failed
                AwaitingConsent                                              StopAsked ► Stopped
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from attrs import evolve

from ...errors import (
    BudgetExceededError,
    ConsentDeclinedError,
    ConsentError,
    DownloadError,
    NotAVideoError,
    QueueOutcomeUnknownError,
    VeniceError,
)
from ...requests import VideoRequest
from ...results import Ticket
from .commands import AskConsent, AskPrice, CleanUp, Command, Fetch, Poll, Queue
from .events import (
    Accepted,
    Answered,
    CleanedUp,
    Completed,
    ConsentNeeded,
    Delivered,
    Event,
    Interrupted,
    Missed,
    Priced,
    Refused,
    StillGoing,
    StopAsked,
)
from .states import (
    TERMINAL,
    AwaitingConsent,
    Downloading,
    Failed,
    Queueing,
    Quoting,
    Saved,
    State,
    Stopped,
    Succeeded,
    Waiting,
    ticket_of,
)

Step: TypeAlias = tuple[State, Command | None]

MAX_GETS: Final = 5  # per link, ever: the vendor says "a few", and answers 429 or 410 after them
_USED_UP: Final = f"The link is not asked more than {MAX_GETS} times, and cannot be renewed"
MAX_POLICIES: Final = 3  # a server that invents policies must end somewhere
MAX_EMPTY: Final = 5  # answers without the clip they promise; a clip that is cut may come until the deadline


class IllegalTransitionError(RuntimeError):
    """The event cannot happen in that state: a mistake in this library."""


def begin(
    request: VideoRequest, *, max_usd: float | None = None, reference_video_seconds: float | None = None
) -> Step:
    """Start a job: with a limit its price is asked first."""
    if max_usd is not None:
        state = Quoting(request=request, max_usd=max_usd, reference_video_seconds=reference_video_seconds)
        return state, AskPrice(request, reference_video_seconds=reference_video_seconds)
    return _queue(Queueing(request=request))


def watch(ticket: Ticket) -> Step:
    """Start watching a job that was queued before."""
    return _poll(Waiting(ticket=ticket))


def resume(state: State) -> Step:
    """Go on from a journalled state. A paid request without an outcome is never sent again.

    Raises:
        IllegalTransitionError: the job has ended, or nothing had been sent.
    """
    match state:
        case Queueing():
            message = "The process ended while a paid request was on its way"
            return Failed(error=QueueOutcomeUnknownError(message)), None
        case Waiting():
            return _poll(Waiting(ticket=state.ticket))
        case Downloading(via="link"):
            return _fetch_again(state, progressed=False)
        case Downloading():
            return _poll(Waiting(ticket=state.ticket))
        case Saved():
            return state, CleanUp(state.video)
        case _:
            msg = f"cannot resume {type(state).__name__}"
            raise IllegalTransitionError(msg)


def step(state: State, event: Event) -> Step:
    """Return what `event` makes of `state`, and what to do next: None exactly when the state is terminal.

    Raises:
        IllegalTransitionError: `event` cannot happen in `state`, which stays as it was.
    """
    handler = _HANDLERS.get((type(state), type(event)))
    if handler is not None:
        return handler(state, event)
    if not isinstance(state, TERMINAL) and isinstance(event, Refused | StopAsked):
        return _end(state, event)
    msg = f"{type(event).__name__} cannot happen in {type(state).__name__}"
    raise IllegalTransitionError(msg)


def receive(state: State, *, received: int, total: int | None) -> State:
    """Return `state` with the bytes of a running delivery; no command changes by it."""
    match state:
        case Downloading():
            return evolve(state, received=received, total=total)
        case Waiting():
            return Downloading(
                ticket=state.ticket,
                via="poll",
                received=received,
                total=total,
                average=state.average,
                interruptions=state.interruptions,
                empty=state.empty,
            )
        case _:
            msg = f"nothing is received in {type(state).__name__}"
            raise IllegalTransitionError(msg)


def estimate(state: State, *, eta: float | None) -> State:
    """Return `state` with what was known of its model when watching began; no command changes by it."""
    return evolve(state, eta=eta) if isinstance(state, Waiting) else state


def _queue(state: Queueing) -> Step:
    return state, Queue(state.request, state.consent, state.flow)


def _poll(state: Waiting) -> Step:
    return state, Poll(state.ticket)


def _fetch(state: Downloading) -> Step:
    ticket = evolve(state.ticket, download_url=state.link) if state.link else state.ticket
    return state, Fetch(ticket, state.gets)


def _end(state: State, event: Refused | StopAsked) -> Step:
    ticket = ticket_of(state)
    if isinstance(event, StopAsked):
        return Stopped(ticket=ticket), None
    error = event.error if ticket is None else event.error.with_ticket(ticket)
    return Failed(error=error, ticket=ticket), None


def _priced(state: Quoting, event: Priced) -> Step:
    if event.usd <= state.max_usd:
        return _queue(Queueing(request=state.request))
    message = f"The quote is {event.usd:g} USD, above the limit of {state.max_usd:g} USD"
    return _end(state, Refused(BudgetExceededError(message, quoted_usd=event.usd, limit_usd=state.max_usd)))


def _accepted(state: Queueing, event: Accepted) -> Step:
    return _poll(Waiting(ticket=event.ticket))


def _consent_needed(state: Queueing, event: ConsentNeeded) -> Step:
    question = evolve(event.consent_request, request=state.request)
    if question.policy in state.asked or len(state.asked) >= MAX_POLICIES:
        message = f"The server asks again for consent to {question.policy}, which was given"
        return _end(state, Refused(ConsentError(message, consent_request=question)))
    asked = (*state.asked, question.policy)
    return AwaitingConsent(request=state.request, consent_request=question, asked=asked), AskConsent(question)


def _answered(state: AwaitingConsent, event: Answered) -> Step:
    if event.consent is None or not event.consent.complete:
        message = f"Consent to {state.consent_request.policy} was declined"
        return _end(state, Refused(ConsentDeclinedError(message, consent_request=state.consent_request)))
    flow = state.consent_request.flow
    return _queue(Queueing(request=state.request, consent=event.consent, flow=flow, asked=state.asked))


def _still_going(state: Waiting, event: StillGoing) -> Step:
    return _poll(
        Waiting(
            ticket=state.ticket,
            elapsed=state.elapsed if event.elapsed is None else event.elapsed,
            average=state.average if event.average is None else event.average,
            eta=event.eta,
            interruptions=state.interruptions,
            empty=state.empty,
        )
    )


def _completed(state: Waiting, event: Completed) -> Step:
    link = None if state.ticket.download_url else event.link
    if link or state.ticket.download_url:
        return _fetch(Downloading(ticket=state.ticket, via="link", link=link, gets=1, average=state.average))
    message = "The job is completed, but the server sends neither a file nor a link, and the ticket has none"
    return _empty(evolve(state, misses=0), DownloadError(message))


def _missed(state: Waiting, event: Missed) -> Step:
    return _poll(evolve(state, misses=state.misses + 1))


def _empty(state: Waiting, error: VeniceError) -> Step:
    if state.empty + 1 >= MAX_EMPTY:
        return _end(state, Refused(error))
    return _poll(evolve(state, empty=state.empty + 1))


def _interrupted_poll(state: Waiting, event: Interrupted) -> Step:
    if isinstance(event.error, NotAVideoError):
        return _empty(state, event.error)
    return _poll(evolve(state, interruptions=0 if event.progressed else state.interruptions + 1))


def _interrupted(state: Downloading, event: Interrupted) -> Step:
    if state.via == "poll":
        return _interrupted_poll(_waiting_again(state), event)
    if state.gets >= MAX_GETS:
        event.error.hint = _USED_UP
        return _end(state, Refused(event.error))
    return _fetch_again(state, progressed=event.progressed)


def _fetch_again(state: Downloading, *, progressed: bool) -> Step:
    if state.gets >= MAX_GETS:
        message = f"The link was used {state.gets} times, and more are not allowed"
        error = DownloadError(message, received=state.received, total=state.total, hint=_USED_UP)
        return _end(state, Refused(error))
    interruptions = 0 if progressed else state.interruptions + 1
    return _fetch(evolve(state, gets=state.gets + 1, interruptions=interruptions))


def _waiting_again(state: Downloading) -> Waiting:
    return Waiting(
        ticket=state.ticket, average=state.average, interruptions=state.interruptions, empty=state.empty
    )


def _delivered(state: Waiting | Downloading, event: Delivered) -> Step:
    video = evolve(event.video, ticket=state.ticket)  # a link that a poll named is no part of the ticket
    return Saved(video=video), CleanUp(video)


def _cleaned_up(state: Saved, event: CleanedUp) -> Step:
    return Succeeded(video=state.video), None


def _saved_for_good(state: Saved, event: Refused | StopAsked) -> Step:
    return Succeeded(video=state.video), None


_HANDLERS: Final[dict[tuple[type[Any], type[Any]], Callable[[Any, Any], Step]]] = {
    (Quoting, Priced): _priced,
    (Queueing, Accepted): _accepted,
    (Queueing, ConsentNeeded): _consent_needed,
    (AwaitingConsent, Answered): _answered,
    (Waiting, StillGoing): _still_going,
    (Waiting, Completed): _completed,
    (Waiting, Missed): _missed,
    (Waiting, Interrupted): _interrupted_poll,
    (Waiting, Delivered): _delivered,
    (Downloading, Interrupted): _interrupted,
    (Downloading, Delivered): _delivered,
    (Saved, CleanedUp): _cleaned_up,
    (Saved, Refused): _saved_for_good,
    (Saved, StopAsked): _saved_for_good,
}
