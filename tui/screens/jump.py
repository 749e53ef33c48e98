"""Jump mode: each widget that can have the focus gets a letter, and typing it moves the focus there."""

from __future__ import annotations

from typing import Any, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Label

from tui.screens.window import Window

LETTERS = "asdfghjklqwertyuiopzxcvbnm"


def targets(screen: Screen[Any]) -> dict[str, Widget]:
    """Return the visible widgets that can have the focus, by letter, from the top left."""
    seen = [widget for widget in screen.focus_chain if screen.can_view_partial(widget) and widget.size.area]
    seen.sort(key=lambda widget: (widget.region.y, widget.region.x))
    return dict(zip(LETTERS, seen, strict=False))


class JumpScreen(Window[None]):
    """Puts a letter beside each widget that can have the focus. The letter typed moves the focus to its widget."""

    where = "jump mode"
    CSS_PATH = "jump.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Close", id="jump.close", tooltip="Stay where you are"),
    ]

    def __init__(self, found: dict[str, Widget]) -> None:
        super().__init__()
        self._found = found

    def compose(self) -> ComposeResult:
        for letter, widget in self._found.items():
            label = Label(f" {letter} ", classes="jump", markup=False)
            label.styles.offset = widget.region.x, widget.region.y
            yield label

    def on_key(self, event: events.Key) -> None:
        widget = self._found.get(event.key)
        if event.key in self.active_bindings:
            return
        event.stop()
        self.dismiss()
        if widget is not None and widget.screen is not None:
            widget.screen.set_focus(widget)
