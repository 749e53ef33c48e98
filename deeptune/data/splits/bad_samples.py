"""Samples that cannot be used: they stop the run, are left out, or are replaced by an empty sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from deeptune.data.modalities.checked_samples import BadSample
from deeptune.data.sources.source import Source
from deeptune.data.splits.split_data import SplitData
from deeptune.data.splits.split_part import Part
from deeptune.errors import DataError, listed
from deeptune.spec.modalities import Input, input_words


def check_inputs(
    parts: Mapping[str, Part],
    input: Input,
    policy: str,
    unusable: Callable[[Source, np.ndarray], list[BadSample]],
) -> None:
    """Look for samples that can't be used, and treat them by the policy. Raises DataError where it says so."""
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


def _bad_samples_error(
    parts: Mapping[str, Part], found: Mapping[str, list[BadSample]], input: Input, total: int
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


def with_split(sample: BadSample, part: Part, splits: Mapping[str, SplitData]) -> BadSample:
    """Name the split of a bad sample, where it is in one."""
    inside = (name for name, s in splits.items() if s.source is part.source and holds(s.rows, sample.row))
    return BadSample(next(inside, part.split), sample.row, sample.reason)


def holds(rows: np.ndarray, row: int) -> bool:
    """Tell whether ascending `rows` hold a row."""
    at = int(np.searchsorted(rows, row))
    return at < len(rows) and int(rows[at]) == row
