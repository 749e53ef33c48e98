"""status.json: where the run is now, replaced at most once a second."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from deeptune.runs.files import write_json

INTERVAL = 1.0  # seconds


class StatusWriter:
    """Keeps the latest state of a run and writes it to `status.json` now and then."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._state: dict[str, Any] = {"state": "running", "phase": "starting"}
        self._written = 0.0

    def update(self, *, force: bool = False, **changes: Any) -> None:
        self._state.update(changes)
        now = time.monotonic()
        if force or now - self._written >= INTERVAL:
            self._written = now
            write_json(self.path, {**self._state, "heartbeat": round(time.time(), 3)})
