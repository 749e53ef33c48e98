"""A finished run, read from the files of its directory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deeptune.arrow import keys_of
from deeptune.errors import CheckpointError
from deeptune.runs.directory import COPY_AGAIN, RunDirectory
from deeptune.runs.event_log import read_events
from deeptune.runs.events import EpochEvent, Event, WarningEvent
from deeptune.runs.files import read_json, read_json_object
from deeptune.runs.labels import read_task
from deeptune.spec.run_spec import RunSpec
from deeptune.spec.toml import load_spec
from deeptune.tasks import Task


@dataclass(frozen=True)
class Predictions:
    """The scored test rows: truth and prediction as targets of the task, and float64 probabilities (N, C) or None.

    `groups` are codes (int64) of rows that depend on one another, or None.
    """

    row: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    probabilities: np.ndarray | None
    groups: np.ndarray | None = None

    def at(self, places: np.ndarray) -> Predictions:
        """Return those of some places."""
        parts = (self.row, self.truth, self.prediction, self.probabilities, self.groups)
        return Predictions(*(None if part is None else part[places] for part in parts))  # type: ignore[arg-type]


@dataclass(frozen=True)
class FinishedRun:
    """The data of a report. Parts that the run did not write are empty or None."""

    files: RunDirectory
    spec: RunSpec
    task: Task
    metrics: dict[str, dict[str, Any]]
    epochs: list[EpochEvent]
    warnings: list[str]
    result: dict[str, Any]
    run: dict[str, Any]
    predictions: Predictions | None
    columns: dict[str, list[str | None]]  # those that the report names: a text for each row of `predictions`
    train_targets: np.ndarray | None  # int64 class indices or float64, of the training split
    rows: dict[str, int]
    samples: bool = False  # whether the report draws test samples

    @property
    def trained(self) -> list[EpochEvent]:
        """The epochs without epoch 0, which is the head that fine-tuning started from."""
        return [epoch for epoch in self.epochs if epoch.epoch]

    @property
    def split(self) -> str:
        """The split of the report: test, or val if there is no test split."""
        return "test" if self.metrics.get("test", {}).get("n") else "val"


def read_run(directory: Path) -> FinishedRun:
    """Read a finished run. Raises CheckpointError if spec, labels or metrics are missing, or a file is damaged."""
    files = RunDirectory(Path(directory))
    for needed in (files.spec, files.labels, files.metrics):
        if not needed.is_file():
            raise CheckpointError(
                f"{needed} is missing, so there is nothing to report yet",
                hint=f"Wait until the run has ended, or resume it: deeptune resume {files.id}",
            )
    spec = load_spec(files.spec)
    task = read_task(files.labels)
    metrics = read_json(files.metrics)
    events = read_events(files.events)
    result = read_json_object(files.result)
    train_targets, rows = _splits(files.splits, task)
    predictions = _predictions(files.predictions, task)
    if predictions is not None and spec.data.group:
        predictions = replace(predictions, groups=_groups(files.splits, predictions.row))
    return FinishedRun(
        files=files,
        spec=spec,
        task=task,
        metrics=metrics,
        epochs=_epochs(events),
        warnings=list(dict.fromkeys(event.message for event in events if isinstance(event, WarningEvent))),
        result=result,
        run=read_json_object(files.run),
        predictions=predictions,
        columns={} if predictions is None else _columns(files.columns, predictions.row),
        train_targets=train_targets,
        rows=rows or {split: count for split, count in (result.get("rows") or {}).items() if isinstance(count, int)},
    )


def _epochs(events: list[Event]) -> list[EpochEvent]:
    # A resumed run trains some epochs again: the last event of each holds.
    found = {event.epoch: event for event in events if isinstance(event, EpochEvent)}
    return [found[number] for number in sorted(found)]


def _predictions(path: Path, task: Task) -> Predictions | None:
    return predictions_of(_read(path), task, path) if path.is_file() else None


def predictions_of(table: pa.Table, task: Task, path: Path) -> Predictions:
    """Read a table in the columns of predictions.parquet; `path` names it in messages."""
    # A row that could not be read has an error and no prediction.
    table = table.filter(pc.and_(table["prediction"].is_valid(), table["truth"].is_valid()))
    row = table["row"].to_numpy()
    truth, said = _targets(table["truth"], task, path), table["prediction"]
    prediction = task.read_predictions(said, place=path.name) if len(said) else task.find(said)
    if "probabilities" not in table.column_names:
        return Predictions(row, truth, prediction, None)
    shape = (len(table), task.classes)
    flat = pc.list_flatten(table["probabilities"]).to_numpy().astype(np.float64)
    if flat.size != shape[0] * shape[1]:
        raise CheckpointError(
            f"{path}: column 'probabilities' does not hold {shape[1]} numbers in every row", hint=COPY_AGAIN
        )
    return Predictions(row, truth, prediction, flat.reshape(shape))


def _splits(path: Path, task: Task) -> tuple[np.ndarray | None, dict[str, int]]:
    if not path.is_file():
        return None, {}
    table = _read(path)
    split = table["split"]
    rows = {name: int(pc.sum(pc.equal(split, name)).as_py() or 0) for name in ("train", "val", "test")}
    return _targets(table.filter(pc.equal(split, "train"))["label"], task, path), rows


def _groups(path: Path, rows: np.ndarray) -> np.ndarray | None:
    """Return the group code of each of these test rows; None where the file does not say it of all."""
    if not path.is_file():
        return None
    table = _read(path)
    if "group" not in table.column_names:
        return None
    test = table.filter(pc.equal(table["split"], "test"))
    at = pc.index_in(pa.array(rows), value_set=test["row"].combine_chunks())
    if at.null_count:
        return None
    keys = keys_of(test["group"].combine_chunks())
    codes = pc.dictionary_encode(keys, null_encoding="encode").indices
    return codes.take(at).to_numpy(zero_copy_only=False).astype(np.int64)


def _columns(path: Path, rows: np.ndarray) -> dict[str, list[str | None]]:
    """Return the columns that the report names, of these test rows; empty where the file does not have all of them."""
    if not path.is_file():
        return {}
    table = _read(path)
    at = pc.index_in(pa.array(rows), value_set=table["row"].combine_chunks())
    if at.null_count:
        return {}
    values = table["values"].combine_chunks().take(at)
    return {field.name: values.field(place).to_pylist() for place, field in enumerate(values.type)}


def _targets(column: pa.ChunkedArray, task: Task, path: Path) -> np.ndarray:
    """Return the targets of labels, none of which is missing."""
    if len(column) == 0:
        return task.find(column)
    return task.encode(column, place=path.name)


def _read(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise CheckpointError(f"{path} cannot be read: {error}", hint=COPY_AGAIN) from error
