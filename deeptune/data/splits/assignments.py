"""Assigning the rows of a file to splits for keeps: at random, by time, by site, or in folds.

Labels, groups and strata are those of a run (`planner.py`), so a split that is written here is one that a run would
draw; `data.split_column` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from deeptune.arrow import bare, is_text, keys_of, shown
from deeptune.data.sources.source import Source
from deeptune.data.splits.given_split import LEFT_OUT
from deeptune.data.splits.planner import PlanDraft, draft_plan, plan_data
from deeptune.data.splits.stratify import TEST, TRAIN, VAL, assign_splits
from deeptune.errors import DataError, SpecError, first_line, listed
from deeptune.spec.run_spec import SPLITS, RunSpec, SplitSpec
from deeptune.tasks import Task


@dataclass(frozen=True)
class SplitMethod:
    """The way to assign rows to splits: at random by the spec if nothing is given, else by one of these.

    `time` names a column: test is the latest rows, val those before. `site` names a column: each of its values is
    test once. `folds` is the number of folds, each of which is test once.
    """

    time: str | None = None
    site: str | None = None
    folds: int | None = None

    def __post_init__(self) -> None:
        if sum(one is not None for one in (self.time, self.site, self.folds)) > 1:
            raise SpecError("--time, --leave-out and --folds exclude each other", hint="Choose one of them.")
        if self.folds is not None and not 2 <= self.folds <= 100:
            raise SpecError(f"--folds: expected 2 to 100, got {self.folds}")

    def __str__(self) -> str:
        """Return the way as people name it."""
        if self.time is not None:
            return f"by time, column {self.time!r}"
        if self.site is not None:
            return f"leave one out, column {self.site!r}"
        return f"{self.folds} folds" if self.folds is not None else "at random"


@dataclass
class Assignment:
    """The splits of all rows of a source: by the name of each split column, codes (int8) as `GivenSplit` has them.

    `tests` say what each column's test rows are, where there are several. `task` is fitted to the labels of all rows.
    """

    source: Source
    modality: str
    task: Task
    columns: dict[str, np.ndarray]
    targets: np.ndarray
    rows: np.ndarray
    groups: np.ndarray | None = None
    tests: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Count rows, classes and groups of each split, as JSON values."""
        return {column: self._counts(codes) for column, codes in self.columns.items()}

    def _counts(self, codes: np.ndarray) -> dict[str, Any]:
        here = codes[self.rows]
        sizes: dict[str, Any] = {}
        for code, split in enumerate(SPLITS):
            targets = self.targets[here == code]
            sizes[split] = {"rows": len(targets)}
            if self.task.classes:
                counts = self.task.counts(targets).tolist()
                sizes[split]["classes"] = dict(zip(self.task.class_names, counts, strict=True))
            if self.groups is not None:
                sizes[split]["groups"] = len(np.unique(self.groups[here == code]))
        return sizes


def assign(spec: RunSpec, way: SplitMethod, column: str = "split") -> Assignment:
    """Assign the rows of `data.path`. Rows without a label are left out, or an error, by `data.on_bad_sample`.

    Raises DataError as a run does, and where a column can't be ordered or has one value.
    """
    spec = spec.model_copy(update={"data": spec.data.model_copy(update={"split_column": "none"})})
    if way == SplitMethod():
        return _at_random(spec, column)
    if spec.data.duplicates == "group":
        raise SpecError(
            "--duplicates: `group` is for random splits, and not for --time, --leave-out or --folds",
            hint="Leave it out. `deeptune audit --split-column` lists identical samples that cross the written splits.",
        )
    draft = draft_plan(spec)
    part = draft.parts["train"]
    assignment = Assignment(part.source, draft.modality, draft.task, {}, part.targets, part.rows, part.groups)
    if way.time is not None:
        assignment.columns[column] = _whole(assignment, _by_time(spec, assignment, way.time))
        return assignment
    place, folds, names = _folds(spec, draft, way)
    for fold, name in enumerate(names):
        codes = np.full(len(part.rows), TEST, np.int8)
        rest = folds != fold
        codes[rest] = _train_and_val(spec, draft, rest, place)
        assignment.columns[f"{column}_{fold + 1}"] = _whole(assignment, codes)
        assignment.tests[f"{column}_{fold + 1}"] = name
    return assignment


