"""An image in cells, decoded and scaled in a thread."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any

from rich.segment import Segment
from rich.style import Style
from textual import events, on, work
from textual.geometry import Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from deeptune.errors import DataError
from deeptune.formatting import visible
from deeptune.show import picture
from deeptune.show.picture import PictureGlyphs

KEPT = 32  # drawn pictures that are kept
ROWS = 20  # rows of a picture, at most, where the height is that of the image

Wish = tuple[bytes | None, int, int, PictureGlyphs]  # encoded image, cells of width and of height


class Picture(Widget):
    """Shows an encoded image as large as its room allows. A widget of automatic height takes the image's height.

    If an image can't be decoded, one line says why.
    """

    DEFAULT_CSS = "Picture { width: 1fr; height: auto; }"

    class Drawn(Message):
        """Posted by the thread with the drawing of a request."""

        def __init__(self, wish: Wish, rows: list[Strip]) -> None:
            super().__init__()
            self.wish, self.rows = wish, rows

    def __init__(self, *, rows: int = ROWS, **options: Any) -> None:
        super().__init__(**options)
        self._most_rows = rows
        self._data: bytes | None = None
        self._wish: Wish | None = None
        self._rows: list[Strip] = []
        self._kept: OrderedDict[tuple[bytes, int, int, PictureGlyphs], list[Strip]] = OrderedDict()

    def show(self, data: bytes | None) -> None:
        """Show another image; None clears the widget."""
        before, self._data = self._data, data
        if self.styles.is_auto_height and (before is None) != (data is None):
            self.refresh(layout=True)  # room for a first line, from which the width is known
        self._ask()

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, lambda _: self._ask())

    @on(events.Resize)
    def _ask(self) -> None:
        """Request a drawing for the current size, unless it is shown already."""
        if self._data is None:
            self._wish = None
            self._take([])
            return
        width, height = self.size.width, self._most_rows if self.styles.is_auto_height else self.size.height
        wish = self._data, width, height, self._look
        if width > 0 and height > 0 and wish != self._wish:
            self._wish = wish
            self._draw(wish)

    @property
    def _look(self) -> PictureGlyphs:
        options = getattr(self.app, "options", None)
        plain = options is not None and (options.ascii or not options.color or options.graphics == "ascii")
        return PictureGlyphs(plain, self.app.current_theme.dark)

    @work(thread=True, exclusive=True, group="picture")
    def _draw(self, wish: Wish) -> None:
        data, width, height, glyphs = wish
        key = hashlib.sha256(data or b"").digest(), width, height, glyphs
        rows = self._kept.get(key)
        if rows is None:
            try:
                rows = [_strip(row) for row in picture.draw(*wish)]
            except DataError as error:
                rows = [Strip([Segment(f"the image {visible(error.message)}")])]
            self._kept[key] = rows
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self.post_message(self.Drawn(wish, rows))

    @on(Drawn)
    def _drawn(self, message: Drawn) -> None:
        message.stop()
        if message.wish is self._wish:
            self._take(message.rows)

    def _take(self, rows: list[Strip]) -> None:
        if rows != self._rows:
            layout = self.styles.is_auto_height and len(rows) != len(self._rows)
            self._rows = rows
            self.refresh(layout=layout)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return max(len(self._rows), self._data is not None)

    def render_line(self, y: int) -> Strip:
        ground = self.rich_style
        strip = self._rows[y].apply_style(ground) if y < len(self._rows) else Strip([])
        return strip.adjust_cell_length(self.size.width, ground)


def _strip(row: list[picture.Piece]) -> Strip:
    return Strip([Segment(text, _style(ink, ground)) for text, ink, ground in row])


def _style(ink: picture.Colour | None, ground: picture.Colour | None) -> Style:
    """Return a style whose colours Rich converts to those of the terminal."""
    return Style(
        color=ink and "#{:02x}{:02x}{:02x}".format(*ink), bgcolor=ground and "#{:02x}{:02x}{:02x}".format(*ground)
    )
