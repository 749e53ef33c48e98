"""What the numbers of a run are worth: how sure they are, what they have to beat, and what speaks against them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from deeptune.data.labels import ClassLabels
from deeptune.engine.baselines import classification_baseline, regression_baseline
from deeptune.report import tables, words
from deeptune.report.doubts import doubts
from deeptune.report.intervals import MIN_ROWS, Intervals, Spread, classification_spread, regression_spread
from deeptune.report.reading import FinishedRun

OUTLIER = 0.5  # share of all squared errors in one row from which RMSE and R² say little of the others


@dataclass(frozen=True)
class Verdict:
    """Of the split that the report is about. `doubts` come first in the report, `remarks` below the metrics."""

    spread: Spread
    baseline: dict[str, Any]
    baseline_words: str
    doubts: list[str]
    remarks: list[str]

    @property
    def intervals(self) -> Intervals:
        return self.spread.intervals


def verdict(run: FinishedRun) -> Verdict:
    metrics = run.metrics.get(run.split, {})
    spread = _spread(run)
    baseline, baseline_words = _baseline(run, metrics)
    return Verdict(
        spread,
        baseline,
        baseline_words,
        _doubts(run, metrics, spread, baseline),
        [tables.visible(text) for text in _remarks(run, metrics, spread, baseline_words)],
    )


def _spread(run: FinishedRun) -> Spread:
    scored = run.predictions
    if run.split != "test" and run.metrics:
        return Spread(reasons=("No interval is given: val chose the epoch, which no interval takes into account.",))
    if scored is None or not len(scored.truth):
        return Spread()
    if run.spec.data.group and scored.groups is None:
        why = f"No interval is given: the {run.spec.data.group} of each row is not in {run.files.splits.name}."
        return Spread(reasons=(why,))
    if run.spec.task == "regression":
        return regression_spread(scored.truth, scored.prediction, scored.groups)
    return classification_spread(scored.truth, scored.prediction, run.classes, scored.groups)


def _baseline(run: FinishedRun, metrics: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Metrics of constant predictions, and how they predict. The run stores them; without these they are computed."""
    found = metrics.get("baseline")
    if not found:
        scored, train = run.predictions, run.train_targets
        if scored is None or train is None or run.split != "test" or not len(scored.truth) or not len(train):
            return {}, ""
        if isinstance(run.labels, ClassLabels):
            found = classification_baseline(scored.truth, train, run.labels).to_json()
        else:
            found = regression_baseline(scored.truth, train).to_json()
    if run.spec.task == "regression":
        median, mean = (tables.significant(float(found[name])) for name in ("median", "mean"))
        return found, (
            f"The baseline predicts one number for every row: for MAE the median of train, {median}, "
            f"for RMSE and R² its mean, {mean}."
        )
    titles = {str(row["class"]): tables.class_title(row) for row in metrics.get("per_class", [])}
    always, usual = (titles.get(str(found[name]), str(found[name])) for name in ("class", "train_class"))
    if always == usual:
        return (
            found,
            f"The baseline predicts the class frequencies of train for every row, and so always class {usual}.",
        )
    return found, (
        f"The baseline for accuracy and F1 is to predict always class {always}, the most frequent in {run.split} "
        f"(in train it is class {usual}); for the other metrics, the class frequencies of train."
    )


def _doubts(run: FinishedRun, metrics: dict[str, Any], spread: Spread, baseline: dict[str, Any]) -> list[str]:
    found = doubts(run.split, {**metrics, "baseline": baseline}, run.result)
    unclear = _unclear(run, spread, baseline)
    return found if found or not unclear else [unclear]


def _unclear(run: FinishedRun, spread: Spread, baseline: dict[str, Any]) -> str:
    """A sentence when the interval of the first headline metric reaches the baseline."""
    name = words.HEADLINES[run.spec.task][0]
    if name not in spread.intervals or baseline.get(name) is None:
        return ""
    low, high = spread.intervals[name]
    beaten = high < baseline[name] if name == "mae" else low > baseline[name]
    value = tables.value_text(name, baseline[name])
    return "" if beaten else f"{tables.TITLES[name]} is not clearly better than the baseline's {value}."


def _remarks(run: FinishedRun, metrics: dict[str, Any], spread: Spread, baseline: str) -> list[str]:
    remarks = [f"n = {metrics.get('n', 0):,} rows of the {run.split} split."]
    if spread.intervals:
        remarks.append(f"95% intervals: {spread.method}.")
    remarks += spread.reasons
    if baseline:
        remarks.append(baseline)
    if run.spec.task == "regression" and "loss" in metrics:
        remarks.append("The minimised loss is that of standardised labels.")
    elif "loss" in metrics and words.loss_differs(run):
        remarks.append("The minimised loss has class weights or label smoothing, and log loss has neither.")
    if absent := _absent(metrics):
        remarks.append(absent)
    if run.spec.task == "regression" and (outlier := _outlier(run)):
        remarks.append(outlier)
    return remarks


def _absent(metrics: dict[str, Any]) -> str:
    """How macro F1 counts classes that the split has no row of."""
    absent = sum(not row["support"] for row in metrics.get("per_class", []))
    if not absent:
        return ""
    have = "has" if absent == 1 else "have"
    return (
        f"{absent:,} of {len(metrics['per_class']):,} classes {have} no row here. "
        "Macro F1 is the mean over all classes, and such a class counts as 0. "
        "The macro F1 of scikit-learn's default is the mean over the classes that occur in the labels or the "
        "predictions; balanced accuracy is the mean over the classes that have rows."
    )


def _outlier(run: FinishedRun) -> str:
    scored = run.predictions
    if scored is None or run.split != "test" or len(scored.truth) < MIN_ROWS:
        return ""
    squared = np.square(scored.prediction - scored.truth)
    worst = int(squared.argmax())
    if squared.sum() <= 0 or squared[worst] <= OUTLIER * squared.sum():
        return ""
    return (
        f"One row, {scored.row[worst]:,}, makes up {tables.share_text(squared[worst], squared.sum())} of all squared "
        f"errors (true {tables.significant(float(scored.truth[worst]))}, predicted "
        f"{tables.significant(float(scored.prediction[worst]))}): RMSE and R² are about that row."
    )
