"""What Parquet files hold, for a person who is about to learn from them.

The answers come from the code of a run, so problems are told in a run's own words. Everything is read in small batches,
one column at a time. `python -m deeptune.data.inspect` answers questions from its standard input, a JSON object a line:
a viewer that asks it is neither held up nor ended by whatever a file does, and drops a question by ending the process.
"""

from __future__ import annotations

import base64
import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt

from deeptune.data.decode import decode_image
from deeptune.data.inputs import modality_of, resolve_columns
from deeptune.data.labels import ClassLabels, plain
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
BINS = 24  # of the histogram of numbers

_LABEL_NAMES = ("labels", "label", "class", "target", "category", "y", "sentiment", "diagnosis", "grade", "score")
_GROUP_WORDS = ("patient", "subject", "person", "user", "author", "group", "case", "study", "site")


@dataclass(frozen=True)
class Column:
    """A column's name, its Arrow type in words, and the modality that it could be the input of, or None."""

    name: str
    type: str
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
    footers = [pq.read_metadata(file) for file in source.files]
    columns = [Column(f.name, str(f.type), modality_of(f.type)) for f in source.schema]
    first = _first_rows(source)
    guesses = _guess_input(source, first)
    label = _guess_label(source, first, guesses.get("data.input"))
    if label is not None:
        guesses |= {"data.label": label} if label != "labels" else {}
        kind = source.schema.field(label).type
        guesses |= {"task": "regression"} if pt.is_floating(kind) or pt.is_decimal(kind) else {}
    return Overview(
        files=[str(file) for file in source.files],
        bytes=sum(file.stat().st_size for file in source.files),
        rows=source.num_rows,
        row_groups=sum(footer.num_row_groups for footer in footers),
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


def preview(paths: str | list[str], input: str, label: str | None, *, start: int, count: int) -> list[Sample]:
    """`count` rows from row `start` on, fewer at the end. Raises DataError as `Source.open` does."""
    source = Source.open(paths)
    names = list(dict.fromkeys(name for name in (input, label) if name in source.column_names))
    samples: list[Sample] = []
    for row, values in zip(range(start, source.num_rows), _rows(source, names, start), strict=False):
        if len(samples) == count:
            break
        shown = "" if label not in values or values[label] is None else str(values[label])[:LONGEST_TEXT]
        samples.append(_sample(row, shown, values.get(input)))
    return samples


def _sample(row: int, label: str, value: Any) -> Sample:
    if isinstance(value, dict):
        value = value.get("bytes")
    if value is None:
        return Sample(row, label, reason="is null")
    if not isinstance(value, bytes):
        return Sample(row, label, text=str(value)[:LONGEST_TEXT])
    try:
        return Sample(row, label, image=_small(value))
    except DataError as error:
        return Sample(row, label, reason=error.message)


def _small(encoded: bytes) -> bytes:
    """An image that is decoded as a run does it, no larger than a preview. Raises DataError as `decode_image` does."""
    image = decode_image(encoded)
    if max(image.size) <= PREVIEW_PIXELS:
        return encoded
    image.thumbnail((PREVIEW_PIXELS, PREVIEW_PIXELS))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def _batches(file: Path, names: list[str], *, start: int = 0, rows: int = 64) -> Iterator[pa.RecordBatch]:
    """The columns of a file from row `start` on, in small batches, without the row groups before it."""
    with pq.ParquetFile(file) as parquet:
        for group in range(parquet.num_row_groups):
            here = parquet.metadata.row_group(group).num_rows
            if start >= here:
                start -= here
                continue
            for batch in parquet.iter_batches(batch_size=rows, row_groups=[group], columns=names, use_threads=False):
                if start >= len(batch):
                    start -= len(batch)
                    continue
                yield batch.slice(start)
                start = 0


def _rows(source: Source, names: list[str], start: int) -> Iterator[dict[str, Any]]:
    """The values of some columns, from row `start` on through all files. Raises DataError for what can't be read."""
    if start >= source.num_rows or not names:
        return
    first, inner = source.locate(start)
    at = source.files.index(first)
    for file in source.files[at:]:
        try:
            for batch in _batches(file, names, start=inner):
                for row in range(len(batch)):
                    yield {name: batch.column(name)[row].as_py() for name in names}
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            raise DataError(
                f"{source.key}: {file} cannot be read: {(str(error) or type(error).__name__).splitlines()[0]}",
                hint="The file is damaged or was cut off: write it again.",
            ) from error
        inner = 0


def _first_rows(source: Source) -> dict[str, pa.Array]:
    """The first values of each column that could be a label, a group or a text; of those that can be read."""
    found = {}
    for column in source.schema:
        kind = column.type.value_type if pt.is_dictionary(column.type) else column.type
        if pt.is_nested(kind) or modality_of(kind) == "image" or source.column_names.count(column.name) > 1:
            continue
        with suppress(OSError, ValueError, KeyError, pa.ArrowException, StopIteration):
            batch = next(_batches(source.files[0], [column.name], rows=FIRST_ROWS))
            found[column.name] = plain(pa.chunked_array([batch.column(column.name)])).combine_chunks()
    return found


def _guess_input(source: Source, first: dict[str, pa.Array]) -> dict[str, str]:
    """The input where the run's own rule finds none, or two: the only images, or the longest texts."""
    with suppress(DataError):
        resolve_columns(source)
        return {}
    if "images" in source.column_names and "text" in source.column_names:
        return {"data.modality": "image"}
    images = [column.name for column in source.schema if modality_of(column.type) == "image"]
    if images:
        return {"data.input": images[0]}
    texts = {name: pc.mean(pc.utf8_length(values)).as_py() or 0 for name, values in first.items() if _is_text(values)}
    return {"data.input": max(texts, key=lambda name: texts[name])} if texts else {}


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
        if not pt.is_floating(values.type) and 2 <= (count := len(values.unique())) <= max(2, len(values) // 2)
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


def _is_text(values: pa.Array) -> bool:
    return pt.is_string(values.type) or pt.is_large_string(values.type)


def _text_lengths(source: Source, input: str) -> tuple[int, int, int] | None:
    texts = (row[input] for row in islice(_rows(source, [input], 0), TEXT_ROWS))
    lengths = [len(text) for text in texts if text is not None]
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
