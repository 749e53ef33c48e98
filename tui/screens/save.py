"""Ask for the file to save a spec in."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input

from tui.screens.window import Window
from tui.widgets.changing_text import Line
from tui.widgets.wizard.field import Entry


class SaveScreen(Window[Path | None]):
    """Returns a path whose name ends in .toml, or None."""

    where = "save a preset"
    CSS_PATH = "save.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Close", id="save.leave", tooltip="Close without saving"),
    ]

    def __init__(self, proposed: str) -> None:
        super().__init__()
        self._proposed = proposed

    def compose(self) -> ComposeResult:
        with Vertical(id="save-box"):
            yield Line("Save the spec as", id="save-title")
            yield Entry(self._proposed, "a file, such as my-run.toml", id="save-path")
            yield Line("`deeptune run FILE` and `deeptune-tui FILE` start from it. Enter saves.", id="save-help")

    @on(Input.Submitted)
    def _save(self, event: Input.Submitted) -> None:
        if text := event.value.strip():
            path = Path(text).expanduser()
            self.dismiss(path if path.suffix == ".toml" else path.with_name(f"{path.name}.toml"))

    def action_leave(self) -> None:
        self.dismiss(None)
