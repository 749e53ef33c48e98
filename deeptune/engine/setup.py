"""The setup that every phase of a run works with, and the batches of its splits."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from deeptune.data.cache.entry import Cache
from deeptune.data.loading.loader import Loader
from deeptune.data.splits.split_data import SplitData
from deeptune.engine.device import Compute, tokens_at_once
from deeptune.engine.extraction_job import forward_batches
from deeptune.engine.feature_extraction import StoredFeatures, store_features
from deeptune.engine.inference import Inference
from deeptune.engine.loaders import split_loader
from deeptune.engine.loss import Criterion
from deeptune.engine.micro_batch import MicroBatcher
from deeptune.engine.optimizer_step import Learner
from deeptune.engine.prepare import Prepared, make_criterion
from deeptune.engine.run_logger import RunLogger
from deeptune.model.build import TunedModel
from deeptune.runs import RunDirectory
from deeptune.spec.run_spec import SPLITS, Split

SCALE_ROWS = 2048  # rows from which the scale of the features is estimated


def scale_places(count: int) -> np.ndarray:
    """Return evenly spaced places (int64) of `count` training rows, at most SCALE_ROWS, to estimate a scale."""
    return np.unique(np.linspace(0, count - 1, min(count, SCALE_ROWS)).round().astype(np.int64))


@dataclass
class Setup:
    """A run directory, its logger, and the resolved spec with its data, model and device.

    `model` is the one that is trained, until `use_model` puts the verified one in its place. `micro_batches` is for
    scoring and embedding; training has its own.
    """

    run: RunDirectory
    logger: RunLogger
    ready: Prepared
    criterion: Criterion
    micro_batches: MicroBatcher

    @classmethod
    def of(cls, run: RunDirectory, logger: RunLogger, ready: Prepared) -> Setup:
        """Set up a prepared run."""
        micro_batches = MicroBatcher(logger.warn, tokens=tokens_at_once(ready.compute.device))
        return cls(run, logger, ready, make_criterion(ready), micro_batches)

    @property
    def model(self) -> TunedModel:
        return self.ready.model

    @property
    def compute(self) -> Compute:
        return self.ready.compute

    @property
    def learner(self) -> Learner:
        """The model as it is trained."""
        return Learner(self.model, self.criterion, self.compute)

    @property
    def inference(self) -> Inference:
        """The model as it scores and embeds rows."""
        return Inference(self.model, self.compute, self.micro_batches)

    def use_model(self, model: TunedModel) -> None:
        """Put another model in the place of the one so far."""
        self.ready = replace(self.ready, model=model)


class SplitLoaders:
    """The batches of a run's splits: from stored features where there are any, else from samples."""

    def __init__(self, setup: Setup, cache: Cache) -> None:
        self.setup = setup
        self.samples = {split: self._loader(split) for split in SPLITS}
        self._warn_of_cut_texts()
        self.stored = store_features(setup.ready, cache, setup.logger, setup.micro_batches)
        self._scoring = {
            split: self._loader(split, self.stored) if split in self.stored.splits else self.samples[split]
            for split in SPLITS
        }

    def training(self) -> Loader:
        """Return the shuffled and augmented batches of the training split."""
        return self._loader("train", self.stored, shuffle=True)

    def scoring(self, split: Split) -> Loader:
        """Return the batches of a split, each row once and as it is."""
        return self._scoring[split]

    def pooled_sample(self) -> torch.Tensor:
        """Return pooled features (n, width) of evenly spaced training rows, before training, on the device."""
        ready, stored = self.setup.ready, self.stored
        data = ready.plan.splits["train"]
        picked = scale_places(len(data.rows))
        features = stored.splits.get("train")
        if features is not None and stored.activations is None:
            return torch.from_numpy(features.take(data.rows[picked])).to(ready.compute.device)
        part = SplitData(data.source, data.rows[picked], data.targets[picked])
        batches = split_loader(ready, "train", shuffle=False, data=part, stored=stored)
        found = forward_batches(ready.backbone, ready.model.pooled, batches, ready.compute, self.setup.micro_batches)
        return torch.cat(list(found)).to(ready.compute.device)

    def report_lengths(self, training: Loader) -> None:
        """Log how long the training texts are, and how much of their batches is padding."""
        loader, ready = self.samples["train"], self.setup.ready
        if loader.lengths is None:
            return
        middle, high, longest = np.percentile(loader.lengths, [50, 95, 100]).round().astype(int)
        padding, limit = "", int(ready.spec.backbone.of_texts[1].max_length)
        if training.lengths is not None and not ready.backbone.padding_reaches:  # else nothing is padded
            padding = f", and {training.padded_share():.1%} of the tokens in training batches are padding"
        self.setup.logger.message(
            f"a training text has {middle:,} tokens (median), {high:,} (95th percentile), {longest:,} (longest); "
            f"{loader.truncated:,} of {len(loader.rows):,} were cut at {limit:,}{padding}"
        )

    def _loader(self, split: Split, stored: StoredFeatures | None = None, *, shuffle: bool = False) -> Loader:
        loader = split_loader(self.setup.ready, split, shuffle=shuffle, stored=stored)
        loader.warn = self.setup.logger.warn
        return loader

    def _warn_of_cut_texts(self) -> None:
        key, part = self.setup.ready.spec.backbone.of_texts
        for split, loader in self.samples.items():
            if loader.truncated:
                self.setup.logger.warn(
                    f"{loader.truncated:,} of {len(loader.rows):,} {split} texts are longer than "
                    f"{part.max_length} tokens and were cut ({key}.max_length)"
                )
