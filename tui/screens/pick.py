"""Choose a file of data, or a folder, by browsing folders."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from deeptune.formatting import safe, size_text
from deeptune.spec.sources import is_data
from tui.screens.window import Window
from tui.widgets.changing_text import Line

MAX_ENTRIES = 2_000


@dataclass(frozen=True)
class Entry:
    """A file or folder in the list."""

    path: Path
    folder: bool
    size: int = 0


class PickScreen(Window[Path | None]):
    """Returns a path, or None. Enter opens a folder or takes a file; Space takes the folder itself."""

    where = "a file"
    CSS_PATH = "pick.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Close", id="pick.leave", tooltip="Close without a choice"),
        Binding("left,backspace", "up", "Up", id="pick.up", tooltip="To the folder above"),
        Binding("space", "take_folder", "Take folder", id="pick.folder", tooltip="All of this folder"),
    ]

    class Listed(Message):
        def __init__(self, folder: Path, entries: list[Entry], problem: str = "") -> None:
            super().__init__()
            self.folder, self.entries, self.problem = folder, entries, problem

    def __init__(self, start: Path) -> None:
        super().__init__()
        self._folder = start
        self._came_from: Path | None = None
        self._entries: list[Entry] = []

    def compose(self) -> ComposeResult:
        with Vertical(id="pick"):
            yield Line(id="pick-folder")
            yield OptionList(id="pick-list", markup=False, compact=True)
            yield Line("Enter opens or takes · Space takes this folder · ← goes up", id="pick-help")

    def on_mount(self) -> None:
        self._list(self._folder)

    @work(thread=True, exclusive=True, group="pick")
    def _list(self, folder: Path) -> None:
        entries: list[Entry] = []
        problem = ""
        try:
            with os.scandir(folder) as found:
                for one in found:
                    if one.name.startswith("."):
                        continue
                    if one.is_dir():
                        entries.append(Entry(Path(one.path), True))
                    elif is_data(one.name):
                        entries.append(Entry(Path(one.path), False, one.stat().st_size))
        except OSError as error:
            problem = error.strerror or str(error)
        entries.sort(key=lambda entry: (not entry.folder, entry.path.name.lower()))
        self.post_message(self.Listed(folder, entries[:MAX_ENTRIES], problem))

    @on(Listed)
    def _show(self, message: Listed) -> None:
        if message.problem:
            self.notify(f"{safe(message.folder)}: {message.problem}", severity="error", markup=False)
            return
        self._folder, self._entries = message.folder, message.entries
        self.query_one("#pick-folder", Line).say(safe(self._folder))
        listed = self.query_one(OptionList)
        listed.set_options([Option(self._named(entry)) for entry in self._entries])
        before = [index for index, entry in enumerate(self._entries) if entry.path == self._came_from]
        if self._entries:
            listed.highlighted = before[0] if before else 0
        listed.focus()

    @staticmethod
    def _named(entry: Entry) -> Content:
        if entry.folder:
            return Content.assemble((safe(entry.path.name) + "/", "$primary"))
        return Content.assemble(safe(entry.path.name), (f"  {size_text(entry.size)}", "$text-muted"))

    @on(OptionList.OptionSelected)
    def _take(self, event: OptionList.OptionSelected) -> None:
        entry = self._entries[event.option_index]
        if entry.folder:
            self._list(entry.path)
        else:
            self.dismiss(entry.path)

    def action_up(self) -> None:
        self._came_from = self._folder
        self._list(self._folder.parent)

    def action_take_folder(self) -> None:
        self.dismiss(self._folder)

    def action_leave(self) -> None:
        self.dismiss(None)
