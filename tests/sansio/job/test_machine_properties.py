"""What holds in every life of a job, whatever happens in it."""

from __future__ import annotations

import copy

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from tests.sansio.relation import POSSIBLE
from tests.sansio.strategies import (
    ARGUMENTS,
    TROUBLES,
    Crash,
    Life,
    cuts,
    downloadings,
    events,
    has_ended,
    kept,
    lives,
    requests,
    states,
    tickets,
    waitings,
)
from venice_async.errors import ConnectError, QueueOutcomeUnknownError
from venice_async.requests import VideoRequest
from venice_async.results import Ticket
from venice_async.sansio.converter import dump_state, load_state
from venice_async.sansio.job.commands import AskConsent, AskPrice, CleanUp, Command, Fetch, Queue
from venice_async.sansio.job.events import (
    Accepted,
    Answered,
    ConsentNeeded,
    Delivered,
    Event,
    Interrupted,
    Refused,
    StopAsked,
)
from venice_async.sansio.job.machine import (
    MAX_GETS,
    MAX_POLICIES,
    IllegalTransitionError,
    begin,
    receive,
    resume,
    step,
    watch,
)
from venice_async.sansio.job.states import (
    Downloading,
    Failed,
    Queueing,
    Saved,
    State,
    Succeeded,
    Waiting,
    ticket_of,
)

crashing = lives(crashes=True) | lives(crashes=True, of=TROUBLES)
anything = lives() | lives(of=ARGUMENTS) | lives(of=TROUBLES) | crashing


def commands_of(life: Life) -> list[Command]:
    return [moment.command for moment in life if moment.command is not None]


def before(life: Life, kind: type[object]) -> Life:
    """Return the life up to the first event of that kind, without it."""
    ends = (place for place, moment in enumerate(life) if isinstance(moment.event, kind))
    return life[: next(ends, len(life))]


def after(life: Life, kind: type[object]) -> Life:
    """Return the life from the first event of that kind."""
    return life[len(before(life, kind)) :]


@given(anything)
def test_it_never_pays_again_once_a_request_was_accepted(life: Life) -> None:
    assert not any(isinstance(moment.command, Queue | AskPrice) for moment in after(life, Accepted))


@given(anything)
def test_it_pays_once_unless_the_server_asked_for_consent_which_costs_nothing(life: Life) -> None:
    unpaid = True
    for moment in life:
        if isinstance(moment.event, ConsentNeeded):
            unpaid = True
        if isinstance(moment.command, Queue):
            assert unpaid
            unpaid = False


@given(crashing)
def test_a_paid_request_that_a_crash_left_without_an_outcome_is_never_sent_again(life: Life) -> None:
    for moment in life:
        if isinstance(moment.event, Crash):
            assert not isinstance(moment.command, Queue | AskPrice)
    queued = [place for place, moment in enumerate(life) if isinstance(moment.state, Queueing)]
    for place in queued:
        if life[place + 1 :] and isinstance(life[place + 1].event, Crash):
            left = life[place + 1].state
            assert isinstance(left, Failed)
            assert isinstance(left.error, QueueOutcomeUnknownError)


@given(anything | lives(of=ARGUMENTS))
def test_it_asks_a_person_at_most_once_for_a_policy(life: Life) -> None:
    asked = [
        command.consent_request.policy for command in commands_of(life) if isinstance(command, AskConsent)
    ]
    assert len(set(asked)) == len(asked)
    assert len(asked) <= MAX_POLICIES


@given(anything)
def test_a_refusal_is_the_end_of_it(life: Life) -> None:
    for moment in life:
        if isinstance(moment.event, Answered) and not (
            moment.event.consent and moment.event.consent.complete
        ):
            assert isinstance(moment.state, Failed)
            assert moment is life[-1]


@given(anything)
def test_what_is_sent_after_an_answer_carries_exactly_that_consent(life: Life) -> None:
    for moment in life:
        if isinstance(moment.event, Answered) and isinstance(moment.command, Queue):
            assert moment.event.consent == moment.command.consent
            assert moment.command.flow is not None


@given(anything)
def test_the_server_keeps_its_copy_until_the_file_is_safe(life: Life) -> None:
    assert not any(isinstance(moment.command, CleanUp) for moment in before(life, Delivered))
    for moment in life:
        assert isinstance(moment.command, CleanUp) == isinstance(moment.state, Saved)


@given(anything)
def test_a_saved_clip_is_a_success_whatever_comes_after(life: Life) -> None:
    for moment in after(life, Delivered):
        assert isinstance(moment.state, Saved | Succeeded)


@given(anything)
def test_it_ends_exactly_where_no_command_is_left(life: Life) -> None:
    for moment in life:
        assert has_ended(moment.state) == (moment.command is None)


