"""The summary of a finished run: metrics, the worst classes, the paths and what to do next."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from deeptune.environment import short_path
from deeptune.formatting import mean_text
from deeptune.report.doubts import doubts, part_of_val
from deeptune.report.tables import CLASS_HEADER, class_rows, metric_rows, share_text
from deeptune.runs import RunDirectory, read_events
from deeptune.runs.events import WarningEvent
from deeptune.runs.files import read_json
from deeptune.show.console import console, safe, say
from deeptune.spec.modalities import MODALITIES, ModalityInfo, columns_of

if TYPE_CHECKING:
    from rich.table import Table

WORST = 5
WARNINGS_SHOWN = 5
CLASSES_SHOWN = 30


def metrics_table(metrics: dict[str, Any], *, title: str) -> Table:
    """Build a table of a split's metrics, beside those of a constant prediction if the run has stored them."""
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(safe(title), style="bold"), title_justify="left", box=None, show_header=False, pad_edge=False
    )
    table.add_column(style="cyan", overflow="fold")
    table.add_column(justify="right", style="bold", no_wrap=True)
    table.add_column(justify="right", style="dim", no_wrap=True)
    constant = dict(metric_rows(metrics.get("baseline") or {}))
    for name, value in metric_rows(metrics):
        table.add_row(name, value, f"baseline {constant[name]}" if name in constant else "")
    table.add_row("Rows", f"{metrics['n']:,}")
    return table


def worst_classes_table(metrics: dict[str, Any]) -> Table | None:
    """Build a table of the classes with the lowest F1; None for regression."""
    from rich.table import Table
    from rich.text import Text

    rows = class_rows(metrics, WORST)
    if not rows:
        return None
    table = Table(
        title=Text("Weakest classes", style="bold"), title_justify="left", box=None, pad_edge=False, header_style="dim"
    )
    for number, name in enumerate(CLASS_HEADER):
        table.add_column(
            name,
            justify="left" if number == 0 else "right",
            no_wrap=number > 0,
            min_width=8 if number == 0 else None,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*row)
    return table


def print_summary(run: RunDirectory) -> None:
    """Print how a finished run ended: its metrics, warnings and files, and what to do next."""
    result, metrics = read_json(run.result), read_json(run.metrics)
    console().print()
    best = result["best"]
    value = "" if best["value"] is None else f", {best['metric']} {best['value']:.4g}"
    if "out_of_fold" in metrics.get("val", {}):
        say(f"done in {result['seconds']:.0f} s: {best['epoch']} epochs, as cross-validation chose{value} out of fold")
    else:
        model = mean_text(best) or f"best epoch {best['epoch']}"
        say(f"done in {result['seconds']:.0f} s: {model} of {result['epochs']}{value}")
    if said := (result.get("choice") or {}).get("said"):
        say(said)
    split = "test" if "test" in metrics else "val"
    for doubt in doubts(split, metrics.get(split, {}), result):
        say(f"warning: {doubt}")
    if split in metrics:
        _print_metrics(split, metrics[split], best)
    _print_warnings(run, result)
    if result["skipped"]:
        count = len(result["skipped"])
        what = "sample was" if count == 1 else "samples were"
        done = "left out" if result["on_bad_sample"] == "skip" else "left out or replaced by an empty one"
        say(f"\n{count:,} bad {what} {done}: see `skipped` in {short_path(run.result)}")
    _print_files(run)
    say("\nnext:")
    where = shlex.quote(short_path(run.path))
    say(f"  deeptune predict {where} --data NEW.parquet -o predictions.parquet")
    say(f"  deeptune evaluate {where} --data LABELLED.parquet")
    say(f"  deeptune embed {where} --data NEW.parquet -o embeddings.parquet")


def _folds(facts: dict[str, Any]) -> str:
    if facts["folds"] is None:
        return ""
    return f", by {facts['folds']} folds of train and val, then trained on all of these rows"


def _print_metrics(split: str, metrics: dict[str, Any], best: dict[str, Any]) -> None:
    out = console()
    out.print()
    title = "Test metrics" if split == "test" else f"Val metrics ({part_of_val(metrics, best)})"
    if split == "val" and "out_of_fold" in metrics:
        title = "Out-of-fold metrics of the training rows"
    out.print(metrics_table(metrics, title=title))
    if (worst := worst_classes_table(metrics)) is not None:
        out.print()
        out.print(worst)
    if notes := metrics.get("notes"):
        say()
    for note in notes or []:
        say(f"note: {note}")


