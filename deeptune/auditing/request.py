"""The request for an audit: files or a spec, the roles of columns, and the splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from deeptune.arrow import shown
from deeptune.data.columns.input_columns import attach_files, resolve_columns
from deeptune.data.images.bit_depth import Range, stored_range
from deeptune.data.inspect import overview
from deeptune.data.sources.parquet import open_source
from deeptune.data.sources.source import Source
from deeptune.data.splits.given_split import imported_split
from deeptune.errors import DataError
from deeptune.spec.fields import spec_fields
from deeptune.spec.modalities import Input
from deeptune.spec.run_spec import SPLITS, RunSpec
from deeptune.spec.tasks import USUAL_TASKS
from deeptune.spec.values import split_named

AUTO, NONE = "auto", "none"  # of `split_column`: the column that an import kept; no column


@dataclass(frozen=True)
class AuditRequest:
    """The files and their columns; what is None is found in the data.

    `files` has paths by split, or one entry "path" for files whose splits are not drawn yet.
    """

    files: Mapping[str, str | list[str]]
    task: str | None = None
    modality: str | None = None
    input: Input | None = None
    label: Input | None = None
    group: str | None = None
    split_column: str = AUTO
    root: str | None = None
    value_range: Range | None = None

    @classmethod
    def of_spec(cls, spec: RunSpec) -> AuditRequest:
        """Take the files and columns that a spec names."""
        data = spec.data
        named: dict[str, Any] = {split: paths for split in SPLITS if (paths := getattr(data, split)) is not None}
        value_range = None if data.value_range == "auto" else stored_range(data.value_range)
        return cls(
            {"path": data.path} if data.path is not None else named,
            task=spec.task,
            modality=data.modality,
            input=data.input,
            label=data.label,
            group=data.group,
            split_column=data.split_column,
            root=data.root,
            value_range=value_range,
        )


@dataclass(frozen=True)
class OpenedRequest:
    """Open sources by split, with the columns that a request names or that were found."""

    request: AuditRequest
    sources: dict[str, Source]
    modality: str
    input: Input
    task: str
    label: Input | None
    split_column: str | None = None


def open_request(request: AuditRequest) -> OpenedRequest:
    """Open the files, and find the columns that are not named.

    Raises DataError for files that can't be opened, without rows, or without a column that is named.
    """
    sources: dict[str, Source] = {}
    for split, paths in request.files.items():
        opened = open_source(paths, key=f"data.{split}", root=request.root)
        if opened.num_rows == 0:
            raise DataError(f"{opened.key}: {opened.describe()} has no rows", hint="There is nothing to audit.")
        sources[split] = opened
    first = next(iter(sources.values()))
    guesses = _guesses(request)
    given = request.input or guesses.get("data.input")
    modality, input = resolve_columns(first, request.modality or guesses.get("data.modality"), given)
    for source in sources.values():
        resolve_columns(source, modality, input)
        attach_files(source, modality, input)
    label, task = _label(request, guesses, first)
    split_column = request.split_column
    if split_column == AUTO:
        split_column = imported_split(first) if len(sources) == 1 else NONE
    columns = (("label", label), ("group", request.group), ("split_column", _named(split_column)))
    for source in sources.values():
        for key, names in columns:
            for name in [names] if isinstance(names, str) else names or []:
                source.require(name, key=f"data.{key}")
    return OpenedRequest(request, sources, modality, input, task, label, _named(split_column))


def _named(split_column: str) -> str | None:
    return None if split_column == NONE else split_column


def _guesses(request: AuditRequest) -> dict[str, Any]:
    """Guess the columns as the wizard does, where a request leaves something open; values of a spec by dotted key."""
    if request.input is not None and request.label is not None and request.task is not None:
        return {}
    paths = next(iter(request.files.values()))
    typed = overview(paths).guesses
    fields = {field.key: field for field in spec_fields()}
    return {key: fields[key].parse(value) for key, value in typed.items()}


def _label(request: AuditRequest, guesses: Mapping[str, Any], source: Source) -> tuple[Input | None, str]:
    """Find the label column and the task. A file may have no label."""
    task = request.task or guesses.get("task")
    if request.label is not None:
        if request.task is None and request.label != guesses.get("data.label", "labels"):
            task = None
        return request.label, task or _task_of(source, request.label)
    label = guesses.get("data.label", "labels")
    if isinstance(label, str) and source.column_names.count(label) != 1:
        return None, task or USUAL_TASKS["classes"]
    return label, task or _task_of(source, label)


def _task_of(source: Source, label: Input) -> str:
    if isinstance(label, list) or source.column_names.count(label) != 1:
        return USUAL_TASKS["classes"]
    kind = source.types[label]
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return USUAL_TASKS["numbers"]
    return USUAL_TASKS["lists" if pa.types.is_list(kind) or pa.types.is_large_list(kind) else "classes"]


def splits_of(opened: OpenedRequest) -> tuple[np.ndarray, list[str]]:
    """Give the split of each row (int64 (N,), -1 for none) and the names of the splits, train first.

    A split is a file, or a value of the split column. A file whose splits are not drawn has none.
    """
    sources = list(opened.sources.values())
    column = opened.split_column
    if column is None:
        if len(sources) < 2:
            return np.full(sources[0].num_rows, -1), []
        return np.repeat(np.arange(len(sources)), [source.num_rows for source in sources]), list(opened.sources)
    found = [name for source in sources for name in _split_names(source, column)]
    names = sorted({name for name in found if name is not None}, key=_place)
    return np.array([-1 if name is None else names.index(name) for name in found]), names


def _split_names(source: Source, column: str) -> list[str | None]:
    """Name the split of each row: train, val or test, or the value itself, such as a fold; None for null."""
    names = source.label_names(column) if source.is_class_label(column) else None
    words = [shown(one) if one.is_valid else None for one in source.column(column)]
    if names is not None:
        words = [None if word is None or word == "-1" else names[int(word)] for word in words]
    return [None if word is None else split_named(word) or word for word in words]


def _place(name: str) -> tuple[int, str]:
    return next((at for at, split in enumerate(SPLITS) if split == name), len(SPLITS)), name
