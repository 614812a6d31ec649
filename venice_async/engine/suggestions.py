"""What a misspelt model may have meant."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ..errors import BadRequestError, NotFoundError, VeniceError
from ..formatting import did_you_mean
from ..sansio.http.queries import ListModels

if TYPE_CHECKING:
    from ..io.caller import Caller

_UNKNOWN: Final = re.compile(
    r"\bmodel\b.*\b(not found|unknown|invalid|exist)|\b(unknown|invalid|no such)\b.*\bmodel\b", re.IGNORECASE
)


class Suggestions:
    """Names the models that look like one that Venice does not know. It reads the catalogue once at most."""

    def __init__(self, caller: Caller) -> None:
        """Read the catalogue with `caller`."""
        self._caller = caller
        self._known: frozenset[str] | None = None

    async def explained(self, error: VeniceError, model: str | None) -> VeniceError:
        """Return `error`; if it says that there is no such model, with those that look like it."""
        named = isinstance(error, BadRequestError | NotFoundError) and _UNKNOWN.search(error.message)
        if not named or model is None or error.ticket is not None:
            return error
        if self._known is None:
            self._known = frozenset()
            try:
                models = await self._caller.ask(ListModels())
            except VeniceError:
                return error
            self._known = frozenset(known.id for known in models)
        near = "" if model in self._known else did_you_mean(model, sorted(self._known))
        return error.with_facts(hint=near, cli_hint=near) if near else error
