"""The head of a frozen backbone by its exact minimum, with the penalty that predicts other folds best.

A head of one linear layer has a convex loss. Its minimum is found directly, from a strong penalty to weak ones, so
there is no learning rate and no number of epochs to choose. Each row of the training split is predicted by heads of the
other folds, and the penalty is the one that predicts them best. No row of val has a part in this, unless the training
rows make no two folds, as those of one group: then val chooses the penalty.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deeptune.data.splits.folds import draw_folds
from deeptune.engine.inference import Outputs
from deeptune.engine.linear_minimum import NEAR, LinearLoss, Minimum, one_thread
from deeptune.engine.loaders import split_targets
from deeptune.engine.prepare import count_steps
from deeptune.engine.setup import Setup, SplitLoaders, scale_places
from deeptune.engine.train_state import rng_state_kept
from deeptune.model.build import TunedModel
from deeptune.model.head import ScaledLinear
from deeptune.spec.defaults import penalties, stepped
from deeptune.spec.tasks import LOSSES

MIDDLE = 5  # penalties up to one that suits most features, where nothing can choose one
PATIENCE = 2  # weaker penalties without a better one, after which none is tried


@dataclass(frozen=True)
class PenaltyFolds:
    """The outputs of each row by heads of other folds, at each penalty that was tried, from the strongest on.

    `logits` (penalties, N, outputs); `losses` (penalties, folds) are means, and `weights` (folds) what each counts.
    """

    penalties: list[float]
    codes: np.ndarray
    logits: np.ndarray
    losses: np.ndarray
    weights: np.ndarray

    @property
    def means(self) -> np.ndarray:
        """The mean loss over all rows at each penalty."""
        return self.losses @ self.weights / self.weights.sum()

    @property
    def best(self) -> int:
        """The place of the penalty with the least mean loss."""
        return int(self.means.argmin())

    def nested(self) -> np.ndarray:
        """Return the outputs of each row (N, outputs) at the penalty that is best on the other folds."""
        found = self.logits[self.best].copy()
        for fold in range(len(self.weights) if len(self.weights) > 1 else 0):
            others = np.arange(len(self.weights)) != fold
            place = int((self.losses[:, others] @ self.weights[others]).argmin())
            found[self.codes == fold] = self.logits[place, self.codes == fold]
        return found


class ExactHead:
    """The minima of a run's head on its training rows, at penalties from a strong one to the one that is chosen.

    An epoch of such a run is one penalty. The layer's scale is that of the training rows: of each feature, or where
    `common_scale` is true, one for all.
    """

    def __init__(self, setup: Setup, loaders: SplitLoaders) -> None:
        self.setup = setup
        self.features = loaders.stored.splits["train"]
        ready = setup.ready
        self.data = ready.plan.splits["train"]
        self.criterion = setup.criterion.on_cpu()
        targets = torch.from_numpy(split_targets(ready, self.data))
        self.targets = targets if LOSSES[self.criterion.loss].of_classes else targets.double()
        self.layer = self._scaled_layer()
        self.loss = self._train_loss()
        self.penalties = penalties(ready.spec)
        self.folds: PenaltyFolds | None = None
        self.common_scale = False
        self.val = loaders.stored.splits.get("val")
        self._minimum: Minimum | None = None
        self._solved = 0

    def choose(self, *, scales: bool = True) -> PenaltyFolds | None:
        """Cross-validate the penalties; None where there is one alone, or the rows make no two folds.

        With `scales` the scale of the features is chosen too, where the loss is squared.
        """
        if len(self.penalties) == 1:
            return None
        data, ready = self.data, self.setup.ready
        codes = draw_folds(
            data.targets, ready.plan.task, groups=data.groups, hashes=data.hashes, seed=ready.spec.train.seed
        )
        if codes.max() == 0:
            if not len(ready.plan.splits["val"].rows):
                self.penalties = self.penalties[:MIDDLE]
            return None
        self.folds = cross_validated_penalties(self.loss, codes, self.penalties, self.setup.logger.stop.check)
        if scales and self.loss.squared and ready.spec.head.standardise:
            self._compare_scales(codes)
        self.penalties = self.penalties[: self.folds.best + 1]
        return self.folds

    def _compare_scales(self, codes: np.ndarray) -> None:
        """Take one scale for all features where the folds are predicted better in it.

        It is compared for squared errors alone: they have a closed form, so a second search takes little time.
        """
        assert self.folds is not None
        own, self.layer = self.layer, self._scaled_layer(common=True)
        loss = self._train_loss()
        folds = cross_validated_penalties(loss, codes, self.penalties, self.setup.logger.stop.check)
        if folds.means.min() < self.folds.means.min():
            self.loss, self.folds, self.common_scale = loss, folds, True
        else:
            self.layer = own

    @property
    def epochs(self) -> int:
        """How many penalties there are up to the one that is chosen."""
        return len(self.penalties)

    def with_out_of_fold_loss(self, val: dict[str, Any]) -> dict[str, Any]:
        """Return the scores of val after an epoch, with the mean loss of the folds, which chooses the epoch.

        Where the rows made no folds, val chooses it.
        """
        loss = val["loss"] if self.folds is None else float(self.folds.means[self._solved - 1])
        return {**val, "out_of_fold_loss": loss}

    def solve(self, epoch: int) -> dict[str, float]:
        """Put the minimum at the penalty of an epoch (from 1) into the model; returns loss, penalty, folds and rows.

        Each minimum is found from the one before it, so a resumed run finds them all again.
        """
        if self._minimum is None or epoch <= self._solved:
            self._minimum, self._solved = Minimum(self.loss), 0
        for place in range(self._solved, epoch):
            self.setup.logger.stop.check()
            with one_thread():
                self._minimum.solve(self.penalties[place])
        self._solved = epoch
        self._place(self._minimum, self.setup.model)
        return {
            "loss": self._minimum.mean_loss,
            "penalty": self.penalties[epoch - 1],
            "folds": 0 if self.folds is None else len(self.folds.weights),
            "rows": float(len(self.data)),
        }

    def keep_penalties(self, best: int) -> None:
        """Leave out the penalties after the best epoch, which val chooses without folds, or by another metric."""
        self.penalties = self.penalties[:best]
        if self.folds is not None and best <= self.folds.best:
            self.folds = replace(self.folds, logits=self.folds.logits[:best], losses=self.folds.losses[:best])

    @property
    def refits(self) -> bool:
        """Whether the head learns from the rows of val too, once they are scored."""
        return self.setup.ready.spec.train.refit == "yes" and self.val is not None and self._val_rows > 0

    @property
    def _val_rows(self) -> int:
        return len(self.setup.ready.plan.splits["val"])

    @property
    def out_of_fold(self) -> Outputs | None:
        """The outputs of each training row by a head of the other folds; None without folds."""
        return None if self.folds is None else Outputs(self.data.rows, self.folds.nested())

    def place_chosen(self, model: TunedModel) -> None:
        """Put the minimum on the training rows into a model."""
        if self._minimum is None or self._solved != self.epochs:
            self.solve(self.epochs)
        assert self._minimum is not None
        self._place(self._minimum, model)

    def place_refitted(self, model: TunedModel) -> None:
        """Put the minimum on the rows of train and val, at the chosen penalty, into a model."""
        assert self.val is not None
        ready = self.setup.ready
        val = ready.plan.splits["val"]
        features = torch.cat([self._scaled(), self._scaled(self.val.take(val.rows))])
        targets = torch.cat([self.targets, torch.from_numpy(split_targets(ready, val)).to(self.targets.dtype)])
        with one_thread():
            minimum = Minimum(LinearLoss(features, targets, self.criterion, ready.plan.outputs))
            minimum.solve(self.penalties[-1])
        self._place(minimum, model)

    def _place(self, minimum: Minimum, model: TunedModel) -> None:
        weight, bias = minimum.layer()
        layer = model.head.only_layer
        assert layer is not None
        with torch.no_grad():
            for own, found in (
                (layer.shift, self.layer.shift),
                (layer.scale, self.layer.scale),
                (layer.weight, weight),
                (layer.bias, bias),
            ):
                own.copy_(found)

    def _train_loss(self) -> LinearLoss:
        return LinearLoss(self._scaled(), self.targets, self.criterion, self.setup.ready.plan.outputs)

    def _scaled_layer(self, *, common: bool = False) -> ScaledLinear:
        ready, rows = self.setup.ready, self.data.rows
        layer = ScaledLinear(ready.backbone.width, ready.plan.outputs)
        if ready.spec.head.standardise:
            picked = rows[scale_places(len(rows))]
            layer.set_scale(torch.from_numpy(self.features.take(picked)), common=common)
        return layer

    def _scaled(self, features: np.ndarray | None = None) -> Tensor:
        """Return features in the scale of the layer; those of the training rows by default."""
        scaled = torch.from_numpy(self.features.take(self.data.rows) if features is None else features).double()
        return scaled.sub_(self.layer.shift).div_(self.layer.scale)


def exact_head(setup: Setup, loaders: SplitLoaders) -> ExactHead | None:
    """Return the exact head of a run whose spec asks for it, with its penalty chosen; None where steps are taken.

    Steps are taken, with a warning, where neither disk nor memory has room for the features.
    """
    ready = setup.ready
    if ready.spec.train.solver != "exact":
        return None
    if "train" not in loaders.stored.splits:
        setup.logger.warn("train.solver: no features are stored, so the head takes steps in place of its exact minimum")
        spec = stepped(ready.spec, len(ready.plan.splits["train"]))
        setup.ready = replace(ready, spec=spec, steps=count_steps(spec, ready.plan))
        return None
    with rng_state_kept(), one_thread():  # the layer is made with random weights
        head = ExactHead(setup, loaders)
        folds = head.choose()
    if folds is not None:
        setup.logger.message(
            f"{len(folds.weights)} folds of the {len(head.data):,} training rows chose the penalty "
            f"{folds.penalties[folds.best]:.4g} (of {len(folds.penalties)}): out-of-fold loss "
            f"{folds.means[folds.best]:.4g}; the head is the minimum at it"
            + (", with one scale for all features, which predicted the folds better" if head.common_scale else "")
        )
    # As many steps for each penalty as an epoch would have.
    setup.ready = replace(ready, steps=ready.steps // int(ready.spec.train.epochs) * head.epochs)
    return head


def cross_validated_penalties(
    loss: LinearLoss, codes: np.ndarray, tried: list[float], check: Callable[[], None] = lambda: None
) -> PenaltyFolds:
    """Predict each row by the minima of the other folds (`codes`, int64 (N,)), penalty by penalty, from the strongest.

    It ends where PATIENCE weaker penalties were no better. `check` is called before each minimum, and may raise.
    """
    count = int(codes.max()) + 1
    inside = [torch.from_numpy(np.flatnonzero(codes == fold)) for fold in range(count)]
    minima = [Minimum(loss.at(torch.from_numpy(np.flatnonzero(codes != fold))), NEAR) for fold in range(count)]
    held_out = [loss.at(rows) for rows in inside]
    weights = np.array([one.count for one in held_out])
    logits: list[np.ndarray] = []
    losses: list[np.ndarray] = []
    best, since = np.inf, 0
    for penalty in tried:
        outputs = torch.zeros(len(codes), loss.outputs, dtype=torch.float64)
        fold_losses = np.zeros(count)
        for fold, minimum in enumerate(minima):
            check()
            minimum.solve(penalty)
            outputs[inside[fold]] = own = held_out[fold].outputs_of(minimum.weight, minimum.bias)
            fold_losses[fold] = held_out[fold].mean(own)
        logits.append(outputs.float().numpy())
        losses.append(fold_losses)
        mean = float(fold_losses @ weights / weights.sum())
        best, since = (mean, 0) if mean < best else (best, since + 1)
        if since >= PATIENCE:
            break
    return PenaltyFolds(tried[: len(losses)], codes, np.stack(logits), np.stack(losses), weights)
