"""A signed request to a server of yours when a job has ended: `VeniceClient(on_done=Webhook(url, secret))`.

It follows the specification "Standard Webhooks", so that libraries of other languages can verify it:

| header              | is                                                                       |
|---------------------|--------------------------------------------------------------------------|
| `webhook-id`        | names the event: the same whenever it is sent again                      |
| `webhook-timestamp` | when this try was made, in seconds since the Unix epoch                  |
| `webhook-signature` | `v1,` and the HMAC-SHA256 of `id.timestamp.body` in base64               |
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, cast
from urllib.parse import urlsplit

import aiohttp
from attrs import field, frozen

from .errors import APIError, JobFailedError, UsageError, WebhookError
from .io.clock import SystemClock
from .io.transport import Clock
from .job import VideoJob
from .options import check_number
from .sansio.http.links import is_loopback
from .sansio.http.secrets import Secret
from .sansio.job.states import Failed, Succeeded

TOLERANCE: Final = 300.0  # seconds between a signature and its verification, as Standard Webhooks has it
ONE_TRY: Final = 15.0  # seconds
LONGEST_PAUSE: Final = 300.0  # seconds
_LEAST: Final = 16  # characters of a secret
_GONE: Final = 410  # by which a receiver says that it wants no more of this
_PREFIX: Final = "whsec_"  # of a secret in base64


def _key(secret: object) -> bytes:
    """Return the bytes to sign with: of text as it is, of `whsec_…` what its base64 says.

    Raises:
        UsageError: it is not text, too short, or not base64.
    """
    if not isinstance(secret, str):
        msg = f"The secret of a webhook must be a text, not {type(secret).__name__}"
        raise UsageError(msg)
    try:
        coded = secret.startswith(_PREFIX)
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True) if coded else secret.encode()
    except ValueError:  # not base64, or bytes of the environment that are not text
        key = b""
    del secret  # a traceback of this frame must not show it
    if len(key) < _LEAST:
        msg = f"The secret of a webhook must have at least {_LEAST} characters, or be whsec_ and base64"
        raise UsageError(msg, hint="Make one with: python -c 'import secrets; print(secrets.token_hex())'")
    return key


def _signature(key: bytes, name: str, timestamp: str, body: bytes) -> str:
    """Return the signature; a header that is not UTF-8, as a stranger may send it, matches none."""
    signed = hmac.new(key, f"{name}.{timestamp}.".encode(errors="replace") + body, hashlib.sha256)
    return base64.b64encode(signed.digest()).decode()


@frozen
class Webhook:
    """Posts the end of a job to a URL, as signed JSON, until it is taken with a status of 2xx.

    It is delivered at least once; repeats have the same `id`. It is retried until a 410 or the end of
    `patience`. Redirects are not followed. The body has no keys and no download links.

    Attributes:
        url: where to; https, or http to this machine. It is not shown, for it may hold a token.
        secret: what the body is signed with, at least 16 characters, or `whsec_…`; not shown either.
        patience: seconds for which it is tried, with pauses that grow to five minutes.
        clock: time and chance.
    """

    url: str = field(repr=False)
    secret: Secret = field(repr=False, converter=Secret)
    patience: float = field(default=3600.0, kw_only=True)
    clock: Clock = field(factory=SystemClock, repr=False, eq=False, kw_only=True)

    def __attrs_post_init__(self) -> None:
        _key(self.secret.reveal())
        given: Any = self.url
        try:
            parts = urlsplit(given if isinstance(given, str) else "")
            secure = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))
            sound = secure and bool(parts.hostname) and parts.port != 0 and parts.username is None
        except ValueError:
            sound = False
        if not sound:  # it is not shown: it may hold a token
            msg = "The url of a webhook must be https, or http to this machine, without user and password"
            raise UsageError(msg, hint="Such as 'https://shop.example/hooks/venice'")
        check_number("Webhook.patience", self.patience, low=0)

    async def __call__(self, job: VideoJob) -> None:
        """Post the end of a job.

        Raises:
            WebhookError: the receiver did not take it.
        """
        event = _event(job, self.clock.time())
        body = json.dumps(event).encode()
        deadline, pause = self.clock.monotonic() + self.patience, 1.0
        timeout, no_cookies = aiohttp.ClientTimeout(total=ONE_TRY), aiohttp.DummyCookieJar()
        while True:
            timestamp = str(int(self.clock.time()))
            signature = _signature(_key(self.secret.reveal()), event["id"], timestamp, body)
            headers = {
                "Content-Type": "application/json",
                "webhook-id": event["id"],
                "webhook-timestamp": timestamp,
                "webhook-signature": f"v1,{signature}",
            }
            failure: int | str  # the status, or the name of the error, whose words have the URL
            try:
                async with (
                    aiohttp.ClientSession(timeout=timeout, cookie_jar=no_cookies) as session,
                    session.post(self.url, data=body, headers=headers, allow_redirects=False) as answer,
                ):
                    if 200 <= answer.status < 300:  # noqa: PLR2004 - 2xx
                        return
                    failure = answer.status
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                failure = type(error).__name__
            wait = pause * (0.5 + self.clock.chance())
            if failure == _GONE or self.clock.monotonic() + wait > deadline:
                msg = f"{urlsplit(self.url).hostname} did not take the webhook {event['id']}: {failure}"
                raise WebhookError(msg, hint="See why the receiver fails")
            await self.clock.sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE)


def verify_webhook(
    body: bytes,
    headers: Mapping[str, str],
    secret: str | Iterable[str],
    *,
    tolerance: float = TOLERANCE,
    clock: Clock | None = None,
) -> dict[str, Any]:
    """Verify a webhook, and return its event.

    Args:
        body: the body as it was received, before anything parsed it.
        headers: those of the request, in whatever case.
        secret: the secret of the `Webhook`, or several while one is being replaced.
        tolerance: seconds that its timestamp may be off.
        clock: what tells the time.

    Returns:
        the event: `id`, `type`, `timestamp` and `data`.

    Raises:
        WebhookError: it is not genuine, or too old.
        UsageError: the body is not bytes, or a secret has another form.
    """
    if not isinstance(body, bytes | bytearray | memoryview):  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
        msg = f"The body of a webhook must be bytes, as it came, not {type(body).__name__}"
        raise UsageError(msg, hint="Pass what await request.read() returns, before it is decoded")
    known = {name.lower(): value for name, value in headers.items()}
    keys = [_key(each) for each in ([secret] if isinstance(secret, str) else secret)]
    del secret
    name, timestamp = known.get("webhook-id", ""), known.get("webhook-timestamp", "")
    now = (clock or SystemClock()).time()
    given = [text.removeprefix("v1,") for text in known.get("webhook-signature", "").split(" ")]
    genuine = [
        hmac.compare_digest(_signature(key, name, timestamp, body).encode(), text.encode(errors="replace"))
        for key in keys
        for text in given
    ]
    if not name or not any(genuine):
        msg = "The signature of this webhook is wrong"
        raise WebhookError(msg, hint="Pass the body as it came, byte by byte, and the secret of the sender")
    if not timestamp.isdigit() or abs(now - int(timestamp)) > tolerance:
        msg = "This webhook is too old, or from the future"
        raise WebhookError(msg, hint="It may be a replay; else compare the clocks of both machines")
    return cast("dict[str, Any]", json.loads(body))


def _event(job: VideoJob, now: float) -> dict[str, Any]:
    """Return the event of a job that has ended, without keys and links."""
    state = job.state
    data: dict[str, object] = {
        "key": job.key,
        "tags": dict(job.tags),
        "queue_id": job.ticket and job.ticket.queue_id,
        "model": job.ticket.model if job.ticket else job.request and job.request.model,
    }
    if isinstance(state, Succeeded):
        video = state.video
        data |= {"file": video.path and video.path.name, "url": video.url}
        data |= {"size": video.size, "sha256": video.sha256}
    elif isinstance(state, Failed):
        error = state.error
        data |= {"error": type(error).__name__, "message": error.message, "charged": error.charged}
        if isinstance(error, APIError | JobFailedError):
            data["credits_refunded"] = error.credits_refunded
    kind = f"video.{type(state).__name__.lower()}"
    timestamp = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
    event = {"type": kind, "timestamp": timestamp, "data": data}
    # Another process that sends the event again gives it the same id, if the job was queued.
    same = f"{data['model']} {job.ticket.queue_id} {kind}" if job.ticket else json.dumps(event)
    return {"id": f"evt_{hashlib.sha256(same.encode('utf-8', 'backslashreplace')).hexdigest()[:32]}", **event}
