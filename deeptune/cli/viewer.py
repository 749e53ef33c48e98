"""Watch a run directory: a dashboard in a terminal, a plain line now and then elsewhere.

A viewer only reads files. It is the same whether the run is in this process, in another, or long over.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deeptune.cli.console import safe
from deeptune.report.tables import share_text, value_text
from deeptune.runs import RunDirectory
from deeptune.runs.events import EventReader

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

REFRESHES_PER_SECOND = 4
PLAIN_INTERVAL = 5.0  # seconds between plain progress lines
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
PHASES_WIDTH = 73  # columns that all phases take in the panel
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
            self.began = min(self.began, float(event.get("started") or event["t"]))
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
        with suppress(OSError, ValueError):  # not there yet: the last one known stays
            self.status = json.loads(self.directory.status.read_text(encoding="utf-8"))


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
    spoke, held = 0.0, ""

    def tell(event: dict[str, Any]) -> None:
        nonlocal spoke, held
        view.take(event)
        line = plain_line(view, event)
        now = time.monotonic()
        if not line:
            return
        # Progress is told now and then; what happens once is always told, after the last progress before it.
        if event["kind"] in ("step", "epoch"):
            if now - spoke < PLAIN_INTERVAL:
                held = line if event["kind"] == "epoch" else held
                return
            spoke = now
        elif held:
            out.print(safe(held), soft_wrap=True)
        held = ""
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
        return f"{stamp} " + "; ".join(f"{name} {value}" for name, value in start_facts(event))
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


def start_facts(event: dict[str, Any]) -> list[tuple[str, str]]:
    """What is trained, on what and where, by name."""
    parameters, rows = event["parameters"], event["rows"]
    share = share_text(parameters["trainable"], parameters["total"])
    return [
        ("model", f"{event['backbone']} ({event['weights']} weights)"),
        (
            "method",
            f"{event['method']}: {parameters['trainable']:,} of {parameters['total']:,} parameters learn ({share})",
        ),
        ("rows", f"train {rows['train']:,}, val {rows['val']:,}, test {rows['test']:,}"),
        ("device", f"{event['device']} ({event['device_reason']})"),
    ]


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

    lines: list[RenderableType] = [_phases(view, width)]
    start = start_facts(view.start) if view.start else []
    facts = _facts(view, width)
    bars = _bars(view)
    names = max(10, *(len(name) for name, *_ in (*start, *facts)), *(len(name) for name, *_ in bars))
    if start:
        lines.append(_table(start, names, style="dim"))
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(min_width=names, style="dim")
    table.add_column(ratio=1)
    table.add_column(justify="right", no_wrap=True)
    for name, done, total in bars:
        table.add_row(name, _bar(done, total), f"{done:,}/{total:,}")
    lines.append(table if bars else Text(PHASE_WORDS.get(view.phase, view.phase) + " …"))
    lines.append(_table(facts, names))
    for at, kind, message in view.messages:
        stamp = time.strftime("%H:%M:%S", time.localtime(at))
        style = "yellow" if kind == "warning" else "dim"
        lines.append(
            Text(
                f"{stamp} {'! ' if kind == 'warning' else ''}{safe(message)}",
                style=style,
                overflow="ellipsis",
                no_wrap=True,
            )
        )
    return Panel(
        Group(*lines),
        title=Text(safe(view.directory.id)),
        title_align="left",
        border_style="blue",
        width=min(width, 120),
    )


def _table(facts: list[tuple[str, str]], names: int, *, style: str = "") -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim", no_wrap=True, min_width=names)
    table.add_column(style=style, no_wrap=True)
    for name, value in facts:
        table.add_row(name, Text(safe(value), no_wrap=True, overflow="ellipsis"))
    return table


def _phases(view: View, width: int) -> Text:
    from rich.text import Text

    if width < PHASES_WIDTH:
        at = f" ({PHASES.index(view.phase) + 1} of {len(PHASES)})" if view.phase in PHASES else ""
        return Text(f"● {view.phase}{at}", style="bold blue")
    text = Text()
    for phase in PHASES:
        if phase == "features" and view.phase not in ("data", "backbone", "starting") and phase not in view.seen:
            continue
        if phase == view.phase:
            text.append(f"● {phase} ", style="bold blue")
        elif phase in view.seen:
            text.append(f"✓ {phase} ", style="green")
        else:
            text.append(f"○ {phase} ", style="dim")
    return text


def _bars(view: View) -> list[tuple[str, int, int]]:
    if view.phase == "train" and view.step:
        step = view.step
        return [
            ("run", int(step["step"]), int(view.start.get("steps", 0))),
            ("epoch", int(step["epoch_step"]), int(step["epoch_steps"])),
        ]
    progress = view.status.get("progress") or {}
    return [(view.phase, int(progress["done"]), int(progress["total"]))] if progress.get("total") else []


def _bar(done: int, total: int) -> Any:
    from rich.progress_bar import ProgressBar

    return ProgressBar(total=max(total, 1), completed=min(done, max(total, 1)))


def _facts(view: View, width: int) -> list[tuple[str, str]]:
    facts = []
    room = max(10, min(60, width - 50))
    name = chosen_metric(view)
    best = view.best.get("value")
    best_text = "" if best is None else f"best {value_text(name, best)} in epoch {view.best.get('epoch')}"
    if losses := view.losses["train"]:
        facts.append(("train loss", f"{value_text('loss', losses[-1])}  {sparkline(losses, room)}"))
    elif view.step:
        facts.append(("train loss", value_text("loss", view.step["loss"])))
    if losses := view.losses["val"]:
        shown = f"  {best_text}" if name == "loss" and best_text else ""
        facts.append(("val loss", f"{value_text('loss', losses[-1])}  {sparkline(losses, room)}{shown}"))
    if val := view.epoch.get("val"):
        if name != "loss":
            facts.append((name, f"{value_text(name, val.get(name))}  {best_text}".rstrip()))
        other = "accuracy" if "accuracy" in val else "r2"
        if other != name:
            facts.append((other, value_text(other, val.get(other))))
    elapsed = duration(time.time() - view.began)
    if view.phase == "train" and view.step:
        eta = view.status.get("eta")
        facts.append(("rate", f"{view.step['rate']:,.1f} rows/s  lr {view.step['learning_rate']:.2e}"))
        facts.append(("time", f"{elapsed}  at most {duration(eta)} to go" if eta is not None else elapsed))
    else:
        facts.append(("time", elapsed))
    if memory := view.step.get("memory"):
        gpu = (
            f"  GPU {memory['device_gib']:.1f} of {memory['device_total_gib']:.1f} GiB"
            if "device_gib" in memory
            else ""
        )
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
