"""status.json: the progress of a run, replaced at most once a second."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

from deeptune.errors import CheckpointError
from deeptune.runs.files import finite, fits, is_full, write_json

INTERVAL = 1.0  # seconds between two writes

# What viewers reckon with.
_SHAPES: dict[str, Any] = {
    "state": str, "phase": str, "message": str, "pid": int, "heartbeat": float, "eta": float, "loss": float,
    "learning_rate": float, "rate": float,
    **dict.fromkeys(("step", "steps", "epoch", "epochs", "epoch_step", "epoch_steps"), int),
    "best": {"epoch": int, "metric": str, "value": float}, "progress": {"done": int, "total": int},
    "checkpoint": {"step": int, "at": float},
}  # fmt: skip


class StatusWriter:
    """Keeps the latest progress of a run and writes it to `status.json` at intervals. Any thread may update it.

    A full disk skips a status and never ends the run.
    """

    def __init__(self, path: Path, **known: Any) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._state: dict[str, Any] = {"state": "running", "phase": "starting", **known}
        self._written = 0.0

    def update(self, *, force: bool = False, **changes: Any) -> None:
        with self._lock:
            self._state.update(changes)
            now = time.monotonic()
            if not force and now - self._written < INTERVAL:
                return
            self._written = now
            try:
                write_json(self.path, {**finite(self._state), "heartbeat": round(time.time(), 3)}, durable=False)
            except CheckpointError as error:
                if not is_full(error):
                    raise


def read_status(path: Path) -> dict[str, Any]:
    """Read the latest status; empty if it can't be read. Values of the wrong shape are left out."""
    try:
        status = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(status, dict):
        return {}
    return {key: value for key, value in status.items() if key not in _SHAPES or fits(_SHAPES[key], value)}
