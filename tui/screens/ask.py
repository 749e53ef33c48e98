"""A question with a few answers, or a message to close."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widgets import Button, Static

from deeptune.formatting import safe
from tui.screens.window import Window


@dataclass(frozen=True)
class Choice:
    """An answer that AskScreen offers."""

    id: str
    label: str
    dangerous: bool = False


class AskScreen(Window[str | None]):
    """Asks a question. Returns the id of the choice, or None for Escape.

    The first choice has the focus, so it must not be a dangerous one.
    """

    where = "a question"
    CSS_PATH = "ask.tcss"
    AUTO_FOCUS = "Button"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Close", id="ask.leave", tooltip="Close without a choice"),
        Binding("left,up", "app.focus_previous", show=False, id="ask.previous", tooltip="The choice before"),
        Binding("right,down", "app.focus_next", show=False, id="ask.next", tooltip="The next choice"),
    ]

    def __init__(self, title: str, text: str, choices: list[Choice]) -> None:
        super().__init__()
        self._title, self._text, self._choices = title, text, choices

    def compose(self) -> ComposeResult:
        with Vertical(id="ask"):
            yield Static(safe(self._title), id="ask-title", markup=False)
            with VerticalScroll(id="ask-text", can_focus=False):
                yield Static(safe(self._text), markup=False)
            with Horizontal(id="ask-choices"):
                for choice in self._choices:
                    button = Button(choice.label, id=f"choice-{choice.id}", compact=True)
                    button.variant = "error" if choice.dangerous else "default"
                    yield button

    @on(Button.Pressed)
    def choose(self, event: Button.Pressed) -> None:
        self.dismiss(str(event.button.id).removeprefix("choice-"))

    def action_leave(self) -> None:
        self.dismiss(None)
