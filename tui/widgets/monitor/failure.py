"""The error of a run that failed or crashed: title, message and hint, whole and wrapped."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content

from deeptune.errors import DeepTuneError
from deeptune.formatting import safe
from tui.widgets.changing_text import Line


class Failure(VerticalScroll):
    """Shows the error that ended a run; hidden if there is none."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll_up", show=False, id="failure.up", tooltip="A line up in the error"),
        Binding("down,j", "scroll_down", show=False, id="failure.down", tooltip="A line down in the error"),
    ]
    DEFAULT_CSS = """
    Failure { height: auto; display: none; }
    Failure Line { height: auto; }
    """

    def compose(self) -> ComposeResult:
        yield Line()

    def tell(self, error: DeepTuneError | None) -> None:
        self.display = error is not None
        if error is not None:
            hint = f"\n\n{safe(error.hint)}" if error.hint else ""
            self.query_one(Line).say(
                Content.assemble((f"✗ {error.title}\n", "bold $error"), safe(error.message), (hint, "$primary"))
            )
