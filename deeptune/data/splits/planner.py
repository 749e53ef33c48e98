"""Makes a plan from the files of a spec: labels and groups, then samples, then splits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from deeptune.data.columns.input_columns import check_samples
from deeptune.data.images.bit_depth import Range, range_of, range_text
from deeptune.data.modalities.checked_samples import BadSample, CheckedSamples
from deeptune.data.sources.source import Source
from deeptune.data.splits.bad_samples import check_inputs, holds, with_split
from deeptune.data.splits.class_names import column_text, naming_warnings
from deeptune.data.splits.data_warnings import (
    class_warnings,
    duplicate_warnings,
    outlier_warnings,
    sets_of,
    small_split_notes,
)
from deeptune.data.splits.drawn_splits import draw_splits, group_duplicates
from deeptune.data.splits.given_split import GivenSplit, given_split, unread_splits
from deeptune.data.splits.label_group_columns import check_columns, encode_groups, encode_labels, leave_out_unlabelled
from deeptune.data.splits.plan import DataPlan
from deeptune.data.splits.split_files import open_sources
from deeptune.data.splits.split_part import Part
from deeptune.progress import Progress
from deeptune.spec.modalities import Input
from deeptune.spec.run_spec import RunSpec
from deeptune.tasks import Task
from deeptune.tasks.thresholds import positive_classes


def plan_data(
    spec: RunSpec, *, sources: Mapping[str, Source] | None = None, progress: Progress | None = None
) -> DataPlan:
    """Check every row of the files, and assign the splits. Decodes every image once, as the full check.

    `sources` are those of `open_sources(spec)`, opened here when left out. `progress(done, total)` counts checked
    samples. Raises DataError with what is wrong, where, and what to do.
    """
    draft = draft_plan(spec, sources=sources)

    def look(value_range: Range | None) -> dict[Source, CheckedSamples]:
        return {
            source: check_samples(source, draft.input, draft.modality, None, step, value_range)
            for source, step in draft.sources(progress)
        }

    return planned(draft, look)[0]


S = TypeVar("S", bound=CheckedSamples)


def planned(
    draft: PlanDraft, look: Callable[[Range | None], Mapping[Source, S]]
) -> tuple[DataPlan, Mapping[Source, S]]:
    """Return the plan, with what was found of the samples of each source.

    `look(value_range)` checks or makes them all. It is called again when the first look finds images of more than
    8 bits and `data.value_range` is "auto": the range is then that of the training rows.
    """
    given = draft.spec.data.value_range
    value_range = (given[0], given[1]) if isinstance(given, list) else None
    samples = look(value_range)
    if given == "auto" and any(one.deep for one in samples.values()):
        value_range = _training_range(draft, samples)
        samples = samples if value_range is None else look(value_range)
    plan = draft.finish(lambda source, rows: samples[source].bad(rows), lambda source: samples[source].hashes)
    if value_range is not None:
        plan = replace(
            plan,
            value_range=value_range,
            notes=[*plan.notes, *_range_notes(plan, samples, value_range, given == "auto")],
        )
    return plan, samples


def _training_range(draft: PlanDraft, found: Mapping[Source, CheckedSamples]) -> Range | None:
    again = draft_plan(draft.spec, sources=draft.opened)
    train = again.finish(
        lambda source, rows: found[source].bad(rows, deep=False), lambda source: found[source].hashes
    ).splits["train"]
    deep = found[train.source].deep
    return range_of(deep[row] for row in train.rows.tolist() if row in deep)


def _range_notes(plan: DataPlan, found: Mapping[Source, CheckedSamples], value_range: Range, auto: bool) -> list[str]:
    """Describe images of more than 8 bits; say nothing where a range was given and there are none."""
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
    """Read the columns of labels and groups. Raises as `plan_data` does, but for samples."""
    data = spec.data
    sources = open_sources(spec) if sources is None else sources
    parts = {
        split: Part(split if len(sources) > 1 else None, source, np.arange(source.num_rows), np.empty(0))
        for split, source in sources.items()
    }
    modality, input = check_columns(spec, parts)
    for part in parts.values():
        leave_out_unlabelled(part, data.label, data.on_bad_sample)
    task = encode_labels(spec, parts)
    positive_classes(task, spec.report)
    if data.group is not None:
        encode_groups(data.group, parts)
    given = given_split(spec, sources["train"]) if len(sources) == 1 else None
    if given is not None:
        parts = given.parts(parts["train"])
    return PlanDraft(spec, sources, parts, modality, input, task, given)


@dataclass(frozen=True)
class PlanDraft:
    """A plan for which no sample was looked at yet."""

    spec: RunSpec
    opened: Mapping[str, Source]  # by split; a single one holds all splits
    parts: dict[str, Part]
    modality: str
    input: Input
    task: Task  # of the labels of the training file
    given: GivenSplit | None = None

    def sources(self, progress: Progress | None) -> Iterator[tuple[Source, Progress | None]]:
        """Yield each source whose samples are needed, with its own progress; `progress` gets that over all."""
        total, before = sum(source.num_rows for source in self.opened.values()), 0
        for source in self.opened.values():
            yield source, progress and _shifted(progress, before, total)
            before += source.num_rows

    def finish(
        self,
        unusable: Callable[[Source, np.ndarray], list[BadSample]],
        hashes: Callable[[Source], np.ndarray] | None = None,
    ) -> DataPlan:
        """Finish the plan, once samples can be looked at.

        `unusable(source, rows)` says which of some rows have a sample that can't be used. `hashes(source)`, which is
        asked next, gives the hash of every sample (`content_hashes`); without it, duplicates stay unknown.
        """
        spec, parts, data = self.spec, self.parts, self.spec.data
        check_inputs(parts, self.input, data.on_bad_sample, unusable)
        if hashes is not None:
            for part in parts.values():
                part.take_hashes(hashes(part.source))
            if data.duplicates == "group":
                group_duplicates(parts)
        warnings = [] if self.given else unread_splits(spec, self.opened["train"])
        if self.given is not None and data.group is not None:
            warnings += self.given.crossing(parts, data.group)
        splits = draw_splits(spec, self.task, parts, warnings)
        drawn = tuple(split for split in splits if split not in parts and len(splits[split]))
        name = column_text(data.label)
        warnings += naming_warnings({s: part.labels for s, part in parts.items()}, self.task, name)
        fitted = self.task.fit_splits({s: one.targets for s, one in splits.items()}, train=spec.train, name=name)
        task = fitted.task
        splits = {split: replace(one, targets=fitted.targets[split]) for split, one in splits.items()}
        outliers = {split: splits[split].rows[far] for split, far in fitted.outliers.items()}
        warnings += class_warnings(task, splits)
        warnings += outlier_warnings(splits, outliers, name, spec)
        sets = sets_of(splits)
        warnings += duplicate_warnings(splits, sets)

        bad = [with_split(sample, part, splits) for part in parts.values() for sample in part.bad]
        blank = frozenset((s.split, s.row) for s in bad if s.split and holds(splits[s.split].rows, s.row))
        if bad:
            counts = {"left out": len(bad) - len(blank), "replaced by an empty sample": len(blank)}
            total = sum(source.num_rows for source in self.opened.values())
            done = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
            warnings.append(f"{len(bad):,} of {total:,} samples cannot be used: {done}")
        split_notes = small_split_notes(task, splits)
        return DataPlan(
            task, self.modality, self.input, data.label, data.group, splits, bad, warnings, blank,
            notes=[
                *(note for source in self.opened.values() for note in source.notes),
                *(self.given.notes() if self.given else []),
            ],
            split_notes=split_notes, outliers=outliers, duplicate_sets=sets, drawn=drawn,
            split_column=self.given.column if self.given else None,
        )  # fmt: skip


def _shifted(progress: Progress, offset: int, total: int) -> Progress:
    return lambda done, _: progress(offset + done, total)
