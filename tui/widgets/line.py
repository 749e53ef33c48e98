"""A text that is drawn again only when it has changed."""

from __future__ import annotations

from typing import Any

from textual.content import Content, Span
from textual.widgets import Static


class Line(Static):
    """Static text that is never markup; `say` writes nothing to the terminal when nothing has changed."""

    def __init__(self, content: str | Content = "", **options: Any) -> None:
        super().__init__(content, markup=False, **options)
        self._said: str | Content = content

    def say(self, content: str | Content) -> None:
        if _drawn(content) != _drawn(self._said):
            self._said = content
            self.update(content)


def _drawn(content: str | Content) -> tuple[str, list[Span]]:
    """What two contents must share to look the same: Textual's own comparison is of the text alone."""
    return (content, []) if isinstance(content, str) else (content.plain, list(content.spans))
