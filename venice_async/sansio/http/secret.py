"""A text that is shown nowhere."""

from __future__ import annotations


class Secret:
    """A text that no repr shows."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        """Keep `text`."""
        self._text = text

    def reveal(self) -> str:
        """Return it."""
        return self._text

    def __repr__(self) -> str:
        """Hide it."""
        return "Secret(…)"
