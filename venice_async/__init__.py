"""The asyncio SDK for Venice.ai video generation: a prompt in, a verified video file out, in one `await`.

Names are imported when they are first used: `import venice_async` alone loads nothing, `from venice_async
import VeniceClient` loads the network there and then. Write it at the top of a module: a running event loop
would stand still for the time that it takes.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import seedance
    from .batch import Batch
    from .chaining import VideoFile, concat, last_frame, thumbnail
    from .client import VeniceClient
    from .engine.reconcile import Settlement
    from .errors import (
        APIError,
        AuthenticationError,
        BadRequestError,
        BudgetExceededError,
        ConflictError,
        ConnectError,
        ConsentDeclinedError,
        ConsentError,
        ConsentRequiredError,
        ContentPolicyError,
        DisconnectedError,
        DownloadError,
        InvalidRequestError,
        JobError,
        JobFailedError,
        JobTimeoutError,
        JournalError,
        LinkExpiredError,
        NotAVideoError,
        NotFoundError,
        PayloadTooLargeError,
        PaymentRequiredError,
        PermissionDeniedError,
        ProtocolError,
        QueueOutcomeUnknownError,
        RateLimitError,
        ReadTimeoutError,
        ServerError,
        TransportError,
        TruncatedError,
        UsageError,
        VeniceError,
        WebhookError,
    )
    from .io.delivery.sinks import MemorySink, Sink
    from .io.journal.entries import JournalEntry
    from .job import VideoJob
    from .media import Media
    from .models import AccountLimits, Deprecation, ModelLimit, Problem, VideoModel
    from .options import Budget, Limits, Links, Polling, Retries, Timeouts
    from .requests import (
        CameraPoint,
        Consent,
        Element,
        ImageReference,
        Keyframe,
        VideoReference,
        VideoRequest,
    )
    from .results import ConsentRequest, Outcome, Quote, Ticket, Video
    from .sansio.job.states import (
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
    )
    from .upscaling import upscale
    from .version import __version__
    from .webhook import Webhook, verify_webhook

__all__ = [
    "APIError",
    "AccountLimits",
    "AuthenticationError",
    "AwaitingConsent",
    "BadRequestError",
    "Batch",
    "Budget",
    "BudgetExceededError",
    "CameraPoint",
    "ConflictError",
    "ConnectError",
    "Consent",
    "ConsentDeclinedError",
    "ConsentError",
    "ConsentRequest",
    "ConsentRequiredError",
    "ContentPolicyError",
    "Deprecation",
    "DisconnectedError",
    "DownloadError",
    "Downloading",
    "Element",
    "Failed",
    "ImageReference",
    "InvalidRequestError",
    "JobError",
    "JobFailedError",
    "JobTimeoutError",
    "JournalEntry",
    "JournalError",
    "Keyframe",
    "Limits",
    "LinkExpiredError",
    "Links",
    "Media",
    "MemorySink",
    "ModelLimit",
    "NotAVideoError",
    "NotFoundError",
    "Outcome",
    "PayloadTooLargeError",
    "PaymentRequiredError",
    "PermissionDeniedError",
    "Polling",
    "Problem",
    "ProtocolError",
    "QueueOutcomeUnknownError",
    "Queueing",
    "Quote",
    "Quoting",
    "RateLimitError",
    "ReadTimeoutError",
    "Retries",
    "Saved",
    "ServerError",
    "Settlement",
    "Sink",
    "State",
    "Stopped",
    "Succeeded",
    "Ticket",
    "Timeouts",
    "TransportError",
    "TruncatedError",
    "UsageError",
    "VeniceClient",
    "VeniceError",
    "Video",
    "VideoFile",
    "VideoJob",
    "VideoModel",
    "VideoReference",
    "VideoRequest",
    "Waiting",
    "Webhook",
    "WebhookError",
    "__version__",
    "concat",
    "last_frame",
    "seedance",
    "thumbnail",
    "upscale",
    "verify_webhook",
]

_NAMES = {
    "batch": ("Batch",),
    "chaining": ("VideoFile", "concat", "last_frame", "thumbnail"),
    "client": ("VeniceClient",),
    "errors": tuple(name for name in __all__ if name.endswith("Error")),
    "engine.reconcile": ("Settlement",),
    "io.delivery.sinks": ("MemorySink", "Sink"),
    "io.journal.entries": ("JournalEntry",),
    "job": ("VideoJob",),
    "media": ("Media",),
    "options": ("Budget", "Limits", "Links", "Polling", "Retries", "Timeouts"),
    "requests": (
        "CameraPoint",
        "Consent",
        "Element",
        "ImageReference",
        "Keyframe",
        "VideoReference",
        "VideoRequest",
    ),
    "models": ("AccountLimits", "Deprecation", "ModelLimit", "Problem", "VideoModel"),
    "results": ("ConsentRequest", "Outcome", "Quote", "Ticket", "Video"),
    "sansio.job.states": (
        "AwaitingConsent",
        "Downloading",
        "Failed",
        "Queueing",
        "Quoting",
        "Saved",
        "State",
        "Stopped",
        "Succeeded",
        "Waiting",
    ),
    "upscaling": ("upscale",),
    "webhook": ("Webhook", "verify_webhook"),
    "version": ("__version__",),
    "seedance": (),
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a public name, or a module that has some, when it is first used."""
    if name in _NAMES:
        return import_module(f".{name}", __name__)
    if name not in _MODULE_OF:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value: object = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, without those that only serve their import."""
    return [*__all__]
