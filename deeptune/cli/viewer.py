"""Watch a run directory: a dashboard in a terminal, a plain line now and then elsewhere.

A viewer only reads files. It is the same whether the run is in this process, in another, or long over.
"""

from __future__ import annotations

import errno
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deeptune.cli.console import TERMINAL_GONE, can_write, forget, is_gone, safe
from deeptune.report.tables import share_text, value_text
from deeptune.runs import RunDirectory, RunState, run_state
from deeptune.runs.events import EventReader, well_formed
from deeptune.runs.state import SYMBOLS

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

INTERVAL = 0.25  # seconds between looks at the files
PLAIN_INTERVAL = 5.0  # seconds between plain progress lines
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
GPU_KEYS = ("utilisation", "temperature", "memory_gib", "total_gib")
PHASES_WIDTH = 73  # columns that all phases take in the panel
SPARKS = "▁▂▃▄▅▆▇█"


class TerminalClosed(Exception):
    """What was drawn on has gone away: there is nobody left to show anything to."""


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
        if (text := _message(event)) is not None:
            self.messages.append((event["t"], "warning" if kind == "warning" else "message", text))
        self.last = event["t"]
        return True

    def look(self) -> None:
        self.state = run_state(self.directory)

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


def _message(event: dict[str, Any]) -> str | None:
    """The text of an event that has one for people."""
    kind = event["kind"]
    if kind in ("warning", "message"):
        return str(event["message"])
    if kind == "resume":
        return f"resumed after step {event['step']:,}, in epoch {event['epoch']}" if event["step"] else "started again"
    if kind == "stopping":
        return f"stopping after this step ({event['reason']})"
    return None


class Viewer:
    """Shows a run on `out`, one `refresh` at a time: a dashboard on a terminal, plain lines when `plain` or elsewhere.

    Raises TerminalClosed when `out` has gone away.
    """

    def __init__(self, directory: RunDirectory, out: Console, *, plain: bool) -> None:
        self.view, self.reader, self.out = View(directory), EventReader(directory.events), out
        self._lines = PlainLines(self.view, out) if plain or not out.is_terminal else None
        self._live: Any = None
        self._drawn = 0.0

    def __enter__(self) -> Viewer:
        self.resume()
        return self

    def __exit__(self, *details: object) -> None:
        with suppress(TerminalClosed):
            self.pause()

    def refresh(self) -> RunState:
        """Read what is new and show it; returns the run's state: when that is over, everything has been shown."""
        view, before = self.view, self.view.state
        view.look()  # before the events: after it is over nothing more is written
        events = [event for event in self.reader.poll() if view.take(event)] if self._lines is None else None
        with self._writing():
            if is_gone(self.out.file):
                raise BrokenPipeError(errno.EPIPE, "nobody is there")
            if self._lines is not None:
                self._lines.tell(self.reader)
            elif events or view.state != before or time.monotonic() - self._drawn >= 1:
                self._drawn = time.monotonic()
                self._live.update(dashboard(view, self.out.width), refresh=True)
        return view.state

    def note(self, text: str) -> None:
        """Say something of the viewer's own."""
        if self._lines is None:
            self.view.messages.append((time.time(), "message", text))
            self._drawn = 0.0
        else:
            with self._writing():
                self.out.print(safe(text), soft_wrap=True)

    def pause(self) -> None:
        """Leave the terminal to something else; after the end, clear the dashboard away."""
        if self._live is not None and can_write(self.out.file):
            with self._writing():
                self._live.stop()

    def resume(self) -> None:
        if self._lines is None:
            from rich.live import Live

            self._drawn = 0.0
            self._live = Live(
                console=self.out, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
            )
            with self._writing():
                self._live.start()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in TERMINAL_GONE:
                raise
            forget(self.out.file)
            raise TerminalClosed from None
        except SystemExit:  # what Rich makes of a pipe that nobody reads
            raise TerminalClosed from None


