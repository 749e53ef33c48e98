"""Drawing the splits that have no file of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from deeptune.data.splits.duplicates import kept_together, twins
from deeptune.data.splits.folds import require_folds
from deeptune.data.splits.split_data import SplitData
from deeptune.data.splits.split_part import Part
from deeptune.data.splits.stratify import TRAIN, VAL, assign_splits
from deeptune.errors import DataError
from deeptune.spec.run_spec import SPLITS, RunSpec, SplitSpec
from deeptune.tasks import Task


def group_duplicates(parts: Mapping[str, Part]) -> None:
    """Put identical samples into one group. Raises DataError for those that are in two given splits."""
    seen: list[tuple[str, np.ndarray]] = []
    for split, part in parts.items():
        assert part.hashes is not None
        for other, hashes in seen:
            rows = part.rows[twins(part.hashes, hashes)]
            if len(rows):
                raise DataError(
                    f"data.duplicates: {len(rows):,} of {len(part.rows):,} rows of data.{split} are identical to a "
                    f"row of data.{other}: {part.wheres(rows)}",
                    hint="Leave them out of one of the splits, let DeepTune draw the splits, or set "
                    'data.duplicates = "keep".',
                )
        seen.append((split, part.hashes))
        part.groups = kept_together(part.hashes, part.groups)


def draw_splits(spec: RunSpec, task: Task, parts: Mapping[str, Part], warnings: list[str]) -> dict[str, SplitData]:
    """Draw the splits without a file of their own from train, in proportion."""
    train = parts["train"]
    wanted = spec.data.split.model_dump()
    drawn = {split: 0.0 if split in parts and split != "train" else wanted[split] for split in SPLITS}
    proportions = SplitSpec(**{split: share / sum(drawn.values()) for split, share in drawn.items()})
    codes = assign_splits(
        train.targets, task=type(task), proportions=proportions, groups=train.groups, seed=spec.train.seed
    )
    if spec.train.val == "cv":  # drawn first all the same, so that test is that of a run with val
        codes = np.where(codes == VAL, TRAIN, codes)
    together = " and ".join(_kept_in_one_split(spec))
    splits: dict[str, SplitData] = {}
    for code, split in enumerate(SPLITS):
        if split in parts and split != "train":
            splits[split] = parts[split].data()
            continue
        here = codes == code
        splits[split] = train.data(here)
        asked, got = getattr(proportions, split), float(here.mean())
        if spec.train.val == "cv" and split != "test":
            continue
        if train.groups is not None and abs(got - asked) > max(0.05, 0.25 * asked):
            warnings.append(
                f"{split} holds {got:.0%} of the rows instead of {asked:.0%}, because {together} stay together"
            )
    if spec.train.val == "cv":
        require_folds(splits["train"], spec.data.group)
    return splits


def _kept_in_one_split(spec: RunSpec) -> Iterator[str]:
    if spec.data.group is not None:
        yield f"rows of one {spec.data.group!r}"
    if spec.data.duplicates == "group":
        yield "identical samples"
