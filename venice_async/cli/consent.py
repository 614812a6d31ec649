"""The provider's policy, shown whole, and its three statements, asked one by one. There is no default yes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.padding import Padding
from rich.rule import Rule
from rich.text import Text

from ..requests import Consent
from .screen.prompts import confirmed
from .screen.screen import printable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..results import ConsentRequest
    from .screen.screen import Screen

_STATEMENTS: Final = (
    ("terms_and_privacy", "Do you accept the terms and the privacy policy?"),
    ("legal_right", "Do you have the legal right to use this media for this purpose?"),
    ("screening", "Do you acknowledge that the media will be screened?"),
)


def asker(screen: Screen) -> Callable[[ConsentRequest], Awaitable[Consent | None]] | None:
    """Return what asks the person at the terminal; None when there is nobody."""
    if not screen.can_ask:
        return None

    async def ask(question: ConsentRequest) -> Consent | None:
        with screen.alone():
            _show(screen, question)
            answers: dict[str, bool] = {}
            for name, statement in _STATEMENTS:
                answers[name] = await confirmed(screen, statement)
                if not answers[name]:
                    return None
        return Consent(**answers)

    return ask


def _show(screen: Screen, question: ConsentRequest) -> None:
    shows = ", ".join(role.replace("_", " ") for role in question.face_media_roles)
    screen.err.print(Rule(Text(f"Consent: {printable(question.flow)}"), style="yellow"))
    if question.message:
        screen.err.print(Text(printable(question.message)))
    if shows:
        screen.err.print(Text(f"Faces were found in: {printable(shows)}"))
    screen.err.print(Padding(Text(printable(question.policy_text)), (1, 2)))
    if question.docs_url:
        screen.err.print(Text(f"More: {printable(question.docs_url)}"), soft_wrap=True)
    screen.err.print(Text(f"Version {printable(question.consent_version)}. Nothing has been charged yet."))