def _at_random(spec: RunSpec, column: str) -> Assignment:
    """Return the split that a run draws. Samples are read only where identical ones stay together."""
    whole = spec.data.duplicates == "group"
    plan = plan_data(spec) if whole else draft_plan(spec).finish(lambda _source, _rows: [])
    source = plan.splits["train"].source
    parts = [plan.splits[split] for split in SPLITS]
    rows = np.concatenate([part.rows for part in parts])
    order = np.argsort(rows)
    codes = np.repeat(np.arange(3, dtype=np.int8), [len(part) for part in parts])[order]
    targets = np.concatenate([part.targets for part in parts])[order]
    groups = [part.groups for part in parts if part.groups is not None]
    assignment = Assignment(
        source,
        plan.modality,
        plan.task,
        {},
        targets,
        rows[order],
        np.concatenate(groups)[order] if len(groups) == 3 else None,
    )
    assignment.warnings = [text for text in plan.warnings if "left out" not in text]
    assignment.columns[column] = _whole(assignment, codes)
    return assignment


def _whole(found: Assignment, codes: np.ndarray) -> np.ndarray:
    whole = np.full(found.source.num_rows, LEFT_OUT, np.int8)
    whole[found.rows] = codes
    return whole


def _by_time(spec: RunSpec, found: Assignment, column: str) -> np.ndarray:
    """Train is the earliest rows and test the latest. Rows of one time are in one split."""
    found.source.require(column, key="--time")
    times = _ordered(found.source, column, found.rows)
    order = np.unique(times, return_inverse=True)[1]
    share, rows = spec.data.split, len(order)
    at = np.sort(order)
    codes = np.full(rows, TRAIN, np.int8)
    cuts = {VAL: rows - round(rows * (share.val + share.test)), TEST: rows - round(rows * share.test)}
    for code, first in cuts.items():
        if first < rows:
            codes[order >= at[first]] = code
    if not (codes == TRAIN).any():
        raise DataError(
            f"--time: column {column!r} has too few different times: no row is before those of val and test",
            hint="Choose a finer column, or smaller shares.",
        )
    if found.groups is not None:
        both = np.intersect1d(found.groups[codes == TRAIN], found.groups[codes != TRAIN])
        if len(both):
            found.warnings.append(
                f"{len(both):,} groups of column {spec.data.group!r} have rows before and after the cut, so they are "
                "in train and in val or test"
            )
    return codes


def _ordered(source: Source, column: str, rows: np.ndarray) -> np.ndarray:
    """Return the values of a column that have an order: numbers, dates, times, or texts in ISO 8601."""
    values = source.take(column, rows)
    kind = bare(values.type)
    if is_text(kind):
        try:
            values = pc.cast(values, pa.timestamp("us"))
        except pa.ArrowInvalid as error:
            raise DataError(
                f"--time: column {column!r} holds texts that are not dates: {first_line(error)}",
                hint="Write dates in ISO 8601, such as 2024-05-31 or 2024-05-31T10:00:00.",
            ) from error
    elif not (pt.is_temporal(kind) or pt.is_integer(kind) or pt.is_floating(kind)):
        raise DataError(
            f"--time: column {column!r} holds {kind}, which has no order in time",
            hint="Name a column of numbers, dates or ISO 8601 texts.",
        )
    absent = pc.is_null(values, nan_is_null=True).to_numpy()
    if absent.any():
        raise DataError(
            f"--time: {int(absent.sum()):,} values of column {column!r} are null: "
            f"{listed(source.where(int(row)) for row in rows[absent])}",
            hint="Fill them in, or leave these rows out.",
        )
    numbers = values.to_numpy()
    return numbers.astype(np.int64) if numbers.dtype.kind == "M" else numbers


