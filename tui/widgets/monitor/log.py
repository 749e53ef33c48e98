"""The log of a run or the output of libraries, wrapped. Only the visible lines are drawn."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from deeptune.errors import DeepTuneError
from deeptune.formatting import safe
from deeptune.runs.events import EndEvent, EpochEvent, Event, PhaseEvent, StartEvent, WarningEvent
from deeptune.show.history import Note
from deeptune.show.view import PHASE_WORDS, View, ending_text, epoch_text, message_of, start_facts
from tui.widgets.styled_lines import wrapped

MAX_LINES = 10_000
STAMP = 10  # cells of the time before a line


@dataclass(frozen=True)
class Line:
    """A line of the log. `kind` is `event`, `message`, `warning`, `alert` or `console`."""

    kind: str
    text: str

    @classmethod
    def at(cls, moment: float, kind: str, text: str) -> Line:
        return cls(kind, f"{time.strftime('%H:%M:%S', time.localtime(moment))}  {safe(text)}")

    @property
    def serious(self) -> bool:
        return self.kind in ("warning", "alert")


class RunLines:
    """Makes the lines of a run from its events as they arrive."""

    def __init__(self) -> None:
        self.lines: deque[Line] = deque(maxlen=MAX_LINES)
        self.total = 0  # lines, those that had to go included
        self._alert: Note | None = None

    def take(self, view: View, event: Event) -> None:
        """Add the line of an event that the view has just taken in, if it has one."""
        if (text := message_of(event)) is not None:
            self._say(event.t, "warning" if isinstance(event, WarningEvent) else "message", text)
        elif isinstance(event, PhaseEvent):
            self._say(event.t, "event", PHASE_WORDS.get(event.phase, event.phase))
        elif isinstance(event, StartEvent):
            self._say(event.t, "event", "; ".join(f"{name} {value}" for name, value in start_facts(event)))
        elif isinstance(event, EpochEvent):
            self._say(event.t, "event", f"epoch {event.epoch}/{event.epochs}  {epoch_text(view, event)}")
        elif isinstance(event, EndEvent):
            self._say(event.t, "alert" if event.state == "failed" else "event", ending_text(event))
        alert = view.history.alert
        if alert is not None and alert is not self._alert:
            where = f" (step {alert.step:,})" if alert.step is not None else ""
            self._say(event.t, "alert", alert.text + where)
        self._alert = alert

    def _say(self, moment: float, kind: str, text: str) -> None:
        for number, line in enumerate(text.split("\n")):
            self.total += 1
            self.lines.append(Line.at(moment, kind, line) if number == 0 else Line(kind, f"{'':{STAMP}}{safe(line)}"))


def crash_lines(error: DeepTuneError) -> list[Line]:
    """Make the last lines of a run that ended without an end event."""
    text = "\n".join(part for part in (f"the run crashed: {error.message}", error.hint) if part)
    return [Line("alert", f"{'':{STAMP}}{safe(line)}") for line in text.split("\n")]


class LogView(ScrollView, can_focus=True):
    """Shows wrapped lines, and follows the newest one while it is scrolled to the end."""

    class Earlier(Message):
        """Posted when Home was pressed at the first line."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("end", "scroll_end", show=False, id="log.end", tooltip="The newest line"),
        Binding("home", "first", show=False, id="log.home", tooltip="The oldest line; there, earlier ones"),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {"log--warning", "log--alert", "log--event", "log--message", "log--console"}
    DEFAULT_CSS = """
    LogView {
        height: 1fr;
        overflow-x: hidden;
        scrollbar-gutter: stable;
        & > .log--warning, & > .log--alert { color: $warning; }
        & > .log--event { color: $text-muted; }
        & > .log--console { color: $foreground; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lines: list[Line] = []
        self._rows: list[tuple[Line, str]] = []  # a line, and a part of it that fits

    def show(self, lines: list[Line]) -> None:
        """Replace the lines. Lines that are the same are not drawn again."""
        if lines == self._lines:
            return
        self._lines = lines
        self._wrap()

    def on_resize(self) -> None:
        self._wrap()

    def _wrap(self) -> None:
        follow = self.scroll_offset.y >= self.max_scroll_y
        width = max(self.scrollable_content_region.width, 1)
        self._rows = [(line, part) for line in self._lines for part in _parts(line, width)]
        self.virtual_size = Size(width, len(self._rows))
        if follow:
            self.call_after_refresh(self.scroll_end, animate=False)
        self.refresh()

    def action_first(self) -> None:
        if self.scroll_offset.y == 0:
            self.post_message(self.Earlier())
        self.scroll_home(animate=False)

    def render_line(self, y: int) -> Strip:
        ground = self.rich_style
        number = self.scroll_offset.y + y
        if number >= len(self._rows):
            return Strip.blank(self.size.width, ground)
        line, part = self._rows[number]
        strip = Strip([Segment(part, self.get_component_rich_style(f"log--{line.kind}"))])
        return strip.crop_extend(0, self.size.width, ground)


def _parts(line: Line, width: int) -> Sequence[str]:
    """Wrap a line into parts of this many cells, indented below its first word if there is room."""
    text = ("! " if line.serious else "  ") + line.text
    if len(text) <= width and text.isascii():
        return (text,)
    start = 2 + (0 if line.kind == "console" else STAMP)
    return wrapped(text, width, len(text) - len(text[start:].lstrip()))
