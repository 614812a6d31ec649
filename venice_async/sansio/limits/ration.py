"""What an account may send, as one value that all processes of the account exchange with.

The problem. The limits are the account's. Processes that each count their own requests only are refused. A
fixed share for each leaves most of the rate unused, as jobs are never spread evenly.

The idea. All that decides whether a request may be sent now is one value: both rate limits with their ledgers
and what the server says of them, the failure budget, the block, and what each process said last. A process
says what it wants and how its requests ended, and is granted turns: `exchange`. That is arithmetic only. A
store runs it under its lock and by its own clock, so that no process's clock matters. Each lane, a kind of
request, has turns of its own; a turn goes to the request of the process that bid most for it (`io/pacing`).

A turn of a lane is granted if

1. the bucket of the lane is open, by the ledger of all and by the server's account;
2. fewer requests than the failure budget have failed of late or are on their way, and the key is not blocked;
3. for a poll: the even pace allows it, or the job that wants it most is worth the price of a poll in the
   scarcity there is, at which the jobs of all together ask for just the rate there is. By the square-root law
   a job asks √(h / 2·price) times a second, so the price is (Σ √h)² / 2·rate², at most a window's length;
4. no living process bids more. Otherwise the turn is kept for that process for a moment, and the one that is
   put off is told when to ask again: later, the more bids are above its own. After that moment the turn goes
   to whichever process asks first.

Bids for polls grow without bound while a job waits, and a turn is never kept for long: so no process starves.

| a process that                       | what is done                                                        |
|--------------------------------------|---------------------------------------------------------------------|
| has not asked for 3 s                | its bids and its pressure √h no longer count                        |
| has not asked for 15 s               | it is dead: its requests have ended now, without an answer          |
| says that it holds fewer turns       | the grant of the others was lost on its way: they end now, too      |
| gives a turn back                    | the request was not sent, and leaves no trace                       |
| reports a turn that is not its own   | nothing                                                             |
| knows other limits than the others   | the least that a living process knows counts                        |
| asks at an earlier moment            | time stands still: the moment is the latest there was               |

What processes learn of a model, its P80 and how long its jobs took, is passed on to the others: without it a
new process polls at the wrong times for minutes.

A value that is new starts as if its burst had just been used, for it may be one that was lost.
"""

from __future__ import annotations

import json
import math
import struct
from base64 import b64decode, b64encode
from collections.abc import Mapping
from functools import cache, partial
from typing import Final, Literal, TypeAlias, get_args

from attrs import Factory, define, evolve, field, frozen
from cattrs import Converter
from cattrs.errors import BaseValidationError

from ...options import Limits
from ..http.headers import Allowance, FailureAllowance, Refusal
from .bucket import PERIOD, Bucket, FailureBudget, Sent

VERSION: Final = 1
BIDS: Final = 8  # of a process and lane, at most
WORD_LASTS: Final = 3.0  # seconds for which bids and pressure count after their process last asked
DEAD: Final = 15.0  # seconds after which the requests of a process that does not ask have ended
KEPT: Final = 0.25  # seconds that an open turn is kept for a process that bids more
SOON: Final = 0.04  # seconds after which a process that was put off asks again, if it is the next
MOST: Final = 1.0  # seconds after which a process that waits asks again, as others may change the answer
PASSED_ON: Final = 30  # completions of a model, the latest
MODELS: Final = 50  # that are remembered, the latest

Lane: TypeAlias = Literal["free", "queue", "polls", "clean-up"]
LANES: Final[tuple[Lane, ...]] = get_args(Lane)
Bid: TypeAlias = tuple[float, float]
"""How much a job wants a turn, the greater the more; and of two equals, since when, the earlier first.

Polls bid their urgency, paid requests their priority. In a `Wish` the second is for how long.
"""


@frozen(kw_only=True)
class Answer:
    """The outcome of a turn.

    Attributes:
        token: the turn.
        unsent: whether no request was made on it.
        status: the HTTP status; None for none.
        told: what the answer tells of the rate limit.
        failures: what it tells of the failure budget.
        refused: what it means, if it is a 429.
        late: seconds since it came.
        chance: random in [0, 1).
    """

    token: str
    unsent: bool = False
    status: int | None = None
    told: Allowance = field(factory=Allowance)
    failures: FailureAllowance | None = None
    refused: Refusal | None = None
    late: float = 0.0
    chance: float = 0.0


