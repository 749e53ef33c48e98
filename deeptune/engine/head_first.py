"""The head that fine-tuning starts from: fitted on the frozen backbone's features (Kumar et al. 2022, LP-FT).

A backbone that learns together with a new head is distorted by the gradients of the untrained head
(https://arxiv.org/abs/2202.10054). A head that was fitted before leaves its features what they are, and is itself a
model that fine-tuning has to beat.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deeptune.backbones import load_backbone
from deeptune.backbones.base import Backbone
from deeptune.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from deeptune.data.cache.entry import Cache
from deeptune.data.loading.preprocessing import stored_preprocessing
from deeptune.engine.choice import PAIRED, ValLosses, val_losses
from deeptune.engine.device import seed_everything
from deeptune.engine.exact_head import exact_head
from deeptune.engine.history import Best, TrainingHistory
from deeptune.engine.inference import Outputs
from deeptune.engine.loaders import split_loader
from deeptune.engine.loop import Hooks, fit
from deeptune.engine.prepare import Prepared, count_steps
from deeptune.engine.sanity import TOLERANCE
from deeptune.engine.scoring import headlines, pass_splits
from deeptune.engine.setup import Setup, SplitLoaders
from deeptune.engine.train_state import rng_state_kept
from deeptune.engine.validation import val_scores, validation
from deeptune.engine.verify import CHECK_ROWS, manifest_of, save_model, verify
from deeptune.errors import CheckpointError, RunStopped
from deeptune.formatting import duration
from deeptune.model.build import TunedModel, build_model
from deeptune.model.head import collapsed
from deeptune.runs.events import EpochEvent
from deeptune.spec.defaults import HeadSize, head_spec, resolve
from deeptune.spec.run_spec import Split


@dataclass(frozen=True)
class FittedHead:
    """A fitted head and its scores.

    `tensors` are those of the head in a model's state, and `exact` what it learns with (`TunedModel.exact_state`).
    `scores` holds the headline metrics by split, as metrics.json has them of a model. `val` are those of epoch 0, None
    without val. `losses` are those of the val rows, where the metric that chooses the epoch is their mean. `train_loss`
    is the mean of the head's best epoch. `refitted` is what the head is once it has learned from val too, as `exact`.
    `out_of_fold` are the outputs of training rows by heads of the other folds, where folds chose its penalty.
    """

    tensors: Mapping[str, Tensor]
    exact: Mapping[str, Tensor]
    scores: dict[str, dict[str, Any]]
    val: dict[str, Any] | None
    losses: ValLosses | None
    train_loss: float | None
    seconds: float
    refitted: Mapping[str, Tensor] | None = None
    out_of_fold: Outputs | None = None

    def place(self, model: TunedModel) -> None:
        """Give a model this head, which its optimizer then continues to train."""
        model.load_state_dict(dict(self.tensors), strict=False)
        model.load_exact_state(dict(self.exact))

    def place_refitted(self, model: TunedModel) -> None:
        """Give a model the head that has learned from the rows of val too."""
        assert self.refitted is not None
        model.load_exact_state(dict(self.refitted))

    def as_epoch(self, epochs: int) -> EpochEvent | None:
        """Return the event of epoch 0; None without val, where nothing competes."""
        if self.val is None:
            return None
        return EpochEvent(0, epochs, train={"loss": self.train_loss}, seconds=self.seconds, val=self.val)

    def save(self, folder: Path, ready: Prepared) -> None:
        """Store the head as the checkpoint of a `partial` run, with its scores."""
        training = {f"exact.{name}": tensor.detach().cpu() for name, tensor in self.exact.items()}
        training |= {f"refitted.{name}": tensor.detach().cpu() for name, tensor in (self.refitted or {}).items()}
        if self.losses is not None:
            training |= {f"val.{name}": torch.from_numpy(value) for name, value in vars(self.losses).items()}
        if self.out_of_fold is not None:
            training |= {"folds.rows": torch.from_numpy(self.out_of_fold.rows)}
            training |= {"folds.logits": torch.from_numpy(self.out_of_fold.logits)}
        record = {"scores": self.scores, "val": self.val, "train_loss": self.train_loss, "seconds": self.seconds}
        metric = str(ready.spec.train.early_stopping.metric)
        manifest = {**manifest_of(ready, Best(metric)), "head_first": record}
        save_checkpoint(folder, dict(self.tensors), manifest, method="partial", training=training)

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> FittedHead:
        """Return the head that `save` stored."""
        training = checkpoint.training
        losses = {name: training[f"val.{name}"].numpy() for name in ("losses", "weights") if f"val.{name}" in training}
        exact = {name.removeprefix("exact."): t for name, t in training.items() if name.startswith("exact.")}
        again = {name.removeprefix("refitted."): t for name, t in training.items() if name.startswith("refitted.")}
        record = checkpoint.manifest["head_first"]
        found = ValLosses(**losses) if losses else None
        folds = [training[f"folds.{name}"].numpy() for name in ("rows", "logits") if f"folds.{name}" in training]
        outputs = Outputs(*folds) if folds else None
        return cls(checkpoint.state, exact, losses=found, refitted=again or None, out_of_fold=outputs, **record)


def stored_head(setup: Setup, cache: Cache) -> FittedHead | None:
    """Return the head of a run that continues its training; None where it started without one.

    A damaged one is fitted again, to the same bits.
    """
    if not setup.run.head.exists():
        return None
    try:
        return FittedHead.from_checkpoint(load_checkpoint(setup.run.head))
    except CheckpointError as error:
        setup.logger.warn(f"{error.message}: the head is fitted again")
    return fit_head(setup, cache)


def fit_head(setup: Setup, cache: Cache) -> FittedHead | None:
    """Fit a head as a `partial` run on the same data would, and store it; the random state stays what it was.

    Returns None, with a message, where neither disk nor memory takes the features: each of its epochs would then pass
    the backbone. Raises RunStopped when the run was asked to stop: a resumed run fits the head again.
    """
    try:
        with rng_state_kept():
            return _fitted_head(setup, cache)
    except RunStopped:
        raise RunStopped(
            f"the run was stopped ({setup.logger.stop.reason}) while its head was fitted: resumed, it fits it again"
        ) from None


def _fitted_head(setup: Setup, cache: Cache) -> FittedHead | None:
    head = _head_setup(setup)
    seed_everything(head.ready.spec.train.seed)
    loaders = SplitLoaders(head, cache)
    if "train" not in loaders.stored.splits:
        setup.logger.warn("fine-tuning starts with a new head (train.start), as no features are stored to fit one on")
        return None
    head.logger.phase("head")
    fitted = _HeadFit(head, loaders, setup).fit()
    setup.logger.keep(lambda: fitted.save(setup.run.head, head.ready))
    return fitted


def _head_setup(setup: Setup) -> Setup:
    """Return the run of the head alone.

    Its backbone is loaded anew, as adapters may stand in the one that is fine-tuned.
    """
    ready = setup.ready
    spec, backbone = head_spec(ready.spec), _loaded_backbone(ready, setup.run.backbone)
    rows = len(ready.plan.splits["train"].rows)
    spec = resolve(spec, backbone.info, cnn=False, rows=rows, size=HeadSize(rows, backbone.width, ready.plan.outputs))
    model = build_model(spec, backbone, ready.plan.outputs).to(ready.compute.device)
    steps = count_steps(spec, ready.plan)
    return Setup.of(
        setup.run, setup.logger, Prepared(spec, ready.plan, backbone, model, ready.compute, steps, ready.samples)
    )


def _loaded_backbone(ready: Prepared, config: Path) -> Backbone:
    """Return the backbone as it was before training. Raises CheckpointError where its weights changed since."""
    backbone = load_backbone(
        ready.spec.backbone,
        seed=ready.spec.train.seed,
        config_dir=config if config.is_dir() else None,
        preprocessing=stored_preprocessing({"preprocessing": ready.preprocessing_record}),
    )
    if backbone.fingerprint != ready.backbone.fingerprint:
        raise CheckpointError(
            f"the weights of {ready.spec.backbone.names!r} changed while the run was at work",
            hint="Put the former ones back and resume the run.",
        )
    return backbone


class _HeadFit:
    """Trains the head of `head` on stored features, for the run `setup`."""

    def __init__(self, head: Setup, loaders: SplitLoaders, setup: Setup) -> None:
        self.head, self.loaders, self.setup = head, loaders, setup
        self.metric = str(setup.ready.spec.train.early_stopping.metric)
        self.best: tuple[dict[str, Tensor], dict[str, Tensor]] | None = None

    def fit(self) -> FittedHead:
        head, began = self.head, time.monotonic()
        spec, model = head.ready.spec, head.model
        batches = self.loaders.training()
        if spec.head.standardise:
            features = self.loaders.pooled_sample()
            if useless := collapsed(features):
                head.logger.warn(useless)
            model.head.standardise(features)
        exact = exact_head(head, self.loaders)
        spec = head.ready.spec
        history = fit(
            head.learner,
            spec.train,
            batches,
            Hooks(
                epoch=lambda event: head.logger.progress(event.epoch, event.epochs),
                best=lambda _best: self._keep(),
                check=head.logger.stop.check,
                warn=head.logger.warn,
                validate=validation(head, self.loaders, exact),
                last_epoch=exact.epochs if exact else None,
                solve=exact.solve if exact else None,
            ),
        )
        assert self.best is not None
        if exact is not None:
            exact.keep_penalties(history.best.epoch)
        tensors, scales = self.best
        model.load_state_dict(dict(tensors), strict=False)
        model.load_exact_state(scales)
        passed = pass_splits(head, self.loaders)  # of stored features: this is fast
        val, losses = None, None
        if self._has("val"):
            val = val_scores(head, passed["val"].outputs, passed["val"].loss, self.metric)
            losses = val_losses(head, passed["val"].outputs, self.metric) if self.metric in PAIRED else None
        refitted = None
        if exact is not None and exact.refits:
            exact.place_refitted(model)
            refitted = {name: tensor.detach().cpu().clone() for name, tensor in model.exact_state().items()}
            model.load_state_dict(dict(tensors), strict=False)
            model.load_exact_state(scales)
        epoch = history.epochs[history.best.epoch - 1]
        fitted = FittedHead(
            tensors,
            scales,
            headlines(head, passed),
            val,
            losses,
            epoch["train"]["loss"],
            round(time.monotonic() - began, 3),
            refitted,
            exact.out_of_fold if exact is not None and refitted is not None else None,
        )
        self._place_and_compare(fitted)
        head.logger.message(_fit_message(fitted, history))
        return fitted

    def _keep(self) -> None:
        model = self.head.model
        self.best = tuple(
            {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
            for state in (model.tuned_state(), model.exact_state())
        )  # type: ignore[assignment]

    def _has(self, split: Split) -> bool:
        return len(self.head.ready.plan.splits[split].rows) > 0

    def _place_and_compare(self, fitted: FittedHead) -> None:
        """Put the head into the model that is fine-tuned, and warn where that gives other outputs than the head alone.

        It does so where a row's features depend on the rows of its batch.
        """
        ready, compute = self.setup.ready, self.setup.compute
        model = self.setup.model
        fitted.place(model)
        batch = next(iter(split_loader(ready, "train", shuffle=False)))
        rows = batch.rows[:CHECK_ROWS]
        features = torch.from_numpy(self.loaders.stored.splits["train"].take(rows.numpy())).to(compute.device)
        inputs = {name: value[:CHECK_ROWS].to(compute.device) for name, value in batch.inputs.items()}
        model.eval()
        with torch.inference_mode(), compute.autocast():
            outputs = [self.head.model.eval()({"features": features}), model(inputs)]
        alone, placed = (ready.plan.task.comparable(one.float().cpu().numpy()) for one in outputs)
        difference = float(np.abs(alone - placed).max())
        if not difference <= TOLERANCE[compute.precision]:
            self.setup.logger.warn(
                f"the fitted head gives other outputs in the whole model than on stored features: the "
                f"{ready.plan.task.COMPARABLE} of {len(rows)} training rows differ by up to {difference:.2g}"
            )


def _fit_message(fitted: FittedHead, history: TrainingHistory) -> str:
    took = f"the head was fitted on the frozen backbone's features in {duration(fitted.seconds)}"
    val = fitted.val
    if val is None:
        return f"{took}; fine-tuning starts from it"
    value = f"val loss {val['loss']:.4g}" if val.get("loss") is not None else "val loss undefined"
    return (
        f"{took} (epoch {history.best.epoch} of {len(history.epochs)}, {value}); fine-tuning starts from it, as epoch 0"
    )


def restore_head(setup: Setup, head: FittedHead, check_inputs: dict[str, Tensor]) -> None:
    """Make the model that fine-tuning started from the run's best one, and the one that is scored.

    Raises CheckpointError where what is read back is another model.
    """
    ready = setup.ready
    backbone = _loaded_backbone(ready, setup.run.backbone)
    model = build_model(ready.spec, backbone, ready.plan.outputs).to(ready.compute.device)
    head.place(model)
    metric = str(ready.spec.train.early_stopping.metric)
    value = head.val.get(metric.removeprefix("val/")) if head.val else None
    setup.use_model(model.eval())
    setup.logger.keep(lambda: save_model(setup.ready, setup.run.best, Best(metric, 0, value)))
    stored, _ = verify(setup, check_inputs)
    setup.use_model(stored)
