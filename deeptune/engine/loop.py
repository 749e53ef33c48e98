"""The training loop. One loop for every backbone, method, modality and task."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from deeptune.data.loader import Batch
from deeptune.engine import train_state
from deeptune.engine.checkpoint_interval import CheckpointInterval
from deeptune.engine.device import Compute
from deeptune.engine.loss import Criterion
from deeptune.engine.micro_batch import MicroBatcher
from deeptune.engine.optimizers import make_optimizer, make_schedule
from deeptune.engine.out_of_memory import is_out_of_memory
from deeptune.errors import RunStopped, TrainingError
from deeptune.model.build import TunedModel
from deeptune.runs.events import EpochEvent, StepEvent
from deeptune.runs.files import finite
from deeptune.spec.metrics import lower_is_better
from deeptune.spec.model import TrainSpec
from deeptune.spec.optimizers import OPTIMIZERS

REPORT_INTERVAL = 0.25  # seconds between step reports
MOST_SKIPPED = 10  # steps in a row whose loss or gradient is not finite


class Batches(Protocol):
    """What the loop needs of a loader."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Batch]: ...
    def set_epoch(self, epoch: int, *, skip: int = 0) -> None: ...


@dataclass
class Best:
    """The best value of the chosen metric so far, and the epoch (from 1) it came from."""

    metric: str
    epoch: int = 0
    value: float | None = None
    since: int = 0  # epochs without a better one

    def offer(self, epoch: int, value: float | None) -> bool:
        """Whether `value` is better than every one before; a value that is undefined never is."""
        lower = lower_is_better(self.metric)
        better = value is not None and math.isfinite(value)
        if better and self.value is not None and epoch != self.epoch:  # the same epoch: it is trained once more
            better = value < self.value if lower else value > self.value  # type: ignore[operator]
        if better:
            self.epoch, self.value, self.since = epoch, value, 0
        else:
            self.since += 1
        return better


@dataclass
class History:
    """Where training is: the epoch in progress (from 1), how much of it is done, and what happened so far."""

    best: Best
    epoch: int = 1
    batches: int = 0  # of the epoch in progress
    steps: int = 0
    epochs: list[dict[str, Any]] = field(default_factory=list)
    skipped: int = 0  # steps that were not finite
    skipped_in_a_row: int = 0
    skipped_in_epoch: int = 0
    at_once: int | None = None  # rows, or tokens of texts: a limit that want of memory has set
    seconds: float = 0.0
    stopped_early: bool = False


@dataclass
class Step:
    """A step that was taken: `numbers` holds its mean loss and gradient norm, on the device until they are read."""

    number: int
    rows: list[int]
    rate: float
    numbers: Tensor


