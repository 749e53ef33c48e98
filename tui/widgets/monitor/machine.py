"""The machine that a run is on: memory, processor and devices, each with its recent past."""

from __future__ import annotations

import math
from collections.abc import Sequence

from deeptune.show.chart import Look, Row, spark
from deeptune.show.history import GPU_VALUES
from deeptune.show.view import View
from tui.widgets.lines import Lines


class Machine(Lines):
    """One line for each thing that is measured: what it is now, and a sparkline of how it was."""

    _told: tuple[View, Look] | None = None

    def tell(self, view: View, look: Look) -> None:
        self._told = view, look
        self.show(machine_rows(view, self.size.width or 80, look))

    def on_resize(self) -> None:
        if self._told is not None:
            self.tell(*self._told)


def devices(view: View) -> list[int]:
    """The numbers of the GPUs that were measured."""
    names = view.history.samples.values
    return sorted({int(name[3:].split("/")[0]) for name in names if name.startswith("gpu")})


def machine_rows(view: View, width: int, look: Look) -> list[Row]:
    values = view.history.samples.values
    steps = view.history.steps.values
    rows: list[Row] = []
    if rate := _last(steps.get("rate")):
        rows.append(_row("rate", f"{rate:,.1f} rows/s", steps["rate"], 0.0, None, width, look, "rate"))
    if (waiting := _last(steps.get("waiting"))) is not None:
        rows.append(_row("waiting", f"{waiting:.0%} for data", steps["waiting"], 0.0, 1.0, width, look, "third"))
    if (used := _last(values.get("process_gib"))) is not None:
        free = _last(values.get("free_gib")) or 0.0
        text = f"{used:.1f} GiB, {free:.1f} free"
        rows.append(_row("memory", text, values["process_gib"], 0.0, used + free, width, look, "first"))
    if (busy := _last(values.get("cpu_percent"))) is not None:
        rows.append(_row("CPU", f"{busy:.0f}% of a core", values["cpu_percent"], 0.0, None, width, look, "second"))
    for number in devices(view):
        now = [_last(values.get(f"gpu{number}/{name}")) for name in GPU_VALUES]
        if any(value is None for value in now):
            continue
        use, heat, used, total = (value or 0.0 for value in now)
        for name, text, key, high in (
            (f"GPU {number}", f"{use:.0f}% busy", "utilisation", 100.0),
            ("", f"{used:.1f} of {total:.1f} GiB", "memory_gib", total),
            ("", f"{heat:.0f} °C", "temperature", 100.0),
        ):
            rows.append(_row(name, text, values[f"gpu{number}/{key}"], 0.0, high, width, look, "busy"))
    return rows or [[("the machine has not been measured yet", "label")]]


def _row(
    name: str, text: str, past: Sequence[float], low: float, high: float | None, width: int, look: Look, style: str
) -> Row:
    row: Row = [(f"{name:<8}", "label"), (f"{text:<22}", "value")]
    room = min(width - 31, 60)
    if room < 5:
        return row
    shown = past[-room:]
    top = high if high is not None else max((value for value in shown if math.isfinite(value)), default=1.0)
    return [*row, (" ", ""), (spark(shown, room, low, top, look), style)]


def _last(values: Sequence[float] | None) -> float | None:
    """The newest value, when it is a number."""
    return values[-1] if values and math.isfinite(values[-1]) else None
