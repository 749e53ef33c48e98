"""Watch a run directory: a dashboard in a terminal, a plain line now and then elsewhere.

A viewer only reads files. It is the same whether the run is in this process, in another, or long over.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deeptune.cli.console import safe
from deeptune.report.tables import value_text
from deeptune.runs import RunDirectory
from deeptune.runs.events import EventReader

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

REFRESHES_PER_SECOND = 4
PLAIN_INTERVAL = 5.0  # seconds between plain progress lines
PHASES = ("data", "backbone", "features", "train", "verify", "test", "embed", "report")
PHASE_WORDS = {
    "data": "reading and checking the data",
    "backbone": "loading the backbone",
    "features": "computing features",
    "train": "training",
    "verify": "checking that the stored model is the trained one",
    "test": "scoring",
    "embed": "embedding",
    "report": "writing the report",
}
SPARKS = "▁▂▃▄▅▆▇█"


@dataclass
class View:
    """What a viewer knows of a run, built from its events and its latest status."""

    directory: RunDirectory
    phase: str = "starting"
    start: dict[str, Any] = field(default_factory=dict)
    step: dict[str, Any] = field(default_factory=dict)
    epoch: dict[str, Any] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)
    status: dict[str, Any] = field(default_factory=dict)
    losses: dict[str, list[float]] = field(default_factory=lambda: {"train": [], "val": []})
    messages: deque[tuple[float, str, str]] = field(default_factory=lambda: deque(maxlen=4))
    seen: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.time)

    def take(self, event: dict[str, Any]) -> None:
        kind = event["kind"]
        if kind == "run":
            self.began = float(event.get("started") or event["t"])
        elif kind == "phase":
            self.phase = str(event.get("phase"))
            self.seen.append(self.phase)
        elif kind in ("start", "step"):
            setattr(self, kind, event)
        elif kind == "epoch":
            self.epoch = event
            for split in self.losses:
                if (loss := (event.get(split) or {}).get("loss")) is not None:
                    self.losses[split].append(loss)
        elif kind == "checkpoint" and event.get("which") == "best":
            self.best = event
        elif kind in ("warning", "message"):
            self.messages.append((event["t"], kind, str(event.get("message"))))

    def read_status(self) -> None:
        try:
            self.status = json.loads(self.directory.status.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            pass  # not there yet: the last one known stays


@contextmanager
def watch(directory: RunDirectory, out: Console, *, plain: bool) -> Iterator[None]:
    """Show the run while the block runs: a dashboard on a terminal, plain lines when `plain` or elsewhere."""
    view, reader = View(directory), EventReader(directory.events)
    stop = threading.Event()
    follow = _follow_plain if plain or not out.is_terminal else _follow_dashboard
    thread = threading.Thread(target=follow, args=(view, reader, out, stop), name="viewer", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=5)


def _follow_plain(view: View, reader: EventReader, out: Console, stop: threading.Event) -> None:
    spoke = 0.0

    def tell(event: dict[str, Any]) -> None:
        nonlocal spoke
        view.take(event)
        line = plain_line(view, event)
        now = time.monotonic()
        # Progress is told now and then; what happens once is always told.
        if line and (event["kind"] not in ("step", "epoch") or now - spoke >= PLAIN_INTERVAL):
            if event["kind"] in ("step", "epoch"):
                spoke = now
            out.print(safe(line), soft_wrap=True)

    while not stop.wait(0.5):
        for event in reader.poll():
            tell(event)
    for event in reader.poll():
        tell(event)


def plain_line(view: View, event: dict[str, Any]) -> str | None:
    """One line for an event that is worth one."""
    stamp = time.strftime("%H:%M:%S", time.localtime(event["t"]))
    kind = event["kind"]
    if kind == "run":
        return f"{stamp} run {view.directory.path}"
    if kind == "phase":
        return f"{stamp} {PHASE_WORDS.get(view.phase, view.phase)}"
    if kind == "start":
        return f"{stamp} {start_line(event)}"
    if kind == "epoch":
        return f"{stamp} epoch {event['epoch']}/{event['epochs']}  {epoch_text(view, event)}"
    if kind == "step" and event["epoch_step"] < event["epoch_steps"]:
        return (
            f"{stamp} epoch {event['epoch']}/{event['epochs']}  step {event['epoch_step']}/{event['epoch_steps']}  "
            f"loss {event['loss']:.4f}  {event['rate']:.1f} rows/s"
        )
    if kind in ("warning", "message"):
        return f"{stamp} {'warning: ' if kind == 'warning' else ''}{event.get('message')}"
    return None


def start_line(event: dict[str, Any]) -> str:
    parameters, rows = event["parameters"], event["rows"]
    share = parameters["trainable"] / max(parameters["total"], 1)
    return (
        f"{event['backbone']} ({event['weights']} weights), {event['method']}: {parameters['trainable']:,} of {parameters['total']:,} "
        f"parameters learn ({share:.2%}); rows train {rows['train']:,}, val {rows['val']:,}, test {rows['test']:,}; "
        f"{event['device']} ({event['device_reason']})"
    )


def epoch_text(view: View, event: dict[str, Any]) -> str:
    parts = [f"train loss {event['train']['loss']:.4f}"]
    if val := event.get("val"):
        parts.append(f"val loss {val['loss']:.4f}")
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


def _follow_dashboard(view: View, reader: EventReader, out: Console, stop: threading.Event) -> None:
    from rich.live import Live

    with Live(console=out, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False) as live:
        while True:
            ended = stop.is_set()
            for event in reader.poll():
                view.take(event)
            view.read_status()
            live.update(dashboard(view, out.width), refresh=True)
            if ended:
                return
            stop.wait(1 / REFRESHES_PER_SECOND)


def dashboard(view: View, width: int) -> RenderableType:
    """The picture of a run at this moment."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    lines: list[RenderableType] = [_phases(view)]
    if view.start:
        lines.append(Text(safe(start_line(view.start)), style="dim", overflow="ellipsis", no_wrap=True))
    bars = Table.grid(padding=(0, 1), expand=True)
    bars.add_column(width=8)
    bars.add_column(ratio=1)
    bars.add_column(justify="right", no_wrap=True)
    for name, done, total in _bars(view):
        bars.add_row(name, _bar(done, total), f"{done:,}/{total:,}" if total else "")
    lines.append(bars)
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(no_wrap=True)
    for name, value in _facts(view, width):
        facts.add_row(name, Text(safe(value), no_wrap=True, overflow="ellipsis"))
    lines.append(facts)
    for at, kind, message in view.messages:
        stamp = time.strftime("%H:%M:%S", time.localtime(at))
        style = "yellow" if kind == "warning" else "dim"
        lines.append(Text(f"{stamp} {'! ' if kind == 'warning' else ''}{safe(message)}", style=style, overflow="ellipsis", no_wrap=True))
    return Panel(Group(*lines), title=Text(safe(view.directory.id)), title_align="left", border_style="blue", width=min(width, 120))


