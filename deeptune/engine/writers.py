"""Predictions and embeddings as Parquet: one row for each source row, in the source's order, written as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deeptune.arrow import is_bytes
from deeptune.data.columns.kept_columns import kept_columns
from deeptune.data.sources.source import SMALL, Source
from deeptune.data.splits.class_names import Relabel
from deeptune.engine.embedding_form import LIST, EmbeddingForm
from deeptune.engine.row_order import Window
from deeptune.engine.table_files import CSV, Keep, once, table_file
from deeptune.errors import listed
from deeptune.spec.modalities import Input, columns_of
from deeptune.tasks import Task

WriteWindow = Callable[[Window], None]


@dataclass(frozen=True)
class PredictionColumns:
    """The columns written for predictions: those of the task, null where the confidence is below a limit."""

    task: Task
    abstain_below: float | None = None

    def columns(self, logits: np.ndarray) -> dict[str, pa.Array]:
        """Return the columns of outputs (N, outputs).

        With a limit, `abstained` says of which rows `prediction` is null.
        """
        columns = self.task.predictions(logits)
        if self.abstain_below is not None:
            sure = self.task.confidences(logits)
            assert sure is not None
            abstained = pa.array(sure < self.abstain_below)
            values = columns["prediction"]
            columns["prediction"] = pc.if_else(abstained, pa.scalar(None, values.type), values)
            columns["abstained"] = abstained
        return columns


@contextmanager
def prediction_file(
    path: Path,
    said: PredictionColumns,
    *,
    truth: np.ndarray | None = None,
    errors: Mapping[int, str] | None = None,
    keep: Keep = once,
) -> Iterator[WriteWindow]:
    """Write predictions, a window after the other: `row`, `truth` when known, and the columns of `Task.predictions`.

    `truth` is a target for each of the rows; that of a label that is not known becomes null. `errors` says, in
    a column `error`, why a row has nulls (the model never saw it), or what an empty sample gave (it saw that instead).
    """
    with table_file(path, keep) as write:

        def write_window(window: Window) -> None:
            known = None if truth is None else truth[window.places]
            write(prediction_table(window, said, truth=known, errors=errors))

        yield write_window


@dataclass(frozen=True)
class Roles:
    """The columns of a source that are not kept as they are: the input, and the label with the values it gets."""

    input: Input
    label: Input | None = None
    relabel: Relabel | None = None


@contextmanager
def embedding_file(
    path: Path,
    source: Source,
    roles: Roles,
    *,
    errors: Mapping[int, str] | None = None,
    keep: Keep = once,
    form: EmbeddingForm = LIST,
) -> Iterator[WriteWindow]:
    """Write embeddings, one window after the other.

    The columns are `row`, `label` (as in the source, or as `roles.relabel` changes it), `embedding` (fixed-size list of
    float32, or as `form` says), then the kept columns, which are read in step. A CSV file gets none that hold bytes.
    `errors` is as in `prediction_file`.
    """
    label, relabel = roles.label, roles.relabel
    names = kept_columns(source, input=roles.input, label=label)
    unfit = _unfit_columns(path, source, names)
    names = {name: shown for name, shown in names.items() if name not in unfit}
    columns = InStep(source, [*names, *columns_of(label or [])])
    with table_file(path, keep) as write:

        def write_window(window: Window) -> None:
            embeddings, why, start = _embeddings(window), _reasons(window.rows, errors), 0
            for rows, found in columns.pieces(window.rows):
                here = slice(start, start + len(rows))
                table = {pa.field("row", pa.int64()): pa.array(rows, pa.int64())}
                if isinstance(label, str):
                    values = found[label] if relabel is None else relabel(found[label])
                    table[source.field(label).with_name("label").with_type(values.type)] = values
                elif relabel is not None:  # several columns
                    values = relabel(found)
                    table[pa.field("label", values.type)] = values
                table |= form.columns(embeddings[here])
                for name, shown in names.items():
                    table[source.field(name).with_name(shown).with_type(found[name].type)] = found[name]
                if why is not None:
                    table[pa.field("error", pa.string())] = why[here]
                write(pa.Table.from_arrays(list(table.values()), schema=pa.schema(list(table))))
                start = here.stop

        yield write_window
        if not all(map(source.holds, names)):
            source.require_unchanged()


def left_out_notes(path: Path, source: Source, *, input: Input, label: Input | None) -> list[str]:
    """Say which kept columns of a source a file of embeddings leaves out, if any."""
    unfit = _unfit_columns(path, source, kept_columns(source, input=input, label=label))
    return [f"left out of {path.name}, because they hold bytes: {listed(unfit)}"] if unfit else []


def _unfit_columns(path: Path, source: Source, names: Iterable[str]) -> list[str]:
    """Return which columns hold bytes, for a CSV file: as text, an image is longer than any cell of a spreadsheet."""
    return [name for name in names if path.suffix.lower() == CSV and _holds_bytes(source.field(name).type)]


def _holds_bytes(kind: pa.DataType) -> bool:
    kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    kind = kind.value_type if isinstance(kind, pa.DictionaryType) else kind
    inner = [kind.field(place).type for place in range(kind.num_fields)]
    return is_bytes(kind) or any(map(_holds_bytes, inner))


class InStep:
    """Columns of a source, read together and once, in step with who asks for rows.

    They are read from the first row to the last. What the source holds is not read again.
    """

    def __init__(self, source: Source, names: Sequence[str]) -> None:
        self._schema = pa.schema([source.field(name) for name in names])
        self._stream = _tables(source, names)
        self._start, self._here = 0, pa.table({})  # the piece that was read last, and its first row

    def pieces(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, pa.Table]]:
        """Read `rows` with their values, in one piece or in several of not much more than SMALL bytes.

        `rows` (int64, ascending) come after those that were asked for before.
        """
        if not len(self._schema):
            yield rows, pa.table({})
            return
        parts: list[pa.Table] = []
        start = end = size = 0
        while end < len(rows):
            inside = int(np.searchsorted(rows, self._start + len(self._here)))
            if inside <= end:
                self._start, self._here = next(self._stream)
                continue
            parts.append(self._here.take(pa.array(rows[end:inside] - self._start)))
            end, size = inside, size + parts[-1].nbytes
            if size >= SMALL:
                yield rows[start:end], pa.concat_tables(parts)
                parts, start, size = [], end, 0
        if parts or not len(rows):
            yield rows[start:], pa.concat_tables(parts) if parts else pa.Table.from_batches([], self._schema)


def _tables(source: Source, names: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
    """Yield the pieces of some columns, as (first row, values): one where the source holds them."""
    if all(map(source.holds, names)):
        source.hold(names)
        yield 0, pa.table({name: source.column(name) for name in names})
    else:
        for start, batch in source.stream_table(names):
            yield start, pa.Table.from_batches([batch])


# Columns of a window.


def prediction_table(
    window: Window, said: PredictionColumns, *, truth: np.ndarray | None = None, errors: Mapping[int, str] | None = None
) -> pa.Table:
    """Return a row for each row of a window, in the columns of `prediction_file`; `truth` is a target for each."""
    columns: dict[str, pa.Array] = {"row": pa.array(window.rows, pa.int64())}
    if truth is not None:
        columns["truth"] = said.task.decode(truth)
    for name, values in said.columns(window.outputs.logits).items():
        columns[name] = _at_seen(values, window.seen)
    return _with_errors(pa.table(columns), window.rows, errors)


def _at_seen(values: pa.Array, seen: np.ndarray) -> pa.Array:
    """Return a value for each row: the next of `values` where the row was seen, else null."""
    return values if seen.all() else values.take(pa.array(np.cumsum(seen) - 1, mask=~seen))


def _embeddings(window: Window) -> pa.Array:
    """Return a fixed-size list of float32 per row, null where the model did not see it."""
    found, seen = window.outputs.embeddings, window.seen
    assert found is not None
    spread = _spread(found, seen)
    mask = None if seen.all() else pa.array(~seen)
    return pa.FixedSizeListArray.from_arrays(pa.array(spread.reshape(-1)), found.shape[1], mask=mask)


def _spread(values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return a value for each row: the next of `values` where the row was seen, else zeros."""
    if seen.all():
        return values
    spread = np.zeros((len(seen), *values.shape[1:]), values.dtype)
    spread[seen] = values
    return spread


def _with_errors(table: pa.Table, rows: np.ndarray, errors: Mapping[int, str] | None) -> pa.Table:
    reasons = _reasons(rows, errors)
    return table if reasons is None else table.append_column("error", reasons)


def _reasons(rows: np.ndarray, errors: Mapping[int, str] | None) -> pa.Array | None:
    """Say why rows can't be used, null for those that can; None for a file without such rows."""
    return pa.array([errors.get(int(row)) for row in rows], pa.string()) if errors else None
