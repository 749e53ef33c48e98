"""Splits in which every label of multi-label data has its share."""

from __future__ import annotations

import numpy as np


def iterative_split(has: np.ndarray, share: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give each row of `has` (bool (N, L)) a split code (int8 (N,)).

    By the iterative stratification of Sechidis et al. 2011 (https://doi.org/10.1007/978-3-642-23808-6_10).
    The label with the fewest rows left is dealt first, each row to the split that lacks most of that label, then most
    rows. `share` (float64 (S,)) are the proportions of the splits; one of 0 stays empty.
    """
    rows = len(has)
    codes = np.full(rows, -1, np.int8)
    lack = share * rows
    lack_label = np.outer(share, has.sum(axis=0)).astype(np.float64)
    never = np.where(share > 0, 0.0, -np.inf)
    order = rng.permutation(rows)
    left = has.sum(axis=0)
    while (left > 0).any():
        label = int(np.where(left > 0, left, rows + 1).argmin())
        for row in order[has[order, label] & (codes[order] < 0)].tolist():
            wanted = lack_label[:, label] + never
            best = np.flatnonzero(wanted >= wanted.max() - 1e-9)
            split = best[0] if len(best) == 1 else best[lack[best].argmax()]
            codes[row] = split
            lack[split] -= 1
            lack_label[split, has[row]] -= 1
            left -= has[row]
        left[label] = 0
    for row in order[codes[order] < 0].tolist():  # rows without a label
        split = int((lack + never).argmax())
        codes[row] = split
        lack[split] -= 1
    return codes
