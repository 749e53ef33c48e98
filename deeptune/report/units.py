"""Rows that belong to one unit, such as the slices of a patient, as one prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deeptune.formatting import counted
from deeptune.report.finished_run import FinishedRun, Predictions
from deeptune.spec.tasks import TASKS
from deeptune.tasks.thresholds import positive_classes


@dataclass(frozen=True)
class Units:
    """Units as predictions; `row` is the first row of each. `left_out` counts units of several truths."""

    predictions: Predictions
    left_out: int = 0
    notes: Sequence[str] = ()


def units_scored(run: FinishedRun) -> Units | None:
    """Aggregate the test rows of a run as `report.unit` and `report.unit_rule` say; None where no unit is named.

    A unit of classes whose rows have several truths is left out. Under the rule `max` a unit of two classes is positive
    if one of its rows is, and of ordered classes it has the highest. A unit has a label that one of its rows has. Rows
    without a unit are left out.
    """
    scored, name = run.predictions, run.spec.report.unit
    if scored is None or name is None or name not in run.columns:
        return None
    values = run.columns[name]
    known = np.array([value is not None for value in values])
    scored = scored.at(np.flatnonzero(known))
    if not len(scored.truth):
        return None
    keys = np.array([value for value in values if value is not None])
    _, first, unit = np.unique(keys, return_index=True, return_inverse=True)
    notes = []
    if missing := int((~known).sum()):
        are = "is" if missing == 1 else "are"
        notes.append(f"{counted(missing, 'row')} without a {name} {are} left out.")
    groups = None if scored.groups is None else scored.groups[first]
    truth, left = _truth(run, scored, unit)
    prediction, probabilities = _prediction(run, scored, unit)
    found = Predictions(scored.row[first], truth, prediction, probabilities, groups)
    if left.any():
        found = found.at(np.flatnonzero(~left))
        units = counted(int(left.sum()), "unit")
        notes.append(f"{units} whose rows have several labels {'is' if left.sum() == 1 else 'are'} left out.")
    return Units(found, int(left.sum()), notes)


def _truth(run: FinishedRun, scored: Predictions, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the truth of each unit, and which units (bool) have several."""
    units = int(unit.max()) + 1
    rule, none = run.spec.report.unit_rule, np.zeros(units, bool)
    if run.task.view in ("numbers", "targets"):
        return _of_rows(scored.truth, unit, "max" if rule == "max" else "mean"), none
    if run.task.view == "classes" and rule == "max" and run.task.classes == 2:
        positive = positive_classes(run.task, run.spec.report)[0]
        has_one = _of_rows((scored.truth == positive).astype(float), unit, "max") > 0
        return np.where(has_one, positive, 1 - positive).astype(scored.truth.dtype), none
    highest = _of_rows(scored.truth.astype(float), unit, "max").astype(scored.truth.dtype)
    if run.task.view == "labels" or (rule == "max" and TASKS[run.spec.task].ordered):
        return highest, none
    lowest = -_of_rows(-scored.truth.astype(float), unit, "max")
    return highest, lowest != highest


def _prediction(run: FinishedRun, scored: Predictions, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    rule = run.spec.report.unit_rule
    if scored.probabilities is None:
        return _of_rows(scored.prediction, unit, "max" if rule == "max" else "mean"), None
    chances = scored.probabilities
    classes = chances.shape[1]
    if rule == "vote":
        said = scored.prediction > 0 if run.task.view == "labels" else np.eye(classes)[scored.prediction]
        chances = said.astype(float)
    chances = _of_rows(chances, unit, "max" if rule == "max" else "mean")
    if run.task.view == "classes":
        if rule == "max" and classes == 2:
            positive = positive_classes(run.task, run.spec.report)[0]
            chances[:, 1 - positive] = 1 - chances[:, positive]
        chances /= chances.sum(axis=1, keepdims=True)
    return run.task.decide(chances, votes=rule == "vote"), chances


def _of_rows(values: np.ndarray, unit: np.ndarray, rule: str) -> np.ndarray:
    """Average the rows of each unit, or take their highest value; missing numbers (NaN) are left out."""
    table = values.reshape(len(values), -1).astype(float)
    units, known = int(unit.max()) + 1, np.isfinite(table)
    if rule == "max":
        found = np.full((units, table.shape[1]), -np.inf)
        np.maximum.at(found, unit, np.where(known, table, -np.inf))
        found[~np.isfinite(found)] = np.nan
    else:
        sums, counts = np.zeros((units, table.shape[1])), np.zeros((units, table.shape[1]))
        np.add.at(sums, unit, np.where(known, table, 0.0))
        np.add.at(counts, unit, known)
        with np.errstate(invalid="ignore"):
            found = sums / counts
    return found.reshape(units, *values.shape[1:])
