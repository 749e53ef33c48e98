"""Data sets of the comparison: a Parquet file to train on and one to test on, and random parts of them.

A folder of NAME_train.parquet and NAME_test.parquet gives the data set NAME. Columns are `images` (encoded) or `text`,
and `labels`: floats are a regression, all else are classes. NAME:sign asks for the sign of a regression's label, as two
classes. The data sets that ship with scikit-learn and with DeepTune need no folder.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.model_selection import train_test_split

TEST_SHARE = 0.25  # of a data set that comes in one file
SPLIT_SEED = 0  # test rows are the same in every cell


@dataclass(frozen=True)
class DataSet:
    """Tables to train on and to test on, with one input column and `labels`."""

    name: str
    train: pa.Table
    test: pa.Table

    @cached_property
    def input(self) -> str:
        return "text" if "text" in self.train.column_names else "images"

    @property
    def modality(self) -> str:
        return "text" if self.input == "text" else "image"

    @property
    def task(self) -> str:
        return "regression" if pa.types.is_floating(self.train.schema.field("labels").type) else "classification"


@dataclass(frozen=True)
class Files:
    """A cell's rows as files: `train` to learn from, `test` to score on."""

    train: Path
    test: Path


def available(folder: Path | None) -> dict[str, Callable[[], DataSet]]:
    """Return the data sets that can be had, by name; each is read when it is called."""
    found: dict[str, Callable[[], DataSet]] = {"digits": digits, "openclipart7": _openclipart7}
    for train in sorted(folder.glob("*_train.parquet")) if folder else ():
        test = train.with_name(train.name.replace("_train.parquet", "_test.parquet"))
        if not test.exists():
            continue
        name = train.name.removesuffix("_train.parquet")

        def read(name: str = name, train: Path = train, test: Path = test) -> DataSet:
            return DataSet(name, pq.read_table(train), pq.read_table(test))

        found[name] = read
        if pa.types.is_floating(pq.read_schema(train).field("labels").type):
            found[f"{name}:sign"] = lambda name=name, read=read: _signs(f"{name}:sign", read())
    return found


def digits() -> DataSet:
    """Return scikit-learn's 1,797 digits of 8 × 8 pixels, as PNG files."""
    from PIL import Image
    from sklearn.datasets import load_digits

    def png(pixels: np.ndarray) -> bytes:
        file = io.BytesIO()
        Image.fromarray((pixels * (255 / 16)).round().astype(np.uint8)).save(file, "png")
        return file.getvalue()

    raw = load_digits()
    table = pa.table({"images": [png(pixels) for pixels in raw.images], "labels": pa.array(raw.target, pa.int64())})
    return _split("digits", table)


def _openclipart7() -> DataSet:
    from deeptune.data.sources.parquet import open_source

    return _split("openclipart7", pq.read_table(open_source("sample:openclipart7").files[0]))


def _split(name: str, table: pa.Table) -> DataSet:
    labels = table["labels"].to_numpy()
    train, test = train_test_split(
        np.arange(len(table)), test_size=TEST_SHARE, random_state=SPLIT_SEED, stratify=labels
    )
    return DataSet(name, table.take(np.sort(train)), table.take(np.sort(test)))


def _signs(name: str, data: DataSet) -> DataSet:
    def sign(table: pa.Table) -> pa.Table:
        values = table["labels"].to_numpy()
        kept = table.filter(pa.array(values != 0))
        place = kept.column_names.index("labels")
        classes = pa.array(np.where(values[values != 0] > 0, "positive", "negative"))
        return kept.set_column(place, "labels", classes).replace_schema_metadata(None)

    return DataSet(name, sign(data.train), sign(data.test))


def draw(table: pa.Table, size: int, seed: int) -> pa.Table:
    """Draw `size` rows by `seed`, in the order of the table; classes keep their shares where each has 2 rows or more.

    All rows come back when there are not more.
    """
    if size >= len(table):
        return table
    labels = table["labels"]
    stratify: Any = None
    if not pa.types.is_floating(labels.type):
        stratify = np.asarray(labels.dictionary_encode().combine_chunks().indices)
        if np.bincount(stratify).min() < 2 or len(np.unique(stratify)) > min(size, len(table) - size):
            stratify = None
    rows, _ = train_test_split(np.arange(len(table)), train_size=size, random_state=seed, stratify=stratify)
    return table.take(np.sort(rows))


def write_files(data: DataSet, size: str, seed: int, folder: Path, test_rows: int | None) -> Files:
    """Write a cell's rows below `folder`, unless another cell has done so; `test_rows` bounds the test file."""
    name = data.name.replace(":", "-")
    train, test = folder / f"{name}-{size}-{seed}.parquet", folder / f"{name}-test-{test_rows or 'all'}.parquet"
    folder.mkdir(parents=True, exist_ok=True)
    for path, table in (
        (train, lambda: data.train if size == "all" else draw(data.train, int(size), seed)),
        (test, lambda: draw(data.test, test_rows or len(data.test), SPLIT_SEED)),
    ):
        if not path.exists():
            unfinished = path.with_suffix(".part")
            pq.write_table(table(), unfinished)
            unfinished.replace(path)
    return Files(train, test)