@contextmanager
def beside(directory: RunDirectory, out: Console, *, plain: bool) -> Iterator[None]:
    """Show the run in a thread while the block does it."""
    over = threading.Event()

    def work() -> None:
        with suppress(TerminalClosed), Viewer(directory, out, plain=plain) as viewer:
            while not over.wait(INTERVAL):
                viewer.refresh()
            viewer.refresh()

    thread = threading.Thread(target=work, name="viewer", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=5)  # a terminal that nobody reads holds up its viewer alone


class PlainLines:
    """One line for what happens once, and now and then one for progress."""

    def __init__(self, view: View, out: Console) -> None:
        self._view, self._out = view, out
        self._spoke, self._held, self._history = 0.0, "", True

    def tell(self, reader: EventReader) -> None:
        for event in reader.poll():
            if not self._view.take(event) or (self._history and event["kind"] == "step"):
                continue
            if line := plain_line(self._view, event):
                self._tell(event, line)
        self._history = False

    def _tell(self, event: dict[str, Any], line: str) -> None:
        # By the events' own time: what happened before anyone watched is told at the same pace.
        if event["kind"] in ("step", "epoch"):
            if abs(event["t"] - self._spoke) < PLAIN_INTERVAL:
                self._held = line if event["kind"] == "epoch" else self._held
                return
            self._spoke = event["t"]
        elif self._held:
            self._out.print(safe(self._held), soft_wrap=True)  # the last progress before it
        self._held = ""
        self._out.print(safe(line), soft_wrap=True)


def plain_line(view: View, event: dict[str, Any], *, stamp: str = "%H:%M:%S") -> str | None:
    """One line for an event that is worth one."""
    kind = event["kind"]
    if kind == "run":
        text: str | None = f"run {view.directory.path}"
    elif kind == "phase":
        text = PHASE_WORDS.get(event["phase"], event["phase"])
    elif kind == "start":
        text = "; ".join(f"{name} {value}" for name, value in start_facts(event))
    elif kind == "epoch":
        text = f"epoch {event['epoch']}/{event['epochs']}  {epoch_text(view, event)}"
    elif kind == "step" and event["epoch_step"] < event["epoch_steps"]:
        text = step_text(event)
    else:
        text = _message(event)
        text = f"warning: {text}" if kind == "warning" else text
    return None if text is None else f"{time.strftime(stamp, time.localtime(event['t']))} {text}"


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
            f"{event['method']}: {parameters['trainable']:,} of {parameters['total']:,} parameters learn ({share})",
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
        table.add_row(Text(safe(name)), _bar(done, total), f"{done:,}/{total:,}")
    lines.append(table if bars else Text(safe(PHASE_WORDS.get(view.phase, view.phase)) + " …"))
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
        subtitle=Text(_state_text(view)),
        subtitle_align="left",
        border_style="blue",
        width=min(width, 120),
    )


def _state_text(view: View) -> str:
    state, age = view.state, time.time() - view.last
    parts = [f"{SYMBOLS[state.word]} {state.word}"]
    if not state.over:
        if state.detail:
            parts.append(safe(state.detail))
        elif view.last and age > SILENT:
            parts.append(f"nothing new for {duration(age)}")
    return " · ".join(parts)


def _table(facts: list[tuple[str, str]], names: int, *, style: str = "") -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim", no_wrap=True, min_width=names)
    table.add_column(style=style, no_wrap=True)
    for name, value in facts:
        table.add_row(Text(safe(name)), Text(safe(value), no_wrap=True, overflow="ellipsis"))
    return table


def _phases(view: View, width: int) -> Text:
    from rich.text import Text

    if width < PHASES_WIDTH:
        at = f" ({PHASES.index(view.phase) + 1} of {len(PHASES)})" if view.phase in PHASES else ""
        return Text(f"● {safe(view.phase)}{at}", style="bold blue")
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
            ("run", step["step"], view.start.get("steps", 0)),
            ("epoch", step["epoch_step"], step["epoch_steps"]),
        ]
    progress = view.status.get("progress")
    return [(view.phase, progress["done"], progress["total"])] if progress and progress["total"] > 0 else []


