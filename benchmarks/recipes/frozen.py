"""Pooled features of a frozen backbone for the rows of a data set, computed once and kept in a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.recipes.datasets import SPLIT_SEED, DataSet, draw
from benchmarks.recipes.training import backbone_values


@dataclass(frozen=True)
class Frozen:
    """Features float32 (N, width) and labels of the rows to draw training rows from, and of the test rows.

    `numbers` says whether labels are numbers.
    """

    features: np.ndarray
    labels: np.ndarray
    test_features: np.ndarray
    test_labels: np.ndarray
    numbers: bool

    def drawn(self, size: int, seed: int) -> np.ndarray:
        """Return the places of `size` training rows that `seed` draws, as a cell would draw them."""
        table = pa.table({"labels": self.labels, "place": np.arange(len(self.labels))})
        return draw(table, size, seed)["place"].to_numpy()


def frozen(data: DataSet, name: str, backbone: str, folder: Path, rows: int, test_rows: int) -> Frozen:
    """Return the features of at most so many rows, from files of the `name` below `folder` where they are there."""
    parts = {"train": draw(data.train, rows, SPLIT_SEED), "test": draw(data.test, test_rows, SPLIT_SEED)}
    found = {}
    for part, table in parts.items():
        called = f"{name.replace(':', '-')}-{backbone.replace('/', '-').replace(':', '-')}-{part}-{len(table)}"
        path = folder / f"{called}.npy"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            unfinished = folder / f"{called}.part.npy"
            np.save(unfinished, _passed(table, data, backbone, folder / f"{called}.parquet"))
            unfinished.replace(path)
        found[part] = np.load(path)
    labels = {part: table["labels"].to_numpy() for part, table in parts.items()}
    return Frozen(found["train"], labels["train"], found["test"], labels["test"], data.task == "regression")


def _passed(table: pa.Table, data: DataSet, backbone: str, file: Path) -> np.ndarray:
    from deeptune.data.sources.parquet import open_source
    from deeptune.engine.predict import ApplyOptions, Embedder
    from deeptune.spec.model_spec import BackboneSpec

    pq.write_table(table.select([data.input, "labels"]), file)
    embedder = Embedder(BackboneSpec(**backbone_values(backbone)), device="cpu", seed=0)
    found = embedder.embeddings(open_source(str(file)), ApplyOptions(on_bad_sample="error"))
    file.unlink()
    return np.asarray(found, dtype=np.float32)
