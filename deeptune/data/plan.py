"""Everything that is decided about the data before training starts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deeptune.arrow import as_type, keys_of, promote, shared, shown
from deeptune.data.caveats import (
    class_warnings,
    duplicate_warnings,
    outlier_warnings,
    sets_of,
    small_split_notes,
    twin_rows,
)
from deeptune.data.depth import Range, range_of, range_text
from deeptune.data.duplicates import kept_together, twins
from deeptune.data.inputs import BadSample, Checked, attach_files, check_samples, resolve_columns
from deeptune.data.kept import require_kept
from deeptune.data.labels import ClassLabels, Labels, NumberLabels, check_type, missing, numbers
from deeptune.data.modalities.base import Progress
from deeptune.data.naming import LabelColumn, Relabel, naming_warnings, relabelling
from deeptune.data.outliers import outliers
from deeptune.data.parquet import ParquetSource
from deeptune.data.source import Source
from deeptune.data.splits import SPLITS, SplitData, assign_splits
from deeptune.errors import DataError, listed
from deeptune.spec.modalities import Input, input_words
from deeptune.spec.model import RunSpec, SplitSpec

__all__ = [
    "BadSample",
    "DataPlan",
    "PlanDraft",
    "SplitData",
    "check_samples",
    "draft_plan",
    "open_sources",
    "plan_data",
    "planned",
    "read_targets",
    "resolve_columns",
    "sources_fingerprint",
]


@dataclass(frozen=True)
class DataPlan:
    """What a run learns from. A split may be empty, but train never is.

    `blank` holds (split, row) of samples to be replaced by an empty one; `bad_samples` lists them and the skipped.
    `value_range` is that of images of more than 8 bits, None where no training row has such. `limits` say, by split,
    what val and test are too small to decide. `outside` are the rows, by split, whose number is far from the others.
    `sets` are the `duplicate_sets` of the rows of all splits, or empty where no sample is there twice.
    """

    task: str
    modality: str
    input: Input
    label: str
    group: str | None
    labels: Labels
    splits: dict[str, SplitData]
    bad_samples: list[BadSample] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    blank: frozenset[tuple[str, int]] = frozenset()
    value_range: Range | None = None
    notes: list[str] = field(default_factory=list)
    limits: dict[str, list[str]] = field(default_factory=dict)
    outside: dict[str, np.ndarray] = field(default_factory=dict)
    sets: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def remarks(self) -> list[str]:
        """`notes`, then `limits` of all splits."""
        return [*self.notes, *(note for notes in self.limits.values() for note in notes)]

    @property
    def outputs(self) -> int:
        """Number of logits: one per class, or 1."""
        return len(self.labels) if isinstance(self.labels, ClassLabels) else 1

    @property
    def fingerprint(self) -> str:
        """`sources_fingerprint` of the splits' sources."""
        return sources_fingerprint({split: data.source for split, data in self.splits.items()})

    def blank_rows(self, split: str) -> frozenset[int]:
        return frozenset(row for where, row in self.blank if where == split)

    def errors(self, split: str) -> dict[int, str]:
        """Why rows of a split can't be used, by row: rows replaced by an empty sample, and rows left out of a file
        that is this split alone. What is left out of a file before splits are drawn from it belongs to none of them.
        """
        data = self.splits[split]
        shared = any(len(other) and other.source is data.source for name, other in self.splits.items() if name != split)
        return {
            bad.row: bad.reason
            for bad in self.bad_samples
            if bad.split == split and not (shared and (split, bad.row) not in self.blank)
        }

    def all_rows(self, split: str) -> np.ndarray:
        """The rows of a split and those in `errors` that are left out of it (int64, ascending)."""
        return np.union1d(self.splits[split].rows, np.array(list(self.errors(split)), np.int64))

    def truth(self, split: str) -> np.ndarray:
        """The targets of `all_rows`. −1 or NaN for a row that was left out and whose label is missing or no class."""
        column = LabelColumn.read(self.splits[split].source, self.label, task=self.task)
        values = column.values.take(pa.array(self.all_rows(split)))
        if isinstance(self.labels, ClassLabels):
            found = self.labels.find(values, label_names=column.names)
            return pc.fill_null(found, -1).to_numpy().astype(np.int64)
        return np.where(missing(values), np.nan, values.to_numpy().astype(np.float64))

    def doubtful(self, split: str) -> dict[str, np.ndarray]:
        """Rows (int64) of a split by why a score without them is worth a look; a reason without rows is not there."""
        found = {
            "duplicates": twin_rows(self.splits, self.sets, split),
            "outliers": self.outside.get(split, np.zeros(0, np.int64)),
        }
        return {reason: rows for reason, rows in found.items() if len(rows)}

    def relabelling(self, split: str) -> Relabel | None:
        """What gives labels in a split's file the values of this plan's classes, where they are others."""
        return relabelling(LabelColumn.read(self.splits[split].source, self.label, task=self.task), self.labels)

    def splits_table(self) -> pa.Table:
        """row, split, label (the class's own value or the number), then group, file and duplicate_set (a number that
        identical samples share, null for others) where there are such.

        `row` is the index in the split's own source; `file` is there when the rows come from several files.
        """
        several = len({file for data in self.splits.values() for file in data.source.files}) > 1
        parts = []
        for split in SPLITS:
            data = self.splits[split]
            if len(data) == 0:
                continue
            decode = self.labels.decode_all if isinstance(self.labels, ClassLabels) else pa.array
            columns: dict[str, pa.Array | pa.ChunkedArray] = {
                "row": pa.array(data.rows, pa.int64()),
                "split": pa.array([split] * len(data), pa.string()),
                "label": decode(data.targets),
            }
            if self.group is not None:
                columns["group"] = as_type(data.source.take(self.group, data.rows), self._group_type())
            if several:
                columns["file"] = pa.array(data.source.file_of(data.rows), pa.string())
            if self.sets:
                columns["duplicate_set"] = pa.array(self.sets[split], mask=self.sets[split] == 0)
            parts.append(pa.table(columns))
        return pa.concat_tables(parts).combine_chunks()

    def _group_type(self) -> pa.DataType:
        """The type of the groups of all splits together."""
        assert self.group is not None
        kind = shared([data.source.types[self.group] for data in self.splits.values()])
        assert kind is not None  # or there would be no plan
        return kind


