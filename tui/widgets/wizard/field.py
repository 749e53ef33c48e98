"""A row of the form: one key of the spec, built from its model's field."""

from __future__ import annotations

from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input

from deeptune.formatting import safe
from deeptune.spec.fields import SpecField
from tui.draft import Draft, Problem
from tui.widgets.changing_text import Line
from tui.widgets.wizard.choice import Choice, Several

UNSET = "unset"


class Entry(Input):
    """A line of text. While it is empty it shows the value that applies."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", show=False, id="entry.done", tooltip="On to the next field"),
        Binding("ctrl+u", "delete_left_all", show=False, id="entry.clear", tooltip="Clear the line to its start"),
    ]

    def __init__(self, text: str, standing: str, **options: Any) -> None:
        super().__init__(text, placeholder=safe(standing), compact=True, **options)
        self.cursor_blink = False


class FieldRow(Container):
    """Shows the label and control of one field, and its problem below them.

    `to_spec` and `from_spec` use the texts of a draft: an empty one if the key was not given.
    """

    class Changed(Message):
        """Posted when the person changed the field; `done` if they have finished."""

        def __init__(self, row: FieldRow, text: str, *, done: bool = False) -> None:
            super().__init__()
            self.row, self.key, self.text, self.done = row, row.field.key, text, done

    def __init__(self, field: SpecField, draft: Draft, *, standing: str = "") -> None:
        super().__init__(classes="field")
        self.field = field
        self._label = Line(self._named(field), classes="field-label")
        self._problem = Line(classes="field-problem")
        self._problem.display = False
        self._note = Line(classes="field-note")
        self._note.display = False
        self.input = self.make_control(draft, standing)
        self._agreed = self.to_spec().strip()  # what control and draft held when they were last compared

    @staticmethod
    def _named(field: SpecField) -> str:
        """Name a field by its key; one of the second backbone says that it is about the text."""
        return ("text " if field.section == "backbone.text" else "") + field.name.replace("_", " ")

    def make_control(self, draft: Draft, standing: str) -> Widget:
        text = draft.text(self.field.key)
        if self.field.kind == "choice":
            words = [self.field.show(word) for word in self.field.words]
            return Choice(([UNSET] if self.field.optional else []) + words, text or UNSET)
        if self.field.kind == "several":
            return Several([self.field.show(word) for word in self.field.words], text)
        return Entry(draft.given.get(self.field.key, ""), standing or self._standing(draft))

    def _standing(self, draft: Draft) -> str:
        text = draft.guessed.get(self.field.key) or self.field.show(self.field.default)
        return text or ("needed" if self.field.required else UNSET)

    def compose(self) -> ComposeResult:
        yield self._label
        yield self.input
        yield self._note
        yield self._problem

    def from_spec(self, draft: Draft, standing: str = "") -> None:
        """Show the draft's value. `standing` describes the value of an empty entry.

        Text that was just typed and is not in the draft yet stays.
        """
        held = draft.text(self.field.key) if isinstance(self.input, Choice) else draft.given.get(self.field.key, "")
        if self.to_spec().strip() == self._agreed:
            if held.strip() != self._agreed:
                self._show(held)
            self._agreed = self.to_spec().strip()
        else:
            self._agreed = held.strip()
        if isinstance(self.input, Input):
            standing = safe(standing or self._standing(draft))
            if self.input.placeholder != standing:
                self.input.placeholder = standing

    def _show(self, text: str) -> None:
        if isinstance(self.input, Choice):
            self.input.text = text or UNSET
            return
        assert isinstance(self.input, Input)
        with self.input.prevent(Input.Changed):
            self.input.value = text
            self.input.cursor_position = len(text)

    def to_spec(self) -> str:
        if isinstance(self.input, Choice):
            return "" if self.input.text == UNSET else self.input.text
        assert isinstance(self.input, Input)
        return self.input.value

    def show_problem(self, problem: Problem | None) -> None:
        self._problem.display = problem is not None
        if problem is not None:
            text = problem.message + (f"\n{problem.hint}" if problem.hint else "")
            self._problem.say(Content.assemble(("! ", "bold $error"), (safe(text), "$error")))

    def show_note(self, note: str | Content) -> None:
        """Show a line below the control that is not a problem."""
        self._note.display = bool(note)
        self._note.say(note)

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Changed(self, self.to_spec()))

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.post_message(self.Changed(self, self.to_spec(), done=True))
        self.screen.focus_next()

    @on(Choice.Changed)
    def _chosen(self, event: Choice.Changed) -> None:
        event.stop()
        self.post_message(self.Changed(self, self.to_spec()))
