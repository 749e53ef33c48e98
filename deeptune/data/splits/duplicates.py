"""Samples that are identical, byte for byte, by their hashes (`data/cache/sample_hashes.py`), and what follows."""

from __future__ import annotations

import numpy as np


def twins(hashes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Find which samples are identical to one of `others` (bool (N,)), by the hashes of both."""
    return (hashes != 0) & np.isin(hashes, others)


def duplicate_sets(hashes: np.ndarray) -> np.ndarray:
    """Return the number of the set of identical samples that each sample is in (int64 (N,)): 1, 2, ….

    0 for a unique one.
    """
    _, sets, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    repeated = (counts[sets] > 1) & (hashes != 0)
    numbers = np.zeros(len(hashes), np.int64)
    numbers[repeated] = np.unique(sets[repeated], return_inverse=True)[1] + 1
    return numbers


def conflicting(sets: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Find samples that are identical to another with another target (bool (N,)), by their `duplicate_sets`."""
    if targets.ndim > 1:
        targets = np.unique(np.nan_to_num(targets), axis=0, return_inverse=True)[1].ravel()
    lowest = np.full(sets.max(initial=0) + 1, np.inf)
    highest = -lowest
    repeated = sets > 0
    np.minimum.at(lowest, sets[repeated], targets[repeated])
    np.maximum.at(highest, sets[repeated], targets[repeated])
    return repeated & (lowest < highest)[sets]


def kept_together(hashes: np.ndarray, groups: np.ndarray | None) -> np.ndarray | None:
    """Return codes (int64 (N,)) of groups that keep together identical samples, and the rows of each of `groups`.

    None without `groups` and duplicates: every row is then by itself.
    """
    sets = duplicate_sets(hashes)
    if not sets.any():
        return groups
    own = np.where(sets > 0, sets - 1, sets.max() + np.arange(len(sets)))  # a set of its own for each unique sample
    if groups is None:
        return own
    from scipy.sparse import coo_array  # a tenth of a second
    from scipy.sparse.csgraph import connected_components

    # A graph of groups and sets, in which a row links its group with its set.
    group = np.unique(groups, return_inverse=True)[1]
    size = group.max() + 1 + own.max() + 1
    links = coo_array((np.ones(len(own), np.int8), (group, group.max() + 1 + own)), shape=(size, size))
    return connected_components(links, directed=False)[1][group].astype(np.int64)