@dataclass
class TrainState:
    """What it takes to go on with training exactly where it was, besides the weights in a tuned state."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]


@dataclass
class Hooks:
    """What the loop tells, and to whom; it neither draws nor writes files itself.

    `check` may raise RunStopped, and is called at every step boundary. `store` must put the snapshot on the disk.
    """

    step: Callable[[StepEvent], None] = lambda event: None
    epoch: Callable[[EpochEvent], None] = lambda event: None
    best: Callable[[Best], None] = lambda best: None
    store: Callable[[TrainState, History], None] = lambda taken, history: None
    check: Callable[[], None] = lambda: None
    warn: Callable[[str], None] = lambda message: None


def groups_of(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """Consecutive batches, `size` at a time; the last group of an epoch may be smaller."""
    iterator = iter(batches)
    while group := list(itertools.islice(iterator, size)):
        yield group


def steps_per_epoch(batches: int, accumulation: int) -> int:
    return math.ceil(batches / accumulation)


def fit(
    model: TunedModel,
    train: TrainSpec,
    batches: Batches,
    criterion: Criterion,
    compute: Compute,
    validate: Callable[[], dict[str, Any]] | None,
    hooks: Hooks | None = None,
    *,
    resume: TrainState | None = None,
) -> History:
    """Train `model` in place by a resolved `train` spec; with `resume`, go on where that snapshot was taken.

    `validate` scores the model on val and returns its metrics, `loss` among them; None when there is no val
    split: then every epoch is the best so far. Raises TrainingError when the loss is not finite in too many steps,
    and RunStopped when the hooks ask for it, after training was stored.
    """
    return _Training(model, train, batches, criterion, compute, validate, hooks or Hooks(), resume).run()


class _Training:
    def __init__(
        self,
        model: TunedModel,
        train: TrainSpec,
        batches: Batches,
        criterion: Criterion,
        compute: Compute,
        validate: Callable[[], dict[str, Any]] | None,
        hooks: Hooks,
        resume: TrainState | None,
    ) -> None:
        self.model, self.train, self.batches, self.criterion = model, train, batches, criterion
        self.compute, self.validate, self.hooks = compute, validate, hooks
        # Of the same parameters; what is scored, stored and compared bit for bit is the model itself.
        self.forward: Callable[[dict[str, Tensor]], Tensor] = torch.compile(model) if train.compile else model
        self.learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = make_optimizer(model, train)
        self.per_epoch = steps_per_epoch(len(batches), train.accumulation)
        self.epochs = int(train.epochs)
        self.schedule = make_schedule(self.optimizer, train, self.per_epoch * self.epochs)
        self.scaler = compute.scaler()
        self.reads_late = compute.reads_late and OPTIMIZERS[train.optimizer].skips_on_device
        self.unread: list[Step] = []
        self.cadence = CheckpointInterval(train.checkpoint_every)
        self.history = History(Best(train.early_stopping.metric))
        # What the forward pass itself changes, the running statistics of batch normalisation, now and when steps were
        # last read: that is what they go back to after one that is not finite, or that ran out of memory.
        self.statistics = [
            getattr(module, name)
            for module in model.train().modules()
            if module.training and isinstance(getattr(module, "running_mean", None), Tensor)
            for name in ("running_mean", "running_var", "num_batches_tracked")
        ]
        self.statistics_before = [statistic.clone() for statistic in self.statistics]
        self.limit = MicroBatcher(
            self._tell_limit, tokens=int(train.token_budget) or None, min_rows=2 if self.statistics else 1
        )
        wide = torch.float32 if compute.device.type == "mps" else torch.float64
        self.loss_sum = torch.zeros((), device=compute.device, dtype=wide)  # of the epoch in progress
        self.count_sum = torch.zeros_like(self.loss_sum)
        self.began, self.reported = time.monotonic(), 0.0
        self.changed = resume is None  # since training was last stored
        if resume is not None:
            self._put_back(resume)

    # The epochs.

    def run(self) -> History:
        history, patience = self.history, int(self.train.early_stopping.patience)
        try:
            while history.epoch <= self.epochs and not history.stopped_early:
                self._epoch()
                if self.validate is not None and patience and history.best.since >= patience:
                    history.stopped_early = True
                if self._over or self.cadence.due_after_epoch():
                    self._store()
            if self.changed:
                self._store()
        except RunStopped as stopped:
            raise RunStopped(
                f"{stopped.message} at step {history.steps} of {self._steps}{self._store_at_stop()}"
            ) from None
        if history.best.epoch == 0:
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

    def _epoch(self) -> None:
        """One pass over the training split, then one over val."""
        history, started = self.history, time.monotonic()
        self._train_epoch()
        self._require_finite_weights()
        seconds = round(time.monotonic() - started, 3)
        best, val = replace(history.best), None
        if self.validate is None:
            best.epoch, improved = history.epoch, True
        else:
            val = self.validate()
            value = val.get(best.metric.removeprefix("val/"))
            improved = best.offer(history.epoch, value if math.isfinite(val["loss"]) else None)
        event = EpochEvent(
            epoch=history.epoch,
            epochs=self.epochs,
            train={"loss": float(self.loss_sum / self.count_sum)},
            learning_rate=self._rate(),
            seconds=seconds,
            skipped_steps=history.skipped_in_epoch or None,
            val=val,
            best=improved,
        )
        if improved:
            self.hooks.best(best)
        history.best = best  # only now: what is said to be the best is on the disk
        self.hooks.epoch(event)
        history.epochs.append(event.content())
        history.epoch, history.batches, history.skipped_in_epoch = history.epoch + 1, 0, 0
        self.loss_sum.zero_()
        self.count_sum.zero_()

    def _train_epoch(self) -> None:
        """The rest of the epoch in progress: all of it, unless training was resumed within it."""
        history, train = self.history, self.train
        self.model.train()
        self.batches.set_epoch(history.epoch - 1, skip=history.batches)
        rows, waited, started = 0, 0.0, time.monotonic()
        asked = started
        for group in groups_of(self.batches, train.accumulation):
            waited += time.monotonic() - asked
            rate = self._rate()
            self._step(group)
            rows += sum(len(batch.rows) for batch in group)
            step = steps_per_epoch(history.batches, train.accumulation)
            due = time.monotonic() - self.reported >= REPORT_INTERVAL or step == self.per_epoch
            if due or not self.reads_late:
                loss, norm = self._read()
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
            if self.cadence.due(history.steps):
                self._store()
            self.hooks.check()
            asked = time.monotonic()

    def _rate(self) -> float:
        return float(self.schedule.get_last_lr()[-1])

    # One step.

    def _step(self, group: list[Batch]) -> None:
        """One optimizer step over the batches of a group.

        A step whose loss or gradient is not finite changes nothing but the count of such steps, once it is read.
        """
        history, self.changed = self.history, True
        moved = [batch.to(self.compute.device, non_blocking=True) for batch in group]
        loss_sum, count = self._gradients(moved)
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.learning, self.train.clip_norm or math.inf)
        numbers = torch.stack([loss_sum / count, norm.to(loss_sum.dtype)])
        finite = torch.isfinite(numbers).all()
        if self.reads_late:
            self.optimizer.grad_scale, self.optimizer.found_inf = None, (~finite).float()  # type: ignore[attr-defined]
        history.steps += 1
        history.batches += len(group)
        self.unread.append(Step(history.steps, [int(row) for b in group for row in b.rows], self._rate(), numbers))
        taken = self.reads_late or bool(finite)  # a sync, where the loss is read in each step anyway
        if taken:  # else fused SGD would begin its momentum with memory that nothing was written to
            self._update()
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if taken:
            self.schedule.step()
        self.loss_sum += torch.where(finite, loss_sum, 0)
        self.count_sum += torch.where(finite, count, 0)

    def _read(self) -> tuple[float, float]:
        """Loss and norm of the last step; those before it that were not read yet are dealt with too.

        The one device-to-host sync: on a GPU as often as progress is reported or stored, and not in each step.
        """
        values = torch.stack([step.numbers for step in self.unread]).tolist()
        for step, (loss, norm) in zip(self.unread, values, strict=True):
            if math.isfinite(loss) and math.isfinite(norm):
                self.history.skipped_in_a_row = 0
                continue
            if self.reads_late:  # it was taken for one that counts
                self.schedule.last_epoch -= 2
                self.schedule.step()
            # Loss scaling starts too high on purpose and comes down by overflows of its own: those are no fault.
            if not (self.scaler.is_enabled() and math.isfinite(loss) and self.scaler.get_scale() >= 1):
                _copy(self.statistics_before, self.statistics)
                self._count_skipped(step, loss, norm)
        self.unread.clear()
        _copy(self.statistics, self.statistics_before)
        return values[-1][0], values[-1][1]

    def _update(self) -> None:
        try:
            self.scaler.step(self.optimizer)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise TrainingError(
                f"out of memory in the optimizer's step {self.history.steps}: {self.train.optimizer!r} has no room "
                "for its state",
                hint="Set tuning.method = 'lora' or 'partial', or train.optimizer = 'adafactor' or 'sgd'.",
            ) from error

    def _gradients(self, group: list[Batch]) -> tuple[Tensor, Tensor]:
        """Gradients of a group's mean loss; returns the sum of its losses and what that is divided by.

        When memory runs out the group is done again in smaller parts, which add up to the same gradient.
        """
        while True:
            try:
                return self._accumulate(group)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            except MemoryError:
                pass
            # Out of the handler, whose traceback holds on to tensors.
            self.optimizer.zero_grad(set_to_none=True)
            _copy(self.statistics_before, self.statistics)
            pieces = [piece for batch in group for piece in self.limit.pieces(batch)]
            self.limit.halve(max(pieces, key=lambda piece: len(piece) * piece.width), "training on")

    def _accumulate(self, group: list[Batch]) -> tuple[Tensor, Tensor]:
        count = torch.stack([self.criterion.count(_targets(batch)) for batch in group]).sum()
        loss_sum = torch.zeros_like(self.loss_sum)
        for batch in group:
            for piece in self.limit.pieces(batch):
                with self.compute.autocast():
                    outputs = _forward(self.forward, piece)
                # Divided by the whole group's count, so that accumulation gives the gradient of one large batch.
                loss = self.criterion.sum(outputs, _targets(piece))
                self.scaler.scale(loss / count).backward()
                loss_sum += loss.detach()
        return loss_sum, count

    def _tell_limit(self, text: str) -> None:
        self.history.at_once = self.limit.max_units
        self.hooks.warn(f"{text}, accumulated to the same effective batch size")

    # What is not finite.

    def _count_skipped(self, step: Step, loss: float, norm: float) -> None:
        history = self.history
        history.skipped += 1
        history.skipped_in_epoch += 1
        history.skipped_in_a_row += 1
        what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient norm is {norm}"
        listed = ", ".join(map(str, step.rows[:8])) + (" …" if len(step.rows) > 8 else "")
        place = f"at step {step.number} (epoch {history.epoch}, learning rate {step.rate:.3g}, rows {listed})"
        whole_epoch = history.skipped_in_epoch == self.per_epoch
        if history.skipped_in_a_row >= MOST_SKIPPED or whole_epoch:
            many = "every step of an epoch" if whole_epoch else f"{history.skipped_in_a_row} steps in a row"
            raise TrainingError(
                f"{what} {place}, and was not finite in {many}",
                hint="Lower train.learning_rate, set train.precision = 'fp32', or look at those rows.",
            )
        self.hooks.warn(f"{what} {place}: the step was skipped")

    def _require_finite_weights(self) -> None:
        if all(bool(torch.isfinite(tensor).all()) for tensor in self.model.tuned_state().values()):
            return
        raise TrainingError(
            f"the weights are no longer finite after step {self.history.steps} (epoch {self.history.epoch}, learning "
            f"rate {self._rate():.3g})",
            hint="Lower train.learning_rate or set train.precision = 'fp32'. The checkpoints before are intact.",
        )

    # Storing and going on.

    def _store(self) -> None:
        """Put training on the disk, unless its weights are lost: then the checkpoint before stays."""
        if self.unread:
            self._read()
        self._require_finite_weights()
        started = time.monotonic()
        self.history.seconds += started - self.began
        self.began = started
        self.hooks.store(self._take(), self.history)
        self.changed = False
        self.cadence.stored(self.history.steps, time.monotonic() - started)

    def _store_at_stop(self) -> str:
        try:
            if self.changed:
                self._store()
        except RunStopped:  # it waited for room on the disk
            return ", without a checkpoint of that step for want of room on the disk"
        return ""

    def _take(self) -> TrainState:
        tensors, optimizer = train_state.take_optimizer(self.optimizer)
        generators, generator_values = train_state.take_generators()
        exact = {f"exact.{name}": value for name, value in self.model.exact_state().items()}
        sums = {"sum.loss": self.loss_sum, "sum.count": self.count_sum}
        values = {
            "history": finite(asdict(self.history)),
            "optimizer": optimizer,
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "generators": generator_values,
        }
        whole = {**tensors, **generators, **exact, **sums}
        return TrainState({name: tensor.detach().cpu().clone() for name, tensor in whole.items()}, values)

    def _put_back(self, taken: TrainState) -> None:
        # of another version some may be missing or unknown: a limit of memory, say, is found again
        known = {one.name for one in fields(History)}
        history = {name: value for name, value in taken.values["history"].items() if name in known}
        self.history = History(**{**history, "best": Best(**history["best"])})
        self.limit.max_units = self.history.at_once
        exact = {name.removeprefix("exact."): t for name, t in taken.tensors.items() if name.startswith("exact.")}
        self.model.load_exact_state(exact)
        train_state.put_optimizer(self.optimizer, taken.tensors, taken.values["optimizer"])
        self.schedule.load_state_dict(taken.values["schedule"])
        self.scaler.load_state_dict(taken.values["scaler"])
        self.loss_sum.copy_(taken.tensors["sum.loss"])
        self.count_sum.copy_(taken.tensors["sum.count"])
        train_state.put_generators(taken.tensors, taken.values["generators"])


def _copy(tensors: list[Tensor], to: list[Tensor]) -> None:
    if tensors:
        torch._foreach_copy_(to, tensors)


def _forward(model: Callable[[dict[str, Tensor]], Tensor], batch: Batch) -> Tensor:
    try:
        return model(batch.inputs)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise TrainingError(
            f"batch normalisation cannot learn from a batch of {len(batch.rows)}: one value has no spread",
            hint="Set train.batch_size to 2 or more, or a larger backbone.image_size; accumulation does not help.",
        ) from error


def _targets(batch: Batch) -> Tensor:
    assert batch.targets is not None, "training needs labels"
    return batch.targets
