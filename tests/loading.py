"""A loader of samples from one call."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from deeptune.data.loading.dataset import Dataset, SampleOptions
from deeptune.data.loading.loader import Loader, LoaderOptions
from deeptune.data.loading.samples import Samples


def make_loader(samples: Samples, rows: np.ndarray, *, targets: np.ndarray | None = None, **options: Any) -> Loader:
    """A loader of rows; `options` are those of SampleOptions and LoaderOptions."""
    of_samples, of_loader = (
        {name: options[name] for name in options if name in {field.name for field in fields(kind)}}
        for kind in (SampleOptions, LoaderOptions)
    )
    assert {*of_samples, *of_loader} == {*options}
    return Loader(Dataset(samples.inputs(SampleOptions(**of_samples)), rows, targets), LoaderOptions(**of_loader))
