"""The entry for files, which takes pasted paths and completes typed ones."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote, urlparse

from textual import events, on, work
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input

import deeptune
from deeptune.formatting import safe
from deeptune.spec.fields import quoted
from deeptune.spec.sources import is_data
from tui.draft import Draft
from tui.widgets.wizard.field import Entry, FieldRow

MAX_SHOWN = 6
SAMPLE = "sample:"
PATIENCE = 2.0  # seconds that keys wait for a disk that does not answer


def cleaned(pasted: str) -> str:
    """Turn pasted paths into the text of a field. Several become a list.

    Terminals, file managers and shells paste them quoted, with `file://`, with escaped spaces, or one a line.
    """
    lines = [line.strip() for line in pasted.splitlines() if line.strip()]
    paths = [path for line in lines for path in _words(line)]
    if not paths:
        return ""
    return paths[0] if len(paths) == 1 else quoted(paths)


def _words(line: str) -> list[str]:
    if line.startswith("[") or os.path.exists(os.path.expanduser(line)):
        return [line]
    try:
        words = shlex.split(line) if any(mark in line for mark in "\\'\"") else [line]
    except ValueError:  # a quote that is part of a name
        words = [line]
    return [unquote(urlparse(word).path) if word.startswith("file://") else word for word in words]


def completions(text: str) -> list[str]:
    """List the folders and files of data that a path may be the prefix of, as typed; samples for `sample:`."""
    if text.startswith(SAMPLE):
        names = sorted(file.stem for file in (Path(deeptune.__file__).parent / "samples").glob("*.parquet"))
        return [SAMPLE + name for name in names if name.startswith(text.removeprefix(SAMPLE))]
    folder, start = os.path.split(text)
    found = []
    try:
        with os.scandir(os.path.expanduser(folder) or ".") as entries:
            for entry in entries:
                if not entry.name.startswith(start) or (entry.name.startswith(".") and not start):
                    continue
                if entry.is_dir():
                    found.append(os.path.join(folder, entry.name) + "/")
                elif is_data(entry.name):
                    found.append(os.path.join(folder, entry.name))
    except OSError:
        return []
    return sorted(found)


class PathEntry(Entry):
    """Tab completes, or moves on if there is nothing to complete. Keys wait for that (`ready`)."""

    ready = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "complete", show=False, id="path.complete", tooltip="Complete the path, or leave the field"),
    ]

    class Completed(Message):
        def __init__(self, entry: PathEntry, typed: str, found: list[str]) -> None:
            super().__init__()
            self.entry, self.typed, self.found = entry, typed, found

        @property
        def control(self) -> PathEntry:
            return self.entry

    def _on_paste(self, event: events.Paste) -> None:
        """Replace the whole text by the pasted one, as nobody pastes half a path."""
        event.stop()
        event.prevent_default()
        if path := cleaned(event.text):
            self.value = path
            self.cursor_position = len(path)

    def action_complete(self) -> None:
        if self.value and self.cursor_position == len(self.value):
            self.ready = False
            self.set_timer(PATIENCE, self._stop_waiting)
            self._look(self.value)
        else:
            self.screen.focus_next()

    def _stop_waiting(self) -> None:
        self.ready = True

    @work(thread=True, exclusive=True, group="complete")
    def _look(self, typed: str) -> None:
        self.post_message(self.Completed(self, typed, completions(typed)))


class PathRow(FieldRow):
    """Shows a field that takes paths, with the candidates below it."""

    _noted = ""  # the text that the candidates are for

    def make_control(self, draft: Draft, standing: str) -> Widget:
        entry = PathEntry(draft.given.get(self.field.key, ""), standing or self._standing(draft))
        return entry

    @on(PathEntry.Completed)
    def _completed(self, event: PathEntry.Completed) -> None:
        event.stop()
        entry = event.entry
        entry.ready = True
        if entry.value != event.typed:
            return
        common = os.path.commonprefix(event.found)  # noqa: RUF071 (of letters, as one types)
        if len(common) > len(event.typed):
            entry.value = common
            entry.cursor_position = len(common)
        elif len(event.found) <= 1:
            self.screen.focus_next()
            return
        self._noted = entry.value
        if len(event.found) > 1:
            names = [os.path.basename(path.rstrip("/")) + ("/" if path.endswith("/") else "") for path in event.found]
            more = f"  and {len(names) - MAX_SHOWN:,} more" if len(names) > MAX_SHOWN else ""
            self.show_note(Content.styled(safe("  ".join(names[:MAX_SHOWN])) + more, "dim"))
        else:
            self.show_note("")

    @on(Input.Changed)
    def _candidates_are_old(self, event: Input.Changed) -> None:
        if event.value != self._noted:
            self.show_note("")
