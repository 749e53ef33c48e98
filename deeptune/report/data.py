"""report.json: all numbers and sentences of a report, for programs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deeptune.report import methods_paragraph, tables
from deeptune.report.finished_run import FinishedRun
from deeptune.report.provenance import provenance
from deeptune.report.section import ReportSection
from deeptune.report.verdict import Verdict
from deeptune.spec.metrics import shown_metrics


def report_data(run: FinishedRun, judged: Verdict, sections: Sequence[ReportSection]) -> dict[str, Any]:
    """Return the content of report.json.

    `metrics` has the value, 95% interval and baseline of each metric of the split; `per_class` or `per_target` the same
    of each class, label or target; `sections` the `data` of each section by its name.
    """
    metrics = run.metrics.get(run.split, {})
    found: dict[str, Any] = {
        "run": run.files.path.resolve().name,
        "state": run.result.get("state", "unfinished"),
        "task": run.spec.task,
        "split": run.split,
        "samples": run.samples,
        "n": metrics.get("n", 0),
        "metrics": {
            name: {
                "title": tables.TITLES[name],
                "value": metrics[name],
                "interval": judged.intervals.get(name),
                "baseline": judged.baseline.get(name),
            }
            for name in shown_metrics(metrics)
        },
        **{key: _with_intervals(metrics[key], judged) for key in ("per_class", "per_target") if key in metrics},
        "confusion_matrix": metrics.get("confusion_matrix"),
        "interval_method": judged.metric_intervals.method,
        "doubts": judged.doubts,
        "remarks": judged.remarks,
        "warnings": [*run.warnings, *metrics.get("notes", [])],
        "epochs": [{"epoch": one.epoch, "train": one.train, "val": one.val} for one in run.epochs],
        "best_epoch": methods_paragraph.best_epoch(run),
        "rows": run.rows,
        "facts": dict(methods_paragraph.training_facts(run)),
        "provenance": dict(provenance(run)),
        "skipped": methods_paragraph.skipped(run),
        "test_looks": judged.looks,
        "methods": judged.methods,
        "sections": {
            one.name: {"title": one.title, "paragraphs": list(one.paragraphs), **one.data} for one in sections
        },
    }
    plain: dict[str, Any] = as_json(found)
    return plain


def _with_intervals(rows: Sequence[Mapping[str, Any]], judged: Verdict) -> list[dict[str, Any]]:
    intervals = judged.metric_intervals.details or ({},) * len(rows)
    return [{**row, "intervals": dict(ends)} for row, ends in zip(rows, intervals, strict=True)]


def as_json(value: Any) -> Any:
    """Turn numbers of NumPy into those of JSON; what is not finite becomes null."""
    if isinstance(value, Mapping):
        return {str(key): as_json(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [as_json(one) for one in value]
    if isinstance(value, np.generic):
        return as_json(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