def _bar(done: int, total: int) -> Any:
    from rich.progress_bar import ProgressBar

    return ProgressBar(total=max(total, 1), completed=min(done, max(total, 1)))


def _facts(view: View, width: int) -> list[tuple[str, str]]:
    facts = []
    room = max(10, min(60, width - 50))
    name = chosen_metric(view)
    best = view.best.get("value")
    best_text = "" if not _is_number(best) else f"best {value_text(name, best)} in epoch {view.best.get('epoch')}"
    if losses := view.losses("train"):
        facts.append(("train loss", f"{value_text('loss', losses[-1])}  {sparkline(losses, room)}"))
    elif view.step:
        facts.append(("train loss", value_text("loss", view.step["loss"])))
    if losses := view.losses("val"):
        shown = f"  {best_text}" if name == "loss" and best_text else ""
        facts.append(("val loss", f"{value_text('loss', losses[-1])}  {sparkline(losses, room)}{shown}"))
    if val := view.epoch.get("val"):
        if name != "loss":
            facts.append((name, f"{value_text(name, val.get(name))}  {best_text}".rstrip()))
        other = "accuracy" if "accuracy" in val else "r2"
        if other != name:
            facts.append((other, value_text(other, val.get(other))))
    elapsed = duration(view.elapsed(view.last if view.state.over else time.time()))
    if view.phase == "train" and view.step:
        eta = view.status.get("eta")
        facts.append(("rate", f"{view.step['rate'] or 0:,.1f} rows/s  lr {view.step['learning_rate'] or 0:.2e}"))
        facts.append(("time", f"{elapsed}  at most {duration(eta)} to go" if eta is not None else elapsed))
    else:
        facts.append(("time", elapsed))
    if memory := memory_text(view):
        facts.append(("memory", memory))
    for number, gpu in enumerate(gpu_texts(view.sample)):
        facts.append((f"GPU {number}", gpu))
    if view.stored:
        age = f", {duration(time.time() - view.stored['t'])} ago" if not view.state.over else ""
        facts.append(("checkpoint", f"step {view.stored.get('step')}{age}"))
    return facts


def memory_text(view: View) -> str:
    """The memory of the run's processes and what is free, by the last sample, or else by the last step."""
    if view.sample:
        return f"{view.sample['process_gib'] or 0:.1f} GiB, {view.sample['free_gib'] or 0:.1f} GiB free"
    used = (view.step.get("memory") or {}).get("process_gib") if isinstance(view.step.get("memory"), dict) else None
    return f"{used:.1f} GiB" if _is_number(used) else ""


def gpu_texts(sample: dict[str, Any]) -> list[str]:
    """What each GPU does, by a sample."""
    texts = []
    for gpu in sample.get("gpus") or []:
        if isinstance(gpu, dict) and all(_is_number(gpu.get(key)) for key in GPU_KEYS):
            use, heat, used, total = (gpu[key] for key in GPU_KEYS)
            texts.append(f"{use:.0f}%  {heat:.0f} °C  {used:.1f} of {total:.1f} GiB")
    return texts


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def sparkline(values: list[float], width: int) -> str:
    """A row of blocks, the last `width` values between their lowest and highest."""
    shown = values[-width:]
    low, high = min(shown), max(shown)
    return "".join(SPARKS[round((value - low) / ((high - low) or 1) * (len(SPARKS) - 1))] for value in shown)


def duration(seconds: float) -> str:
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def ago(seconds: float) -> str:
    """An age in its largest unit: `12 s`, `5 min`, `3 h`, `2 d`."""
    seconds = max(0, int(seconds))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
