"""The model's input of a row: an image, a text, or why neither can be shown."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content

from deeptune.errors import DeepTuneError
from deeptune.report.tables import safe
from deeptune.show.samples import Sample
from tui.widgets.line import Line
from tui.widgets.picture import Picture

LONG = 4000  # characters of a text that are shown


class SampleView(Vertical):
    """Shows an image in all of its room, or a text that can be scrolled."""

    DEFAULT_CSS = """
    SampleView {
        height: 1fr;
        & > Picture { height: 1fr; }
        & > VerticalScroll { height: 1fr; }
        & Line { height: auto; }
    }
    """

    def compose(self) -> ComposeResult:
        yield Picture()
        with VerticalScroll():
            yield Line()

    def on_mount(self) -> None:
        self.show(None)

    def show(self, found: Sample | None) -> None:
        """Show an encoded image, a text, a reason why there is neither, or nothing."""
        drawn, text_box = self.query_one(Picture), self.query_one(VerticalScroll)
        drawn.display = isinstance(found, bytes)
        text_box.display = not drawn.display
        text_box.can_focus = isinstance(found, str)
        drawn.show(found if isinstance(found, bytes) else None)
        self.query_one(Line).say(_words(found))


def _words(found: Sample | None) -> Content:
    if isinstance(found, DeepTuneError):
        return Content.assemble((f"! {safe(found.message)}", "$warning"))
    return Content(safe(found[:LONG]) if isinstance(found, str) else "")
