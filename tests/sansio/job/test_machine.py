"""The life of a job, step by step."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sansio.relation import POSSIBLE
from venice_async.errors import (
    BudgetExceededError,
    ConsentDeclinedError,
    ConsentError,
    DisconnectedError,
    DownloadError,
    JobFailedError,
    NotAVideoError,
    NotFoundError,
    QueueOutcomeUnknownError,
    ServerError,
    TruncatedError,
)
from venice_async.requests import Consent, VideoRequest
from venice_async.results import ConsentRequest, Ticket, Video
from venice_async.sansio.job.commands import AskConsent, AskPrice, CleanUp, Fetch, Poll, Queue
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
from venice_async.sansio.job.machine import (
    MAX_EMPTY,
    MAX_GETS,
    MAX_POLICIES,
    IllegalTransitionError,
    Step,
    begin,
    estimate,
    receive,
    resume,
    step,
    watch,
)
from venice_async.sansio.job.states import (
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

REQUEST = VideoRequest(model="model", prompt="a cat")
TICKET = Ticket(model="model", queue_id="q1")
PRIVATE = Ticket(model="model", queue_id="q1", download_url="https://cdn.example/q1?sig=s3cret")
VIDEO = Video(path=Path("clip.mp4"), size=9, sha256="00", ticket=TICKET)
YES = Consent(terms_and_privacy=True, legal_right=True, screening=True)
NO = Consent(terms_and_privacy=True, legal_right=False, screening=True)
CUT = Interrupted(DisconnectedError("cut"))
NOT_A_VIDEO = Interrupted(NotAVideoError("HTML"))


def play(start: Step, *events: Event) -> Step:
    """Return where `events` lead."""
    state, command = start
    for event in events:
        state, command = step(state, event)
    return state, command


def question(version: str = "v1", flow: str = "seedance") -> ConsentRequest:
    return ConsentRequest(flow=flow, policy_text="text", consent_version=version)


def failure(start: Step, *events: Event) -> Failed:
    """Return the failure that `events` lead to."""
    state, command = play(start, *events)
    assert command is None
    assert isinstance(state, Failed)
    return state


STATES: list[State] = [
    Quoting(request=REQUEST, max_usd=1.0),
    Queueing(request=REQUEST),
    AwaitingConsent(request=REQUEST, consent_request=question(), asked=("seedance/v1",)),
    Waiting(ticket=TICKET),
    Downloading(ticket=PRIVATE, via="link", gets=1),
    Saved(video=VIDEO),
    Succeeded(video=VIDEO),
    Failed(error=JobFailedError("no")),
    Stopped(),
]
EVENTS: list[Event] = [
    Priced(1.0),
    Accepted(TICKET),
    ConsentNeeded(question()),
    Answered(YES),
    StillGoing(),
    Completed(),
    Missed(ServerError("busy", status=503)),
    CUT,
    Delivered(VIDEO),
    CleanedUp(),
    Refused(JobFailedError("no")),
    StopAsked(),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
@pytest.mark.parametrize("state", STATES, ids=lambda state: type(state).__name__)
def test_what_may_happen_where_is_this_and_nothing_else(state: State, event: Event) -> None:
    anywhere = isinstance(event, Refused | StopAsked) and not isinstance(state, Succeeded | Failed | Stopped)
    if anywhere or type(event) in POSSIBLE.get(type(state), set()):
        after, command = step(state, event)
        assert isinstance(after, Succeeded | Failed | Stopped) == (command is None)
    else:
        with pytest.raises(IllegalTransitionError, match=f"^{type(event).__name__} cannot happen in"):
            step(state, event)


def test_a_public_clip_is_queued_polled_delivered_and_cleaned_up() -> None:
    waiting, poll = play(begin(REQUEST), Accepted(TICKET), StillGoing(elapsed=1.0, average=9.0, eta=8.0))
    told = Waiting(ticket=TICKET, elapsed=1.0, average=9.0, eta=8.0)
    assert (told, Poll(TICKET)) == (waiting, poll)
    saved = step(waiting, Delivered(VIDEO))
    assert (Saved(video=VIDEO), CleanUp(VIDEO)) == saved
    assert (Succeeded(video=VIDEO), None) == step(saved[0], CleanedUp())


def test_a_private_clip_is_fetched_from_its_link() -> None:
    downloading, fetch = play(begin(REQUEST), Accepted(PRIVATE), Completed())
    assert (Downloading(ticket=PRIVATE, via="link", gets=1), Fetch(PRIVATE, 1)) == (downloading, fetch)


def test_the_link_of_the_ticket_is_trusted_above_the_one_that_a_poll_names() -> None:
    _, fetch = play(watch(PRIVATE), Completed(link="https://elsewhere.example/x"))
    assert Fetch(PRIVATE, 1) == fetch


def test_a_link_that_a_poll_names_is_fetched_again_and_is_no_part_of_the_ticket() -> None:
    named = Ticket(model="model", queue_id="q1", download_url="https://cdn.example/other")
    state, fetch = play(watch(TICKET), Completed(link="https://cdn.example/other"), CUT)
    assert TICKET == ticket_of(state)
    assert Fetch(named, 2) == fetch
    assert "cdn.example" not in repr(state)
    saved, clean_up = step(state, Delivered(Video(path=None, size=1, sha256="00", ticket=named)))
    assert TICKET == ticket_of(saved)
    assert isinstance(clean_up, CleanUp)
    assert TICKET == clean_up.video.ticket


def test_the_price_is_asked_first_where_there_is_a_limit() -> None:
    assert (Quoting(request=REQUEST, max_usd=0.5), AskPrice(REQUEST)) == begin(REQUEST, max_usd=0.5)


def test_the_price_is_asked_with_the_length_of_the_reference_clips() -> None:
    state, ask = begin(REQUEST, max_usd=0.5, reference_video_seconds=12.5)
    assert Quoting(request=REQUEST, max_usd=0.5, reference_video_seconds=12.5) == state
    assert AskPrice(REQUEST, reference_video_seconds=12.5) == ask


@pytest.mark.parametrize("usd", [0.0, 0.49, 0.5])
def test_a_price_up_to_the_limit_is_paid(usd: float) -> None:
    assert (Queueing(request=REQUEST), Queue(REQUEST)) == play(begin(REQUEST, max_usd=0.5), Priced(usd))


@pytest.mark.parametrize("usd", [0.51, float("inf"), float("nan")])
def test_a_price_above_the_limit_queues_nothing(usd: float) -> None:
    error = failure(begin(REQUEST, max_usd=0.5), Priced(usd)).error
    assert isinstance(error, BudgetExceededError)
    assert 0.5 == error.limit_usd
    assert str(usd) == str(error.quoted_usd)
    assert error.charged is False


def test_consent_is_asked_of_a_person_and_sent_in_the_words_of_its_flow() -> None:
    state, command = play(begin(REQUEST), ConsentNeeded(question()))
    asked = ConsentRequest(flow="seedance", policy_text="text", consent_version="v1", request=REQUEST)
    policy = ("seedance/v1",)
    assert (AwaitingConsent(request=REQUEST, consent_request=asked, asked=policy), AskConsent(asked)) == (
        state,
        command,
    )
    queueing, queue = step(state, Answered(YES))
    assert Queue(REQUEST, YES, "seedance") == queue
    assert Queueing(request=REQUEST, consent=YES, flow="seedance", asked=policy) == queueing


@pytest.mark.parametrize("answer", [None, NO])
def test_a_no_or_half_a_yes_is_a_no(answer: Consent | None) -> None:
    error = failure(begin(REQUEST), ConsentNeeded(question()), Answered(answer)).error
    assert isinstance(error, ConsentDeclinedError)
    assert "seedance/v1" == error.consent_request.policy
    assert error.charged is False


def test_a_second_question_about_the_same_policy_is_an_error() -> None:
    error = failure(begin(REQUEST), ConsentNeeded(question()), Answered(YES), ConsentNeeded(question())).error
    assert type(error) is ConsentError
    assert REQUEST == error.consent_request.request


def test_a_newer_policy_is_asked_about_but_not_policies_without_end() -> None:
    asked: list[Event] = []
    for version in range(MAX_POLICIES):
        asked += [ConsentNeeded(question(f"v{version}")), Answered(YES)]
    assert isinstance(play(begin(REQUEST), *asked)[1], Queue)
    assert isinstance(
        failure(begin(REQUEST), *asked, ConsentNeeded(question("one more"))).error, ConsentError
    )


def test_polls_without_news_are_counted_and_never_end_a_job() -> None:
    state, command = play(watch(TICKET), *[Missed(ServerError("busy", status=503))] * 1000)
    assert (Waiting(ticket=TICKET, misses=1000), Poll(TICKET)) == (state, command)
    assert Waiting(ticket=TICKET, elapsed=2.0) == step(state, StillGoing(elapsed=2.0))[0]


def test_an_answer_that_leaves_out_a_figure_keeps_the_last_one_but_for_the_estimate() -> None:
    state, _ = play(watch(TICKET), StillGoing(elapsed=1.0, average=9.0, eta=8.0), StillGoing())
    assert Waiting(ticket=TICKET, elapsed=1.0, average=9.0) == state


def test_a_clip_that_is_cut_in_a_poll_is_asked_for_again_until_the_deadline() -> None:
    state, command = play(watch(TICKET), *[CUT, Interrupted(TruncatedError("short"))] * 50)
    assert (Waiting(ticket=TICKET, interruptions=100), Poll(TICKET)) == (state, command)


def test_progress_takes_back_the_count_of_interruptions() -> None:
    state, _ = play(watch(TICKET), CUT, CUT, Interrupted(DisconnectedError("cut"), progressed=True))
    assert Waiting(ticket=TICKET) == state
    link, fetch = play(
        watch(PRIVATE), Completed(), CUT, Interrupted(DisconnectedError("cut"), progressed=True)
    )
    assert Downloading(ticket=PRIVATE, via="link", gets=3) == link
    assert Fetch(PRIVATE, 3) == fetch


def test_what_a_cut_delivery_had_learned_of_the_model_is_kept() -> None:
    waiting, _ = play(watch(TICKET), StillGoing(elapsed=3.0, average=600.0, eta=1.0), Completed())
    assert isinstance(waiting, Waiting)
    again, _ = step(receive(waiting, received=7, total=9), CUT)
    assert Waiting(ticket=TICKET, average=600.0, interruptions=1, empty=1) == again
    fetching, _ = play(watch(PRIVATE), StillGoing(average=600.0), Completed())
    assert isinstance(fetching, Downloading)
    assert 600.0 == fetching.average


@pytest.mark.parametrize("event", [Completed(), NOT_A_VIDEO])
def test_answers_without_the_clip_they_promise_end_a_job_after_a_few(event: Event) -> None:
    state, command = play(watch(TICKET), *[event] * (MAX_EMPTY - 1))
    assert (Waiting(ticket=TICKET, empty=MAX_EMPTY - 1), Poll(TICKET)) == (state, command)
    failed = failure((state, command), event)
    assert isinstance(failed.error, DownloadError)
    assert TICKET == failed.error.ticket
    assert failed.error.charged is True


def test_clips_that_were_cut_before_do_not_make_one_strange_answer_the_end() -> None:
    state, _ = play(watch(TICKET), *[CUT] * 9, NOT_A_VIDEO)
    assert Waiting(ticket=TICKET, interruptions=9, empty=1) == state


def test_a_strange_answer_that_had_begun_to_come_counts_like_any_other() -> None:
    start = watch(TICKET)
    for _ in range(MAX_EMPTY - 1):
        start = step(receive(start[0], received=1, total=None), NOT_A_VIDEO)
    failed = failure((receive(start[0], received=1, total=None), None), NOT_A_VIDEO)
    assert isinstance(failed.error, NotAVideoError)


def test_a_link_is_used_five_times_and_then_the_last_error_is_the_end() -> None:
    state, command = play(watch(PRIVATE), Completed(), *[CUT] * (MAX_GETS - 1))
    assert Fetch(PRIVATE, MAX_GETS) == command
    failed = failure((state, command), Interrupted(TruncatedError("the last cut")))
    assert "the last cut" == failed.error.message
    assert "not asked more than 5 times" in failed.error.hint
    assert PRIVATE == failed.error.ticket


def test_a_link_that_was_used_up_before_a_crash_is_not_used_again() -> None:
    left = Downloading(ticket=PRIVATE, via="link", gets=MAX_GETS, received=5, total=9)
    failed = failure(resume(left))
    assert isinstance(failed.error, DownloadError)
    assert (5, 9) == (failed.error.received, failed.error.total)
    assert "not asked more than 5 times" in failed.error.hint
    assert PRIVATE == failed.error.ticket


def test_a_crash_during_a_download_counts_as_a_use_of_the_link() -> None:
    left = Downloading(ticket=PRIVATE, via="link", gets=2, received=5)
    expected = Downloading(ticket=PRIVATE, via="link", gets=3, received=5, interruptions=1)
    assert (expected, Fetch(PRIVATE, 3)) == resume(left)


@pytest.mark.parametrize(
    "left",
    [
        Waiting(ticket=TICKET, elapsed=3.0, misses=4, empty=2),
        Downloading(ticket=TICKET, via="poll", received=4),
    ],
)
def test_a_job_that_waited_when_a_process_ended_waits_anew(left: State) -> None:
    assert (Waiting(ticket=TICKET), Poll(TICKET)) == resume(left)


def test_a_paid_request_without_an_outcome_is_reported_as_unknown() -> None:
    failed = failure(resume(Queueing(request=REQUEST)))
    assert isinstance(failed.error, QueueOutcomeUnknownError)
    assert failed.error.charged is None


def test_a_clean_up_that_a_crash_cut_short_is_tried_again() -> None:
    assert (Saved(video=VIDEO), CleanUp(VIDEO)) == resume(Saved(video=VIDEO))


def test_a_clean_up_that_fails_never_fails_the_job() -> None:
    assert (Succeeded(video=VIDEO), None) == step(
        Saved(video=VIDEO), CleanedUp(ServerError("no", status=500))
    )


@pytest.mark.parametrize("event", [StopAsked(), Refused(ServerError("no", status=500))])
def test_a_clip_that_is_safe_is_a_success_even_if_the_job_is_stopped(event: Event) -> None:
    assert (Succeeded(video=VIDEO), None) == step(Saved(video=VIDEO), event)


def test_a_job_that_is_stopped_before_it_is_queued_has_no_ticket() -> None:
    assert (Stopped(), None) == play(begin(REQUEST), StopAsked())
    assert (Stopped(), None) == play(begin(REQUEST), ConsentNeeded(question()), StopAsked())


def test_a_queued_job_that_is_stopped_keeps_its_ticket() -> None:
    assert (Stopped(ticket=PRIVATE), None) == play(watch(PRIVATE), Completed(), StopAsked())


def test_an_error_keeps_its_class_and_carries_the_ticket() -> None:
    failed = failure(watch(TICKET), Refused(NotFoundError("gone", status=404)))
    assert isinstance(failed.error, NotFoundError)
    assert (TICKET, TICKET) == (failed.ticket, failed.error.ticket)


def test_an_error_before_queueing_has_no_ticket() -> None:
    failed = failure(begin(REQUEST), Refused(JobFailedError("no")))
    assert (None, None) == (failed.ticket, failed.error.ticket)


@pytest.mark.parametrize("state", [Succeeded(video=VIDEO), Stopped(), Failed(error=JobFailedError("no"))])
@pytest.mark.parametrize("event", [StopAsked(), Refused(JobFailedError("no")), Delivered(VIDEO)])
def test_nothing_happens_after_the_end(state: State, event: Event) -> None:
    with pytest.raises(IllegalTransitionError):
        step(state, event)


def test_bytes_of_a_running_download_leave_its_counts_as_they_are() -> None:
    state = Downloading(ticket=PRIVATE, via="link", gets=3, interruptions=2, average=9.0, empty=1)
    expected = Downloading(
        ticket=PRIVATE, via="link", gets=3, interruptions=2, average=9.0, empty=1, received=5, total=9
    )
    assert expected == receive(state, received=5, total=9)


@pytest.mark.parametrize(
    ("state", "progress"),
    [
        (Waiting(ticket=TICKET), None),
        (Waiting(ticket=TICKET, elapsed=3.0), None),
        (Waiting(ticket=TICKET, elapsed=3.0, eta=1.0), 0.75),
        (Waiting(ticket=TICKET, elapsed=3.0, eta=0.0), 0.99),
        (Waiting(ticket=TICKET, elapsed=0.0, eta=0.0), 0.0),
        (Downloading(ticket=TICKET, via="poll", received=5), None),
        (Downloading(ticket=TICKET, via="poll", received=5, total=10), 0.5),
        (Downloading(ticket=TICKET, via="poll", received=11, total=10), 1.0),
    ],
)
def test_progress_is_said_where_it_is_known(state: Waiting | Downloading, progress: float | None) -> None:
    assert progress == state.progress


@pytest.mark.parametrize("state", [Saved(video=VIDEO), Succeeded(video=VIDEO), Stopped(ticket=TICKET)])
def test_the_ticket_is_there_to_the_end(state: State) -> None:
    assert TICKET == ticket_of(state)


def test_no_state_or_event_shows_the_link() -> None:
    state, _ = play(watch(PRIVATE), Completed(link="https://cdn.example/x?sig=s3cret"))
    shown = repr(
        [state, Completed(link="https://cdn.example/x?sig=s3cret"), Accepted(PRIVATE), Fetch(PRIVATE, 1)]
    )
    assert "s3cret" not in shown


def test_an_estimate_changes_what_a_waiting_job_shows_and_nothing_else() -> None:
    waiting, _ = watch(TICKET)
    expected = Waiting(ticket=TICKET, eta=30.0)
    assert expected == estimate(waiting, eta=30.0)
    queueing, _ = begin(REQUEST)
    assert queueing == estimate(queueing, eta=30.0)
