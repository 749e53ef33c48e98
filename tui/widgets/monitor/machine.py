"""The machine of a run: memory, processor and devices, each with its recent values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from deeptune.show.chart import ChartGlyphs, Row, spark
from deeptune.show.history import GPU_VALUES
from deeptune.show.view import View, gpu_values
from tui.widgets.styled_lines import Lines


class Machine(Lines):
    """Shows a line for each measured value: the current one, and a sparkline of the recent ones."""

    _shown: tuple[View, ChartGlyphs] | None = None

    def tell(self, view: View, glyphs: ChartGlyphs) -> None:
        self._shown = view, glyphs
        self.show(machine_rows(view, self.size.width or 80, glyphs))

    def on_resize(self) -> None:
        if self._shown is not None:
            self.tell(*self._shown)


def devices(view: View) -> list[int]:
    """Return the numbers of the GPUs that were measured."""
    names = view.history.samples.values
    return sorted({int(name[3:].split("/")[0]) for name in names if name.startswith("gpu")})


@dataclass(frozen=True)
class Measured:
    """A value of the machine over time. `high` is the top of its range; None means the greatest value shown."""

    name: str
    text: str
    past: Sequence[float]
    high: float | None
    style: str


def machine_rows(view: View, width: int, glyphs: ChartGlyphs) -> list[Row]:
    """Draw a line for each measured value of the machine: name, newest value, recent values."""
    rows = [_row(measured, width, glyphs) for measured in _measured(view)]
    return rows or [[("the machine has not been measured yet", "label")]]


def _measured(view: View) -> Iterator[Measured]:
    values = view.history.samples.values
    steps = view.history.steps.values
    if rate := _last(steps.get("rate")):
        yield Measured("rate", f"{rate:,.1f} rows/s", steps["rate"], None, "rate")
    if (waiting := _last(steps.get("waiting"))) is not None:
        yield Measured("waiting", f"{waiting:.0%} for data", steps["waiting"], 1.0, "third")
    if (used := _last(values.get("process_gib"))) is not None:
        free = _last(values.get("free_gib")) or 0.0
        yield Measured("memory", f"{used:.1f} GiB, {free:.1f} free", values["process_gib"], used + free, "first")
    if (busy := _last(values.get("cpu_percent"))) is not None:
        yield Measured("CPU", f"{busy:.0f}% of a core", values["cpu_percent"], None, "second")
    for number in devices(view):
        past = {name: values.get(f"gpu{number}/{name}", ()) for name in GPU_VALUES}
        title = f"GPU {number}"
        for name, text, high in gpu_values({name: _last(column) for name, column in past.items()}):
            yield Measured(title, text + (" busy" if name == "utilisation" else ""), past[name], high, "busy")
            title = ""


def _row(measured: Measured, width: int, glyphs: ChartGlyphs) -> Row:
    row: Row = [(f"{measured.name:<8}", "label"), (f"{measured.text:<22}", "value")]
    room = min(width - 31, 60)
    if room < 5:
        return row
    shown = measured.past[-room:]
    finite = (value for value in shown if math.isfinite(value))
    high = measured.high if measured.high is not None else max(finite, default=1.0)
    return [*row, (" ", ""), (spark(shown, room, 0.0, high, glyphs), measured.style)]


def _last(values: Sequence[float] | None) -> float | None:
    """Return the newest value, if it is a number."""
    return values[-1] if values and math.isfinite(values[-1]) else None
