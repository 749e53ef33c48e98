"""Signs that a run learned nothing, or worse: divergence, and outputs that depend on the rows that share a batch."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deeptune.data.loading.dataset import OF_TOKENS
from deeptune.engine import inference
from deeptune.engine.inference import Outputs
from deeptune.engine.loaders import split_targets
from deeptune.engine.loss import Criterion
from deeptune.engine.prepare import Prepared
from deeptune.spec.metrics import lower_is_better
from deeptune.spec.run_spec import Split

DIVERGED = 10  # times the loss of a constant prediction above which a training diverged
ROWS_ALONE = 4  # rows that are scored in a batch of their own as well
# How much a probability, or a standardised prediction, may change with the batch; lower precisions round more.
TOLERANCE = {"fp32": 1e-3, "fp16": 0.02, "bf16": 0.05}


class Constant:
    """One prediction for every row: the shares of the classes in the training split, or the mean of its labels."""

    def __init__(self, ready: Prepared, criterion: Criterion) -> None:
        self.ready, self.criterion = ready, criterion
        task, weights = ready.plan.task, criterion.on_cpu().class_weights
        train = ready.plan.splits["train"].targets
        logits = task.constant_logits(train, None if weights is None else weights.numpy())
        self.logits = torch.from_numpy(logits)[None]
        self.said = f"when every row is given {task.CONSTANT}"
        self.loss = cache(self._loss)

    def _loss(self, split: Split) -> float:
        """Return the mean loss on a split that has rows."""
        targets = torch.from_numpy(split_targets(self.ready, self.ready.plan.splits[split]))
        criterion = self.criterion.on_cpu()
        return float(criterion.sum(self.logits.expand(len(targets), -1), targets) / criterion.count(targets))

    def metrics(self, split: Split) -> dict[str, Any]:
        data, task = self.ready.plan.splits[split], self.ready.plan.task
        logits = self.logits.expand(len(data.rows), -1).numpy()
        return inference.score(Outputs(data.rows, logits), data.targets, task)

    def diverged(self, split: Split, loss: float) -> str | None:
        """Return a sentence when a loss is far beyond that of the constant."""
        if loss <= DIVERGED * max(own := self.loss(split), 0.01):
            return None
        return (
            f"training diverges: the {split} loss is {loss:.3g}, and {own:.3g} {self.said}. Lower train.learning_rate, "
            "and check that the backbone has its pretrained weights"
        )

    def not_beaten(self, split: Split, metrics: dict[str, Any]) -> str | None:
        """Return a sentence when the metrics of a model on a split are worse than those of the constant.

        A loss that is a little higher is not a sign where the metric that chose the epoch is better: a model that is
        often right may be too sure of itself.
        """
        loss, own = metrics.get("loss"), self.loss(split)
        if loss is None or loss <= own:
            return None
        name = str(self.ready.spec.train.early_stopping.metric).removeprefix("val/")
        if name == "tempered_loss":  # it is known of val alone, while a model is trained
            name = self.ready.plan.task.info.headline[-1]
        value, constant = metrics.get(name), self.metrics(split).get(name)
        if name != "loss" and value is not None and constant is not None:
            better = value < constant if lower_is_better(name) else value > constant
            if better and loss <= DIVERGED * own:
                return None
        return f"the model is worse than a constant: its {split} loss is {loss:.3g}, and {own:.3g} {self.said}"


def changes_with_batch(ready: Prepared, check_inputs: dict[str, Tensor], logits: Tensor) -> str | None:
    """Return a sentence when rows of a batch get other outputs in a batch of their own.

    `check_inputs` are those of the batch, and `logits` (rows, outputs) what the model made of them.
    """
    tolerance = TOLERANCE[ready.compute.precision]
    together = ready.plan.task.comparable(logits[:ROWS_ALONE].cpu().numpy())
    model = ready.model.eval()
    with torch.inference_mode(), ready.compute.autocast():
        rows = torch.cat([model(_row(check_inputs, row)) for row in range(len(together))])
    alone = ready.plan.task.comparable(rows.cpu().numpy())
    difference = float(np.abs(together - alone).max())
    if difference <= tolerance:
        return None
    what = ready.plan.task.COMPARABLE
    return (
        f"a row's output depends on the rows that share its batch: the {what} of {len(together)} training rows change "
        f"by up to {difference:.2g} when each is scored alone. Rely on predictions to no more than that"
    )


def _row(inputs: dict[str, Tensor], row: int) -> dict[str, Tensor]:
    """Return one row of a batch; a text without the padding that longer ones need."""
    alone = {name: value[row : row + 1] for name, value in inputs.items()}
    if (mask := alone.get("attention_mask")) is not None:
        length = max(1, int(mask.sum()))
        alone |= {name: alone[name][:, :length] for name in OF_TOKENS if name in alone}
    return alone
