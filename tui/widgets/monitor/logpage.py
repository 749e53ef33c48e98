"""The page of the log: a filter, a note about what is not shown, and the lines."""

from __future__ import annotations

from collections.abc import Sequence

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Input

from deeptune.formatting import safe
from tui.widgets.changing_text import Line as Note
from tui.widgets.monitor.log import Line, LogView
from tui.widgets.monitor.printed import Printed


class LogPage(Vertical):
    """Shows the lines of the run's log, or those of console.log."""

    def __init__(self, reference: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._reference = reference
        self._lines: Sequence[Line] = ()
        self._total = 0
        self._printed: Printed | None = None
        self._warnings_only = False

    def compose(self) -> ComposeResult:
        yield Input(placeholder="words of a line", id="log-filter", compact=True)
        yield Note(id="log-note")
        yield LogView(id="lines")

    def on_mount(self) -> None:
        self.query_one(Input).display = False

    def tell(self, lines: Sequence[Line], total: int, printed: Printed | None, *, warnings_only: bool) -> None:
        """Show the last of `total` lines of the log or, with `printed`, those of console.log."""
        self._lines, self._total, self._printed, self._warnings_only = lines, total, printed, warnings_only
        self._show()

    @on(Input.Changed)
    def _show(self) -> None:
        filter = self.query_one(Input).value.strip()
        lines: Sequence[Line] = self._lines if self._printed is None else self._printed.lines
        if self._warnings_only and self._printed is None:
            lines = [line for line in lines if line.serious]
        words = filter.lower().split()
        shown = [line for line in lines if all(word in line.text.lower() for word in words)]
        note = self.query_one(Note)
        note.say(self._note(len(shown), len(lines), filter))
        note.display = bool(str(note.content))
        self.query_one(LogView).show(shown)

    def _note(self, shown: int, of: int, filter: str) -> str:
        """Write the note about the lines: that there are more, or why there are none."""
        parts = []
        if filter:
            if shown:
                parts.append(f"{shown:,} of {of:,} lines have {safe(filter)!r}")
            else:
                parts.append(f"no line has {safe(filter)!r}: Escape clears the filter")
        if self._printed is not None:
            if not self._printed.read:
                parts.append("reading console.log …")
            elif self._printed.partial:
                last, total = len(self._printed.lines), self._printed.total
                parts.append(f"last {last:,} of {total:,} lines of console.log: Home, at the first, reads earlier ones")
            elif not of:
                parts.append("console.log is empty: the libraries printed nothing")
        elif self._warnings_only and not of:
            parts.append("no warnings: w shows every line")
        elif self._total > len(self._lines):
            last = len(self._lines)
            parts.append(f"last {last:,} of {self._total:,} lines; all of them: deeptune logs {self._reference}")
        return " · ".join(parts)

    def open_filter(self) -> None:
        box = self.query_one(Input)
        box.display = True
        self.screen.set_focus(box)  # at once: keys that were typed ahead are for it

    def close_filter(self) -> bool:
        """Clear and close the filter. Returns False if there was none."""
        box = self.query_one(Input)
        if not box.display:
            return False
        box.value = ""
        box.display = False
        self.screen.set_focus(self.query_one(LogView))
        return True

    @on(Input.Submitted)
    def _filtered(self) -> None:
        self.screen.set_focus(self.query_one(LogView))
