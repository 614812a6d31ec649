"""The contents page: what can be imported, under the names and with the arguments that others rely on."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import pytest

import venice_async
from venice_async import Limits, Polling, Retries, Timeouts, VeniceClient, VideoJob, VideoRequest, sandbox

if TYPE_CHECKING:
    from venice_async.sandbox import Sandbox

SOURCE = ast.parse(Path(venice_async.__file__).read_text(encoding="utf-8"))

CORE = re.findall(
    r"\w+",
    """
    VeniceClient VideoJob VideoRequest Element Keyframe Media Consent
    Ticket Video Quote VideoModel ConsentRequest Outcome
    Timeouts Limits Polling Retries
    VeniceError UsageError InvalidRequestError TransportError ConnectError ReadTimeoutError DisconnectedError
    QueueOutcomeUnknownError APIError BadRequestError AuthenticationError PaymentRequiredError
    PermissionDeniedError NotFoundError ConflictError LinkExpiredError PayloadTooLargeError ContentPolicyError
    RateLimitError ServerError ConsentError ConsentRequiredError ConsentDeclinedError JobError JobFailedError
    JobTimeoutError BudgetExceededError DownloadError TruncatedError NotAVideoError ProtocolError
""",
)

SIGNATURES: dict[Any, list[str]] = {
    VeniceClient: [
        "api_key=None",
        "base_url=None",
        "session=None",
        "on_consent=None",
        "journal=None",
        "timeouts=None",
        "limits=None",
        "polling=None",
        "retries=None",
    ],
    VeniceClient.generate: ["request", "to", "max_usd=None", "overwrite=False"],
    VeniceClient.resume: ["ticket", "to", "overwrite=False"],
    VeniceClient.quote: ["request"],
    VeniceClient.models: [],
    VeniceClient.pending: [],
    VeniceClient.recover: [],
    VeniceClient.batch: ["requests", "into", "max_usd=None"],
    VideoJob.queued: [],
    VideoJob.updates: [],
    VideoJob.cancel: [],
    VideoJob.done: [],
    VideoJob.wait: [],
    Timeouts: ["connect=10.0", "read=30.0", "job=None"],
    Limits: ["queue_per_minute=40.0", "retrieve_per_minute=120.0", "share=1.0"],
    Polling: ["price=0.03", "min_gap=1.0", "max_gap=30.0"],
    Retries: [],
}

WIRE_NAMES = re.findall(
    r"\w+",
    """
    model prompt duration negative_prompt aspect_ratio resolution upscale_factor audio image_url end_image_url
    audio_url video_url reference_image_urls reference_video_urls reference_audio_urls reference_document_urls
    image_references video_references camera_trajectory image_strength voice_id anon_user_id
    elements scene_image_urls keyframes omni_reference_task_type bitrate_mode consents extra
