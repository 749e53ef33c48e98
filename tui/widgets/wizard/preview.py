"""Some rows of the data, as they are."""

from __future__ import annotations

import base64
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message

from deeptune.report.tables import safe
from tui.widgets.line import Line
from tui.widgets.wizard.data import cut
from tui.widgets.wizard.words import size_text

ROWS = 4


class Preview(Vertical, can_focus=True):
    """Rows from `start` on; the keys ask for others."""

    DEFAULT_CSS = """
    Preview { height: auto; }
    Preview:focus > .preview-title { text-style: bold reverse; }
    Preview .preview-row { height: auto; margin-bottom: 1; }
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
        yield Line(classes="preview-title")
        for _ in range(ROWS):
            yield Line(classes="preview-row")

    def reset(self, total: int) -> None:
        self.start, self.total = 0, total

    def show(self, samples: list[dict[str, Any]]) -> None:
        last = self.start + len(samples) - 1
        self.query_one(".preview-title", Line).say(
            Content.styled(f"Rows {self.start:,} to {last:,} of {self.total:,}", "dim")
        )
        lines = list(self.query(".preview-row").results(Line))
        for line, sample in zip(lines, [*samples, *[None] * ROWS], strict=False):
            line.display = sample is not None
            if sample is not None:
                line.say(sample_content(sample))

    def action_turn(self, by: int) -> None:
        start = self.start + by * ROWS if by else 0
        if 0 <= start < max(1, self.total) and start != self.start:
            self.start = start
            self.post_message(self.Wanted(start))


def sample_content(sample: dict[str, Any]) -> Content:
    head = (f"{sample['row']:>6,} ", "dim"), (f"{cut(sample['label'], 28)}  ", "bold $primary")
    if sample["reason"]:
        return Content.assemble(*head, (f"! {safe(sample['reason'])}", "$warning"))
    if sample["image"] is not None:
        return Content.assemble(*head, (size_text(len(base64.b64decode(sample["image"]))), "dim"))
    return Content.assemble(*head, cut(sample["text"], 400))
