"""Which rows train, which choose the best epoch, and which are kept for the final metrics."""

from __future__ import annotations

import numpy as np

from deeptune.errors import DataError
from deeptune.spec.model import SplitSpec

SPLITS = ("train", "val", "test")
TRAIN, VAL, TEST = 0, 1, 2
_GROUP_BINS = 10  # quantile bins that group splits of a number are balanced by


def assign_splits(
    targets: np.ndarray,
    *,
    task: str,
    proportions: SplitSpec,
    groups: np.ndarray | None = None,
    seed: int,
    place: str = "data.split",
) -> np.ndarray:
    """A split code (int8: 0 train, 1 val, 2 test) for each row.

    `targets` are class indices (int64) or numbers (float64); `groups` are group codes (int64) whose equal
    values stay together. Without groups each class is within one row of its exact share in every split, and
    has at least one training row; numbers are dealt within runs of neighbouring quantiles in the same way.
    With groups the shares are as near as a greedy assignment gets (largest groups first). A split with
    proportion 0 is empty. Raises DataError when there are too few rows, or groups, for a wanted split.
    """
    share = np.array([proportions.train, proportions.val, proportions.test], np.float64)
    share /= share.sum()
    wanted = np.flatnonzero(share > 0)
    rng = np.random.default_rng(seed)
    unit, units = ("rows", len(targets)) if groups is None else ("groups", len(np.unique(groups)))
    if units < len(wanted):
        raise _too_few(units, unit, share, place)

    if groups is not None:
        bins = min(_GROUP_BINS, units // len(wanted))  # enough groups for each bin to be in every split
        codes = _by_group(_strata(targets, task, bins, rng), groups, share, rng)
    else:
        # neighbouring quantiles, each about as long as it takes to give the smallest split a row
        bins = max(1, int(len(targets) * share[wanted].min()))
        codes = _by_row(_strata(targets, task, bins, rng), share, rng)
    if len(np.unique(codes)) < len(wanted):
        raise _too_few(units, unit, share, place)
    return codes


def _too_few(units: int, unit: str, share: np.ndarray, place: str) -> DataError:
    parts = ", ".join(f"{name} {part:.3g}" for name, part in zip(SPLITS, share, strict=True) if part > 0)
    return DataError(
        f"{place}: {units:,} {unit} are too few for the splits asked for ({parts}): one of them would be empty",
        hint=f"Bring more {unit}, raise the smallest proportion, or set it to 0.",
    )


def _strata(targets: np.ndarray, task: str, bins: int, rng: np.random.Generator) -> np.ndarray:
    """Stratum codes 0, 1, …: the class, or the quantile bin of a number (ties broken at random)."""
    if task == "classification":
        return np.unique(targets, return_inverse=True)[1]
    order = np.lexsort((rng.random(len(targets)), targets))
    strata = np.empty(len(targets), np.int64)
    strata[order] = np.arange(len(targets)) * bins // len(targets)
    return strata


def _by_row(strata: np.ndarray, share: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    sizes = np.bincount(strata)
    exact = np.outer(sizes, share)
    # 1e-9: 0.7 × 10 is a hair below 7 in floating point
    counts = np.floor(exact + 1e-9).astype(np.int64)
    spare = exact - counts
    total = counts.sum(axis=0).astype(np.float64)
    goal = len(strata) * share
    # Every stratum hands its left-over rows to the splits that lack most, one each at the most.
    for stratum in rng.permutation(len(sizes)):
        left = int(sizes[stratum] - counts[stratum].sum())
        if left and counts[stratum, TRAIN] == 0:
            counts[stratum, TRAIN], spare[stratum, TRAIN] = 1, 0
            total[TRAIN] += 1
            left -= 1
        lack = np.where(spare[stratum] > 1e-9, goal - total + 1e-6 * spare[stratum], -np.inf)
        for split in np.argsort(-lack, kind="stable")[:left]:
            counts[stratum, split] += 1
            total[split] += 1

    codes = np.empty(len(strata), np.int8)
    shuffled = rng.permutation(len(strata))
    shuffled = shuffled[np.argsort(strata[shuffled], kind="stable")]
    codes[shuffled] = np.repeat(np.tile(np.arange(3, dtype=np.int8), len(sizes)), counts.ravel())
    return codes


def _by_group(strata: np.ndarray, groups: np.ndarray, share: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    group = np.unique(groups, return_inverse=True)[1]
    sizes = np.bincount(group)
    order = rng.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    # histogram of strata per group, as runs of (stratum, count) in a flat list
    pairs, pair_counts = np.unique(group * (strata.max() + 1) + strata, return_counts=True)
    pair_group, pair_stratum = np.divmod(pairs, strata.max() + 1)
    bounds = np.searchsorted(pair_group, np.arange(len(sizes) + 1)).tolist()

    wanted = np.flatnonzero(share > 0)
    goal = np.outer(share[wanted], np.bincount(strata))
    have = np.zeros_like(goal)
    choices = np.zeros(len(sizes), np.int64)  # positions in `wanted`
    # One choice depends on those before it, so this is a loop over groups: what is not `have` is prepared.
    counts = pair_counts.astype(np.float64)
    goals = goal[:, pair_stratum]
    for left, g in zip(range(len(order), 0, -1), order.tolist(), strict=True):
        here = slice(bounds[g], bounds[g + 1])
        stratum, count, aim = pair_stratum[here], counts[here], goals[:, here]
        now = have.take(stratum, axis=1)
        # growth of Σ (have − goal)² / goal if the group went there
        growth = (count * (2 * (now - aim) + count) / aim).sum(axis=1)
        if left <= len(wanted):  # the last groups go to splits that have none yet
            taken = have.any(axis=1)
            if left <= len(wanted) - taken.sum():
                growth[taken] = np.inf
        choice = growth.argmin()
        have[choice, stratum] = now[choice] + count
        choices[g] = choice
    of_group = wanted[choices].astype(np.int8)

    # A class without a training row cannot be learnt: its smallest group moves over.
    for unlearnt in np.flatnonzero(have[0] == 0):
        holders = pair_group[pair_stratum == unlearnt]
        of_group[holders[np.argmin(sizes[holders])]] = TRAIN
    return of_group[group]
