"""The run's one writer of events and status."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deeptune.runs import EventWriter, StatusWriter


@dataclass
class Journal:
    """Writes what happens to the event log, and where the run is to its status file."""

    events: EventWriter
    status: StatusWriter
    warnings: int = 0

    def phase(self, name: str, **content: Any) -> None:
        self.events.write("phase", phase=name, **content)
        self.status.update(phase=name, progress=None, force=True)

    def warn(self, message: str) -> None:
        self.warnings += 1
        self.events.warning(message)

    def message(self, text: str) -> None:
        self.events.write("message", message=text)

    def progress(self, done: int, total: int) -> None:
        self.status.update(progress={"done": done, "total": total})
