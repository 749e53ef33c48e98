"""A preview of some rows of the data."""

from __future__ import annotations

from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message

from deeptune.formatting import safe
from tui.widgets.changing_text import Line
from tui.widgets.picture import Picture
from tui.widgets.wizard.data import cut
from tui.widgets.wizard.facts import Data

ROWS = 4
PICTURE_ROWS = 10
LABEL_WIDTH = 28


class Sample(Vertical):
    """Shows a row: its number and label above its picture or text."""

    DEFAULT_CSS = """
    Sample { height: auto; width: 1fr; margin-right: 2; }
    Sample Line { height: auto; }
    Preview.-texts Sample { width: 100%; margin-bottom: 1; }
    """

    def compose(self) -> ComposeResult:
        yield Line(classes="caption")
        yield Picture(rows=PICTURE_ROWS)

    def show(self, sample: dict[str, Any]) -> None:
        self.query_one(Line).say(caption(sample))
        self.query_one(Picture).show(sample["image"])


class Preview(Vertical, can_focus=True):
    """Shows rows from `start` on. Keys request others."""

    DEFAULT_CSS = """
    Preview { height: auto; }
    Preview:focus > .title { text-style: bold reverse; }
    Preview > Horizontal { height: auto; margin-top: 1; }
    Preview.-texts > Horizontal { layout: vertical; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,n,pagedown", "turn(1)", "Next rows", id="preview.next", tooltip="The rows after these"),
        Binding("left,p,pageup", "turn(-1)", "Rows before", id="preview.previous", tooltip="The rows before these"),
        Binding("home", "turn(0)", show=False, id="preview.first", tooltip="The first rows"),
    ]

    class Wanted(Message):
        def __init__(self, start: int) -> None:
            super().__init__()
            self.start = start

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.start = 0
        self.total = 0

    def compose(self) -> ComposeResult:
        yield Line(classes="title")
        with Horizontal():
            for _ in range(ROWS):
                yield Sample()

    def show(self, samples: list[dict[str, Any]], data: Data) -> None:
        """Show some rows. Their labels have the class names of the survey."""
        if not samples or data.overview is None:
            return
        self.start, self.total = samples[0]["row"], data.overview["rows"]
        classes = [name for name, *_ in (data.survey or {}).get("classes", [])]
        names = {name.partition(" (")[0]: name for name in classes}
        self.set_class(any(sample["text"] is not None for sample in samples), "-texts")
        last = self.start + len(samples) - 1
        self.query_one(".title", Line).say(Content.styled(f"Rows {self.start:,} to {last:,} of {self.total:,}", "dim"))
        for place, sample in zip(self.query(Sample), [*samples, *[None] * ROWS], strict=False):
            place.visible = sample is not None
            if sample is not None:
                place.show({**sample, "label": names.get(sample["label"], sample["label"])})

    def action_turn(self, by: int) -> None:
        start = self.start + by * ROWS if by else 0
        if 0 <= start < max(1, self.total) and start != self.start:
            self.post_message(self.Wanted(start))


def caption(sample: dict[str, Any]) -> Content:
    """Write the number and the label of a row, and its text or why there is no picture."""
    head = (f"{sample['row']:,} ", "dim"), (cut(sample["label"], LABEL_WIDTH), "bold $primary")
    if sample["reason"]:
        return Content.assemble(*head, (f"\n! {safe(sample['reason'])}", "$warning"))
    if sample["text"] is not None:
        return Content.assemble(*head, "  ", cut(sample["text"], 400))
    return Content.assemble(*head)