def read_targets(source: Source, label: str, labels: Labels) -> np.ndarray:
    """Targets of all rows of a source (int64 class indices or float64) in the terms of `labels`, as for an evaluation.

    Classes are compared by name where the file names them. Raises DataError for a missing column or label, a type that
    does not fit, or an unknown class.
    """
    source.require(label, key="data.label")
    if isinstance(labels, NumberLabels):
        column = LabelColumn.read(source, label, task="regression")
        return labels.encode(column.values, name=label, place=source.key)
    column = LabelColumn.read(source, label, task="classification")
    return labels.encode(column.values, label_names=column.names, name=label, place=source.key)


def open_sources(spec: RunSpec) -> dict[str, ParquetSource]:
    """The files of each split that has its own; under `train` alone those that all splits are drawn from.

    Raises DataError for files that can't be opened, that hold no rows, or that are in two splits, also as a copy.
    """
    data = spec.data
    if data.path is not None:
        named = {"path": data.path}
    else:
        paths = {"train": data.train, "val": data.val, "test": data.test}
        named = {split: path for split, path in paths.items() if path is not None}
    owner: dict[str, str] = {}
    sources = {}
    for key, path in named.items():
        source = Source.open(path, key=f"data.{key}", root=data.root)
        if source.num_rows == 0:
            raise DataError(f"{source.key}: {source.describe()} has no rows", hint="There is nothing to learn from.")
        for file in source.files:
            other = owner.setdefault(str(file.resolve()), key)
            if other != key:
                raise DataError(f"data.{key}: {file} is also in data.{other}", hint="A row belongs in one split only.")
        sources["train" if key == "path" else key] = source
    _refuse_copies(sources)
    with suppress(DataError):  # what is wrong with the columns `draft_plan` says
        modality, input = resolve_columns(sources["train"], data.modality, data.input)
        for source in sources.values():
            attach_files(source, modality, input)
    return sources


