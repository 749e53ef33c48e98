"""A run's embeddings in two dimensions: their principal components, with label and prediction of each row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeptune.errors import CheckpointError, DataError, first_line
from deeptune.report.tables import significant
from deeptune.runs import RunDirectory
from deeptune.runs.directory import COPY_AGAIN
from deeptune.runs.files import read_json

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

FITTED = 4_000  # rows that the components are computed from, at most
MOST = 100_000  # rows that are shown, at most
BINS = 6  # bins of numbers
UNLABELLED = "no label"


@dataclass(frozen=True)
class Points:
    """Rows of a split in the order of the file.

    `rows` (N,) int64 are their numbers in the source; `xy` (N, 2) float64; `group` (N,) int64 is an index into `names`:
    classes, or ranges of a number when `ordered`. `explained` are the shares of the variance that x and y hold, by the
    `fitted` rows. `total` rows are in the file, of which those without a finite embedding, and those beyond MOST, are
    left out. `values` are the labels of numbers.
    """

    split: str
    rows: np.ndarray
    xy: np.ndarray
    group: np.ndarray
    names: list[str]
    explained: tuple[float, float]
    fitted: int
    total: int
    ordered: bool = False
    values: np.ndarray | None = None
    predictions: dict[int, str] = field(default_factory=dict)

    def label(self, index: int) -> str:
        return self.names[self.group[index]] if self.values is None else significant(float(self.values[index]))


def splits_of(run: RunDirectory) -> list[str]:
    """Return the splits that there are embeddings of; test first, as nothing was learned from it."""
    return [split for split in ("test", "val", "train") if run.embeddings(split).is_file()]


def read_points(run: RunDirectory, split: str) -> Points:
    """Read and project. Takes seconds for many rows: for a thread. Raises DataError where it can't be done."""
    import numpy as np
    import pyarrow as pa

    path = run.embeddings(split)
    try:
        fitted, total = _fitted(path)
        mean, axes, explained = principal_axes(fitted)
        rows, labels, xy = [], [], []
        for batch, values in _batches(path, MOST):
            rows.append(batch.column("row").to_numpy())
            labels.append(batch.column("label") if "label" in batch.schema.names else pa.nulls(len(batch)))
            xy.append((values - mean) @ axes)
        group, names, numbers = _groups(run, pa.chunked_array(labels))
        return Points(
            split, np.concatenate(rows), np.concatenate(xy), group, names, explained, len(fitted), total,
            ordered=numbers is not None, values=numbers, predictions=_predictions(run) if split == "test" else {},
        )  # fmt: skip
    except DataError:
        raise
    except (OSError, ValueError, KeyError, CheckpointError, pa.ArrowException) as error:
        raise DataError(f"{path} can't be read: {first_line(error)}", hint=COPY_AGAIN) from error


