"""Watch a run directory: a dashboard in a terminal, plain lines elsewhere.

A viewer only reads files. It is the same whether the run is in this process, in another, or long over.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol

from deeptune.formatting import safe
from deeptune.runs import RunDirectory, RunState
from deeptune.runs.event_log import EventReader
from deeptune.runs.events import EpochEvent, Event, PhaseEvent, RunEvent, StartEvent, StepEvent, WarningEvent
from deeptune.show.console import TERMINAL_GONE, can_write, forget, is_gone
from deeptune.show.dashboard import dashboard
from deeptune.show.view import PHASE_WORDS, View, epoch_text, message_of, start_facts, step_text

if TYPE_CHECKING:
    from rich.console import Console

INTERVAL = 0.25  # seconds between looks at the files
PLAIN_INTERVAL = 5.0  # seconds between plain progress lines


class TerminalClosed(Exception):
    """Raised when the terminal or pipe of a viewer was closed."""


class Viewer:
    """Shows a run on `out`, one `refresh` at a time: a dashboard on a terminal, plain lines when `plain` or elsewhere.

    Raises TerminalClosed when `out` has gone away.
    """

    def __init__(self, directory: RunDirectory, out: Console, *, plain: bool) -> None:
        self.view, self.reader, self.out = View(directory), EventReader(directory.events), out
        self._lines = PlainLines(self.view, out) if plain or not out.is_terminal else None
        self._live: Any = None
        self._drawn = 0.0

    def __enter__(self) -> Viewer:
        self.resume()
        return self

    def __exit__(self, *details: object) -> None:
        with suppress(TerminalClosed):
            self.pause()

    def refresh(self) -> RunState:
        """Read what is new and show it; returns the run's state: when that is over, everything has been shown."""
        view, before = self.view, self.view.state
        view.look()  # before the events: after it is over nothing more is written
        events = list(self.reader.poll()) if self._lines is None else []
        for event in events:
            view.take(event)
        with self._writing():
            if is_gone(self.out.file):
                raise BrokenPipeError(errno.EPIPE, "nobody is there")
            if self._lines is not None:
                self._lines.tell(self.reader)
            elif events or view.state != before or time.monotonic() - self._drawn >= 1:
                self._drawn = time.monotonic()
                self._live.update(dashboard(view, *self.out.size, utf8=speaks_utf8(self.out)), refresh=True)
        return view.state

    def note(self, text: str) -> None:
        """Say something of the viewer's own."""
        if self._lines is None:
            self.view.messages.append((time.time(), "message", text))
            self._drawn = 0.0
        else:
            with self._writing():
                self.out.print(safe(text), soft_wrap=True)

    def pause(self) -> None:
        """Leave the terminal to something else; after the end, clear the dashboard away."""
        if self._live is not None and can_write(self.out.file):
            with self._writing():
                self._live.stop()

    def resume(self) -> None:
        if self._lines is None:
            from rich.live import Live

            self._drawn = 0.0
            self._live = Live(
                console=self.out, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
            )
            with self._writing():
                self._live.start()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in TERMINAL_GONE:
                raise
            forget(self.out.file)
            raise TerminalClosed from None
        except SystemExit:  # what Rich makes of a pipe that nobody reads
            raise TerminalClosed from None


class Shows(Protocol):
    """A viewer of a run: `refresh` shows what is new and returns the run's state."""

    def refresh(self) -> RunState: ...


@contextmanager
def beside(viewing: AbstractContextManager[Shows]) -> Iterator[None]:
    """Show a run in a thread while the block does it."""
    over = threading.Event()

    def work() -> None:
        with suppress(TerminalClosed), viewing as viewer:
            while not over.wait(INTERVAL):
                viewer.refresh()
            viewer.refresh()

    thread = threading.Thread(target=work, name="viewer", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=5)  # a terminal that nobody reads holds up its viewer alone


class PlainLines:
    """One line for what happens once, and now and then one for progress."""

    def __init__(self, view: View, out: Console) -> None:
        self._view, self._out = view, out
        self._spoke, self._held, self._history = 0.0, "", True

    def tell(self, reader: EventReader) -> None:
        for event in reader.poll():
            self._view.take(event)
            if self._history and isinstance(event, StepEvent):
                continue
            if line := plain_line(self._view, event):
                self._tell(event, line)
        self._history = False

    def _tell(self, event: Event, line: str) -> None:
        # By the events' own time, so that earlier events appear at the same pace.
        if isinstance(event, StepEvent | EpochEvent):
            if abs(event.t - self._spoke) < PLAIN_INTERVAL:
                self._held = line if isinstance(event, EpochEvent) else self._held
                return
            self._spoke = event.t
        elif self._held:
            self._out.print(safe(self._held), soft_wrap=True)  # the last progress before it
        self._held = ""
        self._out.print(safe(line), soft_wrap=True)


def plain_line(view: View, event: Event, *, stamp: str = "%H:%M:%S") -> str | None:
    """Write a line for an event that is worth one."""
    text: str | None
    match event:
        case RunEvent():
            text = f"run {view.directory.path}"
        case PhaseEvent():
            text = PHASE_WORDS.get(event.phase, event.phase)
        case StartEvent():
            text = "; ".join(f"{name} {value}" for name, value in start_facts(event))
        case EpochEvent():
            text = f"epoch {event.epoch}/{event.epochs}  {epoch_text(view, event)}"
        case StepEvent() if event.epoch_step < event.epoch_steps:
            text = step_text(event)
        case WarningEvent():
            text = f"warning: {event.message}"
        case _:
            text = message_of(event)
    return None if text is None else f"{time.strftime(stamp, time.localtime(event.t))} {text}"


def speaks_utf8(out: Console) -> bool:
    """Check whether a console takes UTF-8."""
    return out.encoding.lower().replace("-", "") == "utf8"
