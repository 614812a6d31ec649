"""Asks a person for consent: once for each policy and its media, however many jobs wait for the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Final, TypeAlias

from attrs import define, field

from ..io.shielding import call_user
from ..requests import Consent
from ..results import ConsentRequest

OnConsent: TypeAlias = Callable[[ConsentRequest], Awaitable[Consent | None] | Consent | None]

_FIELD_OF: Final = {
    "image": "image_url",
    "end_image": "end_image_url",
    "reference_image": "reference_image_urls",
    "video": "video_url",
    "reference_video": "reference_video_urls",
}


@define
class Questions:
    """The questions that people are being asked: one at a time for a policy and its media.

    A question is a task of the client, not of the job that asks first: a job that is cancelled leaves it
    open, and the next job with the same question waits for the same answer.
    """

    _open: dict[Hashable, asyncio.Task[object]] = field(init=False, factory=dict[Hashable, Any])

    async def put(self, ask: OnConsent, question: ConsentRequest) -> object:
        """Return what `ask` answers. Its exception is the first asker's alone: the next one asks again."""
        subject = (id(ask), _subject(question))

        def close(task: asyncio.Task[object]) -> None:
            del self._open[subject]
            if not task.cancelled():
                task.exception()  # looked at, or asyncio logs that nobody did

        while True:
            task = self._open.get(subject)
            is_first = task is None
            if task is None:
                task = asyncio.create_task(call_user(ask, question), name="venice_async.consent")
                self._open[subject] = task
                task.add_done_callback(close)
            await asyncio.wait({task})
            if is_first or task.cancelled() or task.exception() is None:
                return task.result()

    async def aclose(self) -> None:
        """Cancel the questions that no job waits for any more; a prompt in a thread is abandoned."""
        tasks = list(self._open.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@define
class SharedConsent:
    """Asks once for each policy and its media, and gives all who asked the same answer, a no included."""

    _ask: OnConsent
    _answers: dict[Hashable, Consent | None] = field(init=False, factory=dict[Hashable, Any])

    async def __call__(self, question: ConsentRequest) -> Consent | None:
        """Return the answer, asked for now or before; `Questions` keeps two from asking at once."""
        subject = _subject(question)
        if subject not in self._answers:
            self._answers[subject] = await call_user(self._ask, question)
        return self._answers[subject]


def _subject(question: ConsentRequest) -> Hashable:
    """Return the policy and the media that show faces; all media where the roles do not tell which."""
    request, media = question.request, ()
    names = [_FIELD_OF.get(role) for role in question.face_media_roles]
    if request is not None and names and None not in names:
        media = tuple(getattr(request, name) for name in sorted(name for name in names if name))
    elif request is not None:
        media = (
            *(getattr(request, name) for name in _FIELD_OF.values()),
            *((one.frontal_image_url, one.reference_image_urls, one.video_url) for one in request.elements),
            *(keyframe.image_url for keyframe in request.keyframes),
            request.scene_image_urls,
        )
    return question.policy, question.policy_text, media