""",
)


def listed() -> list[str]:
    """Return `__all__` as it is written."""
    values = [
        node.value
        for node in SOURCE.body
        if isinstance(node, ast.Assign) and "__all__" in [ast.unparse(target) for target in node.targets]
    ]
    assert 1 == len(values)
    found: list[str] = ast.literal_eval(values[0])
    return found


def test_the_contents_are_a_static_sorted_list() -> None:
    assert venice_async.__all__ == listed()
    assert sorted(listed()) == listed()
    assert len(set(listed())) == len(listed())


def test_checkers_and_interpreters_find_the_same_names_in_the_same_modules() -> None:
    block = next(node for node in SOURCE.body if isinstance(node, ast.If))
    for_checkers = {
        (alias.name, node.module)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    looked_up = {(name, module) for module, names in venice_async._NAMES.items() for name in names}
    assert for_checkers == looked_up | {("seedance", None)}
    assert sorted(name for name, _ in for_checkers) == listed()


def test_a_name_that_is_not_there_is_an_attribute_error_and_exactly_the_others_are_told() -> None:
    with pytest.raises(AttributeError, match="module 'venice_async' has no attribute 'VeniceCleint'"):
        getattr(venice_async, "VeniceCleint")  # noqa: B009 - a checker would see it
    assert listed() == dir(venice_async)
    assert sorted(sandbox.__all__) == dir(sandbox)


def _loaded(code: str, *arguments: str) -> list[str]:
    """Return the lines that a fresh interpreter prints."""
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    return subprocess.check_output(command, text=True).splitlines()  # noqa: S603 - our own code


def test_the_pytest_plugin_costs_a_run_that_does_not_use_it_no_module_but_its_own() -> None:
    code = """
        import sys, typing, collections.abc, pytest
        before = set(sys.modules)
        import venice_async.sandbox.pytest_plugin
        for name in sorted(set(sys.modules) - before):
            print(name)
    """
    ours = ["venice_async", "venice_async.sandbox", "venice_async.sandbox.pytest_plugin"]
    assert ours == _loaded(code)


def test_the_first_client_imports_nothing_on_the_event_loop(tmp_path: Path) -> None:
    code = """
        import asyncio, sys, threading
        from venice_async import VeniceClient, VideoRequest
        from venice_async.sandbox import Sandbox, tiny_clip

        class Finder:
            def find_spec(self, name, path=None, target=None):
                if threading.current_thread() is threading.main_thread():
                    print(name)

        async def main(folder):
            async with Sandbox(clips=tiny_clip(1000), speed=1000) as sandbox:
                sys.meta_path.insert(0, Finder())
                async with VeniceClient(
                    sandbox.api_key, base_url=sandbox.base_url, journal=folder + "/jobs.db"
                ) as venice:
                    request = VideoRequest(model="wan-2-7-text-to-video", prompt="a fox", duration="5s")
                    await venice.generate(request, to=folder + "/fox.mp4")
                sys.meta_path.pop(0)

        asyncio.run(main(sys.argv[1]))
    """
    assert [] == _loaded(code, str(tmp_path))


EVERY_CALL = """
    import asyncio, sys, threading
    from venice_async import Media, VeniceClient, VeniceError, VideoRequest, Webhook, upscale

    class Finder:
        def find_spec(self, name, path=None, target=None):
            if threading.current_thread() is threading.main_thread():
                print(doing, name)

    def request(model="wan-2-7-text-to-video", **more):
        return VideoRequest(model=model, prompt="a fox", duration="5s", aspect_ratio="16:9", **more)

    async def saves(venice):
        await venice.generate(request(), to=folder + "/fox.mp4", max_usd=5, key="fox")

    async def streams(venice):
        async for _ in venice.stream(request()).stream():
            pass

    async def stores(venice):
        await venice.generate(request(), to="memory:///fox.mp4")

    async def follows_a_link(venice):
        await venice.generate(request("grok-imagine-text-to-video-private"), to=folder + "/{model}.mp4")

    async def batches(venice):
        async for outcome in venice.batch([request(), request()], into=folder + "/clips", max_usd=9):
            outcome.video.path

    async def resumes(venice):
        job = venice.generate(request(), to=folder + "/left.mp4")
        ticket = await job.queued()
        job.cancel()
        await venice.status(ticket)
        await venice.resume(ticket, to=folder + "/resumed.mp4")
        await venice.recover()

    async def upscales(venice):
        fox = Media(folder + "/fox.mp4")
        await venice.generate(upscale("topaz-video-upscale", fox), to=folder + "/large.mp4")

    async def asks(venice):
        await venice.quote(request())
        await venice.choose(await venice.models(), accepts={"text"})
        await venice.rate_limits()
        try:
            await venice.generate(request("wan-2-7-text-to-vide"), to=folder + "/none.mp4")
        except VeniceError as error:
            str(error)

    async def looks_back(venice):
        await venice.pending()
        await venice.history()
        await venice.spend(since="1d")

    async def taken(reader, writer):
        await reader.read(1 << 16)
        writer.write(b"HTTP/1.1 204 No Content\\r\\nConnection: close\\r\\n\\r\\n")
        await writer.drain()
        writer.close()

    async def main(call):
        async with await asyncio.start_server(taken, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            hook = Webhook(f"http://127.0.0.1:{port}/", secret="whsec_" + "A" * 44)
            async with VeniceClient(key, base_url=base_url, journal=journal, on_done=hook) as venice:
                await call(venice)

    key, base_url, folder, journal = sys.argv[1:]
    doing = "begins"
    sys.meta_path.insert(0, Finder())
    for call in (
        saves, streams, stores, follows_a_link, batches, resumes, upscales, asks, looks_back
    ):
        doing = call.__name__
        asyncio.run(main(call))
"""


@pytest.mark.parametrize("journal", ["file", "postgres"])
def test_no_call_imports_anything_on_the_event_loop(
    venice_sandbox: Sandbox, tmp_path: Path, journal: str, request: pytest.FixtureRequest
) -> None:
    place = str(tmp_path / "jobs.db") if journal == "file" else request.getfixturevalue("postgres")
    assert [] == _loaded(EVERY_CALL, venice_sandbox.api_key, venice_sandbox.base_url, str(tmp_path), place)


def test_every_name_is_there_and_documented_with_its_methods() -> None:
    assert set() == set(CORE) - set(listed())
    found = {name: getattr(venice_async, name) for name in listed()}
    classes = {name: value for name, value in found.items() if inspect.isclass(value)}
    docs = {name: value.__doc__ or "" for name, value in classes.items()}
    assert [] == [name for name, doc in docs.items() if not doc or doc.startswith(f"{name}(")]
    undocumented = [
        f"{name}.{method}"
        for name, value in classes.items()
        for method, function in inspect.getmembers(value, inspect.isfunction)
        if not method.startswith("_") and not function.__doc__
    ]
    assert [] == undocumented


def test_arguments_keep_their_names_and_defaults_and_what_is_not_the_subject_is_a_keyword() -> None:
    broken: list[str] = []
    for subject, promised in SIGNATURES.items():
        parameters = inspect.signature(subject).parameters
        said = {item.name: item for item in parameters.values() if item.name != "self"}
        for expected in promised:
            name, _, default = expected.partition("=")
            if name not in said or (default and repr(said[name].default) != default):
                broken.append(f"{subject.__qualname__}: {expected}")
        if not inspect.isclass(subject):
            broken += [
                f"{subject.__qualname__}: {item.name} is no keyword"
                for item in [*said.values()][1:]
                if item.kind is not inspect.Parameter.KEYWORD_ONLY
            ]
    assert [] == broken


def test_a_request_takes_the_wire_names() -> None:
    assert set(WIRE_NAMES) == set(inspect.signature(VideoRequest).parameters)


def test_a_duration_and_lists_are_typed_as_what_they_may_be() -> None:
    expected = {
        "duration": "str | int | None",
        "reference_image_urls": "Sequence[MediaInput]",
        "keyframes": "Sequence[Keyframe | Mapping[str, Any]]",
    }
    shown = inspect.signature(VideoRequest).parameters
    assert expected == {name: shown[name].annotation for name in expected}
    assert get_type_hints(VideoRequest.__init__).keys() == {*shown, "return"}


def test_a_job_has_its_state_and_ticket() -> None:
    assert isinstance(VideoJob.state, property)
    assert isinstance(VideoJob.ticket, property)
    assert hasattr(VideoJob, "__await__")


def test_types_are_marked() -> None:
    assert (Path(venice_async.__file__).parent / "py.typed").exists()
