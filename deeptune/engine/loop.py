"""The training loop. One loop for every backbone, method, modality and task."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from deeptune.data.loader import Batch
from deeptune.engine.device import Compute
from deeptune.engine.optim import Criterion, make_optimizer, make_schedule
from deeptune.errors import TrainingError
from deeptune.model.build import TunedModel
from deeptune.spec.model import LOWER_IS_BETTER, TrainSpec

REPORT_INTERVAL = 0.25  # seconds between step reports: each costs one device-to-host sync


class Batches(Protocol):
    """What the loop needs of a loader."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Batch]: ...
    def set_epoch(self, epoch: int) -> None: ...


@dataclass
class Best:
    """The best value of the chosen metric so far, and the epoch (from 1) it came from."""

    metric: str
    epoch: int = 0
    value: float | None = None
    since: int = 0  # epochs without a better one

    def offer(self, epoch: int, value: float | None) -> bool:
        """Whether `value` is better than every one before; a value that is undefined never is."""
        lower = self.metric.removeprefix("val/") in LOWER_IS_BETTER
        better = value is not None and math.isfinite(value)
        if better and self.value is not None:
            better = value < self.value if lower else value > self.value  # type: ignore[operator]
        if better:
            self.epoch, self.value, self.since = epoch, value, 0
        else:
            self.since += 1
        return better


@dataclass
class Hooks:
    """What the loop tells, and to whom; it neither draws nor writes files itself."""

    step: Callable[[dict[str, Any]], None] = lambda report: None
    epoch: Callable[[dict[str, Any]], None] = lambda report: None
    best: Callable[[Best], None] = lambda best: None
    last: Callable[[Best], None] = lambda best: None


@dataclass
class History:
    """What happened: a report for each epoch, the best one and the number of optimizer steps."""

    best: Best
    epochs: list[dict[str, Any]] = field(default_factory=list)
    steps: int = 0
    stopped_early: bool = False


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
) -> History:
    """Train `model` in place by a resolved `train` spec.

    `validate` scores the model on val and returns its metrics, `loss` among them; None when there is no val
    split: then every epoch is the best so far. Raises TrainingError when the loss is no longer finite.
    """
    hooks = hooks or Hooks()
    optimizer = make_optimizer(model, train)
    per_epoch = steps_per_epoch(len(batches), train.accumulation)
    epochs = int(train.epochs)
    schedule = make_schedule(optimizer, train, per_epoch * epochs)
    scaler = compute.scaler()
    history = History(Best(train.early_stopping.metric))
    patience = int(train.early_stopping.patience)

    for epoch in range(1, epochs + 1):
        started = time.monotonic()
        learning_rate = float(schedule.get_last_lr()[-1])
        loss = _train_epoch(
            model, train, batches, criterion, compute, optimizer, schedule, scaler, hooks, history, epoch, per_epoch
        )
        report: dict[str, Any] = {
            "epoch": epoch,
            "epochs": epochs,
            "train": {"loss": loss},
            "learning_rate": learning_rate,
            "seconds": round(time.monotonic() - started, 3),
        }
        if validate is None:
            history.best.epoch, improved = epoch, True
        else:
            report["val"] = validate()
            improved = history.best.offer(epoch, report["val"].get(history.best.metric.removeprefix("val/")))
        report["best"] = improved
        history.epochs.append(report)
        if improved:
            hooks.best(history.best)
        hooks.epoch(report)
        if validate is not None and patience and history.best.since >= patience:
            history.stopped_early = True
            break
    hooks.last(history.best)
    if history.best.epoch == 0:
        raise TrainingError(
            f"{history.best.metric} was undefined in every epoch, so no epoch can be called the best",
            hint="Choose another train.early_stopping.metric, or make the val split larger.",
        )
    return history


def _train_epoch(
    model: TunedModel,
    train: TrainSpec,
    batches: Batches,
    criterion: Criterion,
    compute: Compute,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    scaler: torch.amp.GradScaler,
    hooks: Hooks,
    history: History,
    epoch: int,
    per_epoch: int,
) -> float:
    """One pass over the training split; returns its mean loss."""
    model.train()
    batches.set_epoch(epoch - 1)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    loss_sum = torch.zeros(
        (), device=compute.device, dtype=torch.float64 if compute.device.type != "mps" else torch.float32
    )
    count_sum = torch.zeros_like(loss_sum)
    rows, rate = 0, 0.0
    started = reported = time.monotonic()

    for step, group in enumerate(groups_of(batches, train.accumulation), start=1):
        group = [batch.to(compute.device, non_blocking=True) for batch in group]
        count = torch.stack([criterion.count(_targets(batch)) for batch in group]).sum()
        group_loss = torch.zeros_like(loss_sum)
        for batch in group:
            with compute.autocast():
                outputs = _forward(model, batch)
            # Divided by the whole group's count, so that accumulation gives the gradient of one large batch.
            loss = criterion.sum(outputs, _targets(batch))
            scaler.scale(loss / count).backward()
            group_loss += loss.detach()
            rows += len(batch.rows)
        scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(learning, train.clip_norm or math.inf)
        rate = float(schedule.get_last_lr()[-1])
        scale = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        if scaler.get_scale() >= scale:  # a step that fp16 overflow skipped moves no schedule
            schedule.step()
        history.steps += 1
        loss_sum += group_loss
        count_sum += count

        now = time.monotonic()
        if now - reported >= REPORT_INTERVAL or step == per_epoch:
            reported = now
            value = float(group_loss / count)  # device-to-host sync
            _require_finite(value, history.steps, epoch, rate, group)
            hooks.step(
                {
                    "step": history.steps,
                    "epoch": epoch,
                    "epoch_step": step,
                    "epoch_steps": per_epoch,
                    "epochs": int(train.epochs),
                    "loss": value,
                    "learning_rate": rate,
                    "gradient_norm": float(norm),
                    "rate": round(rows / max(now - started, 1e-9), 2),
                }
            )
    mean = float(loss_sum / count_sum)
    _require_finite(mean, history.steps, epoch, rate, group)
    return mean


def _forward(model: TunedModel, batch: Batch) -> Tensor:
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


def _require_finite(loss: float, step: int, epoch: int, rate: float, group: list[Batch]) -> None:
    if math.isfinite(loss):
        return
    rows = [int(row) for batch in group for row in batch.rows][:8]
    raise TrainingError(
        f"the loss is {loss} at step {step} (epoch {epoch}, learning rate {rate:.3g}, rows {rows} …)",
        hint="Lower train.learning_rate, set train.precision = 'fp32', or look at those rows.",
    )
