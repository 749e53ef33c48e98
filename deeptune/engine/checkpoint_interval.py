"""When training is stored, so that little is lost and little time is spent on it."""

from __future__ import annotations

import re
import time

SHARE = 0.05  # largest share of the time that goes into storing at the ends of short epochs
_SECONDS = {"s": 1, "min": 60, "h": 3600}


class CheckpointInterval:
    """Decides when training is stored: `every` 200 steps, 30 s, 10 min or 1 h, as in `train.checkpoint_every`."""

    def __init__(self, every: str) -> None:
        number, unit = re.fullmatch(r"(\d+) ?(\w+)", every).groups()  # type: ignore[union-attr]
        self._steps = int(number) if unit.startswith("step") else None
        self._seconds = None if self._steps else int(number) * _SECONDS[unit]
        self._at_step, self._at, self._cost = 0, time.monotonic(), 0.0

    def due(self, step: int) -> bool:
        """Check whether to store after this step."""
        if self._steps is not None:
            return step - self._at_step >= self._steps
        assert self._seconds is not None
        return time.monotonic() - self._at >= self._seconds

    def due_after_epoch(self) -> bool:
        """Check whether to store at the end of an epoch: always, but for epochs that are as short as storing is."""
        return time.monotonic() - self._at >= self._cost / SHARE

    def stored(self, step: int, cost: float) -> None:
        """Take note that training was stored after `step`, which took `cost` seconds."""
        self._at_step, self._at, self._cost = step, time.monotonic(), cost
