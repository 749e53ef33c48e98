"""Score out-of-fold predictions: one metric that ranks, its 95% interval, and what a constant reaches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deeptune.report.finished_run import Predictions
from deeptune.report.intervals import Interval
from deeptune.report.task_views import view_of
from deeptune.spec.metrics import METRICS
from deeptune.tasks import Task


@dataclass(frozen=True)
class Score:
    """A value of the metric that ranks, with its 95% interval where there is one, and the task's other metrics."""

    value: float | None
    interval: Interval | None
    metrics: dict[str, float | None]


def ranking_metric(task: Task) -> str:
    """Return the metric that backbones are ranked by; more of it is better."""
    return task.info.curve


def score_rows(task: Task, logits: np.ndarray, truth: np.ndarray, groups: np.ndarray | None) -> Score:
    """Score the outputs (N, outputs) of rows. `groups` are codes of rows that depend on one another."""
    task = task.with_thresholds(logits, truth)
    found = task.score(logits, truth)
    name = ranking_metric(task)
    interval = view_of(task).metric_intervals(task, _scored(task, logits, truth, groups)).intervals.get(name)
    return Score(found[name], interval, {metric: found.get(metric) for metric in task.info.metrics})


def constant_score(task: Task, truth: np.ndarray) -> float | None:
    """Score the best constant prediction in the metric that ranks."""
    value = task.baseline(truth, truth).get(ranking_metric(task))
    return None if value is None else float(value)


def skill(metric: str, value: float | None, baseline: float | None) -> float | None:
    """Return the share of the way from a constant prediction (0) to a perfect one (1)."""
    best = METRICS[metric].range[1]
    if value is None or baseline is None or best is None or best <= baseline:
        return None
    return max(0.0, (value - baseline) / (best - baseline))


def _scored(task: Task, logits: np.ndarray, truth: np.ndarray, groups: np.ndarray | None) -> Predictions:
    """Return outputs as a report reads them from predictions.parquet."""
    columns = task.predictions(logits)
    prediction = task.read_predictions(pa.chunked_array([columns["prediction"]]), place="the predictions")
    chances = columns.get("probabilities")
    probabilities = None if chances is None else pc.list_flatten(chances).to_numpy().reshape(len(truth), -1)
    units = None if groups is None else np.unique(groups, return_inverse=True)[1]
    return Predictions(np.arange(len(truth)), truth, prediction, probabilities, units)
