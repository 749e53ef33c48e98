"""What Parquet files hold, for a person who is about to learn from them.

The answers come from the code of a run, so problems are told in a run's own words. Everything is read in small batches,
one column at a time. `python -m deeptune.data.inspect` answers questions from its standard input, a JSON object a line:
a viewer that asks it is neither held up nor ended by whatever a file does, and drops a question by ending the process.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from deeptune.arrow import bare, in_words, is_bytes, is_text, shown, text_of, texts
from deeptune.data.depth import Range
from deeptune.data.encoded import look_like_images
from deeptune.data.inputs import (
    AT_ONCE,
    NOT_UTF8,
    attach_files,
    holds_text,
    image_values,
    input_values,
    modality_of,
    resolve_columns,
)
from deeptune.data.labels import ClassLabels, plain
from deeptune.data.picture import range_of_values, small_image
from deeptune.data.plan import draft_plan
from deeptune.data.source import Source
from deeptune.data.splits import SPLITS
from deeptune.errors import DataError, DeepTuneError
from deeptune.spec.model import RunSpec
from deeptune.spec.toml import validate

FIRST_ROWS = 500  # that guesses are made from
TEXT_ROWS = 5_000  # that the lengths of texts are taken from
LONGEST_TEXT = 4_000  # characters of a text in a preview
PREVIEW_PIXELS = 320  # on the longer side of an image in a preview
TEXTS_AT_ONCE = 500
RANGE_ROWS = 16  # whose range of values a preview uses
BINS = 24  # of the histogram of numbers

_LABEL_NAMES = ("labels", "label", "class", "target", "category", "y", "sentiment", "diagnosis", "grade", "score")
_GROUP_WORDS = ("patient", "subject", "person", "user", "author", "group", "case", "study", "site")


@dataclass(frozen=True)
class Column:
    """A column's name, its Arrow type, what it holds in words, and the modality that it could be the input of, or
    None."""

    name: str
    type: str
    words: str
    modality: str | None


@dataclass(frozen=True)
class Overview:
    """What the footers and the first rows say.

    `guesses` are values by dotted key of a spec where its own defaults don't fit the columns; `groups` are columns that
    look like a patient or another unit whose rows belong together, the likeliest first.
    """

    files: list[str]
    bytes: int
    rows: int
    row_groups: int
    columns: list[Column]
    guesses: dict[str, str]
    groups: list[str]


@dataclass(frozen=True)
class Survey:
    """What a run would learn from, if every sample can be used: rows by split, and classes or numbers.

    `classes` are (class, rows of train, val, test) in the order of their index; `histogram` are (from, to, rows) of all
    targets in their own unit. `lengths` are median, 95th percentile and longest of the first texts, in characters.
    """

    modality: str
    input: str
    rows: dict[str, int]
    classes: list[tuple[str, int, int, int]] = field(default_factory=list)
    histogram: list[tuple[float, float, int]] = field(default_factory=list)
    lengths: tuple[int, int, int] | None = None
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Sample:
    """One row of a preview: `text`, or an encoded `image` of at most PREVIEW_PIXELS; or the `reason` why neither."""

    row: int
    label: str
    text: str | None = None
    image: bytes | None = None
    reason: str | None = None


def overview(paths: str | list[str], *, key: str = "data.path") -> Overview:
    """Open the files and guess what is what. Raises DataError as `Source.open` does."""
    source = Source.open(paths, key=key)
    modalities = {name: _modality(source, name) for name in source.column_names}
    first = _first_rows(source, modalities)
    modalities |= {name: "image" for name, values in first.items() if look_like_images(text_of(values).to_pylist())}
    columns = [
        Column(field.name, str(field.type), in_words(field.type), modalities[field.name]) for field in source.schema
    ]
    guesses = _guess_input(source, first, modalities)
    label = _guess_label(source, first, guesses.get("data.input"))
    if label is not None:
        guesses |= {"data.label": label} if label != "labels" else {}
        guesses |= {"task": "regression"} if pt.is_floating(first[label].type) else {}
    return Overview(
        files=[str(file) for file in source.files],
        bytes=sum(file.stat().st_size for file in source.files),
        rows=source.num_rows,
        row_groups=source.row_groups,
        columns=columns,
        guesses=guesses,
        groups=_guess_groups(first, label),
    )


def survey(spec: RunSpec) -> Survey:
    """Labels, groups and splits as a run has them. Raises DataError where the run would stop, but for bad samples."""
    plan = draft_plan(spec).finish(lambda source, rows: [])
    rows = {split: len(plan.splits[split]) for split in SPLITS}
    targets = {split: plan.splits[split].targets for split in SPLITS}
    lengths = _text_lengths(plan.splits["train"].source, plan.input) if plan.modality == "text" else None
    known = {
        "modality": plan.modality,
        "input": plan.input,
        "rows": rows,
        "lengths": lengths,
        "warnings": plan.warnings,
    }
    if isinstance(plan.labels, ClassLabels):
        counts = [np.bincount(targets[split], minlength=len(plan.labels)).tolist() for split in SPLITS]
        classes = [(plan.labels.display(i), *(count[i] for count in counts)) for i in range(len(plan.labels))]
        return Survey(**known, classes=classes)  # type: ignore[arg-type]
    heights, edges = np.histogram(np.concatenate(list(targets.values())), bins=BINS)
    histogram = list(zip(edges[:-1].tolist(), edges[1:].tolist(), heights.tolist(), strict=True))
    return Survey(**known, histogram=histogram)  # type: ignore[arg-type]


def preview(
    paths: str | list[str],
    input: str,
    label: str | None,
    *,
    start: int,
    count: int,
    modality: str | None = None,
    root: str | None = None,
    value_range: list[float] | str = "auto",
) -> list[Sample]:
    """`count` rows from row `start` on, fewer at the end; the other arguments are those of the spec's `data`.

    Images of more than 8 bits are shown by `value_range`, or by the range of the first rows. Raises DataError as
    `Source.open` does.
    """
    source = Source.open(paths, root=root)
    names = list(dict.fromkeys(name for name in (input, label) if name in source.column_names))
    kind, known = None, None
    with suppress(DataError):  # the survey tells what is wrong with the column
        kind, _ = resolve_columns(source, modality, input)
    if kind == "image":
        attach_files(source, kind, input)
        known = _range(source, input, value_range)
    samples: list[Sample] = []
    for first, batch in source.stream_table(names, start=start, rows=AT_ONCE) if names else ():
        labels = batch.column(label) if label in names else pa.nulls(len(batch))
        values = batch.column(input) if input in names else pa.nulls(len(batch))
        if kind is not None:
            values = input_values(values) if kind == "text" else image_values(source, values)
        for at in range(min(len(batch), count - len(samples))):
            row, shown_label = first + at, _text(labels[at]) or ""
            if kind == "image":
                samples.append(_image(row, shown_label, values[at].as_py(), source.folder_of(row), known))
            else:
                samples.append(_sample(row, shown_label, values[at], kind))
        if len(samples) == count:
            break
    return samples


def _range(source: Source, input: str, value_range: list[float] | str) -> Range | None:
    if isinstance(value_range, list):
        return value_range[0], value_range[1]
    if value_range != "auto":
        return None
    values = image_values(source, source.head([input], RANGE_ROWS).column(0))
    return range_of_values(values.to_pylist(), source.folder_of(0))


def _image(row: int, label: str, value: Any, folder: Path, value_range: Range | None) -> Sample:
    try:
        return Sample(row, label, image=small_image(value, folder, value_range, PREVIEW_PIXELS))
    except DataError as error:
        return Sample(row, label, reason=error.message)


def _text(value: pa.Scalar) -> str | None:
    return shown(value)[:LONGEST_TEXT] if value.is_valid else None


def _sample(row: int, label: str, value: pa.Scalar, modality: str | None) -> Sample:
    if not value.is_valid:
        return Sample(row, label, reason="is null")
    text = texts(pa.array([value.as_py()]))[0].as_py() if modality == "text" else _text(value)
    return Sample(row, label, reason=NOT_UTF8) if text is None else Sample(row, label, text=text[:LONGEST_TEXT])


def _modality(source: Source, name: str) -> str | None:
    """What a column may be the input of. Of bytes the first values tell, if they can be read."""
    if source.column_names.count(name) > 1:
        return None
    found = modality_of(source.types[name])
    with suppress(DataError):
        return "text" if found == "image" and holds_text(source, name) else found
    return found


def _first_rows(source: Source, modalities: Mapping[str, str | None]) -> dict[str, pa.Array]:
    """The first values of each column that could be a label, a group or a text; of those that can be read."""
    names = [
        name
        for name, modality in modalities.items()
        if modality != "image" and not pt.is_nested(bare(source.types[name])) and source.column_names.count(name) == 1
    ]
    found = {}
    for name, values in _readable(source, names).items():
        with suppress(pa.ArrowException):
            found[name] = plain(values).combine_chunks()
    return found


def _readable(source: Source, names: list[str]) -> dict[str, pa.ChunkedArray]:
    """The first values of columns, together, or one by one where one of them is damaged."""
    with suppress(DataError):
        table = source.head(names, FIRST_ROWS)
        return dict(zip(names, table.columns, strict=True))
    if len(names) < 2:
        return {}
    half = len(names) // 2
    return _readable(source, names[:half]) | _readable(source, names[half:])


def _guess_input(source: Source, first: dict[str, pa.Array], modalities: Mapping[str, str | None]) -> dict[str, str]:
    """The input where the run's own rule finds none, or two: the only images, or the longest texts."""
    with suppress(DataError):
        resolve_columns(source)
        return {}
    if "images" in source.column_names and "text" in source.column_names:
        return {"data.modality": "image"}
    images = [name for name, modality in modalities.items() if modality == "image"]
    if images:
        return {"data.input": images[0]}
    strings = {name: values for name, values in first.items() if is_text(values.type)}
    lengths = {name: pc.mean(pc.utf8_length(values)).as_py() or 0 for name, values in strings.items()}
    return {"data.input": max(lengths, key=lambda name: lengths[name])} if lengths else {}


