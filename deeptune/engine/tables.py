"""Predictions and embeddings as Parquet: one row for each source row, in the source's order."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deeptune.data.labels import ClassLabels, Labels
from deeptune.data.source import Source
from deeptune.engine.evaluate import Outputs, predicted_numbers, probabilities
from deeptune.runs.files import replacing


def write_table(table: pa.Table, path: Path) -> None:
    """Write Parquet so that a reader sees all of it or nothing. Raises CheckpointError when it can't."""
    with replacing(path) as temporary:
        pq.write_table(table, temporary)


def prediction_table(
    rows: np.ndarray,
    outputs: Outputs,
    labels: Labels,
    *,
    truth: np.ndarray | None = None,
    errors: Mapping[int, str] | None = None,
) -> pa.Table:
    """A row for each of `rows` (ascending): `row`, `truth` when known, `prediction` in the label's own value and,
    for classification, `probabilities` (in the order of labels.json) and `confidence`.

    `truth` is a target for each of `rows`; −1 or NaN, for a label that is not known, becomes null. `errors` says, in
    a column `error`, why a row has nulls (the model never saw it), or what an empty sample gave (it saw that instead).
    """
    place, seen = _placement(rows, outputs)
    columns: dict[str, pa.Array] = {"row": pa.array(rows, pa.int64())}
    if isinstance(labels, ClassLabels):
        chances = probabilities(outputs.logits)
        top = chances.argmax(axis=1) if len(chances) else np.zeros(0, np.int64)
        if truth is not None:
            columns["truth"] = _masked(labels.decode_all(np.maximum(truth, 0)), truth >= 0)
        columns["prediction"] = _masked(labels.decode_all(_gather(top, place)), seen)
        columns["probabilities"] = _lists(chances, place, seen)
        columns["confidence"] = pa.array(
            _gather(chances.max(axis=1) if len(chances) else np.zeros(0), place), mask=~seen
        )
    else:
        if truth is not None:
            columns["truth"] = pa.array(truth, pa.float64(), mask=np.isnan(truth))
        columns["prediction"] = pa.array(_gather(predicted_numbers(outputs.logits, labels), place), mask=~seen)
    return _with_errors(pa.table(columns), rows, errors)


def embedding_table(
    rows: np.ndarray,
    outputs: Outputs,
    source: Source,
    *,
    label: str | None,
    leave_out: set[str],
    errors: Mapping[int, str] | None = None,
) -> pa.Table:
    """`row`, `label` (as in the source), `embedding` (fixed-size list of float32), then the kept columns.

    `rows` are ascending; `errors` are told as in `prediction_table`.
    """
    assert outputs.embeddings is not None
    place, seen = _placement(rows, outputs)
    width = outputs.embeddings.shape[1]
    gathered = _gather(outputs.embeddings, place).astype(np.float32, copy=False)
    columns: dict[str, pa.Array | pa.ChunkedArray] = {"row": pa.array(rows, pa.int64())}
    if label is not None:
        columns["label"] = source.take(label, rows)
    columns["embedding"] = pa.FixedSizeListArray.from_arrays(
        pa.array(gathered.reshape(-1)), width, mask=pa.array(~seen) if not seen.all() else None
    )
    for name in source.column_names:
        if name not in leave_out and name != label:
            kept = f"{name}_in_source" if name in ("row", "label", "embedding", "error") else name
            columns[kept] = source.take(name, rows)
    return _with_errors(pa.table(columns), rows, errors)


def _placement(rows: np.ndarray, outputs: Outputs) -> tuple[np.ndarray, np.ndarray]:
    """For each of `rows`: its place in the outputs (0 when absent), and whether it is there."""
    order = np.argsort(outputs.rows, kind="stable")
    place = np.searchsorted(outputs.rows, rows, sorter=order)
    inside = place < len(order)
    place = order[np.where(inside, place, 0)] if len(order) else np.zeros(len(rows), np.int64)
    seen = inside & (outputs.rows[place] == rows) if len(order) else np.zeros(len(rows), bool)
    return place, seen


def _gather(values: np.ndarray, place: np.ndarray) -> np.ndarray:
    return values[place] if len(values) else np.zeros((len(place), *values.shape[1:]), values.dtype)


def _masked(values: pa.Array, seen: np.ndarray) -> pa.Array:
    return pc.if_else(pa.array(seen), values, pa.scalar(None, values.type))


def _lists(values: np.ndarray, place: np.ndarray, seen: np.ndarray) -> pa.Array:
    """A list<double> per row, null where nothing was seen."""
    width = values.shape[1]
    offsets = np.concatenate([[0], np.cumsum(np.where(seen, width, 0))]).astype(np.int32)
    flat = values[place[seen]].reshape(-1)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat), mask=pa.array(~seen))


def _with_errors(table: pa.Table, rows: np.ndarray, errors: Mapping[int, str] | None) -> pa.Table:
    if not errors:
        return table
    return table.append_column("error", pa.array([errors.get(int(row)) for row in rows], pa.string()))
