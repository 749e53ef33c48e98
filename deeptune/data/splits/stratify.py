"""Assigns rows to splits: training, choosing the best epoch, and the final metrics."""

from __future__ import annotations

import numpy as np

from deeptune.data.splits.few_groups import smallest_cover
from deeptune.errors import DataError
from deeptune.spec.run_spec import SPLITS, SplitSpec
from deeptune.tasks import Task

TRAIN, VAL, TEST = 0, 1, 2
_GROUP_BINS = 10  # quantile bins that group splits of a number are balanced by


def assign_splits(
    targets: np.ndarray,
    *,
    task: type[Task],
    proportions: SplitSpec,
    groups: np.ndarray | None = None,
    seed: int,
    place: str = "data.split",
) -> np.ndarray:
    """Return a split code (int8: 0 train, 1 val, 2 test) for each row.

    `targets` are class indices (int64) or numbers (float64); `groups` are group codes (int64) whose equal
    values stay together. Without groups each class is within one row of its exact share in every split, and
    has at least one training row. Rows that whole shares leave over go to the largest remainders, so a small class is
    in val where it is owed most of a row. Numbers are dealt within runs of neighbouring quantiles in the same way.
    With groups the shares are as near as a greedy assignment gets (largest groups first). A split with
    proportion 0 is empty. Raises DataError where no assignment gives each wanted split a row, or group, and train
    one of each class, or numbers that vary.
    """
    share = np.array([proportions.train, proportions.val, proportions.test], np.float64)
    share /= share.sum()
    wanted = np.flatnonzero(share > 0)
    rng = np.random.default_rng(seed)
    unit, units = ("rows", len(targets)) if groups is None else ("groups", len(np.unique(groups)))
    if units < len(wanted):
        raise _too_few(units, unit, share, place, "one of them would be empty")

    if groups is not None:
        bins = min(_GROUP_BINS, units // len(wanted))  # enough groups for each bin to be in every split
        strata, group = task.strata(targets, bins, rng), np.unique(groups, return_inverse=True)[1]
        codes = _by_group(strata, group, share, rng)
        needs = task.needed_in_train(group, targets)
        if len(np.unique(codes)) < len(wanted) or not _allowed(codes, group, needs):
            train = smallest_cover(needs, rng)
            if units - len(train) < len(wanted) - 1:
                left = units - len(train)
                why = (
                    f"train {task.TRAIN_NEEDS} with at least {len(train)} of them, which leaves {left or 'none'} "
                    "for the other splits"
                )
                raise _too_few(units, unit, share, place, why)
            codes = _by_group(strata, group, share, rng, train)
        return codes
    assigned = task.assign(targets, share, rng)
    if assigned is not None and len(np.unique(assigned)) == len(wanted):
        return assigned
    # neighbouring quantiles, each about as long as it takes to give the smallest split a row
    bins = max(1, int(len(targets) * share[wanted].min()))
    codes = _by_row(task.strata(targets, bins, rng), share, rng)
    if len(np.unique(codes)) < len(wanted):
        raise _too_few(units, unit, share, place, "each class needs a training row, and one of them would be empty")
    return codes


def _allowed(codes: np.ndarray, group: np.ndarray, needs: np.ndarray) -> bool:
    """Check whether train has one of each set of groups that it needs."""
    in_train = np.bincount(group, codes == TRAIN) > 0
    return bool(needs[:, in_train].any(axis=1).all())


def _too_few(units: int, unit: str, share: np.ndarray, place: str, why: str) -> DataError:
    parts = ", ".join(f"{name} {part:.3g}" for name, part in zip(SPLITS, share, strict=True) if part > 0)
    return DataError(
        f"{place}: {units:,} {unit} are too few for the splits asked for ({parts}): {why}",
        hint=f"Bring more {unit}, or set the proportion of val or test to 0.",
    )


def _by_row(strata: np.ndarray, share: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    sizes = np.bincount(strata)
    exact = np.outer(sizes, share)
    # 1e-9: 0.7 × 10 is a hair below 7 in floating point
    counts = np.floor(exact + 1e-9).astype(np.int64)
    spare = exact - counts
    # Ties have random numbers of their own: where no class is small, the rows of a split depend on the others alone.
    _deal_largest(counts, spare, len(strata) * share, rng.spawn(1)[0])
    total = counts.sum(axis=0).astype(np.float64)
    goal = len(strata) * share
    # What is left goes to the splits that lack most, one row of a stratum each at the most.
    for stratum in rng.permutation(len(sizes)):
        left = int(sizes[stratum] - counts[stratum].sum())
        lack = np.where(spare[stratum] > 1e-9, goal - total + 1e-6 * spare[stratum], -np.inf)
        for split in np.argsort(-lack, kind="stable")[:left]:
            counts[stratum, split] += 1
            total[split] += 1

    _fill_empty(counts, share)
    codes = np.empty(len(strata), np.int8)
    shuffled = rng.permutation(len(strata))
    shuffled = shuffled[np.argsort(strata[shuffled], kind="stable")]
    codes[shuffled] = np.repeat(np.tile(np.arange(3, dtype=np.int8), len(sizes)), counts.ravel())
    return codes


def _deal_largest(counts: np.ndarray, spare: np.ndarray, goal: np.ndarray, rng: np.random.Generator) -> None:
    """Deal the rows that whole shares leave over, by the largest remainder (the method of Hamilton).

    `counts` (strata × splits) grows, and `spare`, the rest of each exact share, is 0 where it did. A stratum without a
    training row is dealt one first. Ties are broken by chance.
    """
    left = np.rint(counts.sum(axis=1) + spare.sum(axis=1)).astype(np.int64) - counts.sum(axis=1)
    unlearned = (left > 0) & (counts[:, TRAIN] == 0)
    counts[unlearned, TRAIN], spare[unlearned, TRAIN] = 1, 0
    left -= unlearned
    room = goal - counts.sum(axis=0)
    pairs = rng.permutation(spare.size)
    for pair in pairs[np.argsort(-spare.ravel()[pairs].round(9), kind="stable")].tolist():
        stratum, split = divmod(pair, spare.shape[1])
        # a whole row has to fit, but for the rounding of the last one
        if left[stratum] and spare[stratum, split] > 1e-9 and room[split] > 0.5:
            counts[stratum, split] += 1
            spare[stratum, split] = 0
            left[stratum] -= 1
            room[split] -= 1


def _fill_empty(counts: np.ndarray, share: np.ndarray) -> None:
    """Move a row to each wanted split that has none, where a split or, in train, a stratum has more than one."""
    for split in np.flatnonzero((share > 0) & (counts.sum(axis=0) == 0)):
        spare = counts * (counts.sum(axis=0) > 1)
        spare[:, TRAIN] = counts[:, TRAIN] - 1
        stratum, donor = np.unravel_index(spare.argmax(), spare.shape)
        if spare[stratum, donor] > 0:
            counts[stratum, donor] -= 1
            counts[stratum, split] += 1


def _by_group(
    strata: np.ndarray,
    group: np.ndarray,
    share: np.ndarray,
    rng: np.random.Generator,
    train: np.ndarray | None = None,
) -> np.ndarray:
    """Assign splits by group. `group` are codes 0, 1, …; those in `train` are in the training split from the start."""
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
    if train is not None:
        order = order[~np.isin(order, train)]
        have[0] = np.bincount(strata[np.isin(group, train)], minlength=have.shape[1])
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

    # A class without a training row cannot be learned: its smallest group moves over, unless `train` has all that must.
    for unlearned in np.flatnonzero(have[0] == 0) if train is None else ():
        holders = pair_group[pair_stratum == unlearned]
        of_group[holders[np.argmin(sizes[holders])]] = TRAIN
    return of_group[group]
