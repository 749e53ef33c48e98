"""The history of training: its progress and the scores so far."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from deeptune.runs.files import finite
from deeptune.spec.metrics import lower_is_better


@dataclass
class Best:
    """The best model so far: the epoch that it is of, from 1, or 0 for the start, and its value on val.

    Patience counts trained epochs alone. A start that is hard to beat does not end a training that still gets better:
    `trained` is the best value of a trained epoch, and `since` counts the epochs after it. `mean` lists the epochs
    whose mean weights the model has (`Soup`); then `value` is that of the mean, and `epoch` the best of them alone.
    """

    metric: str
    epoch: int = 0
    value: float | None = None
    since: int = 0
    trained: float | None = None
    mean: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.epoch and self.trained is None:  # of a version without a start
            self.trained = self.value

    @property
    def found(self) -> bool:
        """Whether there is a best epoch. One without a value is the last of a run without val."""
        return self.epoch > 0 or self.value is not None

    @property
    def epochs(self) -> tuple[int, ...]:
        """The epochs that the model is of, the latest one last."""
        return tuple(self.mean) or (self.epoch,)

    def offer(self, epoch: int, value: float | None) -> bool:
        """Record the value of an epoch, and return whether it is the best so far; one that is undefined never is."""
        if value is not None and not math.isfinite(value):
            value = None
        again = epoch == self.epoch  # it is trained once more
        before = self.trained if self.epoch else self.value
        if epoch:
            improved = value is not None and (again or self.better(value, self.trained))
            self.trained, self.since = (value, 0) if improved else (self.trained, self.since + 1)
        if value is None or not (again or self.better(value, before)):
            return False
        self.epoch, self.value, self.mean = epoch, value, []
        return True

    def record(self) -> dict[str, Any]:
        """Describe the best epoch for result.json and for the manifest of a checkpoint."""
        mean = {"mean": self.mean} if self.mean else {}
        return {"epoch": self.epoch, "metric": self.metric, "value": self.value, **mean}

    def as_stored(self, record: Mapping[str, Any]) -> Best:
        """Return the best epoch that the manifest of a checkpoint has, with the patience of this one."""
        return replace(self, **{"mean": [], **record})

    def better(self, value: float, other: float | None) -> bool:
        """Check whether a value is better than another, or than none."""
        if other is None:
            return True
        return value < other if lower_is_better(self.metric) else value > other


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
        """Return the history as JSON."""
        state: dict[str, Any] = finite(asdict(self))
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take on a stored history.

        What another version did not store keeps its value, and what it alone knows is passed over.
        """
        known = {one.name for one in fields(self)}
        for name, value in state.items():
            if name in known:
                setattr(self, name, Best(**value) if name == "best" else value)
