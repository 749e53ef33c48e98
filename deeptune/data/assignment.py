"""Which groups train can't do without, for splits of so few groups that it matters."""

from __future__ import annotations

import numpy as np


def needed_in_train(group: np.ndarray, targets: np.ndarray, task: str) -> np.ndarray:
    """Sets of groups (bool (N, G)): train must hold one of each, so that every class is learnt and numbers vary.

    `group` are the codes 0, 1, … of the rows' groups.
    """
    count = group.max() + 1
    if task == "classification":
        classes = np.unique(targets, return_inverse=True)[1]
        needs = np.zeros((classes.max() + 1, count), bool)
        needs[classes, group] = True
        return needs
    low = np.full(count, np.inf)
    high = -low
    np.minimum.at(low, group, targets)
    np.maximum.at(high, group, targets)
    # For each number that is all that some group holds, train needs a group that holds another one.
    constant = np.unique(low[low == high])
    return (low != constant[:, None]) | (high != constant[:, None])


def smallest_cover(needs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The fewest groups (int64) that hold one of each set of `needs`; the generator decides between equal ones.

    Exact, by integer programming: there is an allowed assignment if, and only if, the groups left are enough for the
    other splits.
    """
    from scipy.optimize import LinearConstraint, milp

    costs = 1 + rng.random(needs.shape[1]) / (2 * needs.shape[1])
    found = milp(costs, integrality=1, bounds=(0, 1), constraints=LinearConstraint(needs.astype(float), 1, np.inf))
    return np.flatnonzero(found.x > 0.5)
