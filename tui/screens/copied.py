"""Copied text, to be copied by hand where the terminal does not let programs do it."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static, TextArea

from deeptune.formatting import safe
from tui.screens.window import Window


class CopiedScreen(Window[None]):
    """Shows text that was copied, to be selected by hand where the terminal has no clipboard."""

    where = "what was copied"
    CSS_PATH = "copied.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "escape,enter,q", "dismiss", "Close", id="copied.close", priority=True, tooltip="Back to where you were"
        ),
    ]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        with Vertical(id="copied"):
            yield Static(
                "Copied, if your terminal takes it (OSC 52). Otherwise select it here; Enter closes.", markup=False
            )
            text = TextArea(safe(self._text), read_only=True, soft_wrap=True, show_line_numbers=False)
            text.cursor_blink = False
            yield text
