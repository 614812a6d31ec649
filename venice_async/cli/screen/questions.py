"""Questions on the terminal, asked without blocking the event loop: a signal still gets through."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

import anyio
from rich.padding import Padding
from rich.rule import Rule
from rich.text import Text

from ...requests import Consent
from .screen import printable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ...results import ConsentRequest
    from .screen import Screen

_YES: Final = frozenset({"y", "yes"})
_LONGEST: Final = 4096  # bytes of a line of a terminal
_STATEMENTS: Final = {
    "terms_and_privacy": "Do you accept the terms and the privacy policy?",
    "legal_right": "Do you have the legal right to use this media for this purpose?",
    "screening": "Do you acknowledge that the media will be screened?",
}


async def confirmed(screen: Screen, question: str) -> bool:
    """Ask a yes/no question; anything but yes is a no, the end of the input too."""
    screen.err.print(Text(f"{printable(question)} [y/N] "), end="")
    await anyio.wait_readable(sys.stdin)
    answer = os.read(sys.stdin.fileno(), _LONGEST).decode(errors="replace")
    return answer.strip().lower() in _YES


def consent_asker(screen: Screen) -> Callable[[ConsentRequest], Awaitable[Consent | None]] | None:
    """Return a callback that shows a policy and asks its three questions; None without a terminal."""
    if not screen.can_ask:
        return None

    async def ask(question: ConsentRequest) -> Consent | None:
        shows = ", ".join(role.replace("_", " ") for role in question.face_media_roles)
        with screen.alone():
            screen.err.print(Rule(Text(f"Consent: {printable(question.flow)}"), style="yellow"))
            if question.message:
                screen.err.print(Text(printable(question.message)))
            if shows:
                screen.err.print(Text(f"Faces were found in: {printable(shows)}"))
            screen.err.print(Padding(Text(printable(question.policy_text)), (1, 2)))
            if question.docs_url:
                screen.err.print(Text(f"More: {printable(question.docs_url)}"), soft_wrap=True)
            version = printable(question.consent_version)
            screen.err.print(Text(f"Version {version}. Nothing has been charged yet."))
            answers: dict[str, bool] = {}
            for name, statement in _STATEMENTS.items():
                answers[name] = await confirmed(screen, statement)
                if not answers[name]:
                    return None
        return Consent(**answers)

    return ask