@given(crashing)
def test_a_link_is_used_five_times_at_most_through_any_number_of_crashes(life: Life) -> None:
    gets = [
        (command.gets, isinstance(moment.event, Interrupted) and isinstance(moment.event.error, ConnectError))
        for moment in life
        if isinstance(command := moment.command, Fetch)
    ]
    made = [number for number, unsent in gets if not unsent]  # where no connection was made, nor was a GET
    assert list(range(1, len(made) + 1)) == made
    assert len(made) <= MAX_GETS


@given(anything)
def test_the_ticket_stays_the_one_that_was_given(life: Life) -> None:
    given_out: Ticket | None = None
    for moment in life:
        if isinstance(moment.event, Accepted):
            given_out = moment.event.ticket
        assert given_out == ticket_of(moment.state)


@given(anything)
def test_an_error_after_queueing_carries_the_ticket(life: Life) -> None:
    last = life[-1].state
    if isinstance(last, Failed):
        assert ticket_of(last) == last.ticket
        if last.ticket is not None:
            assert last.error.ticket == last.ticket


@given(anything)
def test_every_state_outlives_the_journal(life: Life) -> None:
    for moment in life:
        assert kept(moment.state) == load_state(dump_state(moment.state))


@given(states)
def test_the_journal_returns_the_state_it_was_given(state: State) -> None:
    assert kept(state) == load_state(dump_state(state))


@given(states, events, st.floats(0, 1, exclude_max=True))
def test_equal_inputs_give_equal_outputs_and_stay_as_they_were(
    state: State, event: Event, chance: float
) -> None:
    def outcome() -> object:
        try:
            return step(state, event, chance=chance)
        except IllegalTransitionError as error:
            return str(error)

    was = copy.deepcopy((state, facts(event)))
    assert outcome() == outcome()
    assert was == (state, facts(event))


def facts(event: Event) -> object:
    """Return what an event's error says, and the event without it."""
    error = getattr(event, "error", None)
    return event if error is None else (type(event), type(error), dict(error.facts))


@given(states, events)
def test_what_cannot_happen_raises_and_changes_nothing(state: State, event: Event) -> None:
    was, record = copy.deepcopy(state), dump_state(state)
    always = isinstance(event, Refused | StopAsked) and not has_ended(state)
    if always or type(event) in POSSIBLE.get(type(state), set()):
        step(state, event)
        assert was == state
        return
    with pytest.raises(IllegalTransitionError, match=f"{type(event).__name__} cannot happen"):
        step(state, event)
    assert was == state
    assert record == dump_state(state)


@given(waitings | downloadings, st.integers(0), st.none() | st.integers(1))
def test_bytes_received_change_figures_only(
    state: Waiting | Downloading, received: int, total: int | None
) -> None:
    now = receive(state, received=received, total=total)
    assert isinstance(now, Downloading)
    assert (received, total) == (now.received, now.total)
    assert (state.ticket, state.average, state.attempts) == (now.ticket, now.average, now.attempts)
    via, gets, link = (
        (state.via, state.gets, state.link) if isinstance(state, Downloading) else ("poll", 0, None)
    )
    assert (via, gets, link) == (now.via, now.gets, now.link)


@given(states)
def test_bytes_are_received_where_a_clip_may_come_and_nowhere_else(state: State) -> None:
    if not isinstance(state, Waiting | Downloading):
        with pytest.raises(IllegalTransitionError, match="nothing is received"):
            receive(state, received=1, total=None)


@given(waitings | downloadings, st.integers(0), st.none() | st.integers(1), cuts)
def test_bytes_received_change_nothing_of_what_comes_next(
    state: Waiting | Downloading, received: int, total: int | None, cut: Interrupted
) -> None:
    state = evolve(state, found=True) if isinstance(state, Waiting) else state
    told = receive(state, received=received, total=total)
    expected, actual = step(copy.deepcopy(state), cut), step(told, cut)
    assert type(expected[0]) is type(actual[0])
    assert expected[1] == actual[1]


@given(states)
def test_a_job_is_taken_up_where_money_was_spent_and_nowhere_else(state: State) -> None:
    if isinstance(state, Queueing | Waiting | Downloading | Saved):
        taken_up, command = resume(state)
        assert ticket_of(state) == ticket_of(taken_up)
        assert has_ended(taken_up) == (command is None)
    else:
        with pytest.raises(IllegalTransitionError, match="cannot resume"):
            resume(state)


@given(requests, tickets)
def test_a_job_starts_with_its_price_or_its_payment_or_a_poll(request: VideoRequest, ticket: Ticket) -> None:
    assert AskPrice(request) == begin(request, max_usd=1.0)[1]
    assert Queue(request) == begin(request)[1]
    assert Waiting(ticket=ticket) == watch(ticket)[0]