@frozen(kw_only=True)
class Wish:
    """What a process says of itself.

    Attributes:
        process: its name.
        limits: what it knows of the key.
        price: the least that a poll has to be worth, in seconds of one job's delay.
        bids: of each lane, of the jobs that are ready, the best first.
        pressure: Σ √h of all its jobs.
        held: the turns it has that have not ended.
        answers: how turns ended.
        completions: models, and the seconds that a job of it took.
        p80s: of models, in seconds, as the server says.
        heard: the last completion that it knows of others.
    """

    process: str
    limits: Limits
    price: float
    bids: Mapping[Lane, tuple[Bid, ...]] = {}
    pressure: float = 0.0
    held: tuple[str, ...] = ()
    answers: tuple[Answer, ...] = ()
    completions: tuple[tuple[str, float], ...] = ()
    p80s: Mapping[str, float] = {}
    heard: int = 0


@frozen(kw_only=True)
class Grant:
    """What a process is given.

    Attributes:
        turns: lane and token of each.
        again: of each lane where it wants more, in how many seconds to ask again.
        answer_helps: whether an answer may open a lane earlier.
        completions: what others learned, as in `Wish`.
        p80s: as in `Wish`.
        heard: the last completion that is known.
    """

    turns: tuple[tuple[Lane, str], ...] = ()
    again: Mapping[Lane, float] = {}
    answer_helps: bool = False
    completions: tuple[tuple[str, float], ...] = ()
    p80s: Mapping[str, float] = {}
    heard: int = 0


@define
class Flight:
    """A turn that has not ended."""

    process: str
    lane: Lane
    at: float
    sent: Sent | None


@define
class Process:
    """What a process said last."""

    at: float
    limits: Limits
    bids: dict[Lane, list[Bid]]
    pressure: float


@define
class Learned:
    """What is known of a model: its P80, and how long jobs took, with a serial number and who saw it."""

    p80: float | None = None
    completions: list[tuple[int, str, float]] = field(factory=list[tuple[int, str, float]])


class UnknownVersionError(ValueError):
    """The value was written by another version of this library, and must be left alone."""


