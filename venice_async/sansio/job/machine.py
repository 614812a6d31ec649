"""The whole life of a job: `step(state, event) -> (state, command)`. A job ends when no command is left.

Quoting ─Priced─► Queueing ─Accepted─► Waiting ─Completed─► Downloading ─Delivered─► Saved ─► Succeeded
                   │    ▲               │  ▲ └─ StillGoing     │    │
       ConsentNeeded  Answered          │  └── Interrupted ◄───┘    │        from anywhere but the end:
                   ▼    │               └───── Delivered ───────────┘        Refused ► Failed
                AwaitingConsent                                              StopAsked ► Stopped
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final, TypeAlias

from attrs import evolve

from ...errors import (
    ANSWER_KEPT,
    APIError,
    BadRequestError,
    BudgetExceededError,
    ConnectError,
    ConsentDeclinedError,
    ConsentError,
    DownloadError,
    Facts,
    JobFailedError,
    LinkExpiredError,
    NotAVideoError,
    QueueOutcomeUnknownError,
    VeniceError,
)
from ...formatting import as_usd
from ...requests import VideoRequest
from ...results import Ticket
from ..retries import Attempts, Call, Kind, Retry, is_unknown_id, kind_of
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
_PENDING: Final = "The job stays pending: resume it later, or forget it once you know that no clip will come"
_EXPIRED: Final = f"Venice knows an id for 24 hours, and only for the account that queued it. {_PENDING}"

NO_LINK: Final = (
    "The job is completed, but the server sends neither a file nor a link, and the ticket has none"
)
_FINAL: Final[Facts] = {
    "hint": "resume(ticket, to=...) fetches it once more all the same; forget() strikes the job off",
    "cli_hint": "'venice-async resume' fetches it once more if it is given the ticket, not the id;"
    " 'venice-async jobs --forget' strikes the job off",
}


class IllegalTransitionError(RuntimeError):
    """The event cannot happen in that state: a mistake in this library."""


def begin(
    request: VideoRequest, *, max_usd: float | None = None, reference_video_seconds: float | None = None
) -> Step:
    """Start a job: with a limit its price is asked first."""
    if max_usd is not None:
        state = Quoting(request=request, max_usd=max_usd, reference_video_seconds=reference_video_seconds)
        return state, AskPrice(request, reference_video_seconds=reference_video_seconds)
    return Queueing(request=request), Queue(request)


def watch(ticket: Ticket) -> Step:
    """Start watching a job that was queued before."""
    return Waiting(ticket=ticket), Poll(ticket)


def resume(state: State) -> Step:
    """Go on from a journalled state. A paid request without an outcome is never sent again.

    Raises:
        IllegalTransitionError: the job has ended, or nothing had been sent.
    """
    match state:
        case Queueing():
            unknown = QueueOutcomeUnknownError("The process ended while a paid request was on its way")
            if state.answer is not None:
                message = "The answer to a paid request made no sense, and was kept"
                unknown = QueueOutcomeUnknownError(message, answer=state.answer, **ANSWER_KEPT)
            return Failed(error=unknown), None
        case Waiting(final=str() as why) | Downloading(final=str() as why):
            return _end(state, NotAVideoError(why, final=True, **_FINAL))
        case Downloading(via="link", gets=gets) if gets >= MAX_GETS:
            message = f"The link was used {gets} times, and more are not allowed"
            error = DownloadError(message, received=state.received, total=state.total)
            return _end(state, error.with_facts(hint=f"{_USED_UP}. {_PENDING}"))
        case Downloading(via="link"):
            return _fetch(evolve(state, gets=state.gets + 1, attempts=Attempts()))
        case Waiting() | Downloading():
            return watch(state.ticket)
        case Saved():
            return state, CleanUp(state.video)
        case _:
            msg = f"cannot resume {type(state).__name__}"
            raise IllegalTransitionError(msg)


def step(state: State, event: Event, *, chance: float = 0.5) -> Step:
    """Return what `event` makes of `state`, and what to do next: None exactly when the state is terminal.

    Pauses before another try are drawn by `chance`, in [0, 1).

    Raises:
        IllegalTransitionError: `event` cannot happen in `state`, which stays as it was.
    """
    match state, event:
        case Quoting(request=request), Priced(usd=usd):
            if usd <= state.max_usd:
                return Queueing(request=request), Queue(request)
            message = f"The quote is {as_usd(usd)}, above the limit of {as_usd(state.max_usd)}"
            return _end(state, BudgetExceededError(message, quoted_usd=usd, limit_usd=state.max_usd))
        case Queueing(), Accepted():
            return watch(event.ticket)
        case Queueing(request=request, asked=asked), ConsentNeeded():
            question = evolve(event.consent_request, request=request)
            if question.policy in asked or len(asked) >= MAX_POLICIES:
                message = f"The server asks again for consent to {question.policy}, which was given"
                hint = "Try again later; if it stays, ask Venice's support why consent is not enough"
                return _end(state, ConsentError(message, hint=hint, consent_request=question))
            asked = (*asked, question.policy)
            return AwaitingConsent(request=request, consent_request=question, asked=asked), AskConsent(
                question
            )
        case AwaitingConsent(request=request, consent_request=question), Answered(consent=consent):
            if consent is None or not consent.complete:
                message = f"Consent to {question.policy} was declined"
                return _end(state, ConsentDeclinedError(message, consent_request=question))
            queueing = Queueing(request=request, consent=consent, flow=question.flow, asked=state.asked)
            return queueing, Queue(request, consent, question.flow)
        case Waiting(ticket=ticket), StillGoing():
            elapsed = state.elapsed if event.elapsed is None else event.elapsed
            average = state.average if event.average is None else event.average
            waiting = Waiting(ticket=ticket, elapsed=elapsed, average=average, eta=event.eta, found=True)
            return waiting, Poll(ticket)
        case Waiting(), Missed():
            return _poll_again(evolve(state, misses=state.misses + 1), event.error, chance)
        case Waiting(ticket=ticket), Completed():
            link = None if ticket.download_url else event.link
            if link or ticket.download_url:
                return _fetch(
                    Downloading(ticket=ticket, via="link", link=link, gets=1, average=state.average)
                )
            nothing = DownloadError(NO_LINK, hint=_PENDING)
            return _poll_again(evolve(state, found=True, misses=0), nothing, chance)
        case Waiting(), Interrupted():
            return _poll_again(state, event.error, chance, progressed=event.progressed)
        case Downloading(via="poll"), Interrupted():
            waiting = Waiting(ticket=state.ticket, average=state.average, found=True, attempts=state.attempts)
            return _poll_again(waiting, event.error, chance, progressed=event.progressed)
        case Downloading(), Interrupted():
            error = event.error
            if isinstance(error, DownloadError) and error.final:
                left = f"{MAX_GETS - state.gets} of {MAX_GETS} GETs of its link are left"
                return _end(state, error.with_facts(hint=f"{error.hint}. {left}"))
            before = Attempts() if event.progressed else state.attempts
            attempts, decided = before.judge(Call.LINK, error, chance=chance)
            if not isinstance(decided, Retry):
                return _end(state, error.with_facts(hint=f"{LinkExpiredError.hint}. {_PENDING}"))
            unsent = isinstance(error, ConnectError)  # no GET was made, so none is counted
            if state.gets >= MAX_GETS and not unsent:
                return _end(state, error.with_facts(hint=f"{_USED_UP}. {_PENDING}"))
            gets = state.gets + (not unsent)
            return _fetch(evolve(state, gets=gets, attempts=attempts), after=decided.after)
        case ((Waiting() | Downloading()), Delivered()):
            video = evolve(event.video, ticket=state.ticket)  # a link that a poll named is no part of it
            return Saved(video=video), CleanUp(video)
        case Saved(video=video), (CleanedUp() | Refused() | StopAsked()):
            return Succeeded(video=video), None
        case ((Waiting() | Downloading()), Refused(error=JobFailedError() as error)):
            return _job_failed(state, error)
        case ((Quoting() | Queueing() | AwaitingConsent() | Waiting() | Downloading()), Refused(error=error)):
            return _end(state, error)
        case ((Quoting() | Queueing() | AwaitingConsent()), StopAsked(reason=VeniceError() as reason)):
            return _end(state, reason)
        case ((Quoting() | Queueing() | AwaitingConsent() | Waiting() | Downloading()), StopAsked()):
            return Stopped(ticket=ticket_of(state)), None
        case _:
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
                attempts=state.attempts,
            )
        case _:
            msg = f"nothing is received in {type(state).__name__}"
            raise IllegalTransitionError(msg)


def _fetch(state: Downloading, *, after: float = 0.0) -> Step:
    ticket = evolve(state.ticket, download_url=state.link) if state.link else state.ticket
    return state, Fetch(ticket, state.gets, after)


def _end(state: State, error: VeniceError) -> Step:
    ticket = ticket_of(state)
    return Failed(error=error if ticket is None else error.with_ticket(ticket), ticket=ticket), None


def _poll_again(state: Waiting, error: VeniceError, chance: float, *, progressed: bool = False) -> Step:
    """Poll again after a poll that brought no news, unless the job failed or is missing for too long."""
    if isinstance(error, JobFailedError) or (
        isinstance(error, APIError)
        and not error.by_edge
        and (error.status == HTTPStatus.UNPROCESSABLE_ENTITY or error.credits_refunded is not None)
    ):
        return _job_failed(state, error)
    if isinstance(error, DownloadError) and error.final:
        return _end(state, error)
    attempts, decided = (Attempts() if progressed else state.attempts).judge(
        Call.RETRIEVE, error, chance=chance, fresh=not state.found
    )
    if isinstance(decided, Retry):
        return evolve(state, attempts=attempts), Poll(state.ticket, decided.after)
    if isinstance(error, APIError) and error.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        own = error.facts.get("hint", JobFailedError.hint)  # the server's, where it gave one
        return _job_failed(state, error.with_facts(hint=own))
    if isinstance(error, BadRequestError) and is_unknown_id(error):
        error = error.with_facts(hint=_EXPIRED)
    elif isinstance(error, APIError) and kind_of(Call.RETRIEVE, error) is Kind.ABSENT:
        error = error.with_facts(hint=_PENDING)
    return _end(state, error)


def _job_failed(state: State, error: VeniceError) -> Step:
    """End with a job that failed at the server, which normally refunds it and may say so."""
    refunded = error.credits_refunded if isinstance(error, APIError | JobFailedError) else None
    ticket = ticket_of(state)
    error = error.with_facts(ticket=ticket, charged=None if refunded is None else not refunded)
    return Failed(error=error, ticket=ticket, job_failed=True), None
