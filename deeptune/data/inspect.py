"""The content of Parquet files, for a person who is about to learn from them.

The answers come from the code of a run, so problems are described as a run describes them. Everything is read in
small batches, one column at a time. `python -m deeptune.data.inspect` answers questions from its standard input, a
JSON object a line. A file can neither delay nor end the viewer that asks, which drops a question by ending the process.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from deeptune.arrow import bare, in_words, is_bytes, shown
from deeptune.data.columns.guessing import FIRST_ROWS, guess_groups, guess_label
from deeptune.data.columns.input_columns import modality_of, modality_of_column, resolve_columns
from deeptune.data.images.bit_depth import Range
from deeptune.data.modalities import COLUMN_MODALITIES, MODALITIES, Modality
from deeptune.data.modalities.checked_samples import AT_ONCE
from deeptune.data.sources.parquet import find_data, open_source
from deeptune.data.sources.source import Source
from deeptune.data.splits.planner import draft_plan
from deeptune.errors import DataError, DeepTuneError
from deeptune.progress import Progress
from deeptune.spec.fields import spec_fields
from deeptune.spec.modalities import Input, columns_of
from deeptune.spec.run_spec import SPLITS, RunSpec
from deeptune.spec.toml import validate
from deeptune.tasks.label_columns import plain

MAX_TEXT = 4_000  # characters of a text in a preview
PREVIEW_PIXELS = 320  # on the longer side of an image in a preview
PROGRESS_INTERVAL = 0.2  # seconds between two words about an import
BINS = 24  # bins of the histogram of numbers


@dataclass(frozen=True)
class Column:
    """A column as the wizard shows it.

    It has a name, an Arrow type, what it holds in words, and the modality that it could be the input of, or None.
    """

    name: str
    type: str
    words: str
    modality: str | None


@dataclass(frozen=True)
class Overview:
    """An overview of files from their footers and first rows.

    `guesses` are values by dotted key of a spec where its own defaults don't fit the columns; `groups` are columns that
    look like a patient or another unit whose rows belong together, the likeliest first. `notes` say what was imported
    or left out.
    """

    files: list[str]
    bytes: int
    rows: int
    row_groups: int
    columns: list[Column]
    guesses: dict[str, str]
    groups: list[str]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Survey:
    """The data of a run if every sample can be used: rows by split, and classes or numbers.

    `classes` are (class, rows of train, val, test) in the order of their index; `histograms` are (from, to, rows) of
    each target by its name, in its own unit. `outputs` is the number of logits. `lengths` are median, 95th percentile
    and longest of the first texts, in characters.
    """

    task: str
    outputs: int
    modality: str
    input: Input
    rows: dict[str, int]
    classes: list[tuple[str, int, int, int]] = field(default_factory=list)
    histograms: dict[str, list[tuple[float, float, int]]] = field(default_factory=dict)
    lengths: tuple[int, int, int] | None = None
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Sample:
    """One row of a preview: `text`, an encoded `image` of at most PREVIEW_PIXELS, or both; or the `reason` why not."""

    row: int
    label: str
    text: str | None = None
    image: bytes | None = None
    reason: str | None = None


def overview(
    paths: str | list[str],
    *,
    key: str = "data.path",
    imports: bool = True,
    progress: Progress | None = None,
) -> Overview:
    """Open the files and guess what is what. Raises DataError as `open_source` does.

    Without `imports`, a file that is not Parquet and not imported yet is an error. `progress` is that of an import.
    """
    find_data(paths, key=key, imports=imports, progress=progress)
    return overview_of(open_source(paths, key=key))


def overview_of(source: Source) -> Overview:
    """Return the `overview` of a source that is open."""
    modalities = {name: _modality(source, name) for name in source.column_names}
    first = _first_rows(source, modalities)
    for name, values in first.items():
        found = next((one for one in COLUMN_MODALITIES.values() if one.recognises(values)), None)
        modalities[name] = found.info.name if found else None
    columns = [
        Column(field.name, str(field.type), in_words(field.type), modalities[field.name]) for field in source.schema
    ]
    guesses = _guess_input(source, first, modalities)
    label, task = guess_label(source, first, columns_of(guesses.get("data.input", [])))
    if label and label != ["labels"]:
        guesses["data.label"] = label[0] if len(label) == 1 else label
    typed = {key: _typed(key, value) for key, value in guesses.items()} | ({"task": task} if task else {})
    return Overview(
        files=[str(file) for file in source.files],
        bytes=sum(file.stat().st_size for file in source.files),
        rows=source.num_rows,
        row_groups=source.row_groups,
        columns=columns,
        guesses=typed,
        groups=guess_groups(first, label),
        notes=list(source.notes),
    )


def survey(spec: RunSpec) -> Survey:
    """Return labels, groups and splits as a run has them.

    Raises DataError where the run would stop, but for bad samples.
    """
    plan = draft_plan(spec).finish(lambda _source, _rows: [])
    rows = {split: len(plan.splits[split]) for split in SPLITS}
    targets = {split: plan.splits[split].targets for split in SPLITS}
    lengths = MODALITIES[plan.modality].lengths(plan.splits["train"].source, plan.input)
    known = {
        "task": spec.task,
        "outputs": plan.task.outputs,
        "modality": plan.modality,
        "input": plan.input,
        "rows": rows,
        "lengths": lengths,
        "warnings": plan.warnings,
    }
    if plan.task.classes:
        counts = [plan.task.counts(targets[split]).tolist() for split in SPLITS]
        classes = [(name, *(count[i] for count in counts)) for i, name in enumerate(plan.task.class_names)]
        return Survey(**known, classes=classes)  # type: ignore[arg-type]
    numbers = np.concatenate(list(targets.values()))
    columns = numbers.T if numbers.ndim > 1 else [numbers]
    names = getattr(plan.task, "names", [""])  # one target needs none
    histograms = {name: _histogram(column) for name, column in zip(names, columns, strict=True)}
    return Survey(**known, histograms=histograms)  # type: ignore[arg-type]


def _histogram(numbers: np.ndarray) -> list[tuple[float, float, int]]:
    heights, edges = np.histogram(numbers[np.isfinite(numbers)], bins=BINS)
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), heights.tolist(), strict=True))


def preview(  # noqa: PLR0913 (the keys of the spec's data that the wizard's question names)
    paths: str | list[str],
    input: Input,
    label: Input | None,
    *,
    start: int,
    count: int,
    modality: str | None = None,
    root: str | None = None,
    value_range: list[float] | str = "auto",
) -> list[Sample]:
    """Return `count` rows from row `start` on, fewer at the end; the other arguments are those of the spec's `data`.

    Images of more than 8 bits are shown by `value_range`, or by the range of the first rows. Raises DataError as
    `open_source` does.
    """
    source = open_source(paths, root=root)
    there = set(source.column_names)
    kind, known = None, None
    with suppress(DataError):  # the survey tells what is wrong with the columns
        name, input = resolve_columns(source, modality, input)
        kind = MODALITIES[name]
    if kind is not None:
        kind.attach_files(source, input)
        known = _range(source, kind, input, value_range)
    inputs = [name for name in columns_of(input) if name in there]
    names = list(dict.fromkeys([*inputs, *(name for name in columns_of(label or []) if name in there)]))
    samples: list[Sample] = []
    for first, batch in source.stream_table(names, start=start, rows=AT_ONCE) if names else ():
        for at in range(min(len(batch), count - len(samples))):
            values = {name: batch.column(name).slice(at, 1) for name in names}
            said = ", ".join(_text(values[name][0]) or "" for name in columns_of(label or []) if name in values)
            columns = {name: values[name] for name in inputs}
            samples.append(_sample(source, kind, columns, first + at, said, known))
        if len(samples) == count:
            break
    return samples


def _range(source: Source, modality: Modality, input: Input, value_range: list[float] | str) -> Range | None:
    if isinstance(value_range, list):
        return value_range[0], value_range[1]
    return modality.preview_range(source, input) if value_range == "auto" else None


def _sample(
    source: Source,
    modality: Modality | None,
    columns: Mapping[str, pa.Array],
    row: int,
    label: str,
    value_range: Range | None,
) -> Sample:
    """Return a row as a preview shows it; of columns that are not input the values in words."""
    if modality is None:
        text = "\n".join(said for values in columns.values() if (said := _text(values[0])) is not None)
        return Sample(row, label, text=text) if text else Sample(row, label, reason="is null")
    try:
        found = modality.shown(source, columns, row, value_range=value_range, pixels=PREVIEW_PIXELS)
    except DataError as error:
        return Sample(row, label, reason=error.message)
    return Sample(row, label, image=found.image, text=None if found.text is None else found.text[:MAX_TEXT])


def _text(value: pa.Scalar) -> str | None:
    return shown(value)[:MAX_TEXT] if value.is_valid else None


def _modality(source: Source, name: str) -> str | None:
    """Return what a column may be the input of. Of bytes the first values tell, if they can be read."""
    if source.column_names.count(name) > 1:
        return None
    kind = source.types[name]
    found = modality_of(kind)
    if is_bytes(bare(kind)):
        with suppress(DataError):
            found = modality_of_column(source, name)
    return found.info.name if found else None


def _first_rows(source: Source, modalities: Mapping[str, str | None]) -> dict[str, pa.Array]:
    """Return the first values of each column that could be a label, a group or a text; of those that can be read."""
    legible = {None, *(one.info.name for one in MODALITIES.values() if one.info.legible)}
    names = [
        name
        for name, modality in modalities.items()
        if modality in legible and not pt.is_nested(bare(source.types[name])) and source.column_names.count(name) == 1
    ]
    columns = {}
    for name, values in _readable(source, names).items():
        with suppress(pa.ArrowException):
            columns[name] = plain(values).combine_chunks()
    return columns


def _readable(source: Source, names: list[str]) -> dict[str, pa.ChunkedArray]:
    """Return the first values of columns, together, or one by one where one of them is damaged."""
    with suppress(DataError):
        table = source.head(names, FIRST_ROWS)
        return dict(zip(names, table.columns, strict=True))
    if len(names) < 2:
        return {}
    half = len(names) // 2
    return _readable(source, names[:half]) | _readable(source, names[half:])


def _guess_input(source: Source, first: dict[str, pa.Array], modalities: Mapping[str, str | None]) -> dict[str, Input]:
    """Return the input where the run's own rule finds none, or two: the first images, or the longest texts."""
    with suppress(DataError):
        resolve_columns(source)
        return {}
    usual = [one.info.name for one in COLUMN_MODALITIES.values() if one.info.input in source.column_names]
    if len(usual) > 1:
        return {"data.modality": usual[0]}
    for kind in COLUMN_MODALITIES.values():
        names = [name for name, modality in modalities.items() if modality == kind.info.name]
        if names:
            return {"data.input": kind.likeliest(names, first)}
    return {}


