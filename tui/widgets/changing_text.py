"""A text that is drawn again only if it has changed."""

from __future__ import annotations

from typing import Any

from textual.content import Content, Span
from textual.widgets import Static


class Line(Static):
    """Static text that is never markup. `say` with the same text writes nothing to the terminal."""

    def __init__(self, content: str | Content = "", **options: Any) -> None:
        super().__init__(content, markup=False, **options)
        self._said: str | Content = content

    def say(self, content: str | Content) -> None:
        if _drawn(content) != _drawn(self._said):
            self._said = content
            self.update(content)


def _drawn(content: str | Content) -> tuple[str, list[Span]]:
    """Return what two contents must share to look the same. Textual itself compares only the text."""
    return (content, []) if isinstance(content, str) else (content.plain, list(content.spans))
