"""What a batch has learnt of requests and media that are refused in the same way again and again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, cast

from ..errors import APIError, InvalidRequestError, VeniceError
from ..io.uploads import beside_the_loop
from ..requests import VideoRequest
from ..sansio.converter import converter, request_key

_REFUSALS = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY}
)


class Refusals:
    """Counts identical refusals of a request, and of each of its media, until one of them works.

    A refusal of the content, of media or of fields comes again for the same request. What may pass, such as a
    rate limit, an outage or a failed inference, is not counted.
    """

    def __init__(self, limit: int | None) -> None:
        """Give up after `limit` identical refusals; never for None."""
        self._limit = limit
        self._counts: Counter[tuple[str, str]] = Counter()
        self._sound: set[str] = set()

    async def check(self, request: VideoRequest) -> None:
        """Refuse a request that is sure to be refused again.

        Raises:
            InvalidRequestError: it, or one of its media, was refused too often.
        """
        if self._limit is None or not self._counts:
            return
        subjects = await beside_the_loop(_subjects, request)
        for (subject, refusal), count in self._counts.items():
            if count >= self._limit and subject in subjects and subject not in self._sound:
                name = subjects[subject]
                what = f"requests with the same {name}" if name else "requests like this"
                msg = f"Not sent, for {count} {what} were refused in the same way: {refusal}"
                raise InvalidRequestError(
                    msg,
                    field=name,
                    hint="Change what was refused; give_up_after=None sends it all the same",
                    cli_hint="Change what was refused; --give-up-after 0 sends it all the same",
                )

    async def refused(self, request: VideoRequest, error: VeniceError) -> None:
        """Count a refusal."""
        if self._limit is not None and isinstance(error, APIError) and error.status in _REFUSALS:
            subjects = await beside_the_loop(_subjects, request)
            self._counts.update((subject, error.message) for subject in subjects)

    async def worked(self, request: VideoRequest) -> None:
        """Note that a request became a clip: neither it nor its media are at fault."""
        if self._counts:
            self._sound.update(await beside_the_loop(_subjects, request))


def _subjects(request: VideoRequest) -> dict[str, str]:
    """Return the request and its media, each by what tells it from others, with the name of its field."""
    record = converter().unstructure(request)
    media = {json.dumps(value, sort_keys=True, default=str): name for name, value in _media(record)}
    return {request_key(request): "", **media}


def _media(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    if name.endswith("_url"):
        yield name, value
    elif isinstance(value, dict):
        for key, part in cast("dict[str, Any]", value).items():
            yield from _media(part, key)
    elif isinstance(value, list | tuple):
        for part in cast("list[Any]", value):
            yield from _media(part, name.removesuffix("s"))
