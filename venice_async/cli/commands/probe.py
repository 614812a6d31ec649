"""`doctor --spend`: the cheapest clip of each delivery, and what only a real delivery can tell."""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
from attrs import evolve, frozen

from ...errors import BudgetExceededError
from ...formatting import as_bytes, as_usd
from ...sansio.http.wire import SUCCESS, HttpRequest, carries_video, decode, encode
from ...sansio.job.commands import Fetch, Poll
from ...sansio.job.events import Completed, Refused, StillGoing
from ..prices import Money, confirmed_price
from ..windows import Sample, judge, sample
from .quote import cheapest, shortest

if TYPE_CHECKING:
    from ...io.aiohttp import AiohttpTransport
    from ...models import VideoModel
    from ...requests import VideoRequest
    from ...results import Ticket
    from ..connection import Session
    from ..interrupts import Interrupts
    from ..screen.screen import Screen

PROMPT: Final = "A single leaf falls slowly through still air."
_RANGE: Final = "bytes=0-1023"
_PAUSE: Final = 5.0  # seconds between two polls: at this pace one job takes a tenth of the limit
_LEAST_PAUSE: Final = 0.25
_POLLS_IN_P80: Final = 20
_PATIENCE: Final = 1800.0  # seconds for one clip
_WINDOW_PATIENCE: Final = 130.0  # seconds for a reset to pass: windows last 60
_ANSWER: Final = 1 << 20  # bytes of a JSON answer
_BY_LINK: Final = re.compile(r"grok-imagine")  # these deliver by a link, whether they are private or not
_TELLING: Final = ("content-", "accept-", "etag", "last-modified", "cache-control", "transfer-encoding")


@frozen(kw_only=True)
class Plan:
    """One clip to make.

    Attributes:
        request: what.
        usd: its price.
    """

    request: VideoRequest
    usd: float


async def examine(
    session: Session, screen: Screen, interrupts: Interrupts, *, at_most: float, yes: bool
) -> list[dict[str, Any]]:
    """Make the cheapest clip of each delivery, and return what was learned of each.

    Only the answer to the paid request tells how a clip is delivered; a model's name lets one guess.

    Raises:
        VeniceError: it is too dear, it was declined, or a job failed.
    """
    plans = await _plans(session, at_most)
    total = sum(plan.usd for plan in plans)
    names = " and ".join(f"{plan.request.model} ({as_usd(plan.usd)})" for plan in plans)
    screen.insist(f"--spend makes {names}: {as_usd(total)} in all.")
    await confirmed_price(total, Money(yes=yes, ask_above=-1), screen)
    interrupts.farewell = f"Interrupted. What was queued is paid for: {session.again('resume', '--all')}"
    learned: list[dict[str, Any]] = []
    folder = Path(tempfile.mkdtemp(prefix="venice-doctor-"))  # it stays for 'resume' if this is interrupted
    for plan in plans:
        found = await _Probe(session, screen, folder).learn(plan)
        learned.append(found)
        if not screen.as_json:
            _show(screen, found)
    await anyio.to_thread.run_sync(shutil.rmtree, folder)
    return learned


async def _plans(session: Session, at_most: float) -> list[Plan]:
    models = [model for model in await session.venice.models() if _suits(model)]
    prices = await cheapest(session.venice, models)
    chosen: list[Plan] = []
    for by_link in (False, True):
        kind = [
            model for model in models if bool(_BY_LINK.search(model.id)) == by_link and model.id in prices
        ]
        if kind:
            model = min(kind, key=lambda model: prices[model.id])
            chosen.append(Plan(request=evolve(shortest(model), prompt=PROMPT), usd=prices[model.id]))
    total = sum(plan.usd for plan in chosen)
    if not chosen or total > at_most:
        msg = f"The cheapest clips cost {as_usd(total)}" if chosen else "No model has a price"
        raise BudgetExceededError(msg, hint="Raise --spend", quoted_usd=total, limit_usd=at_most)
    return chosen


def _suits(model: VideoModel) -> bool:
    return model.model_type == "text-to-video" and not model.offline and model.deprecation is None


