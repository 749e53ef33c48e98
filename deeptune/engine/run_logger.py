"""The only writer of a run's events and status, which also knows whether the run should stop."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Protocol

from deeptune.errors import CheckpointError
from deeptune.nvml import NvidiaGpu
from deeptune.runs import EventWriter, RunDirectory, StatusWriter
from deeptune.runs.control import StopFlag
from deeptune.runs.events import MessageEvent, PhaseEvent, RunEvent, WarningEvent
from deeptune.runs.files import is_full

LOOK_AGAIN = 5.0  # seconds between tries while the disk is full
WAIT_FOR_ROOM = 3600.0  # seconds that a run waits for room on the disk before it ends


class Log(Protocol):
    """Progress while data is read, a backbone is loaded and rows pass it. Any of its methods may raise to stop."""

    gpu: NvidiaGpu | None

    def phase(self, name: str) -> None:
        """Enter a phase, such as `data`."""

    def warn(self, message: str) -> None:
        """Take a warning."""

    def message(self, text: str) -> None:
        """Take a message."""

    def progress(self, done: int, total: int) -> None:
        """Show how much of a phase is done."""


class RunLogger:
    """Writes what happens to the event log, and where the run is to its status file.

    Its methods `phase` and `progress` raise RunStopped once `stop` was requested.
    """

    def __init__(self, run: RunDirectory, stop: StopFlag | None = None) -> None:
        self.events = EventWriter(run.events)
        self.status = StatusWriter(run.status, pid=os.getpid())
        self.stop = stop or StopFlag()
        self.gpu: NvidiaGpu | None = None  # the run's own, once it is chosen
        self.events.write(RunEvent(run.id, started=round(time.time(), 3), pid=os.getpid()))
        # A resumed run meets the same data again, and would warn of it again.
        self._warned = {event.message for event in self.events.earlier if isinstance(event, WarningEvent)}

    @property
    def warnings(self) -> int:
        return len(self._warned)

    def phase(self, name: str) -> None:
        """Enter a phase, such as `data` or `train`."""
        self.stop.check()
        self.events.write(PhaseEvent(name))
        self.status.update(phase=name, progress=None, force=True)

    def warn(self, message: str) -> None:
        """Log a warning, once for each message, also over several attempts."""
        if message not in self._warned:
            self._warned.add(message)
            self.events.warning(message)

    def message(self, text: str) -> None:
        """Log a message."""
        self.events.write(MessageEvent(text))

    def progress(self, done: int, total: int) -> None:
        """Show how much of a phase is done."""
        self.stop.check()
        self.status.update(progress={"done": done, "total": total})

    def keep(self, write: Callable[[], None]) -> None:
        """Do a write that must not be lost: while the disk is full, wait for room instead of ending the run."""
        full_since = None
        while True:
            try:
                write()
                break
            except CheckpointError as error:
                if not is_full(error) or (full_since and time.monotonic() - full_since > WAIT_FOR_ROOM):
                    raise
                if full_since is None:
                    full_since = time.monotonic()
                    self.events.warning(f"{error.message}: the run waits until there is room")
                    self.status.update(state="paused", message=error.message, force=True)
                self._sleep(LOOK_AGAIN)
        if full_since is not None:
            self.message("there is room on the disk again: the run continues")
            self.status.update(state="stopping" if self.stop.reason else "running", message=None, force=True)

    def _sleep(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.stop.check()
            time.sleep(min(0.2, left))
