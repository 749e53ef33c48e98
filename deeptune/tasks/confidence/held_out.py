"""The rows of val, or more, to which confidence is fitted, and their folds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from deeptune.tasks.temperature_prior import Prior

FOLDS = 5  # folds of held-out rows; each is scored by what was fitted to the others


@dataclass(frozen=True)
class HeldOut:
    """A model's outputs on rows that it was not trained on, with their targets.

    logits: float (N, outputs); truth: targets of the task, N of them; groups: codes (int64 (N,)) of rows that depend on
    one another, or None. `seed` decides the folds, and `name` is what notes call these rows. `prior` is what is
    known of the temperature without them.
    """

    logits: np.ndarray
    truth: np.ndarray
    groups: np.ndarray | None = None
    seed: int = 0
    name: str = "val"
    prior: Prior | None = None

    def __len__(self) -> int:
        return len(self.logits)

    @property
    def unit(self) -> np.ndarray:
        """The code 0, 1, … (int64 (N,)) of the group of each row, or of the row itself."""
        return units_of(self.groups, len(self))

    def at(self, places: np.ndarray) -> HeldOut:
        """Select rows by position."""
        groups = None if self.groups is None else self.groups[places]
        return replace(self, logits=self.logits[places], truth=self.truth[places], groups=groups)

    def folds(self) -> np.ndarray:
        """Return the fold (int64 (N,)) of each row: one for each group, and classes are spread evenly over them."""
        rng = np.random.default_rng(self.seed)
        if self.groups is not None:
            unit = self.unit
            return rng.permutation(unit.max() + 1)[unit] % FOLDS
        codes = np.empty(len(self), np.int64)
        strata = self.truth if self.truth.ndim == 1 else np.zeros(len(self))
        codes[np.lexsort((rng.random(len(self)), strata))] = np.arange(len(self)) % FOLDS
        return codes


def units_of(groups: np.ndarray | None, rows: int) -> np.ndarray:
    """Number the independent units 0, 1, … of rows, int64 (rows,): their groups of any type, or the rows themselves."""
    return np.arange(rows) if groups is None else np.unique(groups, return_inverse=True)[1]


def out_of_fold(folds: np.ndarray, fit_and_apply: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """Collect the output of `fit_and_apply(fitted, applied)` for the rows of each fold, fitted to the other folds.

    Both arguments are places (int64). There must be two folds with rows, or more.
    """
    found: np.ndarray | None = None
    for fold in np.unique(folds):
        inside = np.flatnonzero(folds == fold)
        values = fit_and_apply(np.flatnonzero(folds != fold), inside)
        if found is None:
            found = np.empty((len(folds), *values.shape[1:]), values.dtype)
        found[inside] = values
    assert found is not None
    return found
