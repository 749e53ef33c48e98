"""The outputs of a cell's models on val and test, kept so that calibrators can be compared without another training.

A fine-tuned model is kept whatever val says of it, and so are mixtures of its weights with those it started from
(WiSE-FT, https://arxiv.org/abs/2109.01903).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.recipes.cells import Cell
from benchmarks.recipes.datasets import DataSet, Files
from benchmarks.recipes.training import spec_values
from deeptune.data.cache.entry import Cache
from deeptune.engine.inference import Outputs
from deeptune.engine.run import FineTuning
from deeptune.engine.run_logger import RunLogger
from deeptune.engine.run_metadata import Attempt, Clock
from deeptune.engine.scoring import pass_splits, split_truth
from deeptune.runs import new_run_directory
from deeptune.spec.run_spec import Split
from deeptune.spec.toml import validate

Arrays = dict[str, np.ndarray]
SHARES = (0.25, 0.5, 0.75)  # of the tuned weights in a mixture


def record(cell: Cell, data: DataSet, files: Files, settings: tuple[str, ...], runs: Path) -> Arrays:
    """Train a cell, and return `logits.NAME.SPLIT` and `truth.NAME.SPLIT` of its models.

    A head is `head`: its `val`, its `folds` (training rows by heads of other folds) and its `test`, by the head fitted
    to val too. A fine-tuned model is `tuned`, with `mixed0.25` and others; none of them is there where no epoch beat
    the head on val.
    """
    run = new_run_directory(runs, cell.recipe)
    logger = RunLogger(run)
    try:
        with Cache(logger.message, logger.stop.check) as cache:
            spec = validate(spec_values(cell, data, files, settings))
            return _Recorded(run, logger, cache, Attempt(spec, [], Clock(0.0), None)).recorded()
    finally:
        logger.events.close()


class _Recorded(FineTuning):
    """A run whose outputs are kept in place of being scored."""

    def recorded(self) -> Arrays:
        self.prepare()
        self.fit_head()
        start = _copied(self.setup.model.state_dict())
        history = self.fit()
        self.found: Arrays = {"best_epoch": np.array(history.best.epoch), "epochs": np.array(len(history.epochs))}
        if self.exact is not None:
            self._keep_head()
        elif history.best.epoch:
            self.verify(history)
            self._keep_tuned(start)
        return self.found

    def _keep_head(self) -> None:
        assert self.exact is not None
        self.exact.place_chosen(self.setup.model)
        self._pass("head", ("val",))
        if (folds := self.exact.out_of_fold) is not None:
            self._keep("head", "train", folds, "folds")
        self.exact.place_refitted(self.setup.model)
        self._pass("head", ("test",))

    def _keep_tuned(self, start: Mapping[str, Tensor]) -> None:
        model = self.setup.model
        tuned = _copied(model.state_dict())
        self._pass("tuned", ("val", "test"))
        if tuned.keys() != start.keys():
            return
        for share in SHARES:
            model.load_state_dict({name: _mixed(start[name], one, share) for name, one in tuned.items()})
            self._pass(f"mixed{share:g}", ("val", "test"))

    def _pass(self, name: str, splits: tuple[Split, ...]) -> None:
        for split, passed in pass_splits(self.setup, self.loaders, splits).items():
            self._keep(name, split, passed.outputs, split)

    def _keep(self, name: str, split: Split, outputs: Outputs, called: str) -> None:
        outputs = outputs.at(np.argsort(outputs.rows))
        self.found[f"logits.{name}.{called}"] = outputs.logits
        self.found[f"truth.{name}.{called}"] = split_truth(self.setup.ready.plan, split, outputs.rows)


def _copied(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def _mixed(start: Tensor, tuned: Tensor, share: float) -> Tensor:
    return torch.lerp(start, tuned, share) if tuned.is_floating_point() else tuned
