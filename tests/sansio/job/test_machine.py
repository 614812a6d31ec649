"""The life of a job, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cases import for_each
from tests.sansio.relation import POSSIBLE
from venice_async.errors import (
    APIError,
    BadRequestError,
    BudgetExceededError,
    ConnectError,
    ConsentDeclinedError,
    ConsentError,
    ContentPolicyError,
    DisconnectedError,
    DownloadError,
    JobFailedError,
    NotAVideoError,
    NotFoundError,
    QueueOutcomeUnknownError,
    ServerError,
    TruncatedError,
    UsageError,
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
    MAX_GETS,
    MAX_POLICIES,
    IllegalTransitionError,
    Step,
    begin,
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


@for_each("event", EVENTS)
@for_each("state", STATES)
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
    told = Waiting(ticket=TICKET, elapsed=1.0, average=9.0, eta=8.0, found=True)
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
    assert Fetch(named, 2, 0.5) == fetch
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
    assert error.consent_request is not None
    assert "seedance/v1" == error.consent_request.policy
    assert error.charged is False


def test_a_second_question_about_the_same_policy_is_an_error() -> None:
    error = failure(begin(REQUEST), ConsentNeeded(question()), Answered(YES), ConsentNeeded(question())).error
    assert type(error) is ConsentError
    assert error.consent_request is not None
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
    assert isinstance(state, Waiting)
    assert (1000, Poll(TICKET, 30.0)) == (state.misses, command)
    assert Waiting(ticket=TICKET, elapsed=2.0, found=True) == step(state, StillGoing(elapsed=2.0))[0]


def test_an_answer_that_leaves_out_a_figure_keeps_the_last_one_but_for_the_estimate() -> None:
    state, _ = play(watch(TICKET), StillGoing(elapsed=1.0, average=9.0, eta=8.0), StillGoing())
    assert Waiting(ticket=TICKET, elapsed=1.0, average=9.0, found=True) == state


def pauses(state: State, event: Event, *, chance: float = 0.5) -> list[float]:
    """Return the pauses that `event` leads to, again and again, until it ends the job; at most 100."""
    found: list[float] = []
    for _ in range(100):
        state, command = step(state, event, chance=chance)
        if not isinstance(command, Poll | Fetch):
            break
        found.append(command.after)
    return found


def test_a_clip_that_is_cut_in_a_poll_is_asked_for_again_until_the_deadline() -> None:
    assert 100 == len(pauses(Waiting(ticket=TICKET), CUT))
    assert 100 == len(pauses(Waiting(ticket=TICKET), Interrupted(TruncatedError("short"))))


def test_progress_takes_back_the_growth_of_the_pauses() -> None:
    progress = Interrupted(DisconnectedError("cut"), progressed=True)
    first = play(watch(TICKET), CUT)
    assert first == play(watch(TICKET), CUT, CUT, CUT, progress)
    state, fetch = play(watch(PRIVATE), Completed(), CUT, CUT, progress)
    assert (Fetch(PRIVATE, 4, 0.5), 4) == (fetch, getattr(state, "gets", 0))


def test_what_a_cut_delivery_had_learned_of_the_model_is_kept() -> None:
    waiting, _ = play(watch(TICKET), StillGoing(elapsed=3.0, average=600.0, eta=1.0), Completed())
    assert isinstance(waiting, Waiting)
    again, _ = step(receive(waiting, received=7, total=9), CUT)
    assert isinstance(again, Waiting)
    assert (600.0, True) == (again.average, again.found)
    fetching, _ = play(watch(PRIVATE), StillGoing(average=600.0), Completed())
    assert isinstance(fetching, Downloading)
    assert 600.0 == fetching.average


def api(status: int, message: str = "no", **facts: Any) -> Missed:
    """Return a poll that is answered with an error in the API's own JSON."""
    kind = {400: BadRequestError, 404: NotFoundError, 422: ContentPolicyError, 500: ServerError}
    return Missed(kind.get(status, APIError)(message, status=status, **facts))