def _typed(key: str, value: Input) -> str:
    """Return the value of a key as a person types it into a form."""
    return next(field for field in spec_fields() if field.key == key).show(value)


def answer(question: dict[str, Any], progress: Progress | None = None) -> Any:
    """Return the answer to a question, as JSON values; `ask` names the function, the rest are its arguments."""
    arguments = {key: value for key, value in question.items() if key != "ask"}
    if question["ask"] == "overview":
        return asdict(overview(**arguments, progress=progress))
    if question["ask"] == "survey":
        return asdict(survey(validate(arguments["spec"])))
    return [
        asdict(sample) | {"image": None if sample.image is None else base64.b64encode(sample.image).decode()}
        for sample in preview(**arguments)
    ]


Answer = Callable[[dict[str, Any], Progress], Any]


def serve(questions: TextIO, answers: TextIO, answer: Answer = answer) -> None:
    """Answer each line until there are no more: `{"answer": ...}`, or `{"error": ..., "hint": ...}`.

    While data is imported, `{"progress": [done, total]}` comes first, now and then.
    """
    told_at = 0.0

    def tell(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    def progress(done: int, total: int) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= PROGRESS_INTERVAL:
            told_at = time.monotonic()
            tell({"progress": [done, total]})

    for line in questions:
        try:
            reply = {"answer": answer(json.loads(line), progress)}
        except DeepTuneError as error:
            reply = {"error": error.message, "hint": error.hint}
        except MemoryError:
            reply = {"error": "the data does not fit in memory", "hint": "Split the file, or shorten its values."}
        tell(reply)


if __name__ == "__main__":
    os.nice(5)  # whoever asks draws a screen meanwhile
    with suppress(BrokenPipeError, KeyboardInterrupt):
        serve(sys.stdin, sys.stdout)
    os._exit(0)  # nobody waits for what a library would still tidy up
