"""Declares in advance how jobs end, and what goes wrong on the wire."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from typing import Any, Literal

from attrs import field, frozen

from ..errors import UsageError
from ..options import bound, flag, kind, one_of
from .catalogue import Delivery
from .records import RecordedRequest

Outcome = Literal[
    "completed",
    "content_policy",
    "provider_failed",
    "media_refused",
    "prompt_refused",
    "overloaded",
    "inference_failed",
    "capacity",
    "invalid",
    "failed",
    "never",
    "region_blocked",
]
"""How a job ends.

* `completed`: a clip.
* `content_policy`: once it has run, 422 from the model's provider.
* `provider_failed`: once it has run, 422 with a hint, for a reason that is not the content.
* `media_refused`: once it has run, 422 with the code VIDEO_DURATION_TOO_LONG.
* `prompt_refused`: 422 when it is queued, uncharged.
* `overloaded`: 429 MODEL_OVERLOADED with `Retry-After` when it is queued, uncharged.
* `inference_failed`: once it has run, 500; like every failure it is recorded, and told by every later poll.
* `capacity`: once it has run, 503 for ever.
* `invalid`: once it has run, 400.
* `failed`: once it has run, JSON with the status FAILED.
* `never`: PROCESSING for ever.
* `region_blocked`: 403 when it is queued, uncharged.
"""

Point = Literal[
    "models",
    "quote",
    "queue",
    "retrieve",
    "video",
    "complete",
    "link",
    "revoke",
    "rate_limits",
    "balance",
    "ledger",
]
"""Where a fault strikes: a call by its name; `retrieve` is every poll, `video` one answered by the clip."""


Coding = Literal["gzip", "x-gzip", "deflate", "br", "zstd"]
"""How a body may be compressed."""

Raw = bytes | Callable[[bytes], bytes | AsyncIterable[bytes]]
"""Bytes for the wire, or what makes them of the honest answer's: at once, or piece by piece."""

Habit = Literal["never", "face_media", "always"]
"""When consent is asked for."""

Drop = Literal["before", "after"]
"""Whether a connection is closed before or after the request is acted upon."""

Unknown = Literal[400, 404]
"""How a poll is answered that does not find its job."""

NoLink = Literal[403, 404]
"""How a link is answered that is not there yet."""

Inside = Literal["data", "result"]
"""Where a ticket is that is one level down."""

COUNT: Any = bound(0, whole=True)
NONE_OR_COUNT: Any = bound(0, whole=True, or_none=True)
_TEXT: Any = kind(str, what="text")
_NONE_OR_TEXT: Any = kind(str, what="text or None", or_none=True)


@frozen(kw_only=True)
class Scenario:
    """How the jobs of a model go.

    Attributes:
        outcome: how they end.
        seconds: how long each takes, in seconds before `speed` compresses them; None draws it around the
            model's P80.
        sigma: spread of the drawn times, the standard deviation of their logarithm; None takes the sandbox's.
        estimate: what the server makes of the P80 that it reports: 2.0 reports twice the truth.
        delivery: how the clip is handed over; None as the model does.
        consent: when to ask: `never`; `face_media`, when media is given that was not attested before;
            `always`, whatever was answered. None as the model does.
        credits_refunded: whether a job that fails once it has run is refunded.
        tells_refund: whether the failure says so, as `credits_refunded`; None as the vendor: a 422 does.
        hint: what `provider_failed` advises.
        unknown_for: seconds after it was queued for which polls do not know the job.
        unknown_status: what they are answered then: 404, or 400 "Request ID is invalid.".
        polls: how many polls of a job whose time is over still find it running; with `seconds=0` just so many
            do.
        unfetched: how many polls of a job that is done are answered 502, its clip not fetched yet.
        link_after: seconds after it is done for which its link is not there: a GET is answered `link_status`,
            and COMPLETED comes without the URL that it is to bring.
        link_status: 404 or 403.
        content_type: what a clip is called instead of `video/mp4`; an empty text leaves the header out.
        numeric_id: whether the job's id is a number, in the answer to the paid request and afterwards.
        ticket_in: where the answer to the paid request has the ticket, when it is one level down.
        recommended_model: the model named in a refusal by the provider.
        suggested_prompt: the prompt offered in a refusal of the prompt.
    """

    outcome: Outcome = field(default="completed", validator=one_of(Outcome))
    seconds: float | None = field(default=None, validator=bound(0, or_none=True))
    sigma: float | None = field(default=None, validator=bound(0, or_none=True))
    estimate: float = field(default=1.0, validator=bound(0))
    delivery: Delivery | None = field(default=None, validator=one_of(Delivery))
    consent: Habit | None = field(default=None, validator=one_of(Habit))
    credits_refunded: bool = field(default=True, validator=flag())
    tells_refund: bool | None = field(
        default=None, validator=kind(bool, what="True, False or None", or_none=True)
    )
    hint: str = field(default="Try again with a simpler prompt", validator=_TEXT)
    unknown_for: float = field(default=0.0, validator=bound(0))
    unknown_status: Unknown = field(default=404, validator=one_of(Unknown))
    polls: int = field(default=0, validator=COUNT)
    unfetched: int = field(default=0, validator=COUNT)
    link_after: float = field(default=0.0, validator=bound(0))
    link_status: NoLink = field(default=404, validator=one_of(NoLink))
    content_type: str | None = field(default=None, validator=_NONE_OR_TEXT)
    numeric_id: bool = field(default=False, validator=flag())
    ticket_in: Inside | None = field(default=None, validator=one_of(Inside))
    recommended_model: str | None = field(default=None, validator=_NONE_OR_TEXT)
    suggested_prompt: str | None = field(default=None, validator=_NONE_OR_TEXT)


