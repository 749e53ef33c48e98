"""The outputs of a cell's models on val and test, kept so that calibrators can be compared without another training.

A fine-tuned model is kept whatever val says of it, of its best epoch and as the mean of its best epochs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.recipes.cells import Cell
from benchmarks.recipes.datasets import DataSet, Files
from benchmarks.recipes.training import spec_values
from deeptune.data.cache.entry import Cache
from deeptune.engine.choice import val_losses
from deeptune.engine.inference import Outputs
from deeptune.engine.loaders import split_targets
from deeptune.engine.run import FineTuning
from deeptune.engine.run_logger import RunLogger
from deeptune.engine.run_metadata import Attempt, Clock
from deeptune.engine.scoring import pass_splits, split_truth
from deeptune.runs import new_run_directory
from deeptune.runs.events import EpochEvent, Event
from deeptune.spec.defaults import soup_size
from deeptune.spec.run_spec import Split
from deeptune.spec.toml import validate

Arrays = dict[str, np.ndarray]
State = Mapping[str, Tensor]


def record(cell: Cell, data: DataSet, files: Files, settings: tuple[str, ...], runs: Path) -> Arrays:
    """Train a cell, and return `logits.NAME.SPLIT`, `truth.NAME.SPLIT` and `target.NAME.SPLIT` of its models.

    A head is `head`: its `val`, its `folds` (training rows by heads of other folds) and its `test`, by the head fitted
    to val too. The best epoch of fine-tuning is `tuned`, and the mean of the best ones `mean`. `val.losses` are those
    of the start and of each epoch.
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
        start, epochs = _copied(self.setup.model.state_dict()), self._remembered_epochs()
        history = self.fit()
        self.found: Arrays = {"best_epoch": np.array(history.best.epoch), "epochs": np.array(len(history.epochs))}
        if self.exact is not None:
            self._keep_head()
        else:
            self._keep_tuned(start, epochs)
        return self.found

    def _remembered_epochs(self) -> list[State]:
        """Return a list that gets the weights of each trained epoch, as they are when val is scored."""
        epochs: list[State] = []
        write = self.logger.events.write

        def remember(event: Event) -> None:
            if isinstance(event, EpochEvent) and event.epoch:
                epochs.append(_copied(self.setup.model.state_dict()))
            write(event)

        self.logger.events.write = remember  # type: ignore[method-assign]
        return epochs

    def _keep_head(self) -> None:
        assert self.exact is not None
        self.exact.place_chosen(self.setup.model)
        self._pass("head", ("val",))
        if (folds := self.exact.out_of_fold) is not None:
            self._keep("head", "train", folds, "folds")
        self.exact.place_refitted(self.setup.model)
        self._pass("head", ("test",))

    def _keep_tuned(self, start: State, epochs: Sequence[State]) -> None:
        losses = [self._val_loss(state) for state in (start, *epochs)]
        self.found["val.losses"] = np.array(losses)
        order = np.argsort(losses[1:], kind="stable")
        self._place(epochs[order[0]], "tuned")
        size = soup_size(int(self.setup.ready.spec.train.epochs))
        self._place(_mean([epochs[at] for at in sorted(order[:size])]), "mean")

    def _place(self, state: State, name: str) -> None:
        self.setup.model.load_state_dict(dict(state))
        self._pass(name, ("val", "test"))

    def _val_loss(self, state: State) -> float:
        self.setup.model.load_state_dict(dict(state))
        outputs = pass_splits(self.setup, self.loaders, ("val",))["val"].outputs
        return val_losses(self.setup, outputs, str(self.setup.ready.spec.train.early_stopping.metric)).mean

    def _pass(self, name: str, splits: tuple[Split, ...]) -> None:
        for split, passed in pass_splits(self.setup, self.loaders, splits).items():
            self._keep(name, split, passed.outputs, split)

    def _keep(self, name: str, split: Split, outputs: Outputs, called: str) -> None:
        outputs = outputs.at(np.argsort(outputs.rows))
        self.found[f"logits.{name}.{called}"] = outputs.logits
        self.found[f"truth.{name}.{called}"] = split_truth(self.setup.ready.plan, split, outputs.rows)
        data = self.setup.ready.plan.splits[split]
        targets = split_targets(self.setup.ready, data)[np.searchsorted(data.rows, outputs.rows)]
        self.found[f"target.{name}.{called}"] = targets


def _copied(state: State) -> State:
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def _mean(states: Sequence[State]) -> State:
    """Return the mean of some weights; tensors of integers are those of the last."""
    mean = dict(states[-1])
    for name, one in mean.items():
        if one.is_floating_point():
            mean[name] = torch.stack([state[name].double() for state in states]).mean(0).to(one.dtype)
    return mean
