"""Warnings about the labels and splits of a run: known before its numbers are believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from deeptune.data.splits.duplicates import conflicting, duplicate_sets
from deeptune.data.splits.split_data import SplitData
from deeptune.errors import listed
from deeptune.spec.run_spec import SPLITS, RunSpec
from deeptune.spec.tasks import ROBUST, TASKS
from deeptune.tasks.base import EXAMPLE_SHARE, Task, wilson_text

MIN_ROWS = 100  # rows of val and test below which their metrics come with a word about their width
MIN_CLASS_ROWS = 10  # the same for the rows of a class
MIN_GROUPS = 10  # the same for groups, whose rows depend on one another


def class_warnings(task: Task, splits: Mapping[str, SplitData]) -> list[str]:
    """Return classes that a split holds no row of, such as those with fewer rows than splits."""
    counts = {split: task.counts(s.targets) for split, s in splits.items() if len(s)}
    whole = np.sum(list(counts.values()), axis=0)
    texts = []
    for split, count in counts.items():
        none = np.flatnonzero(count == 0)
        if len(none):
            which = listed(
                (f"{task.class_names[int(i)]} ({int(whole[i])} {'row' if whole[i] == 1 else 'rows'})" for i in none),
                most=5,
            )
            texts.append(
                f"{split} holds no row of {'class' if len(none) == 1 else 'classes'} {which}, "
                "so its metrics say nothing about that"
            )
    return texts


def sets_of(splits: Mapping[str, SplitData]) -> dict[str, np.ndarray]:
    """Return the `duplicate_sets` of the rows of all splits together, by split; none where no sample is there twice."""
    hashes = [data.hashes for data in splits.values() if data.hashes is not None]
    if len(hashes) < len(splits):
        return {}
    sets = duplicate_sets(np.concatenate(hashes))
    return dict(zip(splits, np.split(sets, np.cumsum(list(map(len, hashes)))[:-1]), strict=True)) if sets.any() else {}


def twin_rows(
    splits: Mapping[str, SplitData], sets: Mapping[str, np.ndarray], split: str, learned: Sequence[str] = ("train",)
) -> np.ndarray:
    """Return the rows (int64) of val or test whose sample is identical to one that a model learned from."""
    if split == "train" or not sets:
        return np.zeros(0, np.int64)
    others = np.concatenate([sets[other] for other in learned if other != split])
    return splits[split].rows[(sets[split] > 0) & np.isin(sets[split], others)]


def duplicate_warnings(splits: Mapping[str, SplitData], sets: Mapping[str, np.ndarray]) -> list[str]:
    """Find rows of val and test that are identical to a training row, and identical rows with different labels."""
    if not sets:
        return []
    texts = []
    for split in SPLITS[1:]:
        rows = twin_rows(splits, sets, split)
        if len(rows):
            apart = splits[split].source is not splits["train"].source
            way = (
                f"To remove them: leave them out of data.{split}"
                if apart
                else 'To prevent this: data.duplicates = "group" keeps identical samples in one split'
            )
            texts.append(
                f"{len(rows):,} of {len(splits[split]):,} {split} rows {'is' if len(rows) == 1 else 'are'} identical "
                "to a training row, so the score on them rewards memorisation "
                f"({listed(splits[split].source.where(int(row)) for row in rows)}). "
                f"metrics.json also has the score without them. {way}"
            )
    parts = list(splits.values())
    clash = conflicting(np.concatenate(list(sets.values())), np.concatenate([data.targets for data in parts]))
    if clash.any():
        split_of = np.repeat(list(splits), list(map(len, parts)))[clash]
        row_of = np.concatenate([data.rows for data in parts])[clash]
        places = (f"{split} {splits[split].source.where(row)}" for split, row in zip(split_of, row_of, strict=True))
        texts.append(
            f"{int(clash.sum()):,} rows are identical to another row with a different label, so no model gets all of "
            f"them right: {listed(places)}"
        )
    return texts


def outlier_warnings(
    splits: Mapping[str, SplitData], outside: Mapping[str, np.ndarray], name: str, spec: RunSpec
) -> list[str]:
    """Return labels far outside the others, given their rows by split, and what to do about them."""
    count = sum(map(len, outside.values()))
    if not count:
        return []
    low, middle, high = np.quantile(np.concatenate([data.targets for data in splits.values()]), [0.25, 0.5, 0.75])
    shown = (
        f"{split} {splits[split].source.where(int(row))} is {splits[split].target_of(int(row)):g}"
        for split, rows in outside.items()
        for row in rows
    )
    robust = [name for name in TASKS[spec.task].losses if name in ROBUST and spec.train.loss not in ROBUST]
    remedy = "".join(f'; train.loss = "{name}" gives such labels less weight' for name in robust[:1])
    return [
        f"{count:,} {'label lies' if count == 1 else 'labels lie'} far outside the others of column {name!r} (median "
        f"{middle:g}, middle half {low:g} to {high:g}): {listed(shown)}. Correct mistakes, or leave these rows out"
        f"{remedy}"
    ]


def small_split_notes(task: Task, splits: Mapping[str, SplitData]) -> dict[str, list[str]]:
    """Warn by split of what val and test are too small to decide."""
    return {
        split: size_notes(split, splits[split].targets, task, splits[split].groups)
        for split in SPLITS[1:]
        if len(splits[split])
    }


def size_notes(what: str, targets: np.ndarray, task: Task, groups: np.ndarray | None = None) -> list[str]:
    """Say what so few targets can't decide, in sentences that begin with `what`; none for enough of them."""
    rows, texts = len(targets), []
    count = f"{rows:,} {'row' if rows == 1 else 'rows'}"
    if 0 < rows < MIN_ROWS:
        texts.append(f"{what} has {count}: {task.uncertainty(rows)}, and smaller differences decide nothing")
    if groups is not None and 0 < (different := len(np.unique(groups))) < MIN_GROUPS:
        texts.append(
            f"{what} has rows of {different} {'group' if different == 1 else 'groups'} only, and rows of one group "
            "depend on each other: the metrics are less certain than the number of rows says"
        )
    counts = task.counts(targets)
    few = [int(i) for i in np.argsort(counts, kind="stable") if 0 < counts[i] < MIN_CLASS_ROWS]
    if few:
        shown = listed((f"{task.class_names[i]}: {counts[i]}" for i in few), most=5)
        least = int(counts[few[0]])
        texts.append(
            f"{what} has fewer than {MIN_CLASS_ROWS} rows of {len(few):,} of {task.classes:,} classes ({shown}): "
            f"a recall of {EXAMPLE_SHARE:.2f} on {least} {'row' if least == 1 else 'rows'} has a 95% interval of "
            f"{wilson_text(least)}"
        )
    return texts