Scenarios = Mapping[str, Scenario | Sequence[Scenario]]
"""By model id, or `*` for all others; of a sequence each job takes the next one, and the last one stays."""


@frozen(kw_only=True)
class Fault:
    """Something that goes wrong at one kind of call.

    Faults at the same point form a queue: a later one sees only the requests that earlier ones let pass.
    The check of the key and the rate limits come first. An answer of 400 or above counts as a failed request.

    Attributes:
        on: where it strikes.
        times: how often; None for ever.
        skip: how many matching requests pass before the first strike.
        model: strike only requests for this model.
        delay: seconds before the answer begins.
        status: answer with this status instead; the request is not acted upon unless `processed` says so.
        headers: headers to set on the answer, None to remove one; they may lie.
        body: the answer's body, instead of the true one: bytes or text as it is, anything else as JSON.
        coding: compress the body, whatever the client accepts.
        raw: what goes on the wire instead of the answer, from the status line on; then the connection is
            closed. Bytes, and the request is not acted upon unless `processed` says so; or a function of the
            bytes that the answer would be, which returns bytes, or an async iterator that yields them in
            time.
        processed: whether the request is acted upon (a job is charged) before `status` or `hang` strike.
        cut_at: close the connection in order (FIN) after so many bytes of the body; of all with `raw`.
        reset_at: reset the connection (RST) after so many bytes, counted alike.
        stall_at: go silent after so many bytes, counted alike, the connection left open.
        bytes_per_second: send the body no faster than this.
        drop: close the connection without an answer, `before` the request is acted upon or `after`.
        hang: say nothing for so many seconds, then close the connection.
    """

    on: Point = field(validator=one_of(Point))
    times: int | None = field(default=1, validator=NONE_OR_COUNT)
    skip: int = field(default=0, validator=COUNT)
    model: str | None = field(default=None, validator=_NONE_OR_TEXT)
    delay: float = field(default=0.0, validator=bound(0))
    status: int | None = field(default=None, validator=bound(200, whole=True, or_none=True))
    headers: Mapping[str, str | None] = field(
        factory=dict[str, str | None], validator=kind(Mapping, what="a mapping of names to texts")
    )
    body: Any = None
    coding: Coding | None = field(default=None, validator=one_of(Coding))
    raw: Raw | None = field(
        default=None, validator=kind(bytes, Callable, what="bytes or a function of bytes", or_none=True)
    )
    processed: bool = field(default=False, validator=flag())
    cut_at: int | None = field(default=None, validator=NONE_OR_COUNT)
    reset_at: int | None = field(default=None, validator=NONE_OR_COUNT)
    stall_at: int | None = field(default=None, validator=NONE_OR_COUNT)
    bytes_per_second: int | None = field(default=None, validator=bound(1, whole=True, or_none=True))
    drop: Drop | None = field(default=None, validator=one_of(Drop))
    hang: float | None = field(default=None, validator=bound(0, or_none=True))

    def __attrs_post_init__(self) -> None:
        endings = ("cut_at", "reset_at", "stall_at", "drop", "hang")
        given = [name for name in endings if getattr(self, name) is not None]
        if len(given) > 1:
            msg = f"a fault ends an answer in one way, not in {len(given)}: {', '.join(given)}"
            raise UsageError(msg)

    @property
    def acts(self) -> bool:
        """Whether the request is acted upon although the fault strikes."""
        if self.drop is not None:
            return self.drop == "after"
        return self.processed or (
            self.status is None and self.hang is None and not isinstance(self.raw, bytes)
        )

    @property
    def silent(self) -> bool:
        """Whether no answer is sent at all."""
        return self.drop is not None or self.hang is not None

    @property
    def stop_at(self) -> int | None:
        """Bytes of the body that are sent, when that is not all of them."""
        return next((at for at in (self.cut_at, self.reset_at, self.stall_at) if at is not None), None)


Faults = Fault | Callable[[RecordedRequest], Fault | None]
"""A fault, or a function that is asked about each request, and returns the one that strikes it, if any."""
