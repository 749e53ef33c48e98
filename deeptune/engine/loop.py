"""The training loop. One loop for every backbone, method, modality and task."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Protocol

from deeptune.data.loading.loader import Batch
from deeptune.engine import train_state
from deeptune.engine.checkpoint_interval import CheckpointInterval
from deeptune.engine.history import Best, TrainingHistory
from deeptune.engine.optimizer_step import Learner, Stepper
from deeptune.engine.train_state import TrainState
from deeptune.errors import RunStopped, TrainingError
from deeptune.runs.events import EpochEvent, StepEvent
from deeptune.spec.run_spec import TrainSpec

REPORT_INTERVAL = 0.25  # seconds between step reports


class Batches(Protocol):
    """The interface of a loader that the loop uses."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Batch]: ...
    def set_epoch(self, epoch: int, *, skip: int = 0) -> None: ...


@dataclass
class Hooks:
    """Callbacks with which the loop reports; it neither draws nor writes files itself.

    `check` may raise RunStopped, and is called at every step boundary. `store` must put the state on the disk.
    `validate` scores the model on val and returns its metrics, `loss` among them. It is None where there is no val
    split: then every epoch is the best so far. `start` is the event of epoch 0: the scores before the first step,
    which later epochs must beat. It is None where they do not compete. Training ends after `last_epoch`, with the
    learning rates of a training of all epochs. `solve`, where it is there, sets the weights of an epoch (from 1) in
    place of its steps, and returns the mean `loss` of `rows`, the `penalty` that it was found with, and the number of
    `folds` that compare penalties.
    """

    step: Callable[[StepEvent], None] = lambda _event: None
    epoch: Callable[[EpochEvent], None] = lambda _event: None
    best: Callable[[Best], None] = lambda _best: None
    store: Callable[[TrainState, TrainingHistory], None] = lambda _state, _history: None
    check: Callable[[], None] = lambda: None
    warn: Callable[[str], None] = lambda _message: None
    validate: Callable[[], dict[str, Any]] | None = None
    start: EpochEvent | None = None
    last_epoch: int | None = None
    solve: Callable[[int], dict[str, float]] | None = None