def _refuse_copies(sources: Mapping[str, ParquetSource]) -> None:
    """Files of two splits with the same bytes; only those of the same size are read."""
    sizes: dict[int, list[tuple[str, Path]]] = {}
    for split, source in sources.items():
        for file in source.files:
            alike = sizes.setdefault(source.size(file), [])
            for other, before in alike:
                if other != split and sources[other].digest(before) == source.digest(file):
                    raise DataError(
                        f"data.{split}: {file} has the same bytes as {before} of data.{other}",
                        hint="A row belongs in one split only: name the file that was meant, or leave this split out.",
                    )
            alike.append((split, file))


def sources_fingerprint(sources: Mapping[str, Source]) -> str:
    """`sha256:` of the contents of all files, and of which split they are for when they differ."""
    prints = {split: sources.get(split, sources["train"]).fingerprint() for split in SPLITS}
    if len(set(prints.values())) == 1:
        return prints["train"]
    return "sha256:" + hashlib.sha256(json.dumps(prints).encode()).hexdigest()


def plan_data(
    spec: RunSpec, *, sources: Mapping[str, Source] | None = None, progress: Progress | None = None
) -> DataPlan:
    """Check every row of the files, and assign the splits. Decodes every image once, as the full check.

    `sources` are those of `open_sources(spec)`, opened here when left out. `progress(done, total)` counts checked
    samples. Raises DataError with what is wrong, where, and what to do.
    """
    draft = draft_plan(spec, sources=sources)

    def look(value_range: Range | None) -> dict[Source, Checked]:
        return {
            source: check_samples(source, draft.input, draft.modality, None, step, value_range)
            for source, step in draft.sources(progress)
        }

    return planned(draft, look)[0]


S = TypeVar("S", bound=Checked)


def planned(
    draft: PlanDraft, look: Callable[[Range | None], Mapping[Source, S]]
) -> tuple[DataPlan, Mapping[Source, S]]:
    """The plan, with what was found of the samples of each source.

    `look(value_range)` checks or makes them all. It is called again when the first look finds images of more than
    8 bits and `data.value_range` is "auto": the range is then that of the training rows.
    """
    given = draft.spec.data.value_range
    value_range = (given[0], given[1]) if isinstance(given, list) else None
    found = look(value_range)
    if given == "auto" and any(one.deep for one in found.values()):
        value_range = _training_range(draft, found)
        found = found if value_range is None else look(value_range)
    plan = draft.finish(lambda source, rows: found[source].bad(rows), lambda source: found[source].hashes)
    if value_range is not None:
        plan = replace(plan, value_range=value_range, notes=_range_notes(plan, found, value_range, given == "auto"))
    return plan, found


def _training_range(draft: PlanDraft, found: Mapping[Source, Checked]) -> Range | None:
    sources = {part.split or "train": part.source for part in draft.parts.values()}
    again = draft_plan(draft.spec, sources=sources)
    train = again.finish(
        lambda source, rows: found[source].bad(rows, deep=False), lambda source: found[source].hashes
    ).splits["train"]
    deep = found[train.source].deep
    return range_of(deep[row] for row in train.rows.tolist() if row in deep)


def _range_notes(plan: DataPlan, found: Mapping[Source, Checked], value_range: Range, auto: bool) -> list[str]:
    """What there is to say of images of more than 8 bits; nothing where a range was given and there are none."""
    rows = {split: int(np.isin(data.rows, found[data.source].clipped).sum()) for split, data in plan.splits.items()}
    where = "found on the training rows" if auto else "data.value_range"
    notes = [f"images of more than 8 bits: values {range_text(value_range)} become grey levels 0 to 255 ({where})"]
    if any(rows.values()):
        counts = ", ".join(
            f"{count:,} of {len(plan.splits[split]):,} in {split}" for split, count in rows.items() if count
        )
        notes.append(f"rows with values outside of {range_text(value_range)}, which are clipped: {counts}")
    return notes


