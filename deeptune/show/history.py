"""The numbers of a run over its time, as columns for charts; and what they warn of."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from deeptune.runs.events import EpochEvent, Event, Gpu, ResumeEvent, SampleEvent, StepEvent, WarningEvent

NAN = math.nan
STEP_VALUES = ("loss", "learning_rate", "gradient_norm", "rate", "waiting")
GPU_VALUES = tuple(one.name for one in fields(Gpu) if one.name != "number")
MAX_NOTES = 10_000
PLATEAU_EPOCHS, PLATEAU_GAIN = 5, 0.001
OVERFIT_EPOCHS, OVERFIT_RISE = 3, 0.05
RECENT = 40  # step events whose pace tells how sure the time to go is


@dataclass
class Track:
    """Points of ascending step. A value that an event does not have, or that is not a number, is NaN.

    `step`, `epoch` (with its part that is done) and `time` (seconds that the run took) are columns to draw over.
    """

    step: array[float] = field(default_factory=lambda: array("d"))
    epoch: array[float] = field(default_factory=lambda: array("d"))
    time: array[float] = field(default_factory=lambda: array("d"))
    values: dict[str, array[float]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.step)

    def x(self, unit: str) -> array[float]:
        columns = {"step": self.step, "epoch": self.epoch, "time": self.time}
        return columns[unit]

    def know(self, names: Iterable[str]) -> None:
        """Keep values of these names as well; NaN in the points so far."""
        for name in names:
            if name not in self.values:
                self.values[name] = array("d", [NAN]) * len(self)

    def add(self, step: float, epoch: float, time: float, values: dict[str, Any]) -> None:
        """Add a point with the values of known names. Points that are not before it were trained again, and go."""
        if self.step and step <= self.step[-1]:
            self.cut(step)
        for name, column in self.values.items():
            value: Any = values.get(name)  # below without a call of its own: logs are long
            column.append(value if type(value) is float or type(value) is int else NAN)
        if self.step:
            epoch, time = max(epoch, self.epoch[-1]), max(time, self.time[-1])
        self.step.append(step)
        self.epoch.append(epoch)
        self.time.append(time)

    def cut(self, step: float) -> None:
        """Drop the points from `step` on."""
        kept = bisect_left(self.step, step)
        for column in (self.step, self.epoch, self.time, *self.values.values()):
            del column[kept:]


@dataclass(frozen=True)
class Note:
    """Something that was said: `kind` is `message`, `warning`, or `alert` for what the numbers warn of."""

    time: float
    kind: str
    step: int | None
    text: str


@dataclass
class History:
    """The numbers of a run over its time.

    `steps` has the values of STEP_VALUES. `epochs` has `train/loss` and `val/...` at the end of each epoch. `samples`
    has memory, processor and `gpu0/...` over time; its step is a count of samples.
    """

    steps: Track = field(default_factory=lambda: _track(STEP_VALUES))
    epochs: Track = field(default_factory=Track)
    samples: Track = field(default_factory=Track)
    notes: deque[Note] = field(default_factory=lambda: deque(maxlen=MAX_NOTES))
    alert: Note | None = None  # what the last epochs warn of
    _attempt: float = 0.0  # the step that the attempt in progress began after

    def take(self, event: Event, elapsed: float, text: str | None) -> None:
        """Add an event at `elapsed` seconds of the run; `text` is what it says to people, or None."""
        if isinstance(event, StepEvent):
            place = event.epoch - 1 + event.epoch_step / max(event.epoch_steps, 1)
            self.steps.add(event.step, place, elapsed, vars(event))
        elif isinstance(event, EpochEvent):
            self._epoch(event, elapsed)
        elif isinstance(event, SampleEvent):
            values = _sample(event)
            self.samples.know(values)
            self.samples.add(len(self.samples) + 1, 0.0, elapsed, values)
        elif isinstance(event, ResumeEvent):
            self._attempt = event.step
            self.steps.cut(event.step + 0.5)
            self.epochs.cut(event.step + 0.5)
            self.alert = None
        if text is not None:
            self._note(event.t, "warning" if isinstance(event, WarningEvent) else "message", text)

    def _note(self, time: float, kind: str, text: str) -> Note:
        note = Note(time, kind, int(self.steps.step[-1]) if len(self.steps) else None, text)
        self.notes.append(note)
        return note

    def _epoch(self, event: EpochEvent, elapsed: float) -> None:
        step = self.steps.step[-1] if len(self.steps) else float(event.epoch)
        val = event.val or {}
        values = {"train/loss": event.train.get("loss"), **{f"val/{name}": value for name, value in val.items()}}
        self.epochs.know(values)
        self.epochs.add(step, event.epoch, elapsed, values)
        if val.get("loss", 0) is None:
            self._note(event.t, "warning", f"the val loss of epoch {event.epoch} is not finite")
        words = self._warning()
        if words is None:
            self.alert = None
        elif self.alert is None or self.alert.text.split(":")[0] != words.split(":")[0]:
            self.alert = self._note(event.t, "alert", words)

    def _warning(self) -> str | None:
        val, train = (self.epochs.values.get(f"{split}/loss", array("d")) for split in ("val", "train"))
        if overfitting(train, val):
            return (
                f"overfitting: for {OVERFIT_EPOCHS} epochs val loss is over {OVERFIT_RISE:.0%} above its lowest, "
                "and train loss still falls"
            )
        if plateau(val):
            return f"plateau: no val loss of the last {PLATEAU_EPOCHS} epochs is {PLATEAU_GAIN:.1%} lower than before"
        return None

    def pace_spread(self) -> tuple[float, float] | None:
        """Return the 10th and the 90th percentile of the time that recent steps took, over their median.

        None as long as there are too few of them.
        """
        steps, time = self.steps.step[-RECENT:], self.steps.time[-RECENT:]
        first = bisect_left(steps, self._attempt + 0.5)
        paces = sorted((time[i] - time[i - 1]) / (steps[i] - steps[i - 1]) for i in range(first + 1, len(steps)))
        if len(paces) < 5 or paces[len(paces) // 2] <= 0:
            return None
        low, middle, high = (paces[round(part * (len(paces) - 1))] for part in (0.1, 0.5, 0.9))
        return low / middle, high / middle


def _track(names: Iterable[str]) -> Track:
    track = Track()
    track.know(names)
    return track


def _sample(event: SampleEvent) -> dict[str, Any]:
    values = {"process_gib": event.process_gib, "free_gib": event.free_gib, "cpu_percent": event.cpu_percent}
    for place, gpu in enumerate(event.gpus):  # of version 0.1.0 all of the machine, in their order
        number = place if gpu.number is None else int(gpu.number)
        values |= {f"gpu{number}/{name}": getattr(gpu, name) for name in GPU_VALUES}
    return {name: value for name, value in values.items() if value is not None}


def plateau(val: Sequence[float]) -> bool:
    """Check whether no val loss of the last PLATEAU_EPOCHS epochs is lower by PLATEAU_GAIN than all before them."""
    before, recent = _finite(val[:-PLATEAU_EPOCHS]), _finite(val[-PLATEAU_EPOCHS:])
    if not before or len(recent) < PLATEAU_EPOCHS:
        return False
    return min(recent) > min(before) - PLATEAU_GAIN * abs(min(before))


def overfitting(train: Sequence[float], val: Sequence[float]) -> bool:
    """Check whether the last OVERFIT_EPOCHS epochs overfit.

    In each of them val loss is above its minimum by OVERFIT_RISE, and train loss below its value in the epoch of that
    minimum.
    """
    there = [index for index, value in enumerate(val) if math.isfinite(value)]
    if len(there) <= OVERFIT_EPOCHS or len(train) != len(val):
        return False
    lowest = min(there, key=lambda index: val[index])
    limit = val[lowest] + OVERFIT_RISE * abs(val[lowest])
    return all(
        index > lowest and val[index] > limit and train[index] < train[lowest] for index in there[-OVERFIT_EPOCHS:]
    )


def _finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]
