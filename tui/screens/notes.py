"""Name a run, tag it, and write a note about it."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input

from deeptune.runs import RunDirectory
from deeptune.runs.notes import Notes, read_notes, tags_from
from tui.screens.window import Window
from tui.widgets.changing_text import Line
from tui.widgets.wizard.field import Entry


class NotesScreen(Window[Notes | None]):
    """Returns the notes as they were typed, or None."""

    where = "name, tags and note"
    CSS_PATH = "notes.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Leave it", id="notes.leave", tooltip="Close without saving"),
        Binding("down", "app.focus_next", show=False, id="notes.next", tooltip="To the next line"),
        Binding("up", "app.focus_previous", show=False, id="notes.previous", tooltip="To the line before"),
    ]

    def __init__(self, run: RunDirectory) -> None:
        super().__init__()
        self._run = run
        self._before = read_notes(run)

    def compose(self) -> ComposeResult:
        before = self._before
        with Vertical(id="notes-box"):
            yield Line(f"About {self._run.id}", id="notes-title")
            yield Line("Name", classes="notes-label")
            yield Entry(before.name, "shown in place of the id; the folder keeps its name", id="notes-name")
            yield Line("Tags", classes="notes-label")
            yield Entry(" ".join(before.tags), "words, such as: baseline paper", id="notes-tags")
            yield Line("Note", classes="notes-label")
            yield Entry(before.note, "what you want to remember", id="notes-note")
            yield Line("Enter saves · Tab to the next line · Escape leaves it", id="notes-help")

    @on(Input.Submitted)
    def _save(self) -> None:
        name, tags, note = (self.query_one(f"#notes-{part}", Input).value for part in ("name", "tags", "note"))
        self.dismiss(Notes(name.strip(), note.strip(), tags_from(tags)))

    def action_leave(self) -> None:
        self.dismiss(None)
