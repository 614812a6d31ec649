"""What properties draw from: requests, tickets, errors, states, events, and whole lives of jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, TypeAlias

from attrs import evolve, frozen
from hypothesis import strategies as st

from venice_async.errors import (
    APIError,
    BadRequestError,
    ConnectError,
    ConsentDeclinedError,
    ContentPolicyError,
    DisconnectedError,
    InvalidRequestError,
    JobFailedError,
    JobTimeoutError,
    NotAVideoError,
    NotFoundError,
    ProtocolError,
    QueueOutcomeUnknownError,
    RateLimitError,
    ServerError,
    TruncatedError,
    UsageError,
    VeniceError,
)
from venice_async.media import Media
from venice_async.requests import (
    CameraPoint,
    Consent,
    Element,
    ImageReference,
    Keyframe,
    VideoReference,
    VideoRequest,
)
from venice_async.results import ConsentRequest, Ticket, Video
from venice_async.sansio.converter import dump_state, load_state
from venice_async.sansio.job.commands import AskConsent, AskPrice, CleanUp, Command, Fetch, Poll, Queue
from venice_async.sansio.job.events import (
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
from venice_async.sansio.job.machine import Step, begin, resume, step
from venice_async.sansio.job.states import (
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
)
from venice_async.sansio.retries import Attempts, Kind

YES: Final = Consent(terms_and_privacy=True, legal_right=True, screening=True)

LIKELY_CRASH: Final = 4  # of 19
UNLIKELY_END: Final = 19
LONGEST_LIFE: Final = 30  # steps

letters = st.text(st.characters(codec="ascii", categories=("Ll", "Nd")), min_size=1, max_size=8)
words = st.text(min_size=1, max_size=12).filter(str.strip)
counts = st.integers(0, 6)
spans = st.none() | st.floats(0, 1e6)
prices = st.floats(0, 100)
links = letters.map("https://cdn.example/clip.mp4?signature={}".format)
media = (
    links
    | letters.map("data:image/png;base64,{}".format)
    | st.builds(Media, st.binary(min_size=1, max_size=4), media_type=st.none() | st.just("image/png"))
    | letters.map(Media)
)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
elements = st.builds(
    Element,
    frontal_image_url=st.none() | media,
    reference_image_urls=st.lists(media, max_size=3),
    audio_url=st.none() | media,
) | st.builds(Element, video_url=media)
points = st.builds(
    CameraPoint,
    time=st.floats(0, 1),
    azimuth=st.integers(-90, 90) | st.floats(-90, 90),
    elevation=st.integers(-90, 90),
    distance=st.floats(0.1, 5),
)
trajectories = st.lists(points, min_size=2, max_size=4, unique_by=lambda point: point.time).map(
    lambda found: sorted(found, key=lambda point: point.time)
)
tomorrow = st.recursive(
    json_values | media,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(letters, inner, max_size=2),
    max_leaves=4,
)
keyframes = st.lists(
    st.builds(Keyframe, image_url=media, frame_index=st.integers(0, 24)),
    max_size=3,
    unique_by=lambda keyframe: keyframe.frame_index,
)
requests = st.builds(
    VideoRequest,
    model=words,
    prompt=words,
    duration=st.none() | st.sampled_from(["5s", 5, "1 gen", "auto", -1]),
    negative_prompt=st.none() | st.text(max_size=8),
    resolution=st.none() | words,
    audio=st.none() | st.booleans(),
    image_url=st.none() | media,
    reference_image_urls=st.lists(media, max_size=3),
    elements=st.lists(elements, max_size=2),
    keyframes=keyframes,
    image_references=st.lists(
        st.builds(ImageReference, image_url=media, ref_name=st.none() | words), max_size=2
    ),
    video_references=st.lists(
        st.builds(VideoReference, video_url=media, audio_url=st.none() | media), max_size=2
    ),
    consents=st.none() | st.just(YES),
    extra=st.dictionaries(letters.map("x_{}".format), tomorrow, max_size=2),
) | st.builds(
    VideoRequest,
    model=words,
    image_url=media,
    camera_trajectory=trajectories,
    image_strength=st.none() | st.floats(0, 1),
    voice_id=st.none() | words,
    anon_user_id=st.none() | letters,
)
plain_tickets = st.builds(Ticket, model=words, queue_id=words)
tickets = plain_tickets | st.builds(Ticket, model=words, queue_id=words, download_url=links)
videos = st.builds(
    Video,
    path=st.none() | letters.map(Path),
    size=st.integers(0),
    sha256=st.binary(min_size=32, max_size=32).map(bytes.hex),
    ticket=tickets,
)
questions = st.builds(
    ConsentRequest,
    flow=st.sampled_from(["seedance", "other"]),
    policy_text=words,
    consent_version=st.sampled_from(["v1", "v2"]),
    face_media_roles=st.lists(words, max_size=2).map(tuple),
    docs_url=st.none() | links,
    message=st.text(max_size=8),
)
answers = st.none() | st.builds(
    Consent, terms_and_privacy=st.booleans(), legal_right=st.just(value=True), screening=st.booleans()
)

plain_errors: list[type[VeniceError]] = [
    UsageError,
    ConnectError,
    DisconnectedError,
    ProtocolError,
    JobTimeoutError,
    VeniceError,
]
errors: st.SearchStrategy[VeniceError] = (
    st.one_of(*[st.builds(kind, words) for kind in plain_errors])
    | st.builds(InvalidRequestError, words, field=words, limit=st.none() | st.integers() | words)
    | st.builds(QueueOutcomeUnknownError, words, fingerprint=letters, at=letters, bytes_sent=st.booleans())
    | st.builds(
        BadRequestError, words, status=st.just(400), details=st.dictionaries(words, json_values, max_size=2)
    )
    | st.builds(RateLimitError, words, status=st.just(429), retry_after=spans)
    | st.builds(ContentPolicyError, words, status=st.just(422), credits_refunded=st.none() | st.booleans())
    | st.builds(NotFoundError, words, status=st.just(404), by_edge=st.booleans())
    | st.builds(ServerError, words, status=st.just(500), by_edge=st.booleans())
    | st.builds(JobFailedError, words, credits_refunded=st.none() | st.booleans())
    | st.builds(ConsentDeclinedError, words, consent_request=questions)
    | st.builds(TruncatedError, words, received=st.integers(0), total=st.none() | st.integers(0))
    | st.builds(ServerError, words, status=st.just(503))
)


def failed(error: VeniceError, ticket: Ticket | None) -> Failed:
    """Return the end of a job, as the machine makes it."""
    return Failed(error=error if ticket is None else error.with_ticket(ticket), ticket=ticket)


attempts = st.builds(
    Attempts, st.dictionaries(st.sampled_from(Kind), st.tuples(st.integers(1, 9), st.floats(0, 200)))
)
waitings = st.builds(
    Waiting,
    ticket=tickets,
    elapsed=spans,
    average=spans,
    eta=spans,
    misses=counts,
    found=st.booleans(),
    final=st.none() | words,
    attempts=attempts,
)
downloadings = st.builds(
    Downloading,
    ticket=tickets,
    via=st.sampled_from(["link", "poll"]),
    received=st.integers(0),
    total=st.none() | st.integers(0),
    link=st.none() | links,
    gets=st.integers(0, 5),
    average=spans,
    final=st.none() | words,
    attempts=attempts,
)

states: st.SearchStrategy[State] = st.one_of(
    st.builds(Quoting, request=requests, max_usd=prices, reference_video_seconds=spans),
    st.builds(
        Queueing,
        request=requests,
        consent=st.none() | st.just(YES),
        flow=st.none() | words,
        asked=st.lists(words, max_size=2).map(tuple),
    ),
    st.builds(
        AwaitingConsent,
        request=requests,
        consent_request=questions,
        asked=st.lists(words, max_size=2).map(tuple),
    ),
    waitings,
    downloadings,
    st.builds(Saved, video=videos),
    st.builds(Succeeded, video=videos),
    st.builds(failed, errors, st.none() | tickets),
    st.builds(Stopped, ticket=st.none() | tickets),
)

cuts = st.builds(
    Interrupted,
    st.builds(DisconnectedError, words)
    | st.builds(NotAVideoError, words, final=st.booleans())
    | st.builds(TruncatedError, words)
    | st.builds(ConnectError, words)
    | st.builds(APIError, words, status=st.sampled_from([403, 404, 410, 429, 500, 503])),
    st.booleans(),
)
ends: st.SearchStrategy[Event] = st.builds(Refused, errors) | st.just(StopAsked())
polled: st.SearchStrategy[Event] = st.one_of(
    st.builds(StillGoing, elapsed=spans, average=spans, eta=spans),
    st.builds(Completed, link=st.none() | links, elapsed=spans),
    st.builds(Missed, errors),
    cuts,
    st.builds(Delivered, videos),
)
Chances: TypeAlias = dict[type[Any], st.SearchStrategy[Event]]

EVENTS: Final[Chances] = {
    AskPrice: st.builds(Priced, prices),
    Queue: st.builds(Accepted, tickets) | st.builds(ConsentNeeded, questions),
    AskConsent: st.builds(Answered, answers | st.just(YES)),
    Poll: polled,
    Fetch: st.builds(Delivered, videos) | cuts,
    CleanUp: st.builds(CleanedUp, st.none() | errors),
}
"""What may come of a command."""

events: st.SearchStrategy[Event] = st.one_of(*EVENTS.values(), ends)


@frozen
class Crash:
    """The process ended, and another took up what the journal holds."""


@frozen
class Moment:
    """What happened, if anything, and what the machine made of it."""

    event: Event | Crash | None
    state: State
    command: Command | None


Life: TypeAlias = list[Moment]


ARGUMENTS: Final = EVENTS | {
    Queue: st.builds(ConsentNeeded, questions),
    AskConsent: st.builds(Answered, st.just(YES)),
}
"""What may come of a command where the server asks again and again, and a person says yes."""

TROUBLES: Final = EVENTS | {
    Queue: st.builds(Accepted, tickets),
    Poll: st.builds(Completed, link=st.none() | links) | cuts,
    Fetch: cuts,
}
"""What may come of a command where no clip ever arrives whole."""


@st.composite
def lives(draw: st.DrawFn, *, crashes: bool = False, of: Chances = EVENTS) -> Life:
    """Draw a job's life: what its commands may bring, in any order, until it ends or is left alone."""
    state, command = begin(VideoRequest(model="model", prompt="prompt"), max_usd=draw(st.none() | prices))
    life = [Moment(None, state, command)]
    for _ in range(LONGEST_LIFE):
        if command is None:
            break
        fate = draw(st.integers(0, 19))
        if crashes and fate <= LIKELY_CRASH and isinstance(state, Queueing | Waiting | Downloading | Saved):
            state, command = after_crash(state)
            life.append(Moment(Crash(), state, command))
        else:
            event = draw(ends if fate == UNLIKELY_END else of[type(command)])
            state, command = step(state, event)
            life.append(Moment(event, state, command))
    return life


def after_crash(state: State) -> Step:
    """Return how another process goes on with a state from the journal."""
    return resume(load_state(dump_state(state)))


def kept(state: State) -> State:
    """Return what the journal keeps of a state: all but the attempts."""
    return evolve(state, attempts=Attempts()) if isinstance(state, Waiting | Downloading) else state


def has_ended(state: State) -> bool:
    """Tell whether a state is terminal."""
    return isinstance(state, TERMINAL)