INVALID_ID = api(400, "Request ID is invalid.")


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
def test_what_is_not_there_is_asked_for_again_with_growing_pauses_for_a_minute_or_two(chance: float) -> None:
    found, fresh = Waiting(ticket=TICKET, found=True), Waiting(ticket=TICKET)
    later = (api(421), api(423, "Locked"), api(425, "Too early"))
    for event in (api(404), INVALID_ID, api(400, "Unknown queue_id"), Completed(), NOT_A_VIDEO, *later):
        waits = pauses(found, event, chance=chance)
        assert 90 <= sum(waits) <= 110
        assert sorted(waits) == waits
        longer = pauses(fresh, event, chance=chance)
        assert 135 <= sum(longer) <= 155 or isinstance(event, Completed)  # which says that the job is known


@pytest.mark.parametrize("event", [api(404), api(425), INVALID_ID, Completed(), NOT_A_VIDEO])
def test_what_stays_absent_is_an_error_with_the_ticket_and_the_job_has_not_failed(event: Event) -> None:
    state: State = Waiting(ticket=TICKET)
    for _ in pauses(state, event):
        state, _ = step(state, event)
    failed = failure((state, None), event)
    assert (TICKET, True, False) == (failed.error.ticket, failed.error.charged, failed.job_failed)
    assert "24 hours" in failed.error.hint or event is not INVALID_ID
    assert "pending" in failed.error.hint or event is NOT_A_VIDEO


def test_news_in_between_begin_the_patience_anew() -> None:
    state: State = Waiting(ticket=TICKET, found=True)
    for _ in range(3):
        for _ in range(4):
            state, _ = step(state, api(404))
        state, _ = step(state, StillGoing())
    assert Waiting(ticket=TICKET, found=True) == state


@pytest.mark.parametrize("status", [400, 401, 402, 403, 409, 410, 413])
def test_a_refusal_in_the_words_of_the_api_ends_a_job_at_once_but_does_not_say_that_it_failed(
    status: int,
) -> None:
    failed = failure(watch(TICKET), api(status))
    assert (TICKET, True, False) == (failed.error.ticket, failed.error.charged, failed.job_failed)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 500, 502])
def test_a_page_of_an_edge_is_trouble_of_the_network_whatever_its_status(status: int) -> None:
    assert 100 == len(pauses(Waiting(ticket=TICKET), api(status, by_edge=True)))


@pytest.mark.parametrize(("refunded", "charged"), [(True, False), (False, True), (None, None)])
def test_a_job_that_failed_says_whether_it_was_refunded(refunded: bool | None, charged: bool | None) -> None:
    told: dict[str, Any] = {} if refunded is None else {"credits_refunded": refunded}
    events: list[Event] = [api(422, **told), Refused(JobFailedError("no", **told))]
    for event in events if refunded is None else [*events, api(400, **told), api(500, **told)]:
        failed = failure(watch(TICKET), event)
        assert (TICKET, charged, True) == (failed.error.ticket, failed.error.charged, failed.job_failed)


def test_a_failure_is_confirmed_by_one_more_poll() -> None:
    state, command = play(watch(TICKET), StillGoing(), api(500))
    assert Poll(TICKET, 5.0) == command
    failed = failure((state, command), api(500))
    assert (None, True) == (failed.error.charged, failed.job_failed)
    assert "normally refunds" in str(failed.error)
    busy = api(503)
    assert failed == failure((state, command), busy, api(500))
    assert isinstance(play((state, command), StillGoing(), api(500))[1], Poll)


def link(status: int) -> Interrupted:
    return Interrupted(APIError("no", status=status, by_edge=True))


@pytest.mark.parametrize("event", [link(403), link(404), link(425), NOT_A_VIDEO])
def test_a_link_without_its_clip_is_asked_within_its_gets_over_a_minute_or_two(event: Event) -> None:
    state, _ = play(watch(PRIVATE), Completed())
    for chance in (0.0, 0.999):
        waits = pauses(state, event, chance=chance)
        assert MAX_GETS - 1 == len(waits)
        assert 60 <= sum(waits) <= 140


@pytest.mark.parametrize("status", [400, 401, 410])
def test_a_link_that_is_gone_is_not_asked_again(status: int) -> None:
    failed = failure(play(watch(PRIVATE), Completed()), link(status))
    assert (False, PRIVATE) == (failed.job_failed, failed.ticket)
    assert "pending" in failed.error.hint


