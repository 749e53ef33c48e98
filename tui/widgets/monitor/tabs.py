"""The line of pages with their keys. A click opens one."""

from __future__ import annotations

from textual import events
from textual.message import Message

from deeptune.show.chart import Row
from tui.widgets.styled_lines import Lines


class Tabs(Lines):
    """`pages` are ids and titles, which number keys open in this order."""

    class Opened(Message):
        def __init__(self, page: str) -> None:
            super().__init__()
            self.page = page

    def __init__(self, pages: dict[str, str], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._pages = pages
        self._shown: tuple[str, ...] = ()

    def tell(self, page: str, *notes: str) -> None:
        """Mark the open page, and show the first of `notes` that fits at the right."""
        self._shown = page, *notes
        row: Row = []
        for number, (name, title) in enumerate(self._pages.items(), start=1):
            if name == page:
                row.append((f" {number} {title} ", "on"))
            else:
                row += [(f" {number} ", "key"), (f"{title} ", "label")]
        room = self.size.width - sum(len(text) for text, _ in row) - 1
        note = next((note for note in notes if len(note) <= room), "")
        self.show([[*row, (f"{note:>{max(room + 1, 0)}}", "label")]])

    def on_resize(self) -> None:
        if self._shown:
            self.tell(*self._shown)

    def on_click(self, event: events.Click) -> None:
        end = 0
        for number, (name, title) in enumerate(self._pages.items(), start=1):
            end += len(f" {number} {title} ")
            if event.x < end:
                self.post_message(self.Opened(name))
                return