def _guess_label(source: Source, first: dict[str, pa.Array], input: str | None) -> str | None:
    """A column that is named like a label, or else the one with the fewest distinct values among those with several."""
    others = {name: values for name, values in first.items() if name not in (input, "text", "images")}
    by_name = {name.lower(): name for name in others}
    for name in _LABEL_NAMES:
        if name in by_name:
            return by_name[name]
    distinct = {
        name: count
        for name, values in others.items()
        if not (pt.is_floating(values.type) or is_bytes(values.type))
        and 2 <= (count := len(values.unique())) <= max(2, len(values) // 2)
    }
    return min(distinct, key=lambda name: distinct[name]) if distinct else None


def _guess_groups(first: dict[str, pa.Array], label: str | None) -> list[str]:
    """Columns that are named like a unit and repeat: the run keeps a unit's rows on one side."""
    names = [
        name
        for name, values in first.items()
        if name != label
        and any(word in name.lower() for word in _GROUP_WORDS)
        and not pt.is_floating(values.type)
        and 1 < len(values.unique()) < len(values)
    ]
    return sorted(names, key=lambda name: next(i for i, word in enumerate(_GROUP_WORDS) if word in name.lower()))


def _text_lengths(source: Source, input: str) -> tuple[int, int, int] | None:
    lengths: list[int] = []
    for _, values in source.stream(input, rows=TEXTS_AT_ONCE):
        lengths += pc.utf8_length(texts(input_values(values))).drop_null().to_pylist()
        if len(lengths) >= TEXT_ROWS:
            break
    lengths = lengths[:TEXT_ROWS]
    if not lengths:
        return None
    return int(np.median(lengths)), int(np.percentile(lengths, 95)), max(lengths)


def answer(question: dict[str, Any]) -> Any:
    """The answer to a question, as JSON values; `ask` names the function, the rest are its arguments."""
    arguments = {key: value for key, value in question.items() if key != "ask"}
    if question["ask"] == "overview":
        return asdict(overview(**arguments))
    if question["ask"] == "survey":
        return asdict(survey(validate(arguments["spec"])))
    return [
        asdict(sample) | {"image": None if sample.image is None else base64.b64encode(sample.image).decode()}
        for sample in preview(**arguments)
    ]


def serve(questions: TextIO, answers: TextIO) -> None:
    """Answer each line until there are no more: `{"answer": ...}`, or `{"error": ..., "hint": ...}`."""
    for line in questions:
        try:
            told = {"answer": answer(json.loads(line))}
        except DeepTuneError as error:
            told = {"error": error.message, "hint": error.hint}
        except MemoryError:
            told = {"error": "the data does not fit in memory", "hint": "Split the file, or shorten its values."}
        answers.write(json.dumps(told) + "\n")
        answers.flush()


if __name__ == "__main__":
    os.nice(5)  # whoever asks draws a screen meanwhile
    with suppress(BrokenPipeError, KeyboardInterrupt):
        serve(sys.stdin, sys.stdout)
    os._exit(0)  # nobody waits for what a library would still tidy up
