"""Arguments of a wrong kind are refused by name, before anything is sent."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import pytest

from tests.cases import for_each
from tests.clients import PUBLIC, client
from tests.venice import Venice
from venice_async import (
    Budget,
    Limits,
    Links,
    Polling,
    Retries,
    Ticket,
    Timeouts,
    UsageError,
    VeniceClient,
    VideoRequest,
)
from venice_async.sandbox import Fault, RateLimits, Sandbox, Scenario

# Of every kind that a caller may mix up; which of them an argument takes is left out by its own list.
pytestmark = pytest.mark.anyio

WRONG: Final[Mapping[str, object]] = {
    "number": 5,
    "huge": 10**400,
    "negative": -1,
    "nan": math.nan,
    "text": "no",
    "bytes": b"no",
    "list": [object()],
    "mapping": {"a": 1},
    "object": object(),
    "function": len,
}
TICKET: Final = Ticket(model="public-model", queue_id="job-1")
CALLABLE: Final = frozenset({"function"})
NUMBER: Final = frozenset({"number"})
TEXT: Final = frozenset({"text"})

CLIENT: Final[Mapping[str, frozenset[str]]] = {
    **dict.fromkeys(("api_key", "base_url", "journal"), TEXT),
    **dict.fromkeys(("session", "timeouts", "limits", "polling", "retries", "links"), frozenset[str]()),
    **dict.fromkeys(("on_consent", "on_state", "on_done", "on_request"), CALLABLE),
    **dict.fromkeys(("send_key", "sidecars"), frozenset[str]()),
    "budget": NUMBER,
}
CALLS: Final[Mapping[str, tuple[Mapping[str, object], Mapping[str, frozenset[str]]]]] = {
    "generate": (
        {"request": PUBLIC, "to": "clip.mp4"},
        {
            "request": frozenset(),
            "to": TEXT,
            **dict.fromkeys(("max_usd", "reference_video_seconds"), NUMBER | {"huge"}),
            "overwrite": frozenset(),
            "priority": NUMBER | {"negative"},
            "key": TEXT,
            "tags": frozenset(),
            "store": frozenset(),
            "on_consent": CALLABLE,
        },
    ),
    "resume": ({"ticket": TICKET}, {"ticket": frozenset(), "overwrite": frozenset()}),
    "quote": ({"request": PUBLIC}, {"reference_video_seconds": NUMBER}),
    "choose": ({"models": []}, {"models": frozenset(), "accepts": frozenset({"list", "mapping"})}),
    "batch": (
        {"requests": [], "into": "clips"},
        {
            "requests": frozenset({"text", "bytes", "list", "mapping"}),
            "into": TEXT,
            "on_error": frozenset(),
            **dict.fromkeys(("key", "tags", "max_each"), CALLABLE),
            **dict.fromkeys(("concurrency", "pause", "give_up_after"), NUMBER),
            "overwrite": frozenset(),
            "name": TEXT,
            "store": frozenset(),
        },
    ),
}


def what_is_said(call: Callable[[], object]) -> str | None:
    """Return the message of the UsageError that `call` ends in, if it does."""
    try:
        call()
    except UsageError as error:
        return error.message
    return None


@for_each("name", CLIENT)
async def test_an_option_of_the_client_that_is_of_a_wrong_kind_is_named(name: str, tmp_path: Path) -> None:
    async with Venice() as server:
        for kind in WRONG.keys() - CLIENT[name]:
            options = {"api_key": "k" * 20, "base_url": server.base_url, name: WRONG[kind]}
            with pytest.raises(UsageError) as caught:
                async with VeniceClient(**options):  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - that is the test
                    pass
            assert name in str(caught.value).replace("API key", "api_key"), (kind, str(caught.value))
        assert not server.requests
    assert not list(tmp_path.iterdir())


@for_each("method", CALLS)
async def test_an_argument_of_a_call_that_is_of_a_wrong_kind_is_named(method: str, tmp_path: Path) -> None:
    given, names = CALLS[method]
    given = {
        name: str(tmp_path / value) if isinstance(value, str) else value for name, value in given.items()
    }
    async with Venice() as server, client(server, journal=tmp_path / "jobs.db") as venice:
        for name, fine in names.items():
            for kind in WRONG.keys() - fine - ({"huge"} if "huge" in fine else set[str]()):
                with pytest.raises(UsageError) as caught:
                    started: Any = getattr(venice, method)(**{**given, name: WRONG[kind]})
                    if isinstance(started, Awaitable):
                        await started
                said = str(caught.value).lower()
                assert name == "to" or name.removesuffix("s") in said, (name, kind, said)
        assert not server.requests


@for_each("kind", [Timeouts, Limits, Polling, Retries, Budget, Links, RateLimits, Scenario, Fault, Sandbox])
def test_an_option_takes_a_value_or_names_itself(kind: Any) -> None:
    needed: dict[str, Any] = {"on": "queue"} if kind is Fault else {}
    for name in inspect.signature(kind).parameters:
        for value in WRONG.values():
            options: dict[str, Any] = {**needed, name: value}
            said = what_is_said(lambda: kind(**options))  # noqa: B023 - called at once
            assert said is None or name in said, (name, value, said)


@pytest.mark.parametrize("name", ["session", "ssl"])
async def test_what_links_are_fetched_with_is_checked_when_the_client_is_opened(name: str) -> None:
    links = Links(**{name: "a proxy"})  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - that is the test
    with pytest.raises(UsageError, match=rf"Links.{name} must be an "):
        async with VeniceClient("k" * 20, links=links):
            pass


@for_each("text", ["jobs\0.db", "\ud800.db"])
def test_a_journal_that_no_file_system_can_name_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="journal is not the path of a file"):
        VeniceClient("k" * 20, journal=text)


async def test_accepts_is_a_set_of_words_and_not_a_text() -> None:
    async with Venice() as server, client(server) as venice:
        with pytest.raises(UsageError, match=r"such as \{'image'\}"):
            await venice.choose(await venice.models(), accepts="image")


JOURNAL: Final[list[tuple[str, str]]] = [
    ("find", "key"),
    ("forget", "entry"),
    *(("history", name) for name in ("state", "model", "key", "tag", "limit")),
    ("reconcile", "admin_key"),
    ("spend", "by"),
]


async def test_an_argument_of_a_call_to_the_journal_is_named_and_the_journal_is_not_called_damaged(
    tmp_path: Path,
) -> None:
    async with Venice() as server, client(server, journal=tmp_path / "jobs.db") as venice:
        for method, name in JOURNAL:
            for value in ([object()], {"a": 1}, object()):
                with pytest.raises(UsageError) as caught:
                    await getattr(venice, method)(**{name: value})
                assert name in str(caught.value), (method, name, value, str(caught.value))
        assert not server.requests


def test_a_client_without_an_event_loop_of_asyncio_is_refused() -> None:
    venice = VeniceClient("k" * 20)
    with pytest.raises(UsageError, match="event loop of asyncio"):
        venice.open().send(None)  # as trio would


async def test_a_thread_without_an_event_loop_is_told_how_to_reach_the_one_of_the_client(
    tmp_path: Path,
) -> None:
    async with Venice() as server, client(server) as venice:
        with pytest.raises(
            UsageError, match=r"no event loop runs here\. From a thread use asyncio\.run_corou"
        ):
            await anyio.to_thread.run_sync(lambda: venice.generate(PUBLIC, to=tmp_path / "clip.mp4"))
        assert not server.requests


def test_a_wrong_key_is_not_shown() -> None:
    with pytest.raises(UsageError) as caught:
        VeniceClient(["s3cret"])  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - that is the test
    assert "api_key must be text, not list." == str(caught.value)


def failing(_: VideoRequest) -> Any:
    """Raise what has nothing to do with Venice."""
    msg = "no such column"
    raise LookupError(msg)


@for_each("name", ["key", "tags", "max_each"])
async def test_an_exception_of_a_callback_of_a_batch_is_raised_as_it_is_and_paid_jobs_are_delivered(
    name: str, tmp_path: Path
) -> None:
    requests = [VideoRequest(model="public-model", prompt=f"{n}", duration="5s") for n in range(3)]

    def at_the_second(request: VideoRequest) -> Any:
        return failing(request) if request.prompt == "1" else {"key": request.prompt, "tags": {}}.get(name)

    options: dict[str, Any] = {name: at_the_second, "concurrency": 1}
    async with Venice() as server, client(server) as venice:
        with pytest.raises(LookupError, match="no such column"):
            await venice.batch(requests, into=tmp_path / name, **options)
    assert ["0"] == [charge.request["prompt"] for charge in server.charges]
    assert 1 == len([path for path in (tmp_path / name).iterdir() if path.suffix == ".mp4"])


@for_each(
    "name, value, said",
    [
        ("key", None, "what key returns must be text"),
        ("max_each", "5", "what max_each returns must be a number"),
    ],
)
async def test_what_a_function_of_a_batch_returns_is_checked_before_anything_is_paid(
    name: str, value: object, said: str, tmp_path: Path
) -> None:
    async with Venice() as server, client(server) as venice:
        batch = venice.batch([PUBLIC], into=tmp_path / name, **{name: lambda _: value})  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - that is the test
        try:
            failure: object = (await batch)[0].error
        except UsageError as error:
            failure = error
        assert said in str(failure)
    assert not server.charges
