"""The picture of a run at a moment, as Rich draws it: phases, progress, losses, what was said."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from deeptune.formatting import duration, mean_text, safe
from deeptune.report.tables import sentence_title, value_text
from deeptune.runs.state import SYMBOLS
from deeptune.show.chart import ChartGlyphs, draw, spark
from deeptune.show.curves import Setting, loss_chart
from deeptune.show.view import (
    PHASE_WORDS,
    SILENT,
    View,
    chosen_metric,
    curve_metric,
    gpu_texts,
    memory_text,
    start_facts,
)

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

WIDEST = 120  # columns of the panel
PANEL_SIDES = 4  # columns of its border and padding
MIN_CHART, MAX_CHART = 8, 16  # rows of the chart of losses
OTHER_LINES = 24  # lines of the panel besides the chart, at most
CHART_STYLES = {
    "label": "dim", "axis": "dim", "title": "bold", "train": "blue", "train-raw": "bright_black", "val": "yellow",
    "mark": "bold yellow",
}  # fmt: skip


def dashboard(view: View, width: int, height: int = 24, *, utf8: bool = True) -> RenderableType:
    """Return the picture of a run at this moment, for a terminal of that size.

    With a chart of its losses in a tall one.
    """
    from rich.console import Group
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    lines: list[RenderableType] = [_phases(view, width)]
    start = start_facts(view.start) if view.start else []
    glyphs = ChartGlyphs(ascii=not utf8)
    curves = _curves(view, min(width, WIDEST) - PANEL_SIDES, height - OTHER_LINES, glyphs)
    facts = _facts(view, width, glyphs, sparks=not curves)
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
    lines += curves
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
        width=min(width, WIDEST),
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

    phases = view.phases()
    text = Text()
    for phase in phases:
        if phase == view.phase:
            text.append(f"● {phase} ", style="bold blue")
        elif phase in view.seen:
            text.append(f"✓ {phase} ", style="green")
        else:
            text.append(f"○ {phase} ", style="dim")
    if text.cell_len - 1 <= width - PANEL_SIDES:
        return text
    at = f" ({phases.index(view.phase) + 1} of {len(phases)})" if view.phase in phases else ""
    return Text(f"● {safe(view.phase)}{at}", style="bold blue")


def _bars(view: View) -> list[tuple[str, int, int]]:
    if view.phase == "train" and view.step:
        step = view.step
        return [
            ("run", step.step, view.start.steps if view.start else 0),
            ("epoch", step.epoch_step, step.epoch_steps),
        ]
    progress = view.status.get("progress")
    return [(view.phase, progress["done"], progress["total"])] if progress and progress["total"] > 0 else []


def _bar(done: int, total: int) -> Any:
    from rich.progress_bar import ProgressBar

    return ProgressBar(total=max(total, 1), completed=min(done, max(total, 1)))


def _curves(view: View, width: int, height: int, glyphs: ChartGlyphs) -> list[RenderableType]:
    """Return the rows of the chart of losses, where there is room and something to draw."""
    from rich.text import Text

    if height < MIN_CHART or len(view.history.steps) < 2:
        return []
    drawing = draw(loss_chart(view, Setting()), width, min(height, MAX_CHART), glyphs)
    return [Text.assemble(*((text, CHART_STYLES.get(style, "")) for text, style in row)) for row in drawing.rows]


def _losses(losses: list[float], room: int, glyphs: ChartGlyphs) -> str:
    """Return the last loss, and a sparkline of all where there is no chart (room is 0 where there is)."""
    return f"{value_text('loss', losses[-1])}  {spark(losses, room, min(losses), max(losses), glyphs)}".rstrip()


def _to_go(view: View) -> str:
    """Return the time to go; of training at most, as it may stop early."""
    left = None if view.state.over else view.to_go(time.time())
    return "" if left is None else f"{'at most' if view.phase == 'train' else 'about'} {duration(left)} to go"


def _facts(view: View, width: int, glyphs: ChartGlyphs, *, sparks: bool) -> list[tuple[str, str]]:
    facts = []
    room = max(10, min(60, width - 50)) if sparks else 0
    name = chosen_metric(view)
    best = view.best
    known = best is not None and best.value is not None
    place = f"in epoch {best.epoch}" if best and best.epoch else "of the head"
    if best and best.mean:
        place = f"of {mean_text(best.content())}"
    best_text = f"best {value_text(name, best.value)} {place}" if best and known else ""
    if losses := view.losses("train"):
        facts.append(("train loss", _losses(losses, room, glyphs)))
    elif view.step:
        facts.append(("train loss", value_text("loss", view.step.loss)))
    if losses := view.losses("val"):
        shown = f"  {best_text}" if name == "loss" and best_text else ""
        facts.append(("val loss", f"{_losses(losses, room, glyphs)}{shown}"))
    if val := view.val:
        if name != "loss":
            facts.append((sentence_title(name), f"{value_text(name, val.get(name))}  {best_text}".rstrip()))
        other = curve_metric(val)
        if other not in (name, None):
            facts.append((sentence_title(other), value_text(other, val.get(other))))
    elapsed = duration(view.elapsed(view.last if view.state.over else time.time()))
    if view.phase == "train" and view.step:
        rate = "" if view.step.learning_rate is None else f"  lr {view.step.learning_rate:.2e}"
        facts.append(("rate", f"{view.step.rate or 0:,.1f} rows/s{rate}"))
    facts.append(("time", f"{elapsed}  {_to_go(view)}".rstrip()))
    if memory := memory_text(view):
        facts.append(("memory", memory))
    for number, gpu in enumerate(gpu_texts(view.sample)):
        facts.append((f"GPU {number}", gpu))
    if view.stored:
        age = f", {duration(time.time() - view.stored.t)} ago" if not view.state.over else ""
        facts.append(("checkpoint", f"step {view.stored.step}{age}"))
    return facts