def draft_plan(spec: RunSpec, *, sources: Mapping[str, Source] | None = None) -> PlanDraft:
    """What the columns of labels and groups say. Raises as `plan_data` does, but for samples."""
    data = spec.data
    sources = open_sources(spec) if sources is None else sources
    parts = {
        split: _Part(split if len(sources) > 1 else None, source, np.arange(source.num_rows), np.empty(0))
        for split, source in sources.items()
    }
    modality, input = _check_columns(spec, parts)
    for part in parts.values():
        _leave_out_unlabelled(part, data.label, data.on_bad_sample)
    classes = _encode_labels(spec, parts)
    if data.group is not None:
        _encode_groups(data.group, parts)
    return PlanDraft(spec, parts, modality, input, classes)


@dataclass(frozen=True)
class PlanDraft:
    """A plan for which no sample was looked at yet."""

    spec: RunSpec
    parts: Mapping[str, _Part]
    modality: str
    input: Input
    classes: ClassLabels | None

    def sources(self, progress: Progress | None) -> Iterator[tuple[Source, Progress | None]]:
        """Each source whose samples are needed, with a progress of its own that `progress` gets as one over all."""
        total, before = sum(part.source.num_rows for part in self.parts.values()), 0
        for part in self.parts.values():
            yield part.source, progress and _shifted(progress, before, total)
            before += part.source.num_rows

    def finish(
        self,
        unusable: Callable[[Source, np.ndarray], list[BadSample]],
        hashes: Callable[[Source], np.ndarray] | None = None,
    ) -> DataPlan:
        """`unusable(source, rows)` says which of some rows have a sample that can't be used. `hashes(source)`, which is
        asked next, gives the hash of every sample (`content_hashes`); without it, duplicates stay unknown.
        """
        spec, parts, data = self.spec, self.parts, self.spec.data
        _check_inputs(parts, self.input, data.on_bad_sample, unusable)
        if hashes is not None:
            for part in parts.values():
                part.take_hashes(hashes(part.source))
            if data.duplicates == "group":
                _group_duplicates(parts)
        warnings: list[str] = []
        splits = _draw(spec, parts, warnings)
        labels: Labels
        outside: dict[str, np.ndarray] = {}
        if self.classes is not None:
            warnings += naming_warnings({s: part.labels for s, part in parts.items()}, self.classes, data.label)
            labels, splits = _forget_unseen(self.classes, splits, data.label)
            warnings += class_warnings(labels, splits)
        else:
            outside, train = _outside(splits), splits["train"]
            # Huber's loss bounds the pull of whatever is more than one deviation off: of one that a slip did not make.
            near = ~np.isin(train.rows, outside["train"]) if spec.train.loss == "huber" else slice(None)
            labels = NumberLabels.fit(train.targets[near], name=data.label)
            warnings += outlier_warnings(splits, outside, data.label, spec.train.loss)
        sets = sets_of(splits)
        warnings += duplicate_warnings(splits, sets)

        bad = [_with_split(sample, part, splits) for part in parts.values() for sample in part.bad]
        blank = frozenset((s.split, s.row) for s in bad if s.split and _holds(splits[s.split].rows, s.row))
        if bad:
            counts = {"left out": len(bad) - len(blank), "replaced by an empty sample": len(blank)}
            total = sum(part.source.num_rows for part in parts.values())
            done = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
            warnings.append(f"{len(bad):,} of {total:,} samples cannot be used: {done}")
        limits = small_split_notes(labels, splits)
        return DataPlan(
            spec.task, self.modality, self.input, data.label, data.group, labels, splits, bad, warnings, blank,
            limits=limits, outside=outside, sets=sets,
        )  # fmt: skip


