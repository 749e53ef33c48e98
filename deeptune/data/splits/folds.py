"""Folds for cross-validation, stratified and grouped as the splits are."""

from __future__ import annotations

import warnings

import numpy as np

from deeptune.data.splits.duplicates import kept_together
from deeptune.data.splits.split_data import SplitData
from deeptune.errors import DataError
from deeptune.tasks import Task

FOLDS = 5  # folds of a run's rows, to cross-validate its head or the heads of a probe
MIN_ROWS = 2 * FOLDS  # rows, or groups, that folds need to say something
_GROUP_BINS = 10  # quantile bins that folds of groups of a number are balanced by


def require_folds(data: SplitData, group: str | None) -> None:
    """Raise DataError where training rows, or groups, are too few to cross-validate a run's head."""
    count = len(data.rows) if data.groups is None else len(np.unique(data.groups))
    if count < MIN_ROWS:
        what = "rows" if data.groups is None else f"groups (column {group!r})" if group else "different rows"
        raise DataError(
            f"train.val: {FOLDS} folds need at least {MIN_ROWS} {what}, and train and val together have {count}",
            hint="Bring more, or set train.val = 'split'.",
        )


def draw_folds(
    targets: np.ndarray,
    task: Task,
    *,
    groups: np.ndarray | None = None,
    hashes: np.ndarray | None = None,
    folds: int = FOLDS,
    seed: int,
) -> np.ndarray:
    """Draw the fold (int64 (N,), codes 0, 1, …) of each row.

    `targets` are those of the task. `groups` (int64 (N,)) are codes of rows that stay together, and so do rows of one
    of `hashes` (uint64 (N,), 0 for none): identical samples in two folds would be scored by a model that has seen them.
    There are fewer folds where there are fewer rows, or groups. All rows get fold 0 where there is just one of them.
    """
    together = groups if hashes is None else kept_together(hashes, groups)
    units = len(targets) if together is None else len(np.unique(together))
    count = min(folds, units)
    if count < 2:
        return np.zeros(len(targets), np.int64)
    rng = np.random.default_rng(seed)
    if together is None:
        assigned = task.assign(targets, np.full(count, 1 / count), rng)
        if assigned is not None:
            return assigned.astype(np.int64)
    bins = max(1, units // count)
    strata = task.strata(targets, bins if together is None else min(_GROUP_BINS, bins), rng)
    return _dealt(strata, together, count, seed)


def _dealt(strata: np.ndarray, together: np.ndarray | None, count: int, seed: int) -> np.ndarray:
    from sklearn.model_selection import KFold, StratifiedGroupKFold, StratifiedKFold  # a second

    if np.bincount(strata).max() < count:  # scikit-learn wants one stratum that reaches every fold
        strata = np.zeros_like(strata)
    options = {"n_splits": count, "shuffle": True, "random_state": seed}
    kind = StratifiedGroupKFold if together is not None else StratifiedKFold if strata.any() else KFold
    codes = np.zeros(len(strata), np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a class with fewer rows than folds: it is in some of them
        for fold, (_, held_out) in enumerate(kind(**options).split(strata, strata, together)):
            codes[held_out] = fold
    return codes
