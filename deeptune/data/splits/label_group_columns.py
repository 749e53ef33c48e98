"""Reading the columns of labels and groups, alike in all files of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deeptune.arrow import keys_of, promote, shared, shown
from deeptune.data.columns.guessing import likely_labels
from deeptune.data.columns.input_columns import resolve_columns
from deeptune.data.columns.kept_columns import require_kept
from deeptune.data.columns.report_columns import check_report_columns
from deeptune.data.modalities.checked_samples import BadSample
from deeptune.data.sources.source import Source
from deeptune.data.splits.class_names import LabelColumn, column_text
from deeptune.data.splits.split_part import Part
from deeptune.errors import DataError, listed
from deeptune.spec.modalities import Input, columns_of
from deeptune.spec.run_spec import DataSpec, RunSpec
from deeptune.tasks import Task, task_class
from deeptune.tasks.label_columns import missing


def check_columns(spec: RunSpec, parts: Mapping[str, Part]) -> tuple[str, Input]:
    """Check all columns that a spec names, read the labels, and return the modality and the input. Raises DataError."""
    data = spec.data
    modality, input = resolve_columns(parts["train"].source, data.modality, data.input)
    _require_apart(data.label, input)
    for part in parts.values():
        resolve_columns(part.source, modality, input)
        _require_labels(part.source, data.label, input)
        if isinstance(data.label, str):
            task_class(spec.task).check_type(
                part.source.column(data.label), name=data.label, place=part.place("data.label")
            )
        part.labels = LabelColumn.read(part.source, data.label, task=spec.task)
        if data.group is not None:
            part.source.require(data.group, key="data.group")
        if spec.embed.splits:
            require_kept(part.source, input=input, label=data.label)
    check_report_columns(spec.report, {split: part.source for split, part in parts.items()})
    return modality, input


def _require_apart(label: Input, input: Input) -> None:
    """Raise DataError where a column is both input and label: a model would read the answer."""
    both = [column for column in columns_of(label) if column in columns_of(input)]
    if both:
        raise DataError(
            f"data.label: column {both[0]!r} is also the input, and would give the answer away",
            hint="Name another column with data.label or data.input.",
        )


def _require_labels(source: Source, label: Input, input: Input) -> None:
    """Raise DataError where a label column is not there, with the column that is likely meant by the default name."""
    for column in columns_of(label):
        try:
            source.require(column, key="data.label")
        except DataError as error:
            likely = likely_labels(source, columns_of(input)) if label == DataSpec.model_fields["label"].default else []
            if not likely or column in source.column_names:
                raise
            value = f'"{likely[0]}"' if len(likely) == 1 else json.dumps(likely)
            raise DataError(error.message, hint=f"Perhaps data.label = {value} is meant. {error.hint}") from None


def leave_out_unlabelled(part: Part, label: Input, policy: str) -> None:
    """Leave out and list rows without a label, or raise DataError: a label cannot be made up."""
    absent = missing(part.labels.values)
    rows = np.flatnonzero(absent)
    if len(rows) == part.source.num_rows:
        raise DataError(
            f"{part.place('data.label')}: every label in column {column_text(label)!r} is missing",
            hint="Name the column that holds the labels.",
        )
    if len(rows) and policy == "error":
        raise DataError(
            f"{part.place('data.label')}: {len(rows):,} of {part.source.num_rows:,} labels in column "
            f"{column_text(label)!r} are missing ({part.labels.missing}): {part.wheres(rows)}",
            hint='Fill them in, or set data.on_bad_sample = "skip" to leave these rows out.',
        )
    part.bad += [BadSample(None, int(row), "label is missing") for row in rows]
    part.rows = np.flatnonzero(~absent)


def encode_labels(spec: RunSpec, parts: Mapping[str, Part]) -> Task:
    """Fill in the targets, and return the task of the training file's labels."""
    name = column_text(spec.data.label)
    columns = {split: part.labels.values.take(pa.array(part.rows)) for split, part in parts.items()}
    named = next((part.labels.names for part in parts.values() if part.labels.names is not None), None)
    task = task_class(spec.task).fit_labels(columns["train"], data=spec.data, label_names=named, name=name)
    for split, part in parts.items():
        given, place = part.labels.names, part.place("data.label")
        part.targets = task.encode(columns[split], label_names=given, name=name, place=place)
    return task


def encode_groups(group: str, parts: Mapping[str, Part]) -> None:
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
