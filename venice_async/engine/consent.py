"""Asks a person for consent: once for each policy and its media, however many jobs wait for the answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Hashable
from functools import partial
from typing import Any, Final, TypeAlias

from attrs import define, field

from ..io.shielding import call_user
from ..io.uploads import beside_the_loop
from ..requests import Consent, VideoRequest
from ..results import ConsentRequest
from ..sansio.converter import converter, media_in

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
        subject = (id(ask), await _subject(question))

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
        subject = await _subject(question)
        if subject not in self._answers:
            self._answers[subject] = await call_user(self._ask, question)
        return self._answers[subject]


async def _subject(question: ConsentRequest) -> Hashable:
    """Return what the answer is about: the policy, and the media that may show faces."""
    request, media = question.request, frozenset[str]()
    if request is not None:
        media = await beside_the_loop(partial(_with_faces, roles=question.face_media_roles), request)
    return question.policy, question.policy_text, media


def _with_faces(request: VideoRequest, roles: Collection[str]) -> frozenset[str]:
    """Return the media that may show the faces of `roles`: all but sounds and the fields of other roles."""
    named = {_FIELD_OF.get(role) for role in roles}
    others = {*_FIELD_OF.values()} - named if named and None not in named else set[str]()
    return frozenset(
        json.dumps(value, sort_keys=True, default=str)
        for field_name, part in converter().unstructure(request).items()
        if field_name not in others
        for name, value in media_in(part, field_name)
        if "audio" not in name
    )
