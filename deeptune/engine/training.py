"""The training of a run: what the loop reports goes to the log, and what it stores to the checkpoints."""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from deeptune.checkpoint import drop_previous
from deeptune.engine.device import memory_in_use
from deeptune.engine.exact_head import exact_head
from deeptune.engine.history import Best, TrainingHistory
from deeptune.engine.loop import Batches, Hooks, fit
from deeptune.engine.setup import Setup, SplitLoaders
from deeptune.engine.train_state import TrainState
from deeptune.engine.validation import validation
from deeptune.engine.verify import save_model, verify
from deeptune.runs.events import CheckpointEvent, EpochEvent, StepEvent

MAX_SILENCE = 5.0  # seconds between step events, once a run takes long


class RunTraining:
    """Trains the model of a run in place.

    `check_inputs` are those of a few training rows. Training continues from `train_state`, or starts where it is None.
    `start` is the event of epoch 0: the scores before the first step, which later epochs must beat. Training ends after
    `last_epoch`, where that is known before.
    """

    def __init__(
        self,
        setup: Setup,
        loaders: SplitLoaders,
        check_inputs: dict[str, torch.Tensor],
        train_state: TrainState | None,
        start: EpochEvent | None = None,
        last_epoch: int | None = None,
    ) -> None:
        self.setup, self.loaders, self.check_inputs = setup, loaders, check_inputs
        self.train_state, self.start = train_state, start
        self.exact = exact_head(setup, loaders)
        self.last_epoch = self.exact.epochs if self.exact else last_epoch
        self.first_step = train_state.values["history"]["steps"] if train_state else 0
        self.started = self.reported = time.monotonic()
        self.verified = False

    def fit(self, batches: Batches) -> TrainingHistory:
        """Train to the end. Raises RunStopped, after training was stored, when the run was asked to stop."""
        setup, ready = self.setup, self.setup.ready
        if self.train_state and (best := Best(**self.train_state.values["history"]["best"])).found:
            self._show_best(best)
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
                validate=validation(setup, self.loaders, self.exact),
                start=self.start,
                last_epoch=self.last_epoch,
                solve=self.exact.solve if self.exact else None,
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
            verify(setup, self.check_inputs)
            self.verified = True
        setup.logger.events.write(
            CheckpointEvent("best", best.epoch, metric=best.metric, value=best.value, mean=best.mean or None)
        )
        self._show_best(best)

    def _show_best(self, best: Best) -> None:
        self.setup.logger.status.update(best=best.record())

    def _store(self, train_state: TrainState, history: TrainingHistory) -> None:
        setup, run, logger = self.setup, self.setup.run, self.setup.logger
        logger.keep(lambda: save_model(setup.ready, run.last, history.best, train_state))
        drop_previous(run.best)  # the best one is now known to the last one
        logger.events.write(CheckpointEvent("last", history.epoch, step=history.steps))
        # Also the step: a stop may come between two reports, and its message names the step that was stored.
        logger.status.update(step=history.steps, checkpoint={"step": history.steps, "at": round(time.time(), 3)})
