"""The private link: another origin, no key, a strong ETag, ranges, and only a few GETs."""

from __future__ import annotations

import re
from collections.abc import Mapping

from attrs import frozen

from .clock import LoopClock
from .jobs import Clip, Job, JobBook
from .replies import Reply, standard_error

_PATH = re.compile(r"/media/([0-9a-f-]{8,36})\.mp4")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@frozen(kw_only=True)
class LinkHost:
    """Serves clips by link.

    Attributes:
        book: where the jobs are.
        clock: the sandbox's time.
        gets: GETs that a link allows.
        lifetime: seconds for which a link is valid, counted from when the job was queued.
        ranges: whether `Range` is honoured.
    """

    book: JobBook
    clock: LoopClock
    gets: int
    lifetime: float
    ranges: bool

    def find(self, path: str, signature: str | None) -> Job | None:
        """Return the job whose link this is."""
        named = _PATH.fullmatch(path)
        job = self.book.find(named[1]) if named else None
        return job if job is not None and job.token == signature else None

    def get(self, job: Job | None, headers: Mapping[str, str], now: float) -> Reply:
        """Answer a GET; each one counts, whatever comes of it."""
        if job is None:
            return standard_error(404, "Not found")
        if self._gone(job, now):
            return standard_error(410, "This download link has expired")
        if job.gets >= self.gets:
            return standard_error(429, "This download link was used too often")
        job.gets += 1
        if not job.succeeds or not job.done(now) or job.clip is None:
            return standard_error(404, "Not found")
        if not job.linked(now):
            return standard_error(job.scenario.link_status, "Not found")
        return self._serve(job, headers)

    def delete(self, job: Job | None, now: float) -> Reply:
        """Answer a DELETE: the link and its clip are gone."""
        if job is None:
            return standard_error(404, "Not found")
        if self._gone(job, now):
            return standard_error(410, "This download link has expired")
        job.deleted, job.clip = True, b""
        return Reply(status=204)

    def _gone(self, job: Job, now: float) -> bool:
        return job.deleted or now >= job.queued_at + self.lifetime

    def _serve(self, job: Job, headers: Mapping[str, str]) -> Reply:
        clip, kind = job.media
        etag, modified = f'"{job.queue_id}-{len(clip)}"', self.clock.http_date(job.ready_at)
        common = {**kind, "ETag": etag, "Last-Modified": modified}
        if not self.ranges:
            return Reply(body=clip, headers=common)
        common["Accept-Ranges"] = "bytes"
        if headers.get("if-range", etag) not in {etag, modified}:
            return Reply(body=clip, headers=common)
        return _ranged(clip, headers.get("range", ""), common)


def _ranged(clip: Clip, wanted: str, headers: dict[str, str]) -> Reply:
    """Return the single range `wanted` by RFC 9110, section 14; all of the clip for anything else."""
    named = _RANGE.fullmatch(wanted.strip())
    if named is None or not any(named.groups()):
        return Reply(body=clip, headers=headers)
    size = len(clip)
    if named[1]:
        first, last = int(named[1]), min(int(named[2] or size), size - 1)
        if named[2] and int(named[2]) < first:
            return Reply(body=clip, headers=headers)
    else:
        first, last = max(0, size - int(named[2])), size - 1
    if first >= size:
        headers = {**headers, "Content-Range": f"bytes */{size}", "Content-Type": "text/plain"}
        return Reply(status=416, headers=headers)
    headers = {**headers, "Content-Range": f"bytes {first}-{last}/{size}"}
    return Reply(status=206, body=memoryview(clip)[first : last + 1], headers=headers)