def _phases(view: View) -> Any:
    from rich.text import Text

    text = Text(no_wrap=True, overflow="ellipsis")
    for phase in PHASES:
        if phase == "features" and view.phase not in ("data", "backbone", "starting") and phase not in view.seen:
            continue
        if phase == view.phase:
            text.append(f"● {phase}  ", style="bold blue")
        elif phase in view.seen:
            text.append(f"✓ {phase}  ", style="green")
        else:
            text.append(f"○ {phase}  ", style="dim")
    return text


def _bars(view: View) -> list[tuple[str, int, int]]:
    if view.phase == "train" and view.step:
        step = view.step
        return [
            ("run", int(step["step"]), int(view.start.get("steps", 0))),
            ("epoch", int(step["epoch_step"]), int(step["epoch_steps"])),
        ]
    progress = view.status.get("progress") or {}
    return [("phase", int(progress.get("done", 0)), int(progress.get("total", 0)))]


def _bar(done: int, total: int) -> Any:
    from rich.progress_bar import ProgressBar

    return ProgressBar(total=max(total, 1), completed=min(done, max(total, 1)))


def _facts(view: View, width: int) -> list[tuple[str, str]]:
    facts = []
    room = max(10, min(60, width - 50))
    for split in ("train", "val"):
        if losses := view.losses[split]:
            facts.append((f"{split} loss", f"{losses[-1]:.4f}  {sparkline(losses, room)}"))
    if view.step and not view.losses["train"]:
        facts.append(("train loss", f"{view.step['loss']:.4f}"))
    name = chosen_metric(view)
    if val := view.epoch.get("val"):
        value = value_text(name, val.get(name))
        best = view.best.get("value")
        facts.append((f"val {name}", f"{value}  best {value_text(name, best)} in epoch {view.best.get('epoch')}" if best is not None else value))
        other = "accuracy" if "accuracy" in val else "r2"
        if other != name:
            facts.append((f"val {other}", value_text(other, val.get(other))))
    elapsed = duration(time.time() - view.began)
    if view.phase == "train" and view.step:
        eta = view.status.get("eta")
        facts.append(("rate", f"{view.step['rate']:,.1f} rows/s  lr {view.step['learning_rate']:.2e}"))
        facts.append(("time", f"{elapsed}  at most {duration(eta)} to go" if eta is not None else elapsed))
    else:
        facts.append(("time", elapsed))
    if memory := view.step.get("memory"):
        gpu = f"  GPU {memory['device_gib']:.1f} of {memory['device_total_gib']:.1f} GiB" if "device_gib" in memory else ""
        facts.append(("memory", f"{memory['process_gib']:.1f} GiB{gpu}"))
    return facts


def sparkline(values: list[float], width: int) -> str:
    """A row of blocks, the last `width` values between their lowest and highest."""
    shown = values[-width:]
    low, high = min(shown), max(shown)
    return "".join(SPARKS[round((value - low) / ((high - low) or 1) * (len(SPARKS) - 1))] for value in shown)


def duration(seconds: float) -> str:
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
