"""Judge the numbers of a run: their intervals, the baseline to beat, and doubts about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deeptune.formatting import counted, visible
from deeptune.report import methods_paragraph, tables
from deeptune.report.doubts import doubts, part_of_val
from deeptune.report.finished_run import FinishedRun
from deeptune.report.intervals import Intervals, MetricIntervals
from deeptune.report.task_views import view_of
from deeptune.report.test_looks import test_looks
from deeptune.spec.metrics import METRICS


@dataclass(frozen=True)
class Verdict:
    """The verdict on the split of the report. `doubts` come first in the report, `remarks` below the metrics."""

    metric_intervals: MetricIntervals
    baseline: dict[str, Any]
    baseline_words: str
    doubts: list[str]
    remarks: list[str]
    looks: dict[str, Any]  # at the test rows
    methods: str  # a paragraph for a paper

    @property
    def intervals(self) -> Intervals:
        return self.metric_intervals.intervals


def verdict(run: FinishedRun) -> Verdict:
    """Judge the metrics of a run: intervals, baseline, doubts and remarks."""
    metrics = run.metrics.get(run.split, {})
    metric_intervals = _metric_intervals(run)
    baseline, baseline_words = _baseline(run, metrics)
    looks = test_looks(run)
    return Verdict(
        metric_intervals,
        baseline,
        baseline_words,
        _doubts(run, metrics, metric_intervals, baseline),
        [visible(text) for text in _remarks(run, metrics, metric_intervals, baseline_words)],
        looks,
        methods_paragraph.methods_paragraph(run, metric_intervals, baseline, looks),
    )


def _metric_intervals(run: FinishedRun) -> MetricIntervals:
    scored = run.predictions
    if run.split != "test" and run.metrics:
        part = part_of_val(run.metrics.get("val", {}), run.result.get("best"))
        return MetricIntervals(reasons=(f"No interval is given: {part}, which no interval takes into account.",))
    if scored is None or not len(scored.truth):
        return MetricIntervals()
    if run.spec.data.group and scored.groups is None:
        why = f"No interval is given: the {run.spec.data.group} of each row is not in {run.files.splits.name}."
        return MetricIntervals(reasons=(why,))
    return view_of(run.task).metric_intervals(run.task, scored)


def _baseline(run: FinishedRun, metrics: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the metrics of constant predictions, stored by the run or else computed, and how they predict."""
    baseline = metrics.get("baseline")
    if not baseline:
        scored, train = run.predictions, run.train_targets
        if scored is None or train is None or run.split != "test" or not len(scored.truth) or not len(train):
            return {}, ""
        baseline = run.task.baseline(scored.truth, train)
    return baseline, view_of(run.task).baseline_words(run, metrics, baseline)


def _doubts(
    run: FinishedRun, metrics: dict[str, Any], metric_intervals: MetricIntervals, baseline: dict[str, Any]
) -> list[str]:
    sentences = doubts(run.split, {**metrics, "baseline": baseline}, run.result)
    unclear = _unclear(run, metric_intervals, baseline)
    return sentences if sentences or not unclear else [unclear]


def _unclear(run: FinishedRun, metric_intervals: MetricIntervals, baseline: dict[str, Any]) -> str:
    """Return a sentence if the interval of the first headline metric reaches the baseline."""
    name = run.task.info.headline[0]
    if name not in metric_intervals.intervals or baseline.get(name) is None:
        return ""
    low, high = metric_intervals.intervals[name]
    worst = low if METRICS[name].higher_is_better else high
    beaten = METRICS[name].better(worst, baseline[name])
    value = tables.value_text(name, baseline[name])
    return "" if beaten else f"{tables.TITLES[name]} is not clearly better than the baseline's {value}."


def _remarks(run: FinishedRun, metrics: dict[str, Any], metric_intervals: MetricIntervals, baseline: str) -> list[str]:
    remarks = [f"n = {counted(metrics.get('n', 0), 'row')} of the {run.split} split."]
    if metric_intervals.intervals:
        remarks.append(f"95% intervals: {metric_intervals.method}.")
    remarks += metric_intervals.reasons
    if baseline:
        remarks.append(baseline)
    return remarks + view_of(run.task).remarks(run, metrics, methods_paragraph.loss_differs(run))