def _print_warnings(run: RunDirectory, result: dict[str, Any]) -> None:
    found = [event.message for event in read_events(run.events) if isinstance(event, WarningEvent)]
    warnings = [message for message in found if message != result.get("worse_than_constant")]
    if warnings:
        say()
    for warning in warnings[:WARNINGS_SHOWN]:
        say(f"warning: {warning}")
    if len(warnings) > WARNINGS_SHOWN:
        say(f"and {len(warnings) - WARNINGS_SHOWN:,} more in {short_path(run.events)}")


def _print_files(run: RunDirectory) -> None:
    say()
    for name, path in (
        ("report", run.report),
        ("predictions", run.predictions),
        ("checkpoint", run.best),
        ("all files", run.path),
    ):
        if path.exists():
            say(f"{name:12} {short_path(path)}")
    for split in ("train", "val", "test"):
        if run.embeddings(split).exists():
            say(f"{'embeddings':12} {short_path(run.embeddings(split).parent)}")
            break


def _backbone_rows(backbone: dict[str, Any], kind: ModalityInfo) -> list[tuple[str, str]]:
    fetch = backbone["fetch"]
    return [
        ("backbone", f"{backbone['name']}, {backbone['weights']} weights"),
        *([("to fetch", f"{fetch['text']}. {fetch['way']}")] if fetch else []),
        ("input", f"{backbone['input_size']} {kind.short_unit}, pooling {backbone['pooling']}"),
    ]


def print_plan(facts: dict[str, Any]) -> None:
    """Print the findings of `--dry-run`."""
    from rich.table import Table
    from rich.text import Text

    out = console()
    rows, parameters, columns = facts["rows"], facts["parameters"], facts["columns"]
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    group = f", group {columns['group']!r}" if columns["group"] else ""
    share = share_text(parameters["trainable"], parameters["total"])
    kind = MODALITIES[facts["modality"]]
    inputs = " and ".join(map(repr, columns_of(columns["input"])))
    backbones = [facts["backbone"], *([facts["backbone"]["text"]] if "text" in facts["backbone"] else [])]
    for name, value in (
        ("run", facts["name"]),
        ("task", f"{facts['task']} of {kind.plural}"),
        (
            "columns",
            f"input {inputs}, label {columns['label']!r}{group}",
        ),
        ("rows", f"train {rows['train']:,}, val {rows['val']:,}, test {rows['test']:,}"),
        ("bad samples", f"{facts['bad_samples']:,}"),
        *(row for one, part in zip(backbones, kind.members, strict=True) for row in _backbone_rows(one, part)),
        ("head", " → ".join(str(width) for width in facts["head"])),
        (
            "method",
            facts["method"] + (", from a head that is fitted first" if facts["head_first"] else "") + _folds(facts),
        ),
        ("parameters", f"{parameters['trainable']:,} of {parameters['total']:,} learn ({share})"),
        ("device", f"{facts['device']['name']} ({facts['device']['reason']})"),
        (
            "steps",
            f"{facts['steps']:,} in {facts['epochs']} epochs, effective batch size {facts['effective_batch_size']}",
        ),
    ):
        table.add_row(name, Text(safe(value)))
    out.print(table)
    if classes := facts["labels"].get("classes"):
        counts = Table(box=None, pad_edge=False, header_style="dim")
        counts.add_column("class")
        for split in ("train", "val", "test"):
            counts.add_column(split, justify="right")
        for entry in classes[:CLASSES_SHOWN]:
            counts.add_row(safe(entry["class"]), *(f"{entry[split]:,}" for split in ("train", "val", "test")))
        out.print()
        out.print(counts)
        if len(classes) > CLASSES_SHOWN:
            say(f"and {len(classes) - CLASSES_SHOWN:,} more classes")
    else:
        say("")
        for target in facts["labels"].get("targets") or [{"target": "label", **facts["labels"]}]:
            numbers = f"mean {target['mean']:.4g}, standard deviation {target['std']:.4g} on train"
            say(f"{safe(target['target'])}: {numbers}")
    for warning in facts["warnings"]:
        say(f"warning: {warning}")
    for note in facts["notes"]:
        say(f"note: {note}")
    say("\nEvery key, resolved (a spec that gives this very run):\n")
    say(facts["spec"].rstrip())