@dataclass
class _Part:
    """One source while the plan is made: the rows still in use (ascending), and what is known of each."""

    split: str | None  # None: the only source, from which all splits are drawn
    source: Source
    rows: np.ndarray
    targets: np.ndarray
    labels: LabelColumn = field(init=False)
    groups: np.ndarray | None = None
    hashes: np.ndarray | None = None
    bad: list[BadSample] = field(default_factory=list)

    def keep(self, mask: np.ndarray) -> None:
        self.rows, self.targets = self.rows[mask], self.targets[mask]
        self.groups = None if self.groups is None else self.groups[mask]

    def take_hashes(self, hashes: np.ndarray) -> None:
        """Those of the rows in use, of all that the source has; an empty sample that stands for another has none."""
        bad = np.array([sample.row for sample in self.bad], np.int64)
        self.hashes = np.where(np.isin(self.rows, bad), 0, hashes[self.rows])

    def data(self, mask: np.ndarray | slice = slice(None)) -> SplitData:
        """Some of the rows, as a split."""
        hashes, groups = (None if one is None else one[mask] for one in (self.hashes, self.groups))
        return SplitData(self.source, self.rows[mask], self.targets[mask], hashes, groups)

    def place(self, key: str) -> str:
        """`data.label`, or `data.test, data.label` where the splits are files of their own."""
        return key if self.source.key == "data.path" else f"{self.source.key}, {key}"

    def wheres(self, rows: np.ndarray) -> str:
        return listed(self.source.where(int(row)) for row in rows)


def _check_columns(spec: RunSpec, parts: Mapping[str, _Part]) -> tuple[str, Input]:
    data = spec.data
    modality, input = resolve_columns(parts["train"].source, data.modality, data.input)
    for part in parts.values():
        resolve_columns(part.source, modality, input)
        part.source.require(data.label, key="data.label")
        check_type(part.source.column(data.label), task=spec.task, name=data.label, place=part.place("data.label"))
        part.labels = LabelColumn.read(part.source, data.label, task=spec.task)
        if data.group is not None:
            part.source.require(data.group, key="data.group")
        if spec.embed.splits:
            require_kept(part.source, input=input, label=data.label)
    return modality, input


def _leave_out_unlabelled(part: _Part, label: str, policy: str) -> None:
    """A label cannot be made up: such rows stop the run, or are left out and listed."""
    absent = missing(part.labels.values)
    rows = np.flatnonzero(absent)
    if len(rows) == part.source.num_rows:
        raise DataError(
            f"{part.place('data.label')}: every label in column {label!r} is missing",
            hint="Name the column that holds the labels.",
        )
    if len(rows) and policy == "error":
        raise DataError(
            f"{part.place('data.label')}: {len(rows):,} of {part.source.num_rows:,} labels in column {label!r} "
            f"are missing ({part.labels.missing}): {part.wheres(rows)}",
            hint='Fill them in, or set data.on_bad_sample = "skip" to leave these rows out.',
        )
    part.bad += [BadSample(None, int(row), "label is missing") for row in rows]
    part.rows = np.flatnonzero(~absent)


def _encode_labels(spec: RunSpec, parts: Mapping[str, _Part]) -> ClassLabels | None:
    """Fill in the targets. Classes are those of the training file; numbers wait for the training split."""
    name = spec.data.label
    columns = {split: part.labels.values.take(pa.array(part.rows)) for split, part in parts.items()}
    if spec.task == "regression":
        for split, part in parts.items():
            part.targets = numbers(columns[split], name=name, place=part.place("data.label"))
        NumberLabels.fit(parts["train"].targets, name=name)  # constant? Better known before images are decoded
        return None
    named = next((part.labels.names for part in parts.values() if part.labels.names is not None), None)
    labels = ClassLabels.fit(columns["train"], label_names=named, name=name, many=spec.data.many_classes)
    for split, part in parts.items():
        given, place = part.labels.names, part.place("data.label")
        part.targets = labels.encode(columns[split], label_names=given, name=name, place=place)
    return labels


