"""The contents page: what can be imported, under the names and with the arguments that others rely on."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import venice_async
from venice_async import Limits, Polling, Retries, Timeouts, VeniceClient, VideoJob, VideoRequest

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


def test_the_contents_are_complete() -> None:
    imported = [
        alias.asname or alias.name
        for node in SOURCE.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    assert sorted(imported) == listed()


def test_the_contents_page_is_nothing_else() -> None:
    kinds = {type(node) for node in SOURCE.body[1:]}
    assert {ast.ImportFrom, ast.Assign} == kinds
    assert 1 == len([node for node in SOURCE.body if isinstance(node, ast.Assign)])


@pytest.mark.parametrize("name", CORE)
def test_what_others_rely_on_is_there(name: str) -> None:
    assert name in listed()


@pytest.mark.parametrize("name", sorted(venice_async.__all__))
def test_every_name_is_there_and_documented(name: str) -> None:
    value = getattr(venice_async, name)
    if inspect.isclass(value):
        assert value.__doc__
        assert not value.__doc__.startswith(f"{name}(")


@pytest.mark.parametrize("name", sorted(name for name in venice_async.__all__ if name != "State"))
def test_every_public_method_is_documented(name: str) -> None:
    undocumented = [
        method
        for method, function in inspect.getmembers(getattr(venice_async, name), inspect.isfunction)
        if not method.startswith("_") and not function.__doc__
    ]
    assert [] == undocumented


@pytest.mark.parametrize("subject", SIGNATURES)
def test_arguments_keep_their_names_and_defaults(subject: Any) -> None:
    parameters = [item for name, item in inspect.signature(subject).parameters.items() if name != "self"]
    said = {item.name: item.default for item in parameters}
    for expected in SIGNATURES[subject]:
        name, _, default = expected.partition("=")
        assert name in said
        assert not default or repr(said[name]) == default


@pytest.mark.parametrize("subject", [item for item in SIGNATURES if not inspect.isclass(item)])
def test_what_is_not_the_subject_is_a_keyword(subject: Any) -> None:
    parameters = [item for name, item in inspect.signature(subject).parameters.items() if name != "self"]
    kinds = {item.kind for item in parameters[1:]}
    assert kinds <= {inspect.Parameter.KEYWORD_ONLY}


def test_a_request_takes_the_wire_names() -> None:
    assert set(WIRE_NAMES) == set(inspect.signature(VideoRequest).parameters)


def test_a_job_has_its_state_and_ticket() -> None:
    assert isinstance(VideoJob.state, property)
    assert isinstance(VideoJob.ticket, property)
    assert hasattr(VideoJob, "__await__")


def test_types_are_marked() -> None:
    assert (Path(venice_async.__file__).parent / "py.typed").exists()
