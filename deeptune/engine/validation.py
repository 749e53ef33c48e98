"""Scores the model of a run on val while it is trained."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from deeptune.engine import inference
from deeptune.engine.choice import val_losses
from deeptune.engine.exact_head import ExactHead
from deeptune.engine.inference import MeanLoss, Outputs
from deeptune.engine.run_metadata import headline
from deeptune.engine.sanity import Constant
from deeptune.engine.scoring import split_truth
from deeptune.engine.setup import Setup, SplitLoaders


class Validation:
    """Passes val through the model as it is, once in each call of `scores`. There is a val split."""

    def __init__(self, setup: Setup, loaders: SplitLoaders) -> None:
        self.setup, self.loaders = setup, loaders
        self.constant = Constant(setup.ready, setup.criterion)
        self.diverged = False

    def scores(self) -> dict[str, Any]:
        """Return the headline metrics of val, and those that are undefined."""
        setup, logger = self.setup, self.setup.logger
        loss = MeanLoss(setup.criterion)
        found = setup.inference.outputs(
            self.loaders.scoring("val"), loss=loss, progress=lambda _done, _total: logger.stop.check()
        )
        outputs = inference.joined(list(found), setup.model)
        if not np.isfinite(outputs.logits).all():
            broken = int((~np.isfinite(outputs.logits).all(axis=1)).sum())
            logger.warn(f"the model's outputs for {broken:,} val rows are not finite: this epoch can't be the best")
            return {"loss": math.nan}
        if not self.diverged and loss.value is not None and (warning := self.constant.diverged("val", loss.value)):
            logger.warn(warning)
            self.diverged = True
        return val_scores(setup, outputs, loss.value, str(setup.ready.spec.train.early_stopping.metric))


def validation(setup: Setup, loaders: SplitLoaders, exact: ExactHead | None) -> Callable[[], dict[str, Any]] | None:
    """Make the function that scores the model on val after an epoch; None where there is no val split."""
    if not len(setup.ready.plan.splits["val"].rows):
        return None
    val = Validation(setup, loaders)
    return val.scores if exact is None else lambda: exact.with_out_of_fold_loss(val.scores())


def val_scores(setup: Setup, outputs: Outputs, loss: float | None, metric: str) -> dict[str, Any]:
    """Return the headline metrics of val, the undefined ones, and the metric that chooses the epoch."""
    plan = setup.ready.plan
    truth = split_truth(plan, "val", outputs.rows)
    scores = inference.score(outputs, truth, plan.task.with_thresholds(outputs.logits, truth), loss)
    undefined = {name: value for name, value in scores.items() if value is None}
    chosen = {"tempered_loss": val_losses(setup, outputs, metric).mean} if metric == "val/tempered_loss" else {}
    return {**headline(scores), **undefined, **chosen}