def _folds(spec: RunSpec, draft: PlanDraft, way: SplitMethod) -> tuple[str, np.ndarray, list[str]]:
    """Return the option, the fold of each row (int64), and the name of each fold."""
    part = draft.parts["train"]
    if way.site is not None:
        part.source.require(way.site, key="--leave-out")
        keys = keys_of(part.source.take(way.site, part.rows))
        if keys is None or keys.null_count:
            what = "holds lists or records" if keys is None else f"has {keys.null_count:,} null values"
            raise DataError(f"--leave-out: column {way.site!r} {what}", hint="Each row needs one plain value.")
        encoded = keys.combine_chunks().dictionary_encode()
        values = encoded.dictionary
        order = pc.array_sort_indices(values).to_numpy()
        if not 2 <= len(values) <= 100:
            raise DataError(
                f"--leave-out: column {way.site!r} has {len(values):,} values, and 2 to 100 were expected",
                hint="Name a column such as a hospital or a scanner.",
            )
        _require_groups_inside(spec, part.groups, encoded.indices.to_numpy(), way.site)
        names = [shown(values[int(place)]) for place in order]
        return "--leave-out", np.argsort(order)[encoded.indices.to_numpy()], names
    assert way.folds is not None
    return "--folds", _stratified(spec, draft, way.folds), [f"fold {fold + 1}" for fold in range(way.folds)]


def _require_groups_inside(spec: RunSpec, groups: np.ndarray | None, sites: np.ndarray, column: str) -> None:
    if groups is None:
        return
    pairs = np.unique(np.stack([groups, sites], axis=1), axis=0)
    crossing = len(pairs) - len(np.unique(groups))
    if crossing:
        raise DataError(
            f"--leave-out: {crossing:,} groups of column {spec.data.group!r} have rows in several values of {column!r}",
            hint="Such a group would be in train and test: give it one value, or leave --group out.",
        )


def _stratified(spec: RunSpec, draft: PlanDraft, folds: int) -> np.ndarray:
    """Draw folds of equal size in which each class, label or range of numbers has its share."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    part, task, seed = draft.parts["train"], type(draft.task), spec.train.seed
    rng = np.random.default_rng(seed)
    units = len(part.rows) if part.groups is None else len(np.unique(part.groups))
    unit = "rows" if part.groups is None else "groups"
    if units < folds:
        raise DataError(f"--folds: {units:,} {unit} are too few for {folds} folds", hint="Ask for fewer folds.")
    if part.groups is None and (codes := task.assign(part.targets, np.full(folds, 1 / folds), rng)) is not None:
        return codes.astype(np.int64)
    strata = task.strata(part.targets, max(1, min(10, units // folds)), rng)
    # Strata with fewer rows than folds can't be in each of them, and count as one.
    rare = np.bincount(strata)[strata] < folds
    strata = np.where(rare, strata.max() + 1, strata)
    kind = StratifiedKFold if part.groups is None else StratifiedGroupKFold
    found = np.zeros(len(strata), np.int64)
    import warnings

    with warnings.catch_warnings(action="ignore"):  # of classes with fewer members than folds
        parts = list(kind(folds, shuffle=True, random_state=seed).split(strata, strata, part.groups))
    for fold, (_, test) in enumerate(parts):
        found[test] = fold
    if len(np.unique(found)) < folds:
        raise DataError(f"--folds: {units:,} groups can't fill {folds} folds", hint="Ask for fewer folds.")
    return found


def _train_and_val(spec: RunSpec, draft: PlanDraft, rest: np.ndarray, place: str) -> np.ndarray:
    """Draw codes of the rows that are not test: val in its proportion of them, and train."""
    part, share = draft.parts["train"], spec.data.split
    whole = share.train + share.val
    proportions = SplitSpec(train=share.train / whole, val=share.val / whole, test=0.0)
    return assign_splits(
        part.targets[rest],
        task=type(draft.task),
        proportions=proportions,
        groups=None if part.groups is None else part.groups[rest],
        seed=spec.train.seed,
        place=place,
    )


def names_of(codes: np.ndarray) -> pa.Array:
    """Return codes as train, val and test; null for rows that are left out."""
    indices = pa.array(codes, pa.int8(), mask=codes == LEFT_OUT)
    return pa.DictionaryArray.from_arrays(indices, pa.array(SPLITS)).cast(pa.string())


def flat_counts(summary: Mapping[str, Any]) -> list[tuple[str, int, int, int]]:
    """List (what, train, val, test) of a split column: its rows, its groups if there are any, then each class."""
    rows: list[tuple[str, int, int, int]] = [("rows", *(summary[split]["rows"] for split in SPLITS))]
    if "groups" in summary["train"]:
        rows.append(("groups", *(summary[split]["groups"] for split in SPLITS)))
    for name in summary["train"].get("classes", {}):
        rows.append((name, *(summary[split]["classes"][name] for split in SPLITS)))
    return rows
