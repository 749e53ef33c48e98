"""Choose one of many words by typing parts of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from deeptune.formatting import safe
from tui.screens.window import Window
from tui.widgets.changing_text import Line
from tui.widgets.wizard.field import Entry


class ChooseScreen(Window[str | None]):
    """Returns one of `words`, or None."""

    where = "a list"
    CSS_PATH = "choose.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Leave it", id="choose.leave", tooltip="Close without a choice"),
        Binding("down", "move(1)", show=False, id="choose.down", tooltip="The next one"),
        Binding("up", "move(-1)", show=False, id="choose.up", tooltip="The one before"),
    ]

    def __init__(self, title: str, words: Sequence[str]) -> None:
        super().__init__()
        self._title, self._words = title, list(words)

    def compose(self) -> ComposeResult:
        with Vertical(id="choose-box"):
            yield Line(self._title, id="choose-title")
            yield Entry("", "type a part of it", id="choose-filter")
            yield OptionList(id="choose-list", markup=False, compact=True)

    def on_mount(self) -> None:
        self.query_one("#choose-list").can_focus = False  # letters always go into the line above
        self._list("")

    @on(Input.Changed)
    def _filter(self, event: Input.Changed) -> None:
        self._list(event.value)

    def _list(self, text: str) -> None:
        options = self.query_one(OptionList)
        parts = text.lower().split()
        found = [word for word in self._words if all(part in word.lower() for part in parts)]
        options.clear_options()
        options.add_options([Option(safe(word), id=str(self._words.index(word))) for word in found])
        options.highlighted = 0 if found else None

    def action_move(self, lines: int) -> None:
        options = self.query_one(OptionList)
        (options.action_cursor_down if lines > 0 else options.action_cursor_up)()

    @on(Input.Submitted)
    def _take(self) -> None:
        options = self.query_one(OptionList)
        if options.highlighted is not None:
            self._end(options.get_option_at_index(options.highlighted))

    @on(OptionList.OptionSelected)
    def _click(self, event: OptionList.OptionSelected) -> None:
        self._end(event.option)

    def _end(self, option: Option) -> None:
        self.dismiss(self._words[int(str(option.id))])

    def action_leave(self) -> None:
        self.dismiss(None)