def _encode_groups(group: str, parts: Mapping[str, _Part]) -> None:
    """Fill in group codes (int64), the same for the same value in all files; a group in two files is an error."""
    columns = {}
    for split, part in parts.items():
        keys = keys_of(part.source.take(group, part.rows))
        if keys is None:
            raise DataError(
                f"{part.place('data.group')}: column {group!r} holds {part.source.schema.field(group).type}",
                hint="Groups need one plain type, such as strings or integers.",
            )
        columns[split] = keys
        absent = pc.is_null(columns[split], nan_is_null=True).to_numpy()
        if absent.any():
            raise DataError(
                f"{part.place('data.group')}: {int(absent.sum()):,} values of column {group!r} are null: "
                f"{part.wheres(part.rows[absent])}",
                hint="A row without a group could be on both sides: give it one, or leave the row out.",
            )
    kind = shared([column.type for column in columns.values()])
    try:
        alike = [promote(column, kind) for column in columns.values()] if kind is not None else []
    except pa.ArrowInvalid:
        kind = None
    if kind is None:
        said = (f"{column.type} in data.{split}" for split, column in columns.items())
        raise DataError(
            f"data.group: column {group!r} holds {' and '.join(said)}",
            hint="Groups need one type in all files, such as strings or integers.",
        )
    whole = pa.chunked_array([chunk for column in alike for chunk in column.chunks], type=kind).combine_chunks()
    codes = whole.dictionary_encode().indices.to_numpy().astype(np.int64)
    owner: dict[int, str] = {}
    start = 0
    for split, part in parts.items():
        part.groups = codes[start : start + len(part.rows)]
        crossing = [code for code in np.unique(part.groups).tolist() if owner.setdefault(code, split) != split]
        if crossing:
            values = (shown(whole[int(np.flatnonzero(codes == code)[0])], quoted=True) for code in crossing)
            raise DataError(
                f"data.group: column {group!r} has groups that are in data.{split} "
                f"and in data.{owner[crossing[0]]}: {listed(values)}",
                hint="Rows of one group must stay in one file; or leave data.group out.",
            )
        start += len(part.rows)


def _check_inputs(
    parts: Mapping[str, _Part],
    input: Input,
    policy: str,
    unusable: Callable[[Source, np.ndarray], list[BadSample]],
) -> None:
    total = sum(len(part.rows) for part in parts.values())
    found = {split: unusable(part.source, part.rows) for split, part in parts.items()}
    if policy == "error" and any(found.values()):
        raise _bad_samples_error(parts, found, input, total)
    for split, part in parts.items():
        part.bad += found[split]
        if policy == "skip":
            part.keep(~np.isin(part.rows, [sample.row for sample in found[split]]))
        if len(part.rows) == 0:
            reasons = listed(f"{part.source.where(sample.row)} {sample.reason}" for sample in found[split])
            raise DataError(
                f"{part.place('data.input')}: no sample in {input_words(input)} can be used: {reasons}",
                hint="Name the column that holds the samples, or repair them.",
            )


def _group_duplicates(parts: Mapping[str, _Part]) -> None:
    """Identical samples become rows of one group; those that are in two files are an error."""
    seen: list[tuple[str, np.ndarray]] = []
    for split, part in parts.items():
        assert part.hashes is not None
        for other, hashes in seen:
            rows = part.rows[twins(part.hashes, hashes)]
            if len(rows):
                raise DataError(
                    f"data.duplicates: {len(rows):,} of {len(part.rows):,} rows of data.{split} are identical to a "
                    f"row of data.{other}: {part.wheres(rows)}",
                    hint="Leave them out of one of the files, name all files in data.path, or set "
                    'data.duplicates = "keep".',
                )
        seen.append((split, part.hashes))
        part.groups = kept_together(part.hashes, part.groups)


def _outside(splits: Mapping[str, SplitData]) -> dict[str, np.ndarray]:
    """The rows whose target lies far outside those of all splits, by split."""
    far = outliers(np.concatenate([data.targets for data in splits.values()]))
    ends = np.cumsum([len(data) for data in splits.values()])[:-1]
    return {split: data.rows[mask] for (split, data), mask in zip(splits.items(), np.split(far, ends), strict=True)}


