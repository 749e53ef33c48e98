"""What was said: the run's own words, or what libraries printed; filtered, and only the lines in sight are made."""

from __future__ import annotations

import os
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rich.segment import Segment
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from deeptune.report.tables import safe
from deeptune.show.history import Note
from deeptune.show.view import PHASE_WORDS, View, epoch_text, message_of, start_facts

MOST = 10_000  # lines
CONSOLE_TAIL = 2**18  # bytes


@dataclass(frozen=True)
class Line:
    """`kind` is `event`, `message`, `warning`, `alert` or `console`."""

    kind: str
    text: str

    @classmethod
    def at(cls, moment: float, kind: str, text: str) -> Line:
        return cls(kind, f"{time.strftime('%H:%M:%S', time.localtime(moment))}  {safe(text)}")

    @property
    def serious(self) -> bool:
        return self.kind in ("warning", "alert")


class Journal:
    """The lines of a run, made from its events as they come in."""

    def __init__(self) -> None:
        self.lines: deque[Line] = deque(maxlen=MOST)
        self._alert: Note | None = None

    def take(self, view: View, event: dict[str, Any]) -> None:
        """Say an event that the view has just taken in, if it says anything."""
        kind = event["kind"]
        if (text := message_of(event)) is not None:
            self._say(event["t"], "warning" if kind == "warning" else "message", text)
        elif kind == "phase":
            self._say(event["t"], "event", PHASE_WORDS.get(event["phase"], event["phase"]))
        elif kind == "start":
            self._say(event["t"], "event", "; ".join(f"{name} {value}" for name, value in start_facts(event)))
        elif kind == "epoch":
            place = f"epoch {event['epoch']}/{event['epochs']}"
            self._say(event["t"], "event", f"{place}  {epoch_text(view, event)}")
        elif kind == "end":
            self._say(event["t"], "event", f"the run is {event['state']}")
        alert = view.history.alert
        if alert is not None and alert is not self._alert:
            where = f" (step {alert.step:,})" if alert.step is not None else ""
            self._say(event["t"], "alert", alert.text + where)
        self._alert = alert

    def _say(self, moment: float, kind: str, text: str) -> None:
        for number, line in enumerate(text.split("\n")):
            self.lines.append(Line.at(moment, kind, line) if number == 0 else Line(kind, f"{'':10}{safe(line)}"))


def console_lines(path: Path) -> list[Line]:
    """The end of console.log; progress bars that were redrawn in place are shown as they ended."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - CONSOLE_TAIL))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    lines = text.split("\n")[1 if size > CONSOLE_TAIL else 0 :]
    return [
        Line("console", safe(line.rstrip("\r").rpartition("\r")[2].expandtabs(4))) for line in lines if line.strip()
    ]


class LogView(ScrollView, can_focus=True):
    """Lines that follow the newest one as long as they are scrolled to their end."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("end", "scroll_end", show=False, id="log.end", tooltip="The newest line"),
        Binding("home", "scroll_home", show=False, id="log.home", tooltip="The oldest line"),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {"log--warning", "log--alert", "log--event", "log--message", "log--console"}
    DEFAULT_CSS = """
    LogView {
        height: 1fr;
        & > .log--warning, & > .log--alert { color: $warning; }
        & > .log--event { color: $text-muted; }
        & > .log--console { color: $foreground; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lines: list[Line] = []

    def show(self, lines: list[Line]) -> None:
        """Show these lines; nothing is drawn where they are as before."""
        if lines == self._lines:
            return
        follow = self.scroll_offset.y >= self.max_scroll_y
        self._lines = lines
        self.virtual_size = Size(max((len(line.text) + 2 for line in lines), default=0), len(lines))
        if follow:
            self.call_after_refresh(self.scroll_end, animate=False)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        left, top = self.scroll_offset
        ground = self.rich_style
        number = top + y
        if number >= len(self._lines):
            return Strip.blank(self.size.width, ground)
        line = self._lines[number]
        style = self.get_component_rich_style(f"log--{line.kind}")
        mark = "! " if line.serious else "  "
        strip = Strip([Segment(mark + line.text, style)])
        return strip.crop_extend(left, left + self.size.width, ground)
