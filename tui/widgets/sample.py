"""What a model saw of a row: an image, a text, or why neither can be shown."""

from __future__ import annotations

from typing import Any

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content

from deeptune.errors import DeepTuneError
from deeptune.report.tables import safe
from tui.widgets.line import Line
from tui.widgets.picture import Picture

LONG = 4000  # characters of a text that are shown


class SampleView(VerticalScroll):
    """An image takes the width that there is, and at most `rows` rows."""

    DEFAULT_CSS = "SampleView { height: 1fr; } SampleView Line { height: auto; }"

    def __init__(self, *, rows: int = 20, **options: Any) -> None:
        super().__init__(**options)
        self._rows = rows

    def compose(self) -> ComposeResult:
        yield Picture(rows=self._rows)
        yield Line()

    def show(self, found: bytes | str | DeepTuneError | None) -> None:
        """An encoded image, a text, why there is neither, or nothing at all."""
        self.query_one(Picture).show(found if isinstance(found, bytes) else None)
        self.query_one(Line).say(_words(found))


def _words(found: bytes | str | DeepTuneError | None) -> Content:
    if isinstance(found, DeepTuneError):
        return Content.assemble((f"! {safe(found.message)}", "$warning"))
    return Content(safe(found[:LONG]) if isinstance(found, str) else "")