def principal_axes(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Return mean (D,), axes (D, 2) and shares of the variance of values (N, D).

    They are those of scikit-learn's PCA with two components.
    """
    import numpy as np

    mean = values.mean(axis=0)
    centred = values - mean
    tall = len(centred) >= centred.shape[1]
    sizes, vectors = np.linalg.eigh(centred.T @ centred if tall else centred @ centred.T)
    sizes, vectors = sizes[::-1].clip(min=0), vectors[:, ::-1][:, :2]
    if not tall:
        vectors = centred.T @ vectors
        vectors /= np.linalg.norm(vectors, axis=0).clip(min=1e-300)
    axes = np.zeros((centred.shape[1], 2))
    axes[:, : vectors.shape[1]] = vectors
    axes *= np.where(axes[abs(axes).argmax(axis=0), [0, 1]] < 0, -1, 1)  # the same direction each time
    shares = [float(size / (sizes.sum() or 1)) for size in sizes[:2]]
    return mean, axes, (shares[0], shares[1] if len(shares) > 1 else 0.0)


def _fitted(path: Path) -> tuple[np.ndarray, int]:
    """Draw rows at random (the same ones each time) to compute the components from, and how many rows there are."""
    import numpy as np
    import pyarrow.parquet as pq

    total = pq.read_metadata(path).num_rows
    share = min(1.0, FITTED / max(total, 1))
    generator = np.random.default_rng(0)
    parts = [values[generator.random(len(values)) < share] for _, values in _batches(path)]
    fitted = np.concatenate(parts) if parts else np.zeros((0, 1))
    if len(fitted) < 2:
        raise DataError(f"{path} has {len(fitted)} rows with an embedding: there is nothing to show")
    return fitted, total


def _batches(path: Path, most: int | None = None) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
    """Yield row and label of some rows, and their embeddings (n, D) as float64; without those that have none.

    Of more than `most` rows only some at random are given, the same ones each time.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        names = [name for name in ("row", "label", "embedding") if name in file.schema_arrow.names]
        share = min(1.0, (most or file.metadata.num_rows) / max(file.metadata.num_rows, 1))
        generator = np.random.default_rng(1)
        for batch in file.iter_batches(batch_size=4096, columns=names):
            there = pc.and_(batch.column("embedding").is_valid(), pa.array(generator.random(len(batch)) < share))
            batch = batch.filter(there)
            if not len(batch):
                continue
            column = batch.column("embedding")
            values = column.flatten().to_numpy(zero_copy_only=False).reshape(len(batch), -1).astype(np.float64)
            finite = np.isfinite(values).all(axis=1)
            yield (batch, values) if finite.all() else (batch.filter(pa.array(finite)), values[finite])


def _groups(run: RunDirectory, column: pa.ChunkedArray) -> tuple[np.ndarray, list[str], np.ndarray | None]:
    """Return the group of each label, the groups' names, and the labels themselves when they are numbers."""
    import numpy as np
    import pyarrow as pa

    from deeptune.runs.labels import read_task
    from deeptune.tasks.label_columns import plain

    if column.type == pa.null():
        return np.zeros(len(column), np.int64), [UNLABELLED], None
    task = read_task(run.labels)
    column = plain(column)
    if task.classes:
        group, names = task.groups(task.find(column))
        group = np.where(group < 0, len(names), group)
        return group, [*names, UNLABELLED] if (group == len(names)).any() else names, None
    found = task.find(column)
    values = found if found.ndim == 1 else found[:, 0]  # of several numbers, the first
    return *_ranges(values), values


def _ranges(values: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """List ranges of about as many rows each."""
    import numpy as np

    known = values[np.isfinite(values)]
    if not len(known):
        return np.zeros(len(values), np.int64), [UNLABELLED]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)))
    names = [f"{significant(a, 3)} to {significant(b, 3)}" for a, b in pairwise(edges.tolist())]
    names = names or [significant(float(edges[0]), 3)]
    group = np.searchsorted(edges[1:-1], values, side="right")
    if len(known) < len(values):
        group = np.where(np.isfinite(values), group, len(names))
        names.append(UNLABELLED)
    return group, names


def _predictions(run: RunDirectory) -> dict[int, str]:
    """Return what was predicted for each row of test; nothing where that can't be read."""
    import pyarrow.parquet as pq

    try:
        table: Any = pq.read_table(run.predictions, columns=["row", "prediction"])
        labels = read_json(run.labels)
        names = labels.get("names") and {
            value: f"{value} ({name})" for value, name in zip(labels["values"], labels["names"], strict=True)
        }
    except (OSError, ValueError, KeyError, CheckpointError):  # Arrow's errors are among these
        return {}
    pairs = zip(table["row"].to_pylist(), table["prediction"].to_pylist(), strict=True)
    return {row: _text(value, names or {}) for row, value in pairs if value is not None}


def _text(value: Any, names: dict[Any, str]) -> str:
    if isinstance(value, list):
        return ", ".join(_text(one, names) for one in value) or "none"
    return significant(value) if isinstance(value, float) else names.get(value, str(value))
