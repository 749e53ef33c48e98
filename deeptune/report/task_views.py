"""The report's words and plots for each kind of task. `TaskInfo.view` names the kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from deeptune.formatting import joined
from deeptune.report import plots, tables
from deeptune.report.doubts import MIN_ROWS
from deeptune.report.finished_run import FinishedRun, Predictions
from deeptune.report.influence import Estimates, class_estimates, label_estimates, number_estimates, target_estimates
from deeptune.report.intervals import MetricIntervals, classification_intervals, label_intervals, regression_intervals
from deeptune.spec.metrics import METRICS
from deeptune.tasks import Task

Picture = tuple[str, str]  # an SVG and its caption

MAX_PICTURES = 8  # targets that have a picture, at most
OUTLIER = 0.5  # share of all squared errors in one row from which RMSE and R² say little of the others


_OF_RANKS = (
    "The baseline for the error in ranks predicts the median class of train for every row; the kappa of a constant "
    "prediction is 0."
)


class View(ABC):
    """The sentences and pictures of a finished run that depend on its task."""

    heading: str  # of the section with the pictures

    @abstractmethod
    def task_words(self, run: FinishedRun) -> str:
        """Return the task, with its number of classes."""

    @abstractmethod
    def goal(self, run: FinishedRun, what: str) -> str:
        """Say what the model was trained to do with images or texts, for `We trained … to …`."""

    @abstractmethod
    def metric_intervals(self, task: Task, scored: Predictions) -> MetricIntervals:
        """Return the intervals of the metrics."""

    @abstractmethod
    def estimates(self, run: FinishedRun, scored: Predictions) -> Estimates:
        """Return the metrics that are defined on some rows, with the influence of each row."""

    def right(self, scored: Predictions) -> np.ndarray | None:
        """Check whether each prediction is right: bool (N,); None where predictions are numbers."""
        return None

    @abstractmethod
    def baseline_sentence(self, run: FinishedRun) -> str:
        """Say how the baseline of the headline metrics predicts, for a methods section."""

    @abstractmethod
    def baseline_words(self, run: FinishedRun, metrics: dict[str, Any], found: dict[str, Any]) -> str:
        """Say how the baseline of each metric predicts."""

    @abstractmethod
    def remarks(self, run: FinishedRun, metrics: dict[str, Any], weighted_loss: bool) -> list[str]:
        """Return the sentences below the metrics.

        `weighted_loss` says whether the loss is another number than log loss.
        """

    @abstractmethod
    def pictures(self, run: FinishedRun, scored: Predictions, metrics: dict[str, Any]) -> list[Picture]:
        """Draw pictures of the scored rows, of which there is at least one."""


class ClassesView(View):
    """One of several classes for each row."""

    heading = "Calibration"

    def task_words(self, run: FinishedRun) -> str:
        return f"{run.spec.task}, {run.task.classes} classes"

    def goal(self, run: FinishedRun, what: str) -> str:
        return f"classify {what} into {run.task.classes} classes"

    def metric_intervals(self, task: Task, scored: Predictions) -> MetricIntervals:
        return classification_intervals(
            scored.truth, scored.prediction, task.classes, scored.groups, scored.probabilities
        )

    def estimates(self, run: FinishedRun, scored: Predictions) -> Estimates:
        found = class_estimates(scored.truth, scored.prediction, run.task.classes, scored.probabilities)
        return {name: found[name] for name in run.task.info.metrics if name in found}

    def right(self, scored: Predictions) -> np.ndarray | None:
        return scored.truth == scored.prediction

    def baseline_sentence(self, run: FinishedRun) -> str:
        if run.task.info.ordered:
            return _OF_RANKS
        return f"The baseline predicts the most frequent class of the {run.split} split for every row."

    def baseline_words(self, run: FinishedRun, metrics: dict[str, Any], found: dict[str, Any]) -> str:
        ranks = f"{_OF_RANKS} " if run.task.info.ordered else ""
        classes = metrics.get("per_class", [])
        titles = dict(zip((str(row["class"]) for row in classes), tables.class_titles(classes), strict=True))
        always, usual = (titles.get(str(found[name]), str(found[name])) for name in ("class", "train_class"))
        if always == usual:
            others = "Otherwise it" if ranks else "The baseline"
            return (
                f"{ranks}{others} predicts the class frequencies of train for every row, and so always class {usual}."
            )
        return (
            f"{ranks}The baseline for accuracy and F1 is to predict always class {always}, the most frequent in "
            f"{run.split} (in train it is class {usual}); for the other metrics, the class frequencies of train."
        )

    def remarks(self, run: FinishedRun, metrics: dict[str, Any], weighted_loss: bool) -> list[str]:
        found = []
        if "loss" in metrics and weighted_loss:
            found.append("The minimised loss has class weights or label smoothing, and log loss has neither.")
        classes = metrics.get("per_class", [])
        if absent := sum(not row["support"] for row in classes):
            found.append(
                f"{absent:,} of {len(classes):,} classes {'has' if absent == 1 else 'have'} no row here. "
                "Macro F1 is the mean over all classes, and such a class counts as 0. "
                "The macro F1 of scikit-learn's default is the mean over the classes that occur in the labels or the "
                "predictions; balanced accuracy is the mean over the classes that have rows."
            )
        return found

    def pictures(self, run: FinishedRun, scored: Predictions, metrics: dict[str, Any]) -> list[Picture]:
        if "confidence" in metrics:
            return []  # a section of its own shows calibration before and after
        assert scored.probabilities is not None
        confidence = scored.probabilities.max(axis=1)
        correct = scored.prediction == scored.truth
        mean = f"mean confidence {confidence.mean():.3f}, accuracy {correct.mean():.3f}"
        error = tables.value_text("ece", metrics.get("ece"))
        caption = (
            "How far confidence can be trusted: points below the line are surer than right. "
            f"Expected calibration error {error}; {mean}."
        )
        return [(plots.reliability(confidence, correct), caption)]


class LabelsView(View):
    """Any number of labels for each row."""

    heading = "Predictions"

    def task_words(self, run: FinishedRun) -> str:
        return f"{run.spec.task}, {run.task.classes} labels"

    def goal(self, run: FinishedRun, what: str) -> str:
        return f"find which of {run.task.classes} labels {what} have"

    def metric_intervals(self, task: Task, scored: Predictions) -> MetricIntervals:
        assert scored.probabilities is not None
        return label_intervals(scored.truth > 0, scored.prediction > 0, scored.probabilities, scored.groups)

    def estimates(self, run: FinishedRun, scored: Predictions) -> Estimates:
        assert scored.probabilities is not None
        return label_estimates(scored.truth > 0, scored.prediction > 0, scored.probabilities)

    def right(self, scored: Predictions) -> np.ndarray | None:
        """Check whether all labels of a row are right."""
        return ((scored.truth > 0) == (scored.prediction > 0)).all(axis=1)

    def baseline_sentence(self, run: FinishedRun) -> str:
        return "The baseline predicts every label for every row."

    def baseline_words(self, run: FinishedRun, metrics: dict[str, Any], found: dict[str, Any]) -> str:
        return (
            "The baseline predicts every label for every row; for Hamming loss, the labels that more than half of "
            "train has."
        )

    def remarks(self, run: FinishedRun, metrics: dict[str, Any], weighted_loss: bool) -> list[str]:
        return ["The threshold of each label is the one with the highest F1 on val."]

    def pictures(self, run: FinishedRun, scored: Predictions, metrics: dict[str, Any]) -> list[Picture]:
        return []


class NumbersView(View):
    """A number for each row."""

    heading = "Predictions"

    def task_words(self, run: FinishedRun) -> str:
        return run.spec.task

    def goal(self, run: FinishedRun, what: str) -> str:
        return f"predict a number from {what}"

    def metric_intervals(self, task: Task, scored: Predictions) -> MetricIntervals:
        return regression_intervals(scored.truth, scored.prediction, scored.groups, task.info.metrics)

    def estimates(self, run: FinishedRun, scored: Predictions) -> Estimates:
        if scored.truth.ndim == 2:
            return target_estimates(scored.truth, scored.prediction)
        return number_estimates(scored.truth, scored.prediction, run.task.info.metrics)

    def baseline_sentence(self, run: FinishedRun) -> str:
        return "The baseline predicts the mean of the training labels for every row, or for MAE their median."

    def baseline_words(self, run: FinishedRun, metrics: dict[str, Any], found: dict[str, Any]) -> str:
        median, mean = (tables.significant(float(found[name])) for name in ("median", "mean"))
        return (
            f"The baseline predicts one number for every row: for MAE the median of train, {median}, "
            f"for {joined(_of_the_mean(found))} its mean, {mean}."
        )

    def remarks(self, run: FinishedRun, metrics: dict[str, Any], weighted_loss: bool) -> list[str]:
        found = [run.task.LOSS_UNIT] if "loss" in metrics else []
        return found + _outlier(run, metrics)

    def pictures(self, run: FinishedRun, scored: Predictions, metrics: dict[str, Any]) -> list[Picture]:
        residuals = scored.prediction - scored.truth
        points = f"{len(residuals):,} rows"
        if len(residuals) > plots.MAX_POINTS:
            points = f"{plots.MAX_POINTS:,} of {points}, drawn at random"
        scatter = plots.predicted_against_true(scored.truth, scored.prediction, run.spec.train.seed)
        mean, deviation = (tables.significant(float(value)) for value in (residuals.mean(), residuals.std()))
        return [
            (scatter, f"Predicted against true, {points}."),
            (
                plots.residual_histogram(residuals),
                f"Residuals, predicted minus true: mean {mean}, standard deviation {deviation}.",
            ),
        ]


class TargetsView(NumbersView):
    """Several numbers for each row."""

    def goal(self, run: FinishedRun, what: str) -> str:
        return f"predict {run.task.outputs} numbers from {what}"

    def baseline_words(self, run: FinishedRun, metrics: dict[str, Any], found: dict[str, Any]) -> str:
        return "The baseline predicts the median (for MAE) or the mean (for RMSE and R²) of each target in train."

    def remarks(self, run: FinishedRun, metrics: dict[str, Any], weighted_loss: bool) -> list[str]:
        return [
            "Each metric is the mean over the targets, which may have different units; a missing target counts for "
            "nothing.",
            *([run.task.LOSS_UNIT] if "loss" in metrics else []),
        ]

    def pictures(self, run: FinishedRun, scored: Predictions, metrics: dict[str, Any]) -> list[Picture]:
        found = []
        for at, row in enumerate(metrics.get("per_target", [])[:MAX_PICTURES]):
            known = np.isfinite(scored.truth[:, at])
            if known.any():
                truth, prediction = scored.truth[known, at], scored.prediction[known, at]
                picture = plots.predicted_against_true(truth, prediction, run.spec.train.seed)
                found.append((picture, f"{row['target']}: predicted against true, {len(truth):,} rows."))
        return found


def _of_the_mean(baseline: dict[str, Any]) -> list[str]:
    """List the titles of the metrics in which the baseline is the mean of train."""
    known = [name for name, value in baseline.items() if name in METRICS and value is not None]
    return [tables.TITLES[name] for name in known if name != "mae"]


def _outlier(run: FinishedRun, metrics: dict[str, Any]) -> list[str]:
    """Return a sentence where one row makes up most of the squared errors."""
    scored = run.predictions
    if scored is None or run.split != "test" or len(scored.truth) < MIN_ROWS:
        return []
    squared = np.square(scored.prediction - scored.truth)
    worst = int(squared.argmax())
    if squared.sum() <= 0 or squared[worst] <= OUTLIER * squared.sum():
        return []
    squares = [tables.TITLES[name] for name in ("rmse", "r2") if name in metrics]
    are = "is" if len(squares) == 1 else "are"
    return [
        f"One row, {scored.row[worst]:,}, makes up {tables.share_text(squared[worst], squared.sum())} of all squared "
        f"errors (true {tables.significant(float(scored.truth[worst]))}, predicted "
        f"{tables.significant(float(scored.prediction[worst]))}): {joined(squares)} {are} about that row."
    ]


_VIEWS: dict[str, View] = {
    "classes": ClassesView(),
    "labels": LabelsView(),
    "numbers": NumbersView(),
    "targets": TargetsView(),
}


def view_of(task: Task) -> View:
    """Return the view of a task."""
    return _VIEWS[task.view]
