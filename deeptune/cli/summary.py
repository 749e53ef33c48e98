"""What is printed when the work is done: metrics, the worst classes, the paths and what to try next."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeptune.cli.console import console, safe, say
from deeptune.report.tables import CLASS_HEADER, class_rows, metric_rows
from deeptune.runs import RunDirectory
from deeptune.runs.files import read_json

if TYPE_CHECKING:
    from rich.table import Table

WORST = 5


def metrics_table(metrics: dict[str, Any], *, title: str) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(safe(title), style="bold"), title_justify="left", box=None, show_header=False, pad_edge=False)
    table.add_column(style="cyan")
    table.add_column(justify="right", style="bold")
    for name, value in metric_rows(metrics):
        table.add_row(name, value)
    table.add_row("Rows", f"{metrics['n']:,}")
    return table


def worst_classes_table(metrics: dict[str, Any]) -> Table | None:
    """The classes with the lowest F1; None for regression."""
    from rich.table import Table
    from rich.text import Text

    rows = class_rows(metrics, WORST)
    if not rows:
        return None
    table = Table(title=Text("Weakest classes", style="bold"), title_justify="left", box=None, pad_edge=False, header_style="dim")
    for number, name in enumerate(CLASS_HEADER):
        table.add_column(name, justify="left" if number == 0 else "right", no_wrap=number > 0)
    for row in rows:
        table.add_row(*row)
    return table


def print_summary(run: RunDirectory) -> None:
    """The end of a finished run."""
    result, metrics = read_json(run.result), read_json(run.metrics)
    out = console()
    out.print()
    best = result["best"]
    value = "" if best["value"] is None else f", {best['metric']} {best['value']:.4g}"
    say(f"done in {result['seconds']:.0f} s: best epoch {best['epoch']} of {result['epochs']}{value}")
    if "test" in metrics:
        out.print()
        out.print(metrics_table(metrics["test"], title="Test metrics"))
        if (worst := worst_classes_table(metrics["test"])) is not None:
            out.print()
            out.print(worst)
    if result["skipped"]:
        say(f"\n{len(result['skipped']):,} bad samples ({result['on_bad_sample']}); listed in {_short(run.result)}")
    say()
    for name, path in (("report", run.report), ("predictions", run.predictions), ("checkpoint", run.best), ("all files", run.path)):
        if path.exists():
            say(f"{name:12} {_short(path)}")
    for split in ("train", "val", "test"):
        if run.embeddings(split).exists():
            say(f"{'embeddings':12} {_short(run.embeddings(split).parent)}")
            break
    say("\nnext:")
    where = _short(run.path)
    say(f"  deeptune predict {where} --data NEW.parquet --output predictions.parquet")
    say(f"  deeptune evaluate {where} --data LABELLED.parquet")
    say(f"  deeptune embed {where} --data NEW.parquet --output embeddings.parquet")


def _short(path: Path) -> str:
    """Relative to where we are when that is shorter."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)


def print_plan(facts: dict[str, Any]) -> None:
    """What `--dry-run` found."""
    from rich.table import Table
    from rich.text import Text

    out = console()
    rows, parameters, columns = facts["rows"], facts["parameters"], facts["columns"]
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    group = f", group {columns['group']!r}" if columns["group"] else ""
    share = parameters["trainable"] / max(parameters["total"], 1)
    size = "px" if facts["modality"] == "image" else "tokens"
    backbone = facts["backbone"]
    for name, value in (
        ("run", facts["name"]),
        ("task", f"{facts['task']} of {facts['modality']}"),
        ("columns", f"input {columns['input']!r}, label {columns['label']!r}{group}"),
        ("rows", f"train {rows['train']:,}, val {rows['val']:,}, test {rows['test']:,}"),
        ("bad samples", f"{facts['bad_samples']:,}"),
        ("backbone", f"{backbone['name']}, {backbone['weights']} weights, {backbone['input_size']} {size}, pooling {backbone['pooling']}"),
        ("head", " → ".join(str(width) for width in facts["head"])),
        ("method", facts["method"]),
        ("parameters", f"{parameters['trainable']:,} of {parameters['total']:,} learn ({share:.2%})"),
        ("device", f"{facts['device']['name']}, {facts['device']['precision']} ({facts['device']['reason']})"),
        ("steps", f"{facts['steps']:,} in {facts['epochs']} epochs, effective batch size {facts['effective_batch_size']}"),
    ):
        table.add_row(name, Text(safe(value)))
    out.print(table)
    if classes := facts["labels"].get("classes"):
        counts = Table(box=None, pad_edge=False, header_style="dim")
        counts.add_column("class")
        for split in ("train", "val", "test"):
            counts.add_column(split, justify="right")
        for entry in classes[:30]:
            counts.add_row(safe(entry["class"]), *(f"{entry[split]:,}" for split in ("train", "val", "test")))
        out.print()
        out.print(counts)
        if len(classes) > 30:
            say(f"and {len(classes) - 30:,} more classes")
    else:
        say(f"\nlabel: mean {facts['labels']['mean']:.4g}, standard deviation {facts['labels']['std']:.4g} on train")
    for warning in facts["warnings"]:
        say(f"warning: {warning}")
    say("\nEvery key, resolved (a spec that gives this very run):\n")
    say(facts["spec"].rstrip())
