"""Thresholds of probabilities, chosen on val by a rule: the operating points of a report."""

from __future__ import annotations

from typing import Any

import numpy as np

from deeptune.errors import SpecError, listed
from deeptune.spec.report_spec import RULE, ReportSpec
from deeptune.tasks.base import Task

DEFAULT = 0.5  # threshold where val has no rows of both kinds


def positive_classes(task: Task, report: ReportSpec) -> list[int]:
    """List the classes that operating points are about: one of two, else each against the rest; none of numbers.

    Raises SpecError where `report.positive` is not a class.
    """
    names = {str(value): index for index, value in enumerate(getattr(task, "values", ()))}
    for index, name in enumerate(getattr(task, "names", None) or () if task.view == "classes" else ()):
        names.setdefault(str(name), index)
    if report.positive is not None and report.positive not in names:
        raise SpecError(
            f"report.positive: there is no class {report.positive!r}",
            hint=f"The classes are {listed(task.class_names)}.",
        )
    if task.view == "numbers" or task.classes == 0:
        return []
    if report.positive is not None:
        return [names[report.positive]]
    return [1] if task.view == "classes" and task.classes == 2 else list(range(task.classes))


def operating_points(
    task: Task, report: ReportSpec, probabilities: np.ndarray, truth: np.ndarray
) -> list[dict[str, Any]]:
    """Choose a threshold for each class of `positive_classes`, as JSON: `class` (its index), `threshold`, `rule`.

    probabilities: float64 (N, C) of rows that the model was not trained on; truth: their targets. `sensitivity` and
    `specificity` are those on these rows, None where there is no such row.
    """
    points = []
    for index in positive_classes(task, report):
        positive = truth[:, index] > 0 if task.view == "labels" else truth == index
        chance = probabilities[:, index]
        threshold = choose_threshold(positive, chance, report.operating_point)
        said = chance >= threshold
        points.append(
            {
                "class": index,
                "rule": report.operating_point,
                "threshold": threshold,
                "sensitivity": float(said[positive].mean()) if positive.any() else None,
                "specificity": float((~said[~positive]).mean()) if not positive.all() else None,
                "n": len(truth),
            }
        )
    return points


def choose_threshold(positive: np.ndarray, chance: np.ndarray, rule: str | float) -> float:
    """Choose a threshold (`chance >= threshold` is positive) on rows of both kinds, else 0.5.

    `youden` has the highest sensitivity + specificity − 1 (Youden 1950), `sensitivity >= X` the highest specificity
    among those, `specificity >= X` the highest sensitivity. A threshold lies midway between two probabilities that
    occur, so that rounding does not move a row across it.
    """
    if not isinstance(rule, str):
        return float(rule)
    if not positive.any() or positive.all():
        return DEFAULT
    levels, place = np.unique(-chance, return_inverse=True)  # the highest first
    levels = -levels
    above, wrong = (
        np.concatenate([[0], np.cumsum(np.bincount(place, weights=part, minlength=len(levels)))])
        for part in (positive, ~positive)
    )
    ends = np.concatenate([[1.0], levels, [0.0]])
    middles = (ends[:-1] + ends[1:]) / 2  # the first has no row above it, the last has all
    if levels[0] >= 1:
        middles[0] = np.nextafter(1.0, 2.0)  # above a probability of exactly 1
    sensitivity, specificity = above / positive.sum(), 1 - wrong / (~positive).sum()
    if rule == "youden":
        return float(middles[np.argmax(sensitivity + specificity)])
    match = RULE.fullmatch(rule)
    assert match is not None  # as the spec has checked
    least = float(match[2]) - 1e-12
    if match[1] == "sensitivity":
        return float(middles[np.flatnonzero(sensitivity >= least)[0]])
    return float(middles[np.flatnonzero(specificity >= least)[-1]])
