"""Headers that the caller adds to each request to the API, such as a signature."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias, cast

import anyio
from attrs import evolve, field, frozen

from ..errors import ConnectError
from ..sansio.http.wire import HttpRequest
from ..sansio.retries import Call
from .shielding import is_cancellation

OnRequest: TypeAlias = Callable[[str, str, bytes], Mapping[str, str] | Awaitable[Mapping[str, str]]]

_OURS: Final = frozenset({"accept-encoding", "connection", "content-length", "host", "transfer-encoding"})
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TIMEOUT: Final = 30.0  # seconds
_SHORTEST: Final = 8  # characters; a shorter value is no secret
_REMEMBERED: Final = 256  # values: those of requests whose answers are still to come


@frozen
class RequestHook:
    """Asks the caller for headers.

    Attributes:
        function: called with method, path and body; returns headers, or an awaitable of them.
        base_path: the path of the API's base URL.
        may_authorize: whether `authorization` may be among them.
        secrets: the latest values, which no error may show.
    """

    function: OnRequest
    base_path: str
    may_authorize: bool
    secrets: deque[str] = field(factory=lambda: deque[str](maxlen=_REMEMBERED), repr=False)

    async def applied(self, request: HttpRequest) -> HttpRequest:
        """Return `request` with the headers; a link gets none, for it is not the API's.

        Raises:
            ConnectError: the function failed, so nothing is sent.
        """
        if request.call in {Call.LINK, Call.REVOKE}:
            return request
        try:
            with anyio.fail_after(_TIMEOUT):
                found = self.function(request.method, self.base_path + request.url, request.body or b"")
                given = cast("object", await found if inspect.isawaitable(found) else found)
            if not isinstance(given, Mapping):
                msg = f"it must return a mapping of headers, not {type(given).__name__}"
                raise TypeError(msg)
            headers: dict[str, str] = {}
            for name, value in cast("Mapping[object, object]", given).items():
                if not isinstance(name, str) or not _NAME.fullmatch(name) or not isinstance(value, str):
                    msg = f"{name!r} is no header with a text"
                    raise TypeError(msg)
                if not value.isascii() or not value.isprintable():
                    msg = f"the header {name!r} has characters that no header has"
                    raise ValueError(msg)
                if name.lower() in _OURS or (name.lower() == "authorization" and not self.may_authorize):
                    msg = f"the header {name!r} is not its own to set"
                    raise ValueError(msg)
                headers[name.lower()] = value
        except (Exception, asyncio.CancelledError) as cause:
            if is_cancellation(cause):
                raise
            message = f"The request was not sent: on_request failed: {type(cause).__name__}: {cause}"
            raise ConnectError(message, hint="Correct the function on_request") from cause
        self.secrets.extend(value for value in headers.values() if len(value) >= _SHORTEST)
        return evolve(request, headers={**request.headers, **headers})
