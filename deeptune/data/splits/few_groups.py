"""Finds groups that train needs, for splits of so few groups that it matters."""

from __future__ import annotations

import numpy as np


def smallest_cover(needs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the fewest groups (int64) that hold one of each set of `needs`; the generator decides between equal ones.

    Exact, by integer programming: there is an allowed assignment if, and only if, the groups left are enough for the
    other splits.
    """
    from scipy.optimize import LinearConstraint, milp

    costs = 1 + rng.random(needs.shape[1]) / (2 * needs.shape[1])
    found = milp(costs, integrality=1, bounds=(0, 1), constraints=LinearConstraint(needs.astype(float), 1, np.inf))
    return np.flatnonzero(found.x > 0.5)
