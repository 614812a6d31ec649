"""The sandbox: two origins on loopback, with one set of jobs behind them."""

from __future__ import annotations

import importlib.util
import logging
import re
from collections.abc import Callable, Iterable
from typing import Literal, Self

import anyio
from aiohttp import web
from attrs import define, field

from ..errors import UsageError
from .clips.media import Clips
from .faults import FaultPlan
from .options import Options
from .origins import Origins
from .records import Charge, RecordedRequest
from .scenarios import Fault, Faults, Scenarios
from .venice import Venice

logger: logging.Logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
_LINK = re.compile(r"/media/.*")
_GRACE = 0.05  # seconds that a handler under way is given when the sandbox closes


@define(kw_only=True, eq=False)
class Sandbox(Options):
    """A server on loopback that behaves like Venice: `async with Sandbox() as sandbox: ...`, once.

    It may be entered and left by different tasks. All its times are the event loop's, so that on a loop with
    virtual time it lives in virtual time.

    Attributes:
        speed: how much faster than in reality jobs run; limits, expiry and faults stay in real seconds.
        port: the API's port on 127.0.0.1; 0 takes a free one.
        api_key: the key that is accepted.
        admin_key: the one that may also read the ledger, `/billing/usage-history`.
        seed: of the job times and ids; the same requests in the same order meet the same ones.
        sigma: spread of the job times around a model's P80: the standard deviation of their logarithm.
        balance: what the account holds, in USD.
        models: the catalogue.
        scenarios: how jobs go, by model id, or `*` for all others.
        faults: what goes wrong on the wire: each a `Fault`, or a function that is asked about every request
            which those before it let pass, and returns the fault that strikes it, or None.
        limits: rate limits and the abuse block; None for none. They may be set at any time.
        clips: fixed bytes, or a function like `render_clip`, instead of rendered clips.
        media_lifetime: seconds for which clips and links are kept.
        id_lifetime: seconds for which the id of a job is known; then a poll is answered 400 "Request ID is
            invalid.".
        completes: what `/video/complete` does: `deletes` the clip; `invalid`: answers 400 "Request ID is
            invalid." to every id, as the vendor's does at present; `fails`: says `{"success": false}`.
        strict: whether `aspect_ratio` must be given wherever the catalogue lists any, as at the vendor's;
            off, so that the shortest request runs.
        link_gets: GETs that a link allows.
        link_ranges: whether links honour `Range`.
        clock_skew: seconds by which the server's clock is ahead.

    Raises:
        UsageError: an argument makes no sense; on entering, when PyAV is missing to render clips, or it was
            entered before.
        OSError: on entering, when the port is taken.
        Exception: on leaving, the first error of a function among `faults`, `clips` or `raw`.
    """

    _plan: FaultPlan = field(init=False, repr=False)
    _requests: list[RecordedRequest] = field(factory=list[RecordedRequest], init=False, repr=False)
    _leaks: list[RecordedRequest] = field(factory=list[RecordedRequest], init=False, repr=False)
    _venice: Venice | None = field(default=None, init=False, repr=False)
    _runners: list[web.ServerRunner] = field(factory=list[web.ServerRunner], init=False, repr=False)
    _error: Exception | None = field(default=None, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self._plan = FaultPlan(list(self.faults))

    @property
    def base_url(self) -> str:
        """The API's base URL."""
        return f"http://{HOST}:{self.port}/api/v1"

    @property
    def charges(self) -> list[Charge]:
        """What was paid, job by job."""
        venice = self._venice
        return [] if venice is None else venice.jobs.charges(venice.now())

    @property
    def requests(self) -> list[RecordedRequest]:
        """Every request, in the order in which their answers began."""
        return list(self._requests)

    @property
    def leaked_keys(self) -> list[RecordedRequest]:
        """Requests to a link that carried the API key, which no request to a link may do."""
        return list(self._leaks)

    def count(self, what: str, *, status: int | None = None) -> int:
        """Return how many requests went to a path such as `/video/retrieve`, or to a point such as `link`."""
        return sum(
            what in {request.path, request.point} and status in {None, request.status}
            for request in self.requests
        )

    def inject(self, *faults: Faults) -> None:
        """Queue more faults behind those declared."""
        self._plan.faults.extend(faults)

    async def __aenter__(self) -> Self:
        if self._venice is not None:
            msg = "a Sandbox can be entered once; build another"
            raise UsageError(msg)
        if self.clips is None and importlib.util.find_spec("av") is None:
            msg = "rendering clips needs PyAV: pip install 'venice-async[sandbox]', or pass clips="
            raise UsageError(msg)
        self._venice = venice = Venice(self)
        origins = Origins(venice, self._plan, self._requests, self._leaks)
        try:
            venice.link_base = f"http://{HOST}:{await self._bind(origins, 'link', 0)}"
            self.port: int = await self._bind(origins, "api", self.port)
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        await self.aclose()
        if self._error is not None and error is None:
            raise self._error

    async def aclose(self) -> None:
        """Close connections and sockets, wait for a rendering that cannot be stopped; cancelled or not."""
        with anyio.CancelScope(shield=True):
            while self._runners:
                await self._runners.pop().cleanup()
            if self._venice is not None:
                await self._venice.renderer.aclose()

    async def _bind(self, origins: Origins, origin: Literal["api", "link"], port: int) -> int:
        """Serve an origin and return its port. A handler dies with its connection, as a fault may require."""

        async def logged(request: web.BaseRequest) -> web.StreamResponse:
            begun, outcome = anyio.current_time(), "no whole answer"
            try:
                response = await origins.handle(request, origin)
                outcome = str(response.status)
            except Exception as error:
                if request.transport is None or request.transport.is_closing():
                    await anyio.sleep_forever()  # the client hung up, which cancels this
                self._error = self._error or error
                raise
            finally:
                path = _LINK.sub("/media/(link)", request.rel_url.raw_path.replace(self.api_key, "(key)"))
                took = (anyio.current_time() - begun) * 1000
                logger.debug("%s %s: %s in %.0f ms", request.method, path, outcome, took)
            return response

        server = web.Server(logged, handler_cancellation=True, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=_GRACE)
        self._runners.append(runner)
        await runner.setup()
        site = web.TCPSite(runner, HOST, port)
        await site.start()
        return site.port


async def serve(
    *,
    port: int = 8787,
    speed: float = 10.0,
    announce: Callable[[str, str], object],
    clips: Clips | None = None,
    scenarios: Scenarios | None = None,
    faults: Iterable[Fault] = (),
) -> None:
    """Run a sandbox until cancelled; `announce(base_url, api_key)` is called once it listens."""
    async with Sandbox(
        port=port, speed=speed, clips=clips, scenarios=scenarios or {}, faults=faults
    ) as sandbox:
        announce(sandbox.base_url, sandbox.api_key)
        await anyio.Event().wait()
