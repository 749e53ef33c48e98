"""The loader of a split: of what is stored of its rows, or of their samples; and its targets as the loss takes them."""

from __future__ import annotations

import numpy as np

from deeptune.data.loading.dataset import Dataset, FeatureInputs, SampleOptions
from deeptune.data.loading.loader import Loader, LoaderOptions
from deeptune.data.splits.split_data import SplitData
from deeptune.engine.device import HEAD_ROWS, rows_scored_at_once
from deeptune.engine.feature_extraction import StoredFeatures
from deeptune.engine.prepare import Prepared
from deeptune.spec.run_spec import Split
from deeptune.spec.tasks import TASKS


def split_loader(
    ready: Prepared,
    split: Split,
    *,
    shuffle: bool,
    data: SplitData | None = None,
    stored: StoredFeatures | None = None,
) -> Loader:
    """Return the loader of a split, or of some of its rows (`data`); `shuffle`, for training, also augments.

    It reads what is `stored` of the rows, if anything, and else their samples. Texts come in batches of similar length.
    If the head alone learns, a shuffled epoch is plain, whether features are stored or not.
    """
    spec, plan, cuda = ready.spec, ready.plan, ready.compute.device.type == "cuda"
    data = data or plan.splits[split]
    inputs = samples = ready.samples[data.source].inputs(
        SampleOptions(
            blank=frozenset(plan.blank_rows(split)),
            augmentation=spec.train.augmentation if shuffle else "none",
            seed=spec.train.seed,
            flip=TASKS[spec.task].mirrored,
            pad_multiple=8 if cuda else 1,  # tensor cores are fastest at that; a CPU would only compute more
        )
    )
    if stored is not None:
        inputs = stored.inputs(split, samples, training=shuffle) or samples
    rows = int(spec.train.batch_size)
    if not shuffle:
        features = isinstance(inputs, FeatureInputs)
        rows = max(rows, HEAD_ROWS) if features else rows_scored_at_once(ready.compute.device, rows)
    options = LoaderOptions(
        rows,
        shuffle=shuffle,
        seed=spec.train.seed,
        by_length=not shuffle or not spec.tuning.frozen,
        accumulation=spec.train.accumulation,
        workers=int(spec.train.workers),
        pin_memory=cuda and inputs is samples,
        kept_on=ready.compute.device if shuffle or split == "val" else None,  # the others are read once
    )
    return Loader(Dataset(inputs, data.rows, split_targets(ready, data)), options)


def split_targets(ready: Prepared, data: SplitData) -> np.ndarray:
    """Return the targets of a split in the form that the loss takes (`Task.model_targets`)."""
    return ready.plan.task.model_targets(data.targets)