def test_a_link_without_a_connection_uses_no_get() -> None:
    _, command = play(watch(PRIVATE), Completed(), *[Interrupted(ConnectError("no"))] * 50)
    assert isinstance(command, Fetch)
    assert (1, 10.0) == (command.gets, command.after)


@pytest.mark.parametrize("start", [watch(TICKET), play(watch(PRIVATE), Completed())])
def test_what_came_twice_as_it_is_is_not_fetched_a_third_time(start: Step) -> None:
    failed = failure(start, Interrupted(NotAVideoError("no index", final=True)))
    assert (True, False) == (failed.error.charged, failed.job_failed)


def test_what_an_earlier_run_found_twice_as_it_is_is_not_fetched_to_know() -> None:
    failed, command = resume(Waiting(ticket=TICKET, final="no index"))
    assert isinstance(failed, Failed)
    assert (None, True, TICKET) == (command, failed.error.charged, failed.error.ticket)
    assert "resume(ticket, to=...)" in failed.error.hint


def test_a_link_is_used_five_times_and_then_the_last_error_is_the_end() -> None:
    state, command = play(watch(PRIVATE), Completed(), *[CUT] * (MAX_GETS - 1))
    assert isinstance(command, Fetch)
    assert MAX_GETS == command.gets
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
    expected = Downloading(ticket=PRIVATE, via="link", gets=3, received=5)
    assert (expected, Fetch(PRIVATE, 3)) == resume(left)


@pytest.mark.parametrize(
    "left",
    [
        Waiting(ticket=TICKET, elapsed=3.0, misses=4),
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


def test_a_job_that_is_stopped_for_a_reason_fails_unless_it_is_paid_for() -> None:
    reason = UsageError("The client is closing")
    assert reason is failure(begin(REQUEST), StopAsked(reason)).error
    assert (Stopped(ticket=TICKET), None) == play(watch(TICKET), StopAsked(reason))


def test_a_queued_job_that_is_stopped_keeps_its_ticket() -> None:
    assert (Stopped(ticket=PRIVATE), None) == play(watch(PRIVATE), Completed(), StopAsked())


def test_an_error_keeps_its_class_and_carries_the_ticket() -> None:
    failed = failure(watch(TICKET), Refused(NotFoundError("gone", status=404)))
    assert isinstance(failed.error, NotFoundError)
    assert (TICKET, TICKET) == (failed.ticket, failed.error.ticket)


def test_an_error_before_queueing_has_no_ticket() -> None:
    failed = failure(begin(REQUEST), Refused(JobFailedError("no")))
    assert (None, None) == (failed.ticket, failed.error.ticket)


@for_each("state", [Succeeded(video=VIDEO), Stopped(), Failed(error=JobFailedError("no"))])
@for_each("event", [StopAsked(), Refused(JobFailedError("no")), Delivered(VIDEO)])
def test_nothing_happens_after_the_end(state: State, event: Event) -> None:
    with pytest.raises(IllegalTransitionError):
        step(state, event)


def test_bytes_of_a_running_download_leave_its_counts_as_they_are() -> None:
    state = Downloading(ticket=PRIVATE, via="link", gets=3, average=9.0)
    expected = Downloading(ticket=PRIVATE, via="link", gets=3, average=9.0, received=5, total=9)
    assert expected == receive(state, received=5, total=9)


@for_each(
    "state, progress",
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


def test_a_kept_answer_to_a_paid_request_is_in_the_error_of_the_recovered_job() -> None:
    request = VideoRequest(model="model", prompt="prompt")
    state, command = resume(Queueing(request=request, answer="200: {}"))
    assert command is None
    assert isinstance(state, Failed)
    assert isinstance(state.error, QueueOutcomeUnknownError)
    assert "200: {}" == state.error.answer


def test_a_poll_that_says_that_the_job_failed_ends_it() -> None:
    state, command = step(Waiting(ticket=TICKET), Missed(JobFailedError("no")))
    assert command is None
    assert isinstance(state, Failed)
    assert state.job_failed
