"""The view of a run, built from its events and files, and its parts as text."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from deeptune.formatting import count_text
from deeptune.report.tables import sentence_title, share_text, value_text
from deeptune.runs import RunDirectory, RunState, run_state
from deeptune.runs.events import (
    CheckpointEvent,
    EndEvent,
    EpochEvent,
    Event,
    MessageEvent,
    PhaseEvent,
    ResumeEvent,
    RunEvent,
    SampleEvent,
    Scores,
    StartEvent,
    StepEvent,
    StoppingEvent,
    WarningEvent,
)
from deeptune.show.history import History
from deeptune.show.pace import Pace
from deeptune.show.run_text import is_number
from deeptune.spec.tasks import TASKS

SILENT = 15.0  # seconds without an event after which its age is shown: a run at work samples more often
PHASES = ("data", "backbone", "features", "head", "folds", "train", "verify", "test", "embed", "report")
PHASE_WORDS = {
    "starting": "loading PyTorch",
    "data": "reading and checking the data",
    "backbone": "loading the backbone",
    "features": "computing features",
    "head": "fitting the head",
    "folds": "cross-validating the head",
    "train": "training",
    "verify": "checking that the stored model is the trained one",
    "test": "scoring",
    "embed": "embedding",
    "report": "writing the report",
}


@dataclass
class View:
    """The view of a run, built from its events and its current state."""

    directory: RunDirectory
    state: RunState = field(default_factory=lambda: RunState("starting"))
    phase: str = "starting"
    start: StartEvent | None = None
    step: StepEvent | None = None
    best: CheckpointEvent | None = None
    stored: CheckpointEvent | None = None
    sample: SampleEvent | None = None
    epochs: dict[int, EpochEvent] = field(default_factory=dict)
    messages: deque[tuple[float, str, str]] = field(default_factory=lambda: deque(maxlen=4))
    history: History = field(default_factory=History)
    pace: Pace = field(default_factory=Pace)  # of a phase that counts its rows
    seen: list[str] = field(default_factory=list)
    began: float | None = None  # the attempt in progress
    before: float = 0.0  # seconds that the attempts before it took
    last: float = 0.0  # time of the last event

    def take(self, event: Event) -> None:
        """Add an event to what is known of the run."""
        match event:
            case StepEvent():
                self.step = event
            case SampleEvent():
                self.sample = event
            case EpochEvent():
                self.epochs[event.epoch] = event  # an epoch that is trained again replaces the first one
            case PhaseEvent():
                self.phase = event.phase
                self.seen.append(self.phase)
            case StartEvent():
                self.start = event
            case CheckpointEvent(which="best"):
                self.best = event
            case CheckpointEvent():
                self.stored = event
            case RunEvent():
                self.before = self.elapsed(self.last)
                self.began, self.phase, self.step = event.t, "starting", None
                self.seen.clear()
            case ResumeEvent():
                # The epoch in which training continues, and those after it, are trained again.
                self.epochs = {number: epoch for number, epoch in self.epochs.items() if number < event.epoch}
                if event.step == 0:
                    self.best = self.stored = None
        if (text := message_of(event)) is not None:
            self.messages.append((event.t, "warning" if isinstance(event, WarningEvent) else "message", text))
        self.history.take(event, self.elapsed(event.t), text)
        self.last = event.t

    def phases(self) -> list[str]:
        """Return the phases of the run, without those that it does not have.

        Few runs have `head` or `folds`: they are phases once they have begun. Most have `features`: it is one until the
        run has passed it by.
        """
        unlikely = {"head", "folds"}
        if self.phase not in ("starting", "data", "backbone"):
            unlikely.add("features")
        return [phase for phase in PHASES if phase in self.seen or phase not in unlikely]

    def look(self) -> None:
        self.see(run_state(self.directory))

    def see(self, state: RunState) -> None:
        """Take in the state that the run is in."""
        self.state = state
        phase, progress, moment = (state.status.get(key) for key in ("phase", "progress", "heartbeat"))
        if phase and progress and moment is not None and not state.over:
            self.pace.see(phase, moment, progress["done"], progress["total"])

    def to_go(self, now: float) -> float | None:
        """Return seconds until training, or the phase in progress, is done; None where nothing tells."""
        if self.phase == "train":
            eta = self.status.get("eta")
            return eta if is_number(eta) else None
        return self.pace.to_go(now) if self.status.get("progress") else None

    @property
    def status(self) -> dict[str, Any]:
        return self.state.status

    @property
    def epoch(self) -> EpochEvent | None:
        """The last epoch that is complete; None before the first."""
        return self.epochs[max(self.epochs)] if self.epochs else None

    @property
    def val(self) -> Scores:
        """The val metrics of the last complete epoch; empty where there are none."""
        return (self.epoch.val if self.epoch else None) or {}

    def losses(self, split: Literal["train", "val"]) -> list[float]:
        """Return the loss of each complete epoch, in order; one that is undefined is left out."""
        epochs = [self.epochs[number] for number in sorted(self.epochs)]
        found = ((epoch.train if split == "train" else epoch.val or {}).get("loss") for epoch in epochs)
        return [loss for loss in found if loss is not None]

    def elapsed(self, now: float) -> float:
        """Return the seconds that the run has taken at a time, those between its attempts left out."""
        return self.before + (max(0.0, now - self.began) if self.began is not None else 0.0)


def message_of(event: Event) -> str | None:
    """Return the text of an event that has one for people."""
    if isinstance(event, StepEvent):  # most of the events of a long log
        return None
    if isinstance(event, WarningEvent | MessageEvent):
        return event.message
    if isinstance(event, ResumeEvent):
        return f"resumed after step {event.step:,}, in epoch {event.epoch}" if event.step else "started again"
    if isinstance(event, StoppingEvent):
        return f"stopping after this step ({event.reason})"
    return None


def ending_text(event: EndEvent) -> str:
    """Say how a run ended, by its event."""
    if event.state == "failed":
        return f"the run failed: {event.message or 'it does not say why'}"
    return "the run was stopped" if event.state == "stopped" else f"the run is {event.state}"


def step_text(event: StepEvent) -> str:
    """Return the place of a step, its loss and its speed."""
    place = f"epoch {event.epoch}/{event.epochs}  step {event.epoch_step}/{event.epoch_steps}"
    return f"{place}  loss {value_text('loss', event.loss)}  {event.rate or 0:.1f} rows/s"


def start_facts(event: StartEvent) -> list[tuple[str, str]]:
    """Return facts about the model, the data and the device of a run, by name."""
    parameters, rows = event.parameters, event.rows
    share = share_text(parameters.trainable, parameters.total)
    return [
        ("model", f"{event.backbone} ({event.weights} weights)"),
        ("method", f"{event.method}: {parameters.trainable:,} trainable of {count_text(parameters.total)} ({share})"),
        ("rows", f"train {rows.train:,}, val {rows.val:,}, test {rows.test:,}"),
        ("device", f"{event.device} ({event.device_reason})"),
    ]


def epoch_text(view: View, event: EpochEvent) -> str:
    """Return the losses of an epoch, and the metrics that are quoted first."""
    parts = [f"train loss {value_text('loss', event.train.get('loss'))}"]
    if val := event.val:
        parts.append(f"val loss {value_text('loss', val.get('loss'))}")
        name = chosen_metric(view)
        if name != "loss":
            parts.append(f"{sentence_title(name)} {value_text(name, val.get(name))}")
        curve = curve_metric(val)
        if curve not in (name, None):
            parts.append(f"{sentence_title(curve)} {value_text(curve, val[curve])}")
    if event.best:
        parts.append("best so far")
    return "  ".join(parts)


def chosen_metric(view: View) -> str:
    """Return the metric that early stopping watches, without its split."""
    return ((view.start.metric if view.start else "") or "val/loss").removeprefix("val/")


def curve_metric(val: Scores) -> str | None:
    """Return the metric of the task that is plotted beside the loss; None where val has none."""
    return next((info.curve for info in TASKS.values() if info.curve in val), None)


def memory_text(view: View) -> str:
    """Return the memory of the run's processes and what is free, by the last sample, or else by the last step."""
    if view.sample:
        return f"{view.sample.process_gib or 0:.1f} GiB, {view.sample.free_gib or 0:.1f} GiB free"
    used = (view.step.memory or {}).get("process_gib") if view.step else None
    return f"{used:.1f} GiB" if used is not None else ""


def gpu_texts(sample: SampleEvent | None) -> list[str]:
    """Describe each GPU from a sample; values that it does not report are left out."""
    texts = ["  ".join(text for _, text, _ in gpu_values(vars(gpu))) for gpu in (sample.gpus if sample else ())]
    return [text for text in texts if text]


def gpu_values(gpu: Mapping[str, float | None]) -> Iterator[tuple[str, str, float]]:
    """List each thing that a GPU tells: name of the value, text, top of its range."""
    for name, top, unit, digits in (
        ("utilisation", None, "%", 0),
        ("memory_gib", "total_gib", " GiB", 1),
        ("temperature", None, " °C", 0),
        ("power_watts", "power_limit_watts", " W", 0),
    ):
        value, high = gpu.get(name), 100.0 if top is None else gpu.get(top)
        if value is not None and high is not None:
            yield name, f"{value:.{digits}f}{f' of {high:.{digits}f}' if top else ''}{unit}", float(high)
