"""The training of a run: what the loop reports goes to the log, and what it stores to the checkpoints."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch

from deeptune.checkpoint import drop_previous
from deeptune.engine import inference
from deeptune.engine.device import memory_in_use
from deeptune.engine.history import Best, TrainingHistory
from deeptune.engine.inference import MeanLoss
from deeptune.engine.loop import Batches, Hooks, fit
from deeptune.engine.run_metadata import headline
from deeptune.engine.sanity import Constant
from deeptune.engine.scoring import split_truth
from deeptune.engine.setup import Setup, SplitLoaders
from deeptune.engine.train_state import TrainState
from deeptune.engine.verify import save_model, verify
from deeptune.runs.events import CheckpointEvent, StepEvent

MAX_SILENCE = 5.0  # seconds between step events, once a run takes long


class Fitting:
    """Trains the model of a run in place.

    `probe` holds the inputs of a few training rows. Training continues from `train_state`, or starts where it is None.
    """

    def __init__(
        self, setup: Setup, loaders: SplitLoaders, probe: dict[str, torch.Tensor], train_state: TrainState | None
    ) -> None:
        self.setup, self.loaders, self.probe, self.train_state = setup, loaders, probe, train_state
        self.constant = Constant(setup.ready, setup.criterion)
        self.first_step = train_state.values["history"]["steps"] if train_state else 0
        self.started = self.reported = time.monotonic()
        self.verified = self.diverged = False

    def fit(self, batches: Batches) -> TrainingHistory:
        """Train to the end. Raises RunStopped, after training was stored, when the run was asked to stop."""
        setup, ready = self.setup, self.setup.ready
        if self.train_state and (best := self.train_state.values["history"]["best"])["epoch"]:
            self._show_best(Best(**best))
        return fit(
            setup.learner,
            ready.spec.train,
            batches,
            Hooks(
                step=self._on_step,
                epoch=setup.logger.events.write,
                best=self._on_best,
                store=self._store,
                check=setup.logger.stop.check,
                warn=setup.logger.warn,
                validate=self._validate if len(ready.plan.splits["val"].rows) else None,
            ),
            resume=self.train_state,
        )

    def _on_step(self, event: StepEvent) -> None:
        logger, steps, now = self.setup.logger, self.setup.ready.steps, time.monotonic()
        elapsed = now - self.started
        left = elapsed * (steps - event.step) / max(event.step - self.first_step, 1)
        event = replace(event, memory=memory_in_use(self.setup.compute.device))
        logger.status.update(**event.content(), steps=steps, eta=round(left, 1))
        # A log of a day stays short enough to be read in a second.
        if event.epoch_step == event.epoch_steps or now - self.reported >= min(MAX_SILENCE, elapsed / 1000):
            self.reported = now
            logger.events.write(event)

    def _on_best(self, best: Best) -> None:
        setup, run = self.setup, self.setup.run
        setup.logger.keep(lambda: save_model(setup.ready, run.best, best))
        if not self.verified:  # a checkpoint that can't be read back is known after the first epoch, not the last
            verify(setup, self.probe)
            self.verified = True
        setup.logger.events.write(CheckpointEvent("best", best.epoch, metric=best.metric, value=best.value))
        self._show_best(best)

    def _show_best(self, best: Best) -> None:
        shown = {name: value for name, value in asdict(best).items() if name in ("epoch", "metric", "value")}
        self.setup.logger.status.update(best=shown)

    def _store(self, train_state: TrainState, history: TrainingHistory) -> None:
        setup, run, logger = self.setup, self.setup.run, self.setup.logger
        logger.keep(lambda: save_model(setup.ready, run.last, history.best, train_state))
        drop_previous(run.best)  # the best one is now known to the last one
        logger.events.write(CheckpointEvent("last", history.epoch, step=history.steps))
        # Also the step: a stop may come between two reports, and its message names the step that was stored.
        logger.status.update(step=history.steps, checkpoint={"step": history.steps, "at": round(time.time(), 3)})

    def _validate(self) -> dict[str, Any]:
        """The headline metrics of val, and those that are undefined."""
        setup, logger, plan = self.setup, self.setup.logger, self.setup.ready.plan
        loss = MeanLoss(setup.criterion)
        found = setup.inference.outputs(
            self.loaders.scoring("val"), loss=loss, progress=lambda done, total: logger.stop.check()
        )
        outputs = inference.joined(list(found), setup.model)
        if not np.isfinite(outputs.logits).all():
            broken = int((~np.isfinite(outputs.logits).all(axis=1)).sum())
            logger.warn(f"the model's outputs for {broken:,} val rows are not finite: this epoch can't be the best")
            return {"loss": math.nan}
        if not self.diverged and loss.value is not None and (warning := self.constant.diverged("val", loss.value)):
            logger.warn(warning)
            self.diverged = True
        truth = split_truth(plan, "val", outputs.rows)
        scores = inference.score(outputs, truth, plan.task.calibrated(outputs.logits, truth), loss.value)
        undefined = {name: value for name, value in scores.items() if value is None}
        return {**headline(scores), **undefined}