@define
class Ration:
    """What an account may send. Moments are seconds of one clock, which is the store's.

    Attributes:
        limits: the least of what the living processes know.
        one_clock: whether the clock is that of the only process, so that its spans are believed.
        latest: the latest moment of an exchange.
        polls: the rate limit of polls.
        queue: the rate limit of paid requests.
        failures: how many requests may fail.
        blocked_until: when the server takes requests again.
        flights: the turns that have not ended, by token.
        processes: what each said last.
        kept: of a lane that is open, since when it is kept for the highest bidder.
        order: the lanes; the one that was granted a turn last comes last.
        models: what is known of them.
        turns: how many were granted, ever.
        learned: how many completions were reported, ever.
        refusals: how many requests were answered 429, ever, by what it meant.
    """

    limits: Limits
    one_clock: bool = False
    latest: float = -math.inf
    polls: Bucket = field(
        default=Factory(
            lambda self: Bucket(self.limits.retrieve_per_minute, self.limits.share), takes_self=True
        )
    )
    queue: Bucket = field(
        default=Factory(lambda self: Bucket(self.limits.queue_per_minute, self.limits.share), takes_self=True)
    )
    failures: FailureBudget = field(factory=FailureBudget)
    blocked_until: float = -math.inf
    flights: dict[str, Flight] = field(factory=dict[str, Flight])
    processes: dict[str, Process] = field(factory=dict[str, Process])
    kept: dict[Lane, float] = field(factory=dict[Lane, float])
    order: list[Lane] = field(factory=partial(list[Lane], LANES))
    models: dict[str, Learned] = field(factory=dict[str, Learned])
    turns: int = 0
    learned: int = 0
    refusals: dict[str, int] = field(factory=dict[str, int])

    @classmethod
    def spent(cls, limits: Limits, now: float) -> Ration:
        """Return a value that starts as if its burst had just been used."""
        ration = cls(limits)
        ration.polls.spend(now)
        ration.queue.spend(now)
        return ration

    def exchange(self, wish: Wish, now: float) -> Grant:
        """Take in what a process says, and grant it what there is at that moment."""
        now = self.latest = max(now, self.latest)
        for answer in wish.answers:
            self._end(wish.process, answer, now)
        # A process that was silent is dead. A turn that its process does not know of was granted in vain.
        for name, process in list(self.processes.items()):
            if now - process.at >= DEAD:
                del self.processes[name]
        for token, flight in list(self.flights.items()):
            ours = flight.process == wish.process
            if token not in wish.held if ours else flight.process not in self.processes:
                self._end(flight.process, Answer(token=token), now)
        news = self._trade_news(wish)
        bids = self._record(wish, now)
        turns, again, helps = list[tuple[Lane, str]](), dict[Lane, float](), False
        lanes: list[Lane] = [lane for lane in self.order if bids.get(lane)]
        while lanes:  # they take turns; one that is closed stays so
            lane = lanes.pop(0)
            wait, answer_helps = self._wait(lane, wish, now)
            if wait > 0:
                again[lane], helps = wait, helps or answer_helps
                continue
            self.turns += 1
            token, bucket = f"{self.turns:x}", self._bucket(lane)
            sent = None if bucket is None else bucket.take(now)
            self.flights[token] = Flight(wish.process, lane, now, sent)
            self.order.remove(lane)
            self.order.append(lane)
            self.kept.pop(lane, None)
            turns.append((lane, token))
            del bids[lane][0]
            if bids[lane]:
                lanes.append(lane)
        return Grant(
            turns=tuple(turns),
            again=again,
            answer_helps=helps,
            completions=news,
            p80s={name: model.p80 for name, model in self.models.items() if model.p80 is not None},
            heard=self.learned,
        )

    def _end(self, process: str, answer: Answer, now: float) -> None:
        """Record the outcome of a turn."""
        flight = self.flights.get(answer.token)
        if flight is None or flight.process != process:
            return
        del self.flights[answer.token]
        bucket, sent, refused = self._bucket(flight.lane), flight.sent, answer.refused
        if answer.unsent:
            if bucket is not None and sent is not None:
                bucket.give_back(sent)
            return
        late = min(max(answer.late, 0.0), now - flight.at)
        if self.one_clock:
            now, late = now - late, 0.0
        self.failures.ended(now, answer.status, answer.failures)
        if refused is not None:
            self.refusals[refused.reason] = self.refusals.get(refused.reason, 0) + 1
            if refused.reason == "blocked":
                self.blocked_until = max(self.blocked_until, now + (refused.wait or 0.0))
        if bucket is None or sent is None:
            return
        if refused is not None and refused.reason == "limited":
            bucket.refused(sent, answer.told, now, wait=refused.wait, chance=answer.chance)
        elif answer.status is None or (refused is not None and refused.reason == "blocked"):
            bucket.lost(sent, now)
        else:
            bucket.answered(sent, answer.told, now, late=late)

    def _record(self, wish: Wish, now: float) -> dict[Lane, list[Bid]]:
        """Record what a process says, agree on the least limits that a living one knows; return its bids."""
        bids: dict[Lane, list[Bid]] = {
            lane: [(want, now - max(waited, 0.0)) for want, waited in bids[:BIDS]]
            for lane, bids in wish.bids.items()
        }
        self.processes[wish.process] = Process(now, wish.limits, bids, wish.pressure)
        told, known = [process.limits for process in self.processes.values()], self.limits
        if told.count(known) == len(told):
            return bids
        self.limits = limits = evolve(
            wish.limits,
            queue_per_minute=min(one.queue_per_minute for one in told),
            retrieve_per_minute=min(one.retrieve_per_minute for one in told),
            share=min(one.share for one in told),
            failures=min(one.failures for one in told),
        )
        # What the server said of a limit counts until the processes say otherwise.
        queue, polls = limits.queue_per_minute, limits.retrieve_per_minute
        self.queue.change(self.queue.limit if queue == known.queue_per_minute else queue, limits.share)
        self.polls.change(self.polls.limit if polls == known.retrieve_per_minute else polls, limits.share)
        return bids

    def _trade_news(self, wish: Wish) -> tuple[tuple[str, float], ...]:
        """Take in what a process learned of models, and return what the others have learned since."""
        news = list[tuple[int, str, float]]()
        if wish.heard < self.learned:
            for name, model in self.models.items():
                for serial, process, seconds in model.completions:
                    if serial > wish.heard and process != wish.process:
                        news.append((serial, name, seconds))
        for name in (*wish.p80s, *dict(wish.completions)):  # the latest comes last
            self.models[name] = self.models.pop(name) if name in self.models else Learned()
        for name, p80 in wish.p80s.items():
            self.models[name].p80 = p80
        for name, seconds in wish.completions:
            self.learned += 1
            model = self.models[name]
            model.completions = [*model.completions, (self.learned, wish.process, seconds)][-PASSED_ON:]
        while len(self.models) > MODELS:
            del self.models[next(iter(self.models))]
        return tuple([(name, seconds) for _, name, seconds in sorted(news)])

    def _wait(self, lane: Lane, wish: Wish, now: float) -> tuple[float, bool]:
        """Return in how many seconds a process is to ask again for a turn, 0 if it may have one.

        And whether an answer may bring that forward.
        """
        bucket, best = self._bucket(lane), self.processes[wish.process].bids[lane][0]
        limit = self.limits.failures if lane != "clean-up" else max(self.limits.failures // 2, 2)
        opens = self.failures.opens(now, limit=limit, flying=len(self.flights))
        if bucket is not None:
            opens = max(opens, bucket.opens(now))
        helps = opens > now
        opens = max(opens, self.blocked_until)
        if lane == "polls" and opens <= now and (evenly := self.polls.pace.opens()) > now:
            pressure = sum(one.pressure for one in self.processes.values() if now - one.at < WORD_LASTS)
            scarcity = pressure**2 / (2 * self.polls.spare_rate(now) ** 2)
            if best[0] < max(min(scarcity, PERIOD), wish.price):
                opens = min(evenly, now + 1 / self.polls.rate)
        above = sum(
            bid > best
            for name, one in self.processes.items()
            if name != wish.process and now - one.at < WORD_LASTS
            for bid in one.bids.get(lane, ())
        )
        if opens > now:
            self.kept.pop(lane, None)
        elif bucket is not None and above and now < self.kept.setdefault(lane, now) + KEPT:
            opens = now + SOON
        else:
            return 0.0, False
        if bucket is not None:
            opens += above / bucket.rate
        return opens - now if len(self.processes) == 1 else min(opens - now, MOST), helps

    def _bucket(self, lane: Lane) -> Bucket | None:
        """Return the rate limit of a lane; None for one that has no known limit."""
        return self.polls if lane == "polls" else self.queue if lane == "queue" else None


def dump(ration: Ration) -> str:
    """Return a ration as JSON, with its version."""
    return json.dumps({"version": VERSION, "ration": _converter().unstructure(ration)}, allow_nan=False)


def load(text: str) -> Ration | None:
    """Return the ration that `dump` wrote; None for one that is damaged.

    Raises:
        UnknownVersionError: it is of another version of this library.
    """
    try:
        value = json.loads(text)
        version = value["version"]
    except (ValueError, TypeError, KeyError):
        return None
    if version != VERSION:
        msg = f"The shared ration has version {version!r}, this library knows {VERSION}"
        raise UnknownVersionError(msg)
    try:
        return _converter().structure(value["ration"], Ration)
    except (BaseValidationError, ValueError, TypeError, KeyError, struct.error):
        return None


@cache
def _converter() -> Converter:
    """Return the converter, built when it is first needed. JSON has no infinity: it is a word there."""
    built = Converter(detailed_validation=False)
    built.register_unstructure_hook(float, lambda value: value if math.isfinite(value) else str(value))
    built.register_structure_hook(float, lambda value, _: float(value))
    # Hundreds of moments as text: a tenth of the work of as many numbers in JSON, and exact.
    built.register_unstructure_hook_func(
        lambda kind: kind == list[float],
        lambda moments: b64encode(struct.pack(f"<{len(moments)}d", *moments)).decode(),
    )
    built.register_structure_hook_func(
        lambda kind: kind == list[float],
        lambda text, _: [at for (at,) in struct.iter_unpack("<d", b64decode(text, validate=True))],
    )
    return built
