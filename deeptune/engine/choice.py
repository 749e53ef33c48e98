"""Chooses between fine-tuning and the head it started from by a paired test on the rows of val."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from deeptune.engine.history import Best, TrainingHistory
from deeptune.engine.inference import Outputs
from deeptune.engine.loaders import split_targets
from deeptune.engine.setup import Setup
from deeptune.formatting import mean_text
from deeptune.report.tables import sentence_title, value_text
from deeptune.runs.files import finite
from deeptune.spec.metrics import lower_is_better

# Metrics that are means over rows, so that two models can be compared row by row.
PAIRED = ("val/loss", "val/tempered_loss")
# Half a standard error, one-sided. Val is small where the question matters: what a limit of one error turns down is
# level or ahead on test, also on draws that were held out (docs/results.md).
MAX_P = 0.3


@dataclass(frozen=True)
class ValLosses:
    """The loss of each val row, float64 (N,), in the order of the rows, and what each counts in the mean."""

    losses: np.ndarray
    weights: np.ndarray

    @property
    def mean(self) -> float:
        return float(np.average(self.losses, weights=self.weights))


def val_losses(setup: Setup, outputs: Outputs, metric: str) -> ValLosses:
    """Return the loss of each val row by the task's proper score; with `val/tempered_loss` after a temperature.

    Rows count by the weight of their class, as in training.
    """
    from deeptune.tasks.row_losses import row_losses
    from deeptune.tasks.temperature import fit_temperature

    plan, criterion = setup.ready.plan, setup.criterion.on_cpu()
    outputs = outputs.at(np.argsort(outputs.rows))
    data = plan.splits["val"]
    targets = split_targets(setup.ready, data)[np.searchsorted(data.rows, outputs.rows)]
    by_class = criterion.class_weights
    weights = np.ones(len(outputs)) if by_class is None else by_class.numpy().astype(np.float64)[targets]
    logits = outputs.logits.astype(np.float64)
    if metric == "val/tempered_loss":
        logits = logits / fit_temperature(logits, targets, loss=criterion.loss, weights=weights)
    return ValLosses(row_losses(criterion.loss, logits, targets), weights)


@dataclass(frozen=True)
class HeadComparison:
    """The difference between the val losses of a fine-tuned model and its head, with its standard error.

    `difference` is the mean over the rows, or over the groups, and `error` its standard error, both in nats or squared
    standardised units. `p` is that of a one-sided paired t-test, NaN where too few rows decide nothing.
    """

    difference: float
    error: float
    p: float

    @property
    def better(self) -> bool:
        """Whether fine-tuning is better than its head by half a standard error or more."""
        return self.p < MAX_P


def compare(head: ValLosses, tuned: ValLosses, groups: np.ndarray | None = None) -> HeadComparison:
    """Compare two models on the same val rows; `groups` are codes (N,) of rows that depend on one another."""
    gains = (head.losses - tuned.losses) * head.weights / head.weights.mean()
    if groups is not None:
        _, code = np.unique(groups, return_inverse=True)
        gains = np.bincount(code, weights=gains) / np.bincount(code)
    difference = float(gains.mean())
    if len(gains) < 2:
        return HeadComparison(difference, math.nan, math.nan)
    from scipy.stats import sem, ttest_1samp

    error = float(sem(gains))
    if error == 0:  # all rows differ by as much: the test has no value
        return HeadComparison(difference, error, 0.0 if difference > 0 else 1.0)
    return HeadComparison(difference, error, float(ttest_1samp(gains, 0, alternative="greater").pvalue))


@dataclass(frozen=True)
class Choice:
    """The choice between the head and the fine-tuned model, with its reason in one sentence.

    `epoch` is the best of those trained, and None where the metric was undefined in each of them.
    """

    head_is_model: bool
    said: str
    epoch: int | None
    comparison: HeadComparison | None = None

    def record(self) -> dict[str, Any]:
        """Describe the choice for metrics.json."""
        test = self.comparison
        numbers = {} if test is None else {"difference": test.difference, "standard_error": test.error, "p": test.p}
        return {"is_model": self.head_is_model, "said": self.said, **finite(numbers)}


def choose(best: Best, start: float | None, comparison: HeadComparison | None) -> Choice:
    """Choose between the head, whose value on val is `start`, and the best epoch, which has a better one.

    With a `comparison`, fine-tuning must be better by half a standard error; without one its value alone decides.
    That of a mean of epochs may be worse, though one of them is better.
    """
    place = f"of {mean}" if (mean := mean_text(best.record())) else f"in epoch {best.epoch}"
    values = f"{_value(best.metric, best.value)} {place}, {_number(best.metric, start)} of the head"
    if comparison is not None:
        values += f"; lower by {comparison.difference:.2g} ± {comparison.error:.2g} (standard error)"
    better = comparison.better if comparison is not None else best.value is not None and best.better(best.value, start)
    if better:
        said = f"fine-tuning is kept: it is better on val than the head that it started from ({values})"
        return Choice(False, said, best.epoch, comparison)
    by = "" if comparison is None else " by half a standard error"
    said = f"the run's model is the head: on val, fine-tuning is not better than it{by} ({values})"
    return Choice(True, said, best.epoch, comparison)


def never_better(history: TrainingHistory, start: float | None) -> Choice:
    """Return the choice of the head, whose value on val is `start`, where no epoch has a better one."""
    best = history.best
    name = best.metric.removeprefix("val/")
    found = {
        epoch["epoch"]: value for epoch in history.epochs if (value := (epoch.get("val") or {}).get(name)) is not None
    }
    choose_one = min if lower_is_better(best.metric) else max
    epoch = choose_one(found, key=lambda one: found[one]) if found else None
    at_best = f"{_value(best.metric, found.get(epoch))} at best, {_number(best.metric, start)} of the head"
    return Choice(True, f"the run's model is the head: no epoch of fine-tuning is better on val ({at_best})", epoch)


def _value(metric: str, value: float | None) -> str:
    return f"{sentence_title(metric.removeprefix('val/'))} {_number(metric, value)}"


def _number(metric: str, value: float | None) -> str:
    return value_text(metric.removeprefix("val/"), value)
