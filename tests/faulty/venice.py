"""A minimal Venice: healthy unless told otherwise, and exact about money."""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, Any

from attrs import define

from .clip import make_mp4
from .replies import Reply, json_reply, ranged_reply, video_reply
from .server import Answer, FaultyServer, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PREFIX = "/api/v1"
CLIP = make_mp4(100_000)
AVERAGE = 145_000
"""Milliseconds, from the vendor's own example."""


@define(kw_only=True)
class Job:
    """One accepted job.

    Attributes:
        model: as asked for.
        queue_id: as answered.
        private: delivered by link.
        polls_left: polls that still find it processing.
        gone: its media or link was deleted.
    """

    model: str
    queue_id: str
    private: bool
    polls_left: int
    gone: bool = False


class FaultyVenice(FaultyServer):
    """Queue, retrieve, complete, quote, models, links: each answers from its list, and then in good health.

    A job is private, so delivered by a link on the other origin, if its model's id contains "private".

    Attributes:
        clip: the bytes every job delivers.
        charges: the bodies of all paid requests that were accepted.
        jobs: the accepted jobs by queue_id, as far as the answer named one.
        gets: how many GETs the links have had.
    """

    def __init__(
        self,
        *,
        queue: Iterable[Answer] = (),
        retrieve: Iterable[Answer] = (),
        complete: Iterable[Answer] = (),
        quote: Iterable[Answer] = (),
        models: Iterable[Answer] = (),
        link: Iterable[Answer] = (),
        revoke: Iterable[Answer] = (),
        always: Answer | None = None,
        clip: bytes = CLIP,
        polls: int = 2,
    ) -> None:
        """Take the answers to give first, then `always`, if any; `polls` find a job processing."""
        super().__init__(self._serve)
        self.clip, self.polls, self.always = clip, polls, always
        self.charges: list[dict[str, Any]] = []
        self.jobs: dict[str, Job] = {}
        self.gets = 0
        self._endpoints: dict[str, tuple[deque[Answer], Callable[[Request], Reply]]] = {
            "POST /video/queue": (deque(queue), self._queue),
            "POST /video/retrieve": (deque(retrieve), self._retrieve),
            "POST /video/complete": (deque(complete), self._complete),
            "POST /video/quote": (deque(quote), lambda _: json_reply({"quote": 0.25})),
            "GET /models": (deque(models), lambda _: json_reply({"object": "list", "data": []})),
            "GET /link": (deque(link), self._link),
            "DELETE /link": (deque(revoke), self._revoke),
        }

    @property
    def base_url(self) -> str:
        """What a client takes as its base URL."""
        return self.origin + PREFIX

    def asked(self, endpoint: str) -> list[Request]:
        """Return the requests to an endpoint, given as "POST /video/queue" or "GET /link"."""
        return [request for request in self.requests if _endpoint(request) == endpoint]

    def _serve(self, request: Request) -> Reply:
        endpoint = _endpoint(request)
        self.gets += endpoint == "GET /link"
        answers, healthy = self._endpoints.get(endpoint, (deque[Answer](), _unknown))
        answer = answers.popleft() if answers else self.always or healthy
        reply = answer(request) if callable(answer) else answer
        if endpoint == "POST /video/queue" and reply.accepted:
            self._charge(request, reply)
        return reply

    def _charge(self, request: Request, reply: Reply) -> None:
        self.charges.append(request.json)
        try:
            named = json.loads(reply.body)
            queue_id, model = named["queue_id"], named.get("model", request.json["model"])
        except (ValueError, TypeError, KeyError):
            return  # charged, and nobody learns for what
        private = "download_url" in named
        self.jobs[queue_id] = Job(model=model, queue_id=queue_id, private=private, polls_left=self.polls)

    def _queue(self, request: Request) -> Reply:
        model, queue_id = request.json["model"], f"job-{len(self.charges) + 1}"
        link = f"{self.other_origin}/link/{queue_id}?signature=secret"
        private = {"download_url": link} if "private" in model else {}
        return json_reply({"model": model, "queue_id": queue_id, **private})

    def _retrieve(self, request: Request) -> Reply:
        job = self.jobs.get(request.json["queue_id"])
        if job is None:
            return json_reply({"error": "Request ID is invalid"}, status=400)
        if job.gone and not job.private:
            return json_reply({"error": "Media not found"}, status=404)
        job.polls_left -= 1
        if job.polls_left >= 0:
            return _status("PROCESSING")
        return _status("COMPLETED") if job.private else video_reply(self.clip)

    def _complete(self, request: Request) -> Reply:
        job = self.jobs.get(request.json["queue_id"])
        if job is None or job.private:
            return json_reply({"error": "Request ID is invalid"}, status=400)
        job.gone = True
        return json_reply({"success": True})

    def _link(self, request: Request) -> Reply:
        job = self.jobs.get(request.path.removeprefix("/link/"))
        if job is None or job.gone:
            return json_reply({"error": "Gone"}, status=410 if job else 404)
        return ranged_reply(request, self.clip)

    def _revoke(self, request: Request) -> Reply:
        job = self.jobs.get(request.path.removeprefix("/link/"))
        if job is None or job.gone:
            return json_reply({"error": "Gone"}, status=410 if job else 404)
        job.gone = True
        return Reply(status=204)


def _endpoint(request: Request) -> str:
    path = request.path.removeprefix(PREFIX)
    return f"{request.method} {'/link' if path.startswith('/link/') else path}"


def _status(status: str) -> Reply:
    return json_reply({"status": status, "average_execution_time": AVERAGE, "execution_duration": 1_000})


def _unknown(request: Request) -> Reply:
    return json_reply({"error": f"No such path: {request.path}"}, status=404)
