"""Loaders of samples from one call."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deeptune.data.loading.dataset import Dataset, SampleOptions
from deeptune.data.loading.loader import Loader, LoaderOptions
from deeptune.data.loading.open_samples import open_samples
from deeptune.data.loading.samples import Samples
from deeptune.data.sources.parquet import open_source
from deeptune.data.sources.source import Source


def make_loader(samples: Samples, rows: np.ndarray, *, targets: np.ndarray | None = None, **options: Any) -> Loader:
    """A loader of rows; `options` are those of SampleOptions and LoaderOptions."""
    of_samples, of_loader = (
        {name: options[name] for name in options if name in {field.name for field in fields(kind)}}
        for kind in (SampleOptions, LoaderOptions)
    )
    assert {*of_samples, *of_loader} == {*options}
    return Loader(Dataset(samples.inputs(SampleOptions(**of_samples)), rows, targets), LoaderOptions(**of_loader))


def loader_of(source: Source, input: str, rows: np.ndarray, preprocessing, **options) -> Loader:
    return make_loader(open_samples(source, input, preprocessing), rows, **options)


def source(tmp_path, name="a.parquet", **columns) -> Source:
    pq.write_table(pa.table(columns), tmp_path / name)
    return open_source(str(tmp_path / name))
