"""How far training is, and what happened so far."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from deeptune.runs.files import finite
from deeptune.spec.metrics import lower_is_better


@dataclass
class Best:
    """The best value of the chosen metric so far, and the epoch (from 1) it came from."""

    metric: str
    epoch: int = 0
    value: float | None = None
    since: int = 0  # epochs without a better one

    def offer(self, epoch: int, value: float | None) -> bool:
        """Whether `value` is better than every one before; a value that is undefined never is."""
        lower = lower_is_better(self.metric)
        better = value is not None and math.isfinite(value)
        if better and self.value is not None and epoch != self.epoch:  # the same epoch: it is trained once more
            better = value < self.value if lower else value > self.value  # type: ignore[operator]
        if better:
            self.epoch, self.value, self.since = epoch, value, 0
        else:
            self.since += 1
        return better


@dataclass
class TrainingHistory:
    """The epoch in progress (from 1), how much of it is done, and what happened so far."""

    best: Best
    epoch: int = 1
    batches: int = 0  # of the epoch in progress
    steps: int = 0
    epochs: list[dict[str, Any]] = field(default_factory=list)  # the content of each epoch's event
    skipped: int = 0  # steps that were not finite
    skipped_in_a_row: int = 0
    skipped_in_epoch: int = 0
    at_once: int | None = None  # rows, or tokens of texts, that fitted after memory had run out
    seconds: float = 0.0
    stopped_early: bool = False

    def state_dict(self) -> dict[str, Any]:
        """The history as JSON."""
        state: dict[str, Any] = finite(asdict(self))
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take on a stored history. What another version did not store keeps its value, and what it alone knows is
        passed over."""
        known = {one.name for one in fields(self)}
        for name, value in state.items():
            if name in known:
                setattr(self, name, Best(**value) if name == "best" else value)
