"""The model's input of a row: an image, a text, both, or why neither can be shown."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content

from deeptune.data.run_samples import Sample
from deeptune.data.shown import ShownSample
from deeptune.errors import DeepTuneError
from deeptune.formatting import safe
from tui.widgets.changing_text import Line
from tui.widgets.picture import Picture

LONG = 4000  # characters of a text that are shown


class SampleView(Vertical):
    """Shows an image in all of its room, or a text that can be scrolled, or the text below the image."""

    DEFAULT_CSS = """
    SampleView {
        height: 1fr;
        & > Picture { height: 1fr; }
        & > VerticalScroll { height: 1fr; }
        &.-both > VerticalScroll { height: auto; min-height: 3; max-height: 40%; }
        & Line { height: auto; }
    }
    """

    def compose(self) -> ComposeResult:
        yield Picture()
        with VerticalScroll():
            yield Line()

    def on_mount(self) -> None:
        self.show(None)

    def show(self, found: Sample | None, words: Content | None = None) -> None:
        """Show an encoded image, a text (as `words` if given), a reason why there is neither, or nothing."""
        drawn, text_box = self.query_one(Picture), self.query_one(VerticalScroll)
        image, text = (found.image, found.text) if isinstance(found, ShownSample) else (None, None)
        drawn.display = image is not None
        text_box.display = image is None or text is not None
        text_box.can_focus = text is not None
        self.set_class(image is not None and text is not None, "-both")
        drawn.show(image)
        self.query_one(Line).say(_words(found) if words is None else words)


def _words(found: Sample | None) -> Content:
    if isinstance(found, DeepTuneError):
        return Content.assemble((f"! {safe(found.message)}", "$warning"))
    return Content(safe((found.text or "")[:LONG]) if found is not None else "")
