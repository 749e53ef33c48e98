"""A run as HTML for a notebook: the terminal's dashboard while it runs, its metrics and files when it is done."""

from __future__ import annotations

import html
import io
from pathlib import Path
from typing import Any

from deeptune.api.svg import chart_svg
from deeptune.environment import short_path
from deeptune.formatting import counted, mean_text, safe
from deeptune.report.doubts import part_of_val
from deeptune.report.tables import metric_rows
from deeptune.runs import RunDirectory
from deeptune.runs.files import read_json
from deeptune.runs.state import SYMBOLS
from deeptune.show.curves import Setting, loss_chart
from deeptune.show.dashboard import dashboard
from deeptune.show.view import View

WIDTH, HEIGHT = 100, 24  # characters of the dashboard: too few rows for its own chart
# Boxes are drawn with characters: lines without a gap, and colours of their own on any background.
PRE = (
    '<pre style="font-family:Menlo,Consolas,DejaVu Sans Mono,monospace;font-size:12px;line-height:1.25;'
    'white-space:pre;overflow-x:auto;margin:0">{code}</pre>'
)
# Background, text, then black, red, green, yellow, blue, magenta, cyan and white: readable on white and on black.
COLOURS = (
    (128, 128, 128),
    (128, 128, 128),
    [
        (150, 150, 150), (200, 60, 60), (50, 150, 70), (180, 130, 20), (60, 130, 210), (170, 80, 170), (40, 150, 160),
        (128, 128, 128),
    ],
)  # fmt: skip
TABLE = "border-collapse:collapse;margin:0.5em 0"
CELL = "padding:0.15em 1.2em 0.15em 0;border:none"


def run_html(view: View) -> str:
    """Return the picture of a run at the moment that `view` has seen."""
    if view.state.word == "done":
        return done_html(view.directory)
    return _dashboard(view)


def done_html(run: RunDirectory) -> str:
    """Return the end of a finished run: metrics beside those of a constant prediction, and where its files are."""
    result, metrics = read_json(run.result), read_json(run.metrics)
    split = "test" if "test" in metrics else "val"
    parts = [f"<b>{_text(SYMBOLS['done'])} {_text(run.id)}</b>"]
    best = result.get("best") or {}
    if best.get("value") is not None:
        model = mean_text(best) or f"best epoch {best['epoch']}"
        parts.append(
            f"<div>{model} of {result['epochs']}, {_text(best['metric'])} "
            f"{best['value']:.4g}; {result['seconds']:.0f} s</div>"
        )
    if said := (result.get("choice") or {}).get("said"):
        parts.append(f"<div>{_text(said)}</div>")
    if split in metrics:
        parts.append(
            _metrics(metrics[split], "Test" if split == "test" else f"Val ({part_of_val(metrics[split], best)})")
        )
    files = {"report": run.report, "predictions": run.predictions, "checkpoint": run.best, "all files": run.path}
    rows = [(name, _text(short_path(path))) for name, path in files.items() if path.exists()]
    parts.append(_table([(name, f"<code>{path}</code>") for name, path in rows]))
    return "\n".join(parts)


def _metrics(metrics: dict[str, Any], title: str) -> str:
    constant = dict(metric_rows(metrics.get("baseline") or {}))
    rows = [
        (_text(name), f"<b>{_text(value)}</b>", f"baseline {_text(constant[name])}" if name in constant else "")
        for name, value in metric_rows(metrics)
    ]
    return _table([(_text(title), counted(metrics["n"], "row"), ""), *rows])


def _table(rows: list[tuple[str, ...]]) -> str:
    lines = ["".join(f'<td style="{CELL};text-align:left">{cell}</td>' for cell in row) for row in rows]
    return f'<table style="{TABLE}">' + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _dashboard(view: View) -> str:
    from rich.console import Console
    from rich.terminal_theme import TerminalTheme
    from rich.theme import Theme

    out = Console(
        record=True, file=io.StringIO(), width=WIDTH, height=HEIGHT, force_terminal=True, force_jupyter=False,
        color_system="standard", legacy_windows=False, theme=Theme({"bar.back": "bright_white"}),
    )  # fmt: skip
    out.print(dashboard(view, WIDTH, HEIGHT))
    theme = TerminalTheme(*COLOURS)
    return out.export_html(inline_styles=True, code_format=PRE, theme=theme) + chart_svg(loss_chart(view, Setting()))


def _text(value: str | Path) -> str:
    return html.escape(safe(value))
