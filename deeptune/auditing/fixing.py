"""A cleaned file: without what can't be used and what adds nothing, and with a group of duplicates."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deeptune.arrow import is_text
from deeptune.auditing.data import AuditData
from deeptune.auditing.duplicates import differing, sets_of_pairs
from deeptune.auditing.label_names import variant_classes
from deeptune.auditing.near_images import near_image_pairs
from deeptune.auditing.near_texts import near_text_pairs
from deeptune.data.sources.source import Source
from deeptune.data.splits.duplicates import duplicate_sets
from deeptune.errors import DataError, SpecError
from deeptune.runs.files import replacing

GROUP = "duplicate_group"


def write_fixed(data: AuditData, output: Path, *, merge_labels: bool = False) -> list[str]:
    """Write a cleaned copy of the audited file, and return what was done, in sentences.

    Rows whose sample can't be used are left out, and so are identical samples with one label but for one: the row of
    test where a split column names it, or else the first. The column `duplicate_group` has one number for the rows that
    are identical or nearly so, and for those of one group; it can be `data.group`. With `merge_labels`, variants of a
    label become the usual one.

    Raises SpecError for several files and for an output that is the input, DataError where the file has such a column,
    and CheckpointError where the output can't be written.
    """
    source = fixable_source(data.sources, output)
    kept, done = _kept_rows(data)
    groups = duplicate_groups(data)
    renamed = _renamed(data) if merge_labels else {}
    with replacing(output) as temporary:
        _write(data, temporary, kept, groups, renamed)
    done.insert(0, f"wrote {int(kept.sum()):,} of {source.num_rows:,} rows to {output}")
    several = int((np.unique(groups[kept], return_counts=True)[1] > 1).sum())
    done.append(f'added the column {GROUP!r}: {several:,} groups of several rows (data.group = "{GROUP}")')
    if merge_labels:
        pairs = ", ".join(f"{rare!r} as {usual!r}" for rare, usual in renamed.items()) or "there are none"
        done.append(f"wrote variants of labels as the usual ones: {pairs}")
    if source.named is not None and output.absolute().parent != source.folder_of(0).absolute():
        done.append(f'the rows name image files: use the file with data.root = "{source.folder_of(0).absolute()}"')
    return done


def fixable_source(sources: Sequence[Source], output: Path) -> Source:
    """Return the file that a cleaned copy can be written of.

    Raises SpecError for several files and for an output that is the input, and DataError for a file that has the column
    of a cleaned one.
    """
    if len(sources) > 1:
        raise SpecError("--fix: takes one file, and several were named", hint="Audit and clean each by itself.")
    source = sources[0]
    if any(output.exists() and os.path.samefile(output, file) for file in source.files):
        raise SpecError(f"--fix: {output} is the file that is audited", hint="Choose another name.")
    folder = output.absolute().parent
    if any(file.absolute().parent == folder for file in source.files[1:]):
        raise SpecError(
            f"--fix: {output} would become one of the files that are audited", hint="Choose another folder."
        )
    if GROUP in source.column_names:
        raise DataError(
            f"{source.describe()} has a column {GROUP!r} already", hint="Rename it, or use it as data.group."
        )
    source.require_all(source.column_names)
    return source


def _kept_rows(data: AuditData) -> tuple[np.ndarray, list[str]]:
    """Mark the rows to keep (bool (N,)), and say how many are left out and why."""
    usable = data.usable
    sets = duplicate_sets(data.measures.hashes)
    spare = np.zeros(len(data), bool)
    clash = differing(data, sets)
    preferred = np.arange(len(data))
    if "test" in data.split_names:
        preferred = np.where(data.split == data.split_names.index("test"), preferred - len(data), preferred)
    rows = np.flatnonzero((sets > 0) & ~clash & usable)
    unlabelled = data.labels.missing if data.labels is not None else np.zeros(len(data), bool)
    rows = rows[np.lexsort((preferred[rows], unlabelled[rows], sets[rows]))]
    spare[rows[np.flatnonzero(np.diff(sets[rows], prepend=-1) == 0)]] = True
    done = []
    if (~usable).any():
        done.append(f"left out {_rows(~usable)} whose sample can't be used")
    if spare.any():
        done.append(f"left out {_rows(spare)} with the sample of one that stays and no other label")
    if clash.any():
        done.append(f"kept {_rows(clash)} with the sample of another row and a different label: correct the labels")
    if (kept := usable & ~spare & unlabelled).any():
        done.append(f"kept {_rows(kept)} without a label")
    return usable & ~spare, done


def _rows(mask: np.ndarray) -> str:
    count = int(mask.sum())
    return f"{count:,} {'row' if count == 1 else 'rows'}"


def duplicate_groups(data: AuditData) -> np.ndarray:
    """Number the groups (int64 (N,)): rows that are identical or nearly so, and rows of one group, share a number."""
    rows = np.arange(len(data))
    links = [near_image_pairs(data), near_text_pairs(data)]
    for codes in (duplicate_sets(data.measures.hashes) - 1, None if data.group is None else data.values(data.group)):
        if codes is not None:
            known = rows[codes >= 0]
            first = np.full(codes.max(initial=-1) + 1, len(data))
            np.minimum.at(first, codes[known], known)
            links.append(np.stack([known, first[codes[known]]], axis=1))
    sets = sets_of_pairs(np.concatenate(links), len(data))
    return np.where(sets > 0, sets, sets.max(initial=0) + 1 + rows)


def _renamed(data: AuditData) -> dict[str, str]:
    if data.labels is None or not isinstance(data.label, str) or not is_text(data.sources[0].types[data.label]):
        return {}
    return variant_classes(data.labels)


def _write(data: AuditData, path: Path, kept: np.ndarray, groups: np.ndarray, renamed: dict[str, str]) -> None:
    source = data.sources[0]
    fields = [source.field(name) for name in source.column_names]
    schema = pa.schema([*fields, pa.field(GROUP, pa.int64())], source.schema.metadata)
    label = data.label if isinstance(data.label, str) else None
    with pq.ParquetWriter(path, schema) as writer:
        for start, batch in source.stream_table(source.column_names):
            here = slice(start, start + len(batch))
            columns = []
            for field, values in zip(fields, batch.columns, strict=True):
                if field.name == label and renamed:
                    values = pa.array([renamed.get(one, one) for one in values.to_pylist()], field.type)
                columns.append(values)
            columns.append(pa.array(groups[here], pa.int64()))
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema).filter(pa.array(kept[here])))