def _shifted(progress: Progress, offset: int, total: int) -> Progress:
    return lambda done, _: progress(offset + done, total)


def _bad_samples_error(
    parts: Mapping[str, _Part], found: Mapping[str, list[BadSample]], input: Input, total: int
) -> DataError:
    lines = [
        f"  {part.split + ', ' if part.split else ''}{part.source.where(sample.row)} {sample.reason}"
        for split, part in parts.items()
        for sample in found[split]
    ]
    shown = lines[:8]
    if len(lines) > len(shown):
        shown.append(f"  and {len(lines) - len(shown):,} more")
    return DataError(
        f"data.input: {len(lines):,} of {total:,} samples in {input_words(input)} cannot be used:\n" + "\n".join(shown),
        hint='Repair them, or set data.on_bad_sample = "skip" to leave them out or "blank" to use empty ones.',
    )


def _draw(spec: RunSpec, parts: Mapping[str, _Part], warnings: list[str]) -> dict[str, SplitData]:
    """A split with a file of its own is that file; the others are drawn from train, in proportion."""
    train = parts["train"]
    wanted = spec.data.split.model_dump()
    drawn = {split: 0.0 if split in parts and split != "train" else wanted[split] for split in SPLITS}
    proportions = SplitSpec(**{split: share / sum(drawn.values()) for split, share in drawn.items()})
    codes = assign_splits(
        train.targets, task=spec.task, proportions=proportions, groups=train.groups, seed=spec.train.seed
    )
    together = " and ".join(_kept_in_one_split(spec))
    splits = {}
    for code, split in enumerate(SPLITS):
        if split in parts and split != "train":
            splits[split] = parts[split].data()
            continue
        here = codes == code
        splits[split] = train.data(here)
        asked, got = getattr(proportions, split), float(here.mean())
        if train.groups is not None and abs(got - asked) > max(0.05, 0.25 * asked):
            warnings.append(
                f"{split} holds {got:.0%} of the rows instead of {asked:.0%}, because {together} stay together"
            )
    return splits


def _kept_in_one_split(spec: RunSpec) -> Iterator[str]:
    if spec.data.group is not None:
        yield f"rows of one {spec.data.group!r}"
    if spec.data.duplicates == "group":
        yield "identical samples"


def _holds(rows: np.ndarray, row: int) -> bool:
    at = int(np.searchsorted(rows, row))
    return at < len(rows) and int(rows[at]) == row


def _with_split(sample: BadSample, part: _Part, splits: Mapping[str, SplitData]) -> BadSample:
    inside = (name for name, s in splits.items() if s.source is part.source and _holds(s.rows, sample.row))
    return BadSample(next(inside, part.split), sample.row, sample.reason)


def _forget_unseen(
    labels: ClassLabels, splits: dict[str, SplitData], name: str
) -> tuple[ClassLabels, dict[str, SplitData]]:
    """Classes that lost all their rows to `skip` go; the indices of the others move up."""
    everywhere = np.concatenate([s.targets for s in splits.values()])
    present = np.bincount(everywhere, minlength=len(labels)) > 0
    in_train = np.bincount(splits["train"].targets, minlength=len(labels)) > 0
    lost = [labels.display(int(i)) for i in np.flatnonzero(present & ~in_train)]
    if lost:
        raise DataError(
            f"data.label: no usable training row is left of {listed(lost)} in column {name!r}, "
            "which val or test still hold",
            hint="Repair the samples of that class, or leave it out of all files.",
        )
    if present.all():
        return labels, splits
    if present.sum() < 2:
        raise DataError(
            f"data.label: only one class of column {name!r} has usable rows", hint="Classification needs two or more."
        )
    kept = np.flatnonzero(present)
    new = np.cumsum(present) - 1
    names = None if labels.names is None else tuple(labels.names[i] for i in kept)
    smaller = ClassLabels(tuple(labels.values[i] for i in kept), names)
    return smaller, {split: replace(s, targets=new[s.targets]) for split, s in splits.items()}
