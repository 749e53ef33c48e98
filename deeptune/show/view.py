"""What a viewer knows of a run, built from its events and its files; and its parts in words."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from deeptune.report.tables import share_text, value_text
from deeptune.runs import RunDirectory, RunState, run_state
from deeptune.runs.events import well_formed
from deeptune.show.history import GPU_VALUES, History
from deeptune.show.pace import Pace
from deeptune.show.words import count_text, is_number

SILENT = 15.0  # seconds without an event after which its age is shown: a run at work samples more often
PHASES = ("data", "backbone", "features", "train", "verify", "test", "embed", "report")
PHASE_WORDS = {
    "starting": "loading PyTorch",
    "data": "reading and checking the data",
    "backbone": "loading the backbone",
    "features": "computing features",
    "train": "training",
    "verify": "checking that the stored model is the trained one",
    "test": "scoring",
    "embed": "embedding",
    "report": "writing the report",
}


@dataclass
class View:
    """What a viewer knows of a run, built from its events and its present state."""

    directory: RunDirectory
    state: RunState = field(default_factory=lambda: RunState("starting"))
    phase: str = "starting"
    start: dict[str, Any] = field(default_factory=dict)
    step: dict[str, Any] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)
    stored: dict[str, Any] = field(default_factory=dict)
    sample: dict[str, Any] = field(default_factory=dict)
    epochs: dict[int, dict[str, Any]] = field(default_factory=dict)
    messages: deque[tuple[float, str, str]] = field(default_factory=lambda: deque(maxlen=4))
    history: History = field(default_factory=History)
    pace: Pace = field(default_factory=Pace)  # of a phase that counts its rows
    seen: list[str] = field(default_factory=list)
    began: float | None = None  # the attempt in progress
    before: float = 0.0  # seconds that the attempts before it took
    last: float = 0.0  # time of the last event

    def take(self, event: dict[str, Any]) -> bool:
        """Take in an event; False for one that is not as an event of its kind is, which is passed over."""
        if not well_formed(event):
            return False
        kind = event["kind"]
        if kind == "run":
            self.before = self.elapsed(self.last)
            self.began, self.phase, self.step = event["t"], "starting", {}
            self.seen.clear()
        elif kind == "phase":
            self.phase = event["phase"]
            self.seen.append(self.phase)
        elif kind in ("start", "step", "sample"):
            setattr(self, kind, event)
        elif kind == "epoch":
            self.epochs[event["epoch"]] = event  # one that is trained again takes the place of its former self
        elif kind == "checkpoint":
            setattr(self, "best" if event["which"] == "best" else "stored", event)
        elif kind == "resume":
            # The epoch that training goes on in, and those after it, are trained again.
            self.epochs = {number: epoch for number, epoch in self.epochs.items() if number < event["epoch"]}
            if event["step"] == 0:
                self.best, self.stored = {}, {}
        if (text := message_of(event)) is not None:
            self.messages.append((event["t"], "warning" if kind == "warning" else "message", text))
        self.history.take(event, self.elapsed(event["t"]), text)
        self.last = event["t"]
        return True

    def look(self) -> None:
        self.see(run_state(self.directory))

    def see(self, state: RunState) -> None:
        """Take in the state that the run is in."""
        self.state = state
        phase, progress, moment = (state.status.get(key) for key in ("phase", "progress", "heartbeat"))
        if phase and progress and moment is not None and not state.over:
            self.pace.see(phase, moment, progress["done"], progress["total"])

    def to_go(self, now: float) -> float | None:
        """Seconds until training, or the phase in progress, is done; None where nothing tells."""
        if self.phase == "train":
            eta = self.status.get("eta")
            return eta if is_number(eta) else None
        return self.pace.to_go(now) if self.status.get("progress") else None

    @property
    def status(self) -> dict[str, Any]:
        return self.state.status

    @property
    def epoch(self) -> dict[str, Any]:
        """The last epoch that is complete; empty before the first."""
        return self.epochs[max(self.epochs)] if self.epochs else {}

    def losses(self, split: str) -> list[float]:
        """The loss of each complete epoch, in order; one that is undefined is left out."""
        found = ((self.epochs[number].get(split) or {}).get("loss") for number in sorted(self.epochs))
        return [loss for loss in found if loss is not None]

    def elapsed(self, now: float) -> float:
        """Seconds that the run has taken at a time, those between its attempts left out."""
        return self.before + (max(0.0, now - self.began) if self.began is not None else 0.0)


def message_of(event: dict[str, Any]) -> str | None:
    """The text of an event that has one for people."""
    kind = event["kind"]
    if kind in ("warning", "message"):
        return str(event["message"])
    if kind == "resume":
        return f"resumed after step {event['step']:,}, in epoch {event['epoch']}" if event["step"] else "started again"
    if kind == "stopping":
        return f"stopping after this step ({event['reason']})"
    return None


def ending_text(event: dict[str, Any]) -> str:
    """How a run ended, by its event."""
    if event["state"] == "failed":
        return f"the run failed: {event.get('message') or 'it does not say why'}"
    return "the run was stopped" if event["state"] == "stopped" else f"the run is {event['state']}"


def step_text(event: dict[str, Any]) -> str:
    place = f"epoch {event['epoch']}/{event['epochs']}  step {event['epoch_step']}/{event['epoch_steps']}"
    return f"{place}  loss {value_text('loss', event['loss'])}  {event['rate'] or 0:.1f} rows/s"


def start_facts(event: dict[str, Any]) -> list[tuple[str, str]]:
    """What is trained, on what and where, by name."""
    parameters, rows = event["parameters"], event["rows"]
    share = share_text(parameters["trainable"], parameters["total"])
    return [
        ("model", f"{event['backbone']} ({event['weights']} weights)"),
        (
            "method",
            f"{event['method']}: {parameters['trainable']:,} trainable of {count_text(parameters['total'])} ({share})",
        ),
        ("rows", f"train {rows['train']:,}, val {rows['val']:,}, test {rows['test']:,}"),
        ("device", f"{event['device']} ({event['device_reason']})"),
    ]


def epoch_text(view: View, event: dict[str, Any]) -> str:
    parts = [f"train loss {value_text('loss', event['train']['loss'])}"]
    if val := event.get("val"):
        parts.append(f"val loss {value_text('loss', val.get('loss'))}")
        name = chosen_metric(view)
        if name != "loss":
            parts.append(f"{name} {value_text(name, val.get(name))}")
        if "accuracy" in val and name != "accuracy":
            parts.append(f"accuracy {value_text('accuracy', val['accuracy'])}")
        if "r2" in val and name != "r2":
            parts.append(f"r2 {value_text('r2', val['r2'])}")
    if event.get("best"):
        parts.append("best so far")
    return "  ".join(parts)


def chosen_metric(view: View) -> str:
    return str(view.start.get("metric", "val/loss")).removeprefix("val/")


def memory_text(view: View) -> str:
    """The memory of the run's processes and what is free, by the last sample, or else by the last step."""
    if view.sample:
        return f"{view.sample['process_gib'] or 0:.1f} GiB, {view.sample['free_gib'] or 0:.1f} GiB free"
    used = (view.step.get("memory") or {}).get("process_gib") if isinstance(view.step.get("memory"), dict) else None
    return f"{used:.1f} GiB" if is_number(used) else ""


def gpu_texts(sample: dict[str, Any]) -> list[str]:
    """What each GPU does, by a sample."""
    texts = []
    for gpu in sample.get("gpus") or []:
        if isinstance(gpu, dict) and all(is_number(gpu.get(key)) for key in GPU_VALUES):
            use, heat, used, total = (gpu[key] for key in GPU_VALUES)
            texts.append(f"{use:.0f}%  {heat:.0f} °C  {used:.1f} of {total:.1f} GiB")
    return texts