def groups_of(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """Yield consecutive batches, `size` at a time; the last group of an epoch may be smaller."""
    iterator = iter(batches)
    while group := list(itertools.islice(iterator, size)):
        yield group


def steps_per_epoch(batches: int, accumulation: int) -> int:
    """Count the optimizer steps of an epoch; the last one may take fewer batches."""
    return math.ceil(batches / accumulation)


def fit(
    learner: Learner,
    train: TrainSpec,
    batches: Batches,
    hooks: Hooks | None = None,
    *,
    resume: TrainState | None = None,
) -> TrainingHistory:
    """Train a model in place by a resolved `train` spec; with `resume`, continue from that state.

    Raises TrainingError when the loss is not finite in too many steps, and RunStopped when the hooks ask for it, after
    training was stored.
    """
    trainer = Trainer(learner, train, batches, hooks or Hooks())
    if resume is not None:
        trainer.load_state_dict(resume)
    return trainer.fit()


class Trainer:
    """The epochs of a training, each a pass over the training split and one over val.

    `load_state_dict`, if it is called, comes before `fit`.
    """

    def __init__(self, learner: Learner, train: TrainSpec, batches: Batches, hooks: Hooks) -> None:
        self.model, self.train, self.batches, self.hooks = learner.model, train, batches, hooks
        self.per_epoch = steps_per_epoch(len(batches), train.accumulation)
        self.epochs = hooks.last_epoch or int(train.epochs)
        self.history = TrainingHistory(Best(train.early_stopping.metric))
        self.stepper = Stepper(learner, train, self.per_epoch, self.history, hooks.warn)
        self.checkpoint_interval = CheckpointInterval(train.checkpoint_every)
        self.began, self.reported = time.monotonic(), 0.0
        self.changed = True  # since training was last stored

    def state_dict(self) -> TrainState:
        """Return the state that training needs to continue, besides the weights in the model's own state."""
        steps, rng = self.stepper.state_dict(), train_state.rng_state_dict()
        tensors = {**steps.tensors, **rng.tensors}
        values = {"history": self.history.state_dict(), **steps.values, "generators": rng.values}
        return TrainState({name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}, values)

    def load_state_dict(self, state: TrainState) -> None:
        """Continue from a state."""
        self.history.load_state_dict(state.values["history"])
        self.stepper.load_state_dict(state)
        train_state.load_rng_state_dict(TrainState(state.tensors, state.values["generators"]))
        self.changed = False

    def fit(self) -> TrainingHistory:
        """Train to the end, and return what happened."""
        history, patience = self.history, int(self.train.early_stopping.patience)
        try:
            if self.hooks.start is not None and history.steps == 0 and not history.best.found:
                self._rank(self.hooks.start)
            while history.epoch <= self.epochs and not history.stopped_early:
                self.pass_epoch()
                if self.hooks.validate is not None and patience and history.best.since >= patience:
                    history.stopped_early = True
                if self._over or self.checkpoint_interval.due_after_epoch():
                    self._store()
            if self.changed:
                self._store()
        except RunStopped as stopped:
            raise RunStopped(
                f"{stopped.message} at step {history.steps} of {self._steps}{self._store_at_stop()}"
            ) from None
        if not history.best.found:
            raise TrainingError(
                f"{history.best.metric} was undefined in every epoch, so no epoch can be called the best",
                hint="Choose another train.early_stopping.metric, or make the val split larger.",
            )
        return history

    @property
    def _steps(self) -> int:
        return self.per_epoch * self.epochs

    @property
    def _over(self) -> bool:
        return self.history.epoch > self.epochs or self.history.stopped_early

    def pass_epoch(self) -> None:
        """Pass over the training split, then over val."""
        history, started = self.history, time.monotonic()
        more = {}
        if self.hooks.solve is None:
            self._train_epoch()
        else:
            more = self._solve_epoch(self.hooks.solve)
        self.stepper.require_finite_weights()
        seconds = round(time.monotonic() - started, 3)
        with self.stepper.scored_weights():
            val = self.hooks.validate() if self.hooks.validate is not None else None
            event = EpochEvent(
                epoch=history.epoch,
                epochs=self.epochs,
                train={"loss": self.stepper.mean_loss, **more},
                learning_rate=self.stepper.rate if self.hooks.solve is None else None,
                seconds=seconds,
                skipped_steps=history.skipped_in_epoch or None,
                val=val,
            )
            history.epochs.append(self._rank(event).content())
        history.epoch, history.batches, history.skipped_in_epoch = history.epoch + 1, 0, 0
        self.stepper.begin_epoch()

    def _rank(self, event: EpochEvent) -> EpochEvent:
        """Store the model if it is the best so far, or the mean of the best epochs, and report what was found."""
        best = replace(self.history.best)
        if event.val is None:
            best.epoch, improved, mixed = event.epoch, True, False
        else:
            value = _value(event.val, best.metric)
            improved = best.offer(event.epoch, value)
            mixed = self._offer_to_soup(best, event.epoch, value)
        if improved or mixed:
            with self.stepper.soup.in_place() if self.stepper.soup is not None and mixed else nullcontext():
                self.hooks.best(best)
        self.history.best = best  # only now, as it is on the disk
        event = replace(event, best=improved)
        self.hooks.epoch(event)
        return event

    def _offer_to_soup(self, best: Best, epoch: int, value: float | None) -> bool:
        """Offer an epoch to the soup, and say whether the mean is what is the best from now on.

        A mean that is worse than each of its epochs lies behind a barrier of the loss, and is passed over.
        """
        soup, validate = self.stepper.soup, self.hooks.validate
        if soup is None or validate is None or not epoch or value is None:
            return False
        if not soup.offer(epoch, value) or not best.epoch:
            return False
        with soup.in_place():
            together = _value(validate(), best.metric)
        if together is None or best.better(soup.worst, together):
            return False
        best.value, best.mean = together, soup.epochs
        return True

    def _solve_epoch(self, solve: Callable[[int], dict[str, float]]) -> dict[str, float]:
        """Set the weights of the epoch in progress; returns what there is to say beside the loss."""
        history, started = self.history, time.monotonic()
        self.hooks.check()
        found = solve(history.epoch)
        self.changed = True
        history.steps += self.per_epoch
        history.batches = len(self.batches)
        self.stepper.solved(found["loss"])
        self.hooks.step(
            StepEvent(
                step=history.steps,
                epoch=history.epoch,
                epoch_step=self.per_epoch,
                epoch_steps=self.per_epoch,
                epochs=self.epochs,
                loss=found["loss"],
                rate=round(found["rows"] / max(time.monotonic() - started, 1e-9), 2),
                waiting=0.0,
            )
        )
        return {"penalty": found["penalty"], "folds": found["folds"]}

    def _train_epoch(self) -> None:
        """Train the rest of the epoch in progress: all of it, unless training was resumed within it."""
        history, train = self.history, self.train
        self.model.train()
        self.batches.set_epoch(history.epoch - 1, skip=history.batches)
        rows, waited, started = 0, 0.0, time.monotonic()
        asked = started
        for group in groups_of(self.batches, train.accumulation):
            waited += time.monotonic() - asked
            rate = self.stepper.rate
            self.changed = True
            self.stepper.step(group)
            rows += sum(len(batch.rows) for batch in group)
            step = steps_per_epoch(history.batches, train.accumulation)
            due = time.monotonic() - self.reported >= REPORT_INTERVAL or step == self.per_epoch
            if due or self.stepper.wants_reading:
                loss, norm = self.stepper.read()
            if due:
                self.reported = now = time.monotonic()
                self.hooks.step(
                    StepEvent(
                        step=history.steps,
                        epoch=history.epoch,
                        epoch_step=step,
                        epoch_steps=self.per_epoch,
                        epochs=self.epochs,
                        loss=loss,
                        learning_rate=rate,
                        gradient_norm=norm,
                        rate=round(rows / max(now - started, 1e-9), 2),
                        waiting=round(waited / max(now - started, 1e-9), 3),
                    )
                )
            if self.checkpoint_interval.due(history.steps):
                self._store()
            self.hooks.check()
            asked = time.monotonic()

    def _store(self) -> None:
        """Store training, unless its weights are not finite: then the checkpoint before stays."""
        if self.stepper.unread:
            self.stepper.read()
        self.stepper.require_finite_weights()
        started = time.monotonic()
        self.history.seconds += started - self.began
        self.began = started
        self.hooks.store(self.state_dict(), self.history)
        self.changed = False
        self.checkpoint_interval.stored(self.history.steps, time.monotonic() - started)

    def _store_at_stop(self) -> str:
        try:
            if self.changed:
                self._store()
        except RunStopped:  # it waited for room on the disk
            return ", without a checkpoint of that step, as the disk is full"
        return ""


def _value(val: Mapping[str, Any], metric: str) -> float | None:
    """Return the metric that chooses the epoch; None where it, or the loss of val, is not a finite number."""
    loss, value = val["loss"], val.get(metric.removeprefix("val/"))
    return value if all(number is not None and math.isfinite(number) for number in (loss, value)) else None
