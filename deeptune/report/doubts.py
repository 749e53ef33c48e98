"""Doubts about a run's numbers, which report and terminal show before them. Needs no numpy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deeptune.formatting import visible
from deeptune.report.tables import value_text
from deeptune.spec.metrics import METRICS

MIN_ROWS = 10  # rows from which on metrics have intervals


def part_of_val(metrics: Mapping[str, Any], best: Mapping[str, Any] | None) -> str:
    """Say what part the rows of val had in a run's model, as a clause. `metrics` are those of val.

    `best` is the best epoch, as result.json and a checkpoint's manifest have it.
    """
    if "out_of_fold" in metrics:
        return "the folds chose weight decay and epochs"
    if (best or {}).get("metric") == "val/out_of_fold_loss":
        return "the calibration was fitted to val"
    return "val chose the epoch"


def doubts(split: str, metrics: Mapping[str, Any], result: Mapping[str, Any]) -> list[str]:
    """List sentences about the metrics of a split, the worst first. `metrics` and `result` are the run's files."""
    found = []
    if worse := result.get("worse_than_constant"):
        found.append(f"{str(worse)[:1].upper()}{str(worse)[1:]}.")
    found += _below_baseline(metrics)
    if split != "test" and metrics:
        of = "of out-of-fold predictions" if "out_of_fold" in metrics else "of val"
        part = part_of_val(metrics, result.get("best"))
        found.append(f"There is no test split. These are the metrics {of}, and {part}, so they are optimistic.")
    n = int(metrics.get("n", 0))
    if 0 < n < MIN_ROWS:
        worth = "" if "accuracy" not in metrics else f" One row changes the accuracy by {1 / n:.2f}."
        rows = "1 row" if n == 1 else f"{n} rows"
        found.append(f"The {split} split has {rows}, too few to tell a good model from a bad one.{worth}")
    return [visible(text) for text in found]


def _below_baseline(metrics: Mapping[str, Any]) -> list[str]:
    baseline = metrics.get("baseline") or {}
    worse = []
    for name, metric in METRICS.items():
        value, bar = metrics.get(name), baseline.get(name)
        if metric.beats_constant and value is not None and bar is not None and metric.better(bar, value):
            worse.append(f"{metric.title} {value_text(name, value)} (baseline {value_text(name, bar)})")
    return [f"Worse than a constant prediction: {', '.join(worse)}."] if worse else []