class _Probe:
    """Follows one job by hand: the client queues it, and in the end fetches the clip."""

    def __init__(self, session: Session, screen: Screen, folder: Path) -> None:
        self._session = session
        self._screen = screen
        self._folder = folder
        self._samples: list[Sample] = []
        self._polled: Mapping[str, str] = {}
        self._pause = _PAUSE

    async def learn(self, plan: Plan) -> dict[str, Any]:
        """Return what was learned, by name."""
        self._screen.note(f"Queueing {plan.request.model} for {as_usd(plan.usd)} …")
        job = self._session.venice.generate(plan.request, to=self._folder, max_usd=plan.usd)
        ticket = await job.queued()
        job.cancel()  # the polls are ours; the journal keeps the ticket
        async for _ in job.updates():
            pass
        by_link = ticket.download_url is not None
        async with self._session.transport() as transport:
            ranged = await self._until_done(transport, ticket)
            if by_link:
                await self._until_reset(transport, ticket)
                ranged = await self._headers_of(transport, _ranged(encode(Fetch(ticket, gets=1))))
        started = time.monotonic()
        video = await self._session.venice.resume(ticket, to=self._folder)
        return {
            "model": plan.request.model,
            "usd": plan.usd,
            "delivery": "link" if by_link else "poll",
            "range": _verdict(ranged),
            "range_status": ranged[0],
            "clip_headers": _telling(ranged[1]),
            "limit_headers": dict(sorted(self._polled.items())),
            "fetched_again": True,
            "window": judge(self._samples) or "not told",
            "bytes": video.size,
            "fetch_seconds": round(time.monotonic() - started, 3),
        }

    async def _until_done(self, transport: AiohttpTransport, ticket: Ticket) -> tuple[int, Mapping[str, str]]:
        """Poll until the job is done; return the head of the answer that was the clip, or of the last."""
        with anyio.fail_after(_PATIENCE):
            while True:
                async with transport.send(_ranged(encode(Poll(ticket)))) as response:
                    head = response.status, {name.lower(): text for name, text in response.headers.items()}
                    self._note(head[1])
                    if head[0] in SUCCESS and carries_video(head[1], await response.peek()):
                        return head
                    body = (await response.read(_ANSWER)).data
                event = decode(Poll(ticket), *head, body)
                if isinstance(event, Completed):
                    return head
                if isinstance(event, Refused):
                    raise event.error.with_ticket(ticket)
                if isinstance(event, StillGoing) and event.average:
                    self._pause = min(_PAUSE, max(_LEAST_PAUSE, event.average / _POLLS_IN_P80))
                await anyio.sleep(self._pause)

    async def _until_reset(self, transport: AiohttpTransport, ticket: Ticket) -> None:
        """Go on polling a job that is done until a reset of the limit has passed: that shows its window."""
        if not self._samples or judge(self._samples):
            return
        self._screen.note("Watching the rate limit until it resets, about a minute …")
        with anyio.move_on_after(_WINDOW_PATIENCE):
            while judge(self._samples) is None:
                await anyio.sleep(self._pause)
                await self._headers_of(transport, encode(Poll(ticket)))

    async def _headers_of(
        self, transport: AiohttpTransport, request: HttpRequest
    ) -> tuple[int, Mapping[str, str]]:
        async with transport.send(request) as response:
            headers = {name.lower(): text for name, text in response.headers.items()}
            self._note(headers)
            return response.status, headers

    def _note(self, headers: Mapping[str, str]) -> None:
        self._polled = {
            **self._polled,
            **{name: text for name, text in headers.items() if "ratelimit" in name},
        }
        found = sample(headers, at=time.monotonic(), unix=time.time())
        self._samples += [found] if found else []


def _ranged(request: HttpRequest) -> HttpRequest:
    return evolve(request, headers={**request.headers, "range": _RANGE})


def _verdict(head: tuple[int, Mapping[str, str]]) -> str:
    status, headers = head
    if status == 206:  # noqa: PLR2004 - Partial Content
        return (
            "honoured"
            if headers.get("content-range", "").startswith("bytes 0-")
            else "answered without its place"
        )
    return "ignored" if status == 200 else f"refused with {status}"  # noqa: PLR2004 - the whole clip


def _telling(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in sorted(headers.items()) if name.startswith(_TELLING)}


_DELIVERIES: Final = {"link": "a link of its own", "poll": "the last poll is the clip"}


def _show(screen: Screen, found: Mapping[str, Any]) -> None:
    headers: Sequence[str] = [f"{name}: {text}" for name, text in found["clip_headers"].items()]
    limits = [f"{name}: {text}" for name, text in found["limit_headers"].items()]
    for line in (
        f"✓ {found['model']} for {as_usd(found['usd'])}",
        f"  delivery      {_DELIVERIES[found['delivery']]}",
        f"  range         {found['range']} (status {found['range_status']})",
        f"  again         after a first answer was dropped, {as_bytes(found['bytes'])} came whole",
        f"  window        {found['window']}",
        f"  clip headers  {'; '.join(headers) or 'none that tell'}",
        f"  limit headers {'; '.join(limits) or 'none'}",
    ):
        screen.result(line)
