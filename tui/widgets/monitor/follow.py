"""Read a run's files as they change. A thread does this, and nothing here touches the screen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeptune.errors import DeepTuneError
from deeptune.runs import RunDirectory, RunState, run_state
from deeptune.runs.event_log import EventReader
from deeptune.runs.events import Event
from deeptune.runs.state import ending
from tui.widgets.monitor.examples import Example, worst_examples
from tui.widgets.monitor.printed import ConsoleReader, Printed
from tui.widgets.monitor.results import Outcome, read_outcome

BATCH = 1000  # events handed over at once: they are taken in within some ten milliseconds


@dataclass
class News:
    """The news of a run. `state` is None while more follows at once. The last three are None if nothing is new.

    `failure` is the error of a run that failed or crashed.
    """

    events: list[Event]
    state: RunState | None = None
    problem: str = ""
    failure: DeepTuneError | None = None
    console: Printed | None = None
    outcome: Outcome | None = None
    examples: list[Example] | None = None


class Follower:
    """Reads what is new of a run.

    `wanted` names what it reads besides events and state: `console`, `outcome`, `examples`.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._reader = EventReader(run.events)
        self._shown: tuple[RunState, str] | None = None
        self._stamps: dict[Path, Any] = {}
        self._failure: DeepTuneError | None = None
        self._console = ConsoleReader(run.console)
        self.wanted: set[str] = set()

    def news(self) -> Iterator[News]:
        """Yield what is new, in parts; nothing if nothing is new."""
        run = self._run
        state = run_state(run)  # before the events: after it is over nothing more is written
        events: list[Event] = []
        for event in self._reader.poll():
            events.append(event)
            if len(events) == BATCH:
                yield News(events)
                events = []
        problem = self._problem()
        if (state, problem) != self._shown:
            failed = state.over and state.word not in ("done", "stopped", "deleted")
            self._failure = ending(run, state) if failed else None
        news = News(events, state, problem, self._failure)
        wanted = set(self.wanted)
        if "console" in wanted and self._changed(run.console):
            news.console = self._console.read()
        if "outcome" in wanted and self._changed(run.metrics, run.result, run.report):
            news.outcome = read_outcome(run)
        if "examples" in wanted and self._changed(run.predictions, run.explanations / "explanations.json"):
            news.examples = worst_examples(run)
        before, self._shown = self._shown, (state, news.problem)
        if (
            events
            or before != self._shown
            or any(part is not None for part in (news.console, news.outcome, news.examples))
        ):
            yield news

    def forget_console(self) -> None:
        """Read console.log the next time, whether it has changed or not."""
        self._stamps.pop(self._run.console, None)

    def read_earlier(self) -> None:
        """Read more of console.log the next time."""
        self._console.read_earlier()
        self.forget_console()

    def _problem(self) -> str:
        if count := self._reader.broken:
            return f"{count:,} damaged line{'s' if count > 1 else ''} in events.jsonl"
        return ""

    def _changed(self, *paths: Path) -> bool:
        """Check whether any of these files has changed since the last call."""
        stamps = {path: _stamp(path) for path in paths}
        changed = any(path not in self._stamps or self._stamps[path] != stamp for path, stamp in stamps.items())
        self._stamps.update(stamps)
        return changed


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
        return found.st_mtime_ns, found.st_size
    except OSError:
        return None
