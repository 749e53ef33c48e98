"""Optimizer steps: forward and backward in parts that fit into memory, and steps that are not finite."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from deeptune.data.loading.loader import Batch
from deeptune.engine import train_state
from deeptune.engine.averaging import Soup, WeightAverage, state_of
from deeptune.engine.device import Compute
from deeptune.engine.head_steps import HeadSteps
from deeptune.engine.history import TrainingHistory
from deeptune.engine.loss import Criterion
from deeptune.engine.micro_batch import MicroBatcher
from deeptune.engine.mixing import make_mix
from deeptune.engine.optimizers import QuickAdam, make_optimizer, make_schedule
from deeptune.engine.out_of_memory import is_out_of_memory
from deeptune.engine.train_state import TrainState
from deeptune.errors import TrainingError
from deeptune.model.build import TunedModel
from deeptune.model.head import ScaledLinear
from deeptune.spec.optimizers import OPTIMIZERS
from deeptune.spec.run_spec import TrainSpec

MAX_SKIPPED = 10  # steps in a row whose loss or gradient is not finite


@dataclass(frozen=True)
class Learner:
    """A model on its device, and the loss that it is trained with."""

    model: TunedModel
    criterion: Criterion
    compute: Compute


@dataclass
class Step:
    """A step of the optimizer, with the rows of each of its batches.

    Its mean loss and gradient norm are `known` (`by_hand` but for last digits), or in `numbers` on the device for now.
    """

    number: int
    rows: list[Tensor]
    rate: float
    numbers: Tensor | None = None
    known: list[float] | None = None
    by_hand: bool = False


class Stepper:
    """Takes the optimizer steps of a training whose epochs have `per_epoch` steps, and counts them in `history`.

    `warn` gets a sentence where memory runs out or a step is skipped.
    """

    def __init__(
        self,
        learner: Learner,
        train: TrainSpec,
        per_epoch: int,
        history: TrainingHistory,
        warn: Callable[[str], None],
    ) -> None:
        model, compute = learner.model, learner.compute
        self.model, self.criterion, self.compute = model, learner.criterion, compute
        self.train, self.per_epoch, self.history, self.warn = train, per_epoch, history, warn
        # Of the same parameters; what is scored, stored and compared bit for bit is the model itself.
        self.forward: Callable[[dict[str, Tensor]], Tensor] = torch.compile(model) if train.compile else model
        self.learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.only_layer = model.head.only_layer if model.frozen and not train.compile else None
        self.mix = make_mix(train, classes=model.last_layer.out_features)
        self.optimizer = make_optimizer(model, train)
        self.schedule = make_schedule(self.optimizer, train, per_epoch * int(train.epochs))
        self.scaler = compute.scaler()
        alone = model.frozen and not train.compile and not self.scaler.is_enabled()  # the head is all that learns
        self.quick = QuickAdam.of(self.optimizer) if alone else None
        self.by_hand = HeadSteps.of(model.head, self.criterion, self.quick) if train.accumulation == 1 else None
        self.reads_late = compute.reads_late and OPTIMIZERS[train.optimizer].skips_on_device
        self.unread: list[Step] = []
        self.wants_reading = not self.reads_late  # after each step, as it may not have been finite
        # What the forward pass itself changes, the running statistics of batch normalisation, now and when steps were
        # last read: that is what they go back to after one that is not finite, or that ran out of memory.
        self.statistics = [
            getattr(module, name)
            for module in model.train().modules()
            if module.training and isinstance(getattr(module, "running_mean", None), Tensor)
            for name in ("running_mean", "running_var", "num_batches_tracked")
        ]
        # All that changes in training: weights that learn, and the statistics beside them.
        changing = [*self.learning, *(one for one in self.statistics if one.is_floating_point())]
        self.average = WeightAverage(changing) if train.average == "ema" else None
        self.soup = Soup.of(train, changing, history.best.better) if train.average == "soup" else None
        self.statistics_before = [statistic.clone() for statistic in self.statistics]
        self.micro_batches = MicroBatcher(
            self._on_less_memory, tokens=int(train.token_budget) or None, min_rows=2 if self.statistics else 1
        )
        # Of the epoch in progress: numbers, or tensors where these are read late.
        self.loss_sum = self.count_sum = self._zero()
        self.one = torch.ones((), device=compute.device)

    def _zero(self) -> float | Tensor:
        return torch.zeros((), device=self.compute.device, dtype=torch.float64) if self.reads_late else 0.0

    def scored_weights(self) -> AbstractContextManager[None]:
        """Put the weights that are scored and stored into the model for a block: the average, if there is one."""
        return nullcontext() if self.average is None else self.average.in_place()

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        return float(self.schedule.get_last_lr()[-1])

    def _rate_text(self, rate: float) -> str:
        """Return the learning rates of the spec, and what the schedule made of them when the head's was `rate`."""
        backbone, head = float(self.train.learning_rate), float(self.train.head_learning_rate)
        asked = f"{head:g}" if self.model.frozen else f"{backbone:g}"
        if not self.model.frozen and head != backbone:
            asked += f" and {head:g} of the head"
        share = rate / float(self.schedule.base_lrs[-1])
        return f"learning rate {asked}" + ("" if share == 1 else f", at {100 * share:.3g}% by the schedule")

    @property
    def mean_loss(self) -> float:
        """The mean training loss of the epoch in progress."""
        return float(self.loss_sum / self.count_sum) if self.count_sum else math.nan

    def begin_epoch(self) -> None:
        """Start the mean loss anew."""
        self.loss_sum = self.count_sum = self._zero()

    def solved(self, loss: float) -> None:
        """Take on the mean loss of an epoch whose weights were found without steps."""
        self.loss_sum, self.count_sum = self._zero() + loss, self._zero() + 1.0

    def step(self, group: list[Batch]) -> None:
        """Take one optimizer step over the batches of a group.

        A step whose loss or gradient is not finite changes nothing but the count of such steps, once it is read.
        """
        if self.by_hand is not None and self._step_by_hand(self.by_hand, group[0]):
            return
        history = self.history
        self.wants_reading = not self.reads_late
        moved = [self.mix(batch.to(self.compute.device, non_blocking=True)) for batch in group]
        losses, divisor = self._gradients(moved)
        self.scaler.unscale_(self.optimizer)
        gradients = [parameter.grad for parameter in self.learning if parameter.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        history.steps += 1
        history.batches += len(group)
        step = Step(history.steps, [batch.rows for batch in group], self.rate)
        self.unread.append(step)
        loss_sum: float | Tensor
        count: float | Tensor
        if self.reads_late:
            loss_sum, count = torch.stack(losses).double().sum(), divisor
            step.numbers = torch.stack([loss_sum / count, norm.double()])
            finite = torch.isfinite(step.numbers).all()
            self.optimizer.grad_scale, self.optimizer.found_inf = None, (~finite).float()  # type: ignore[attr-defined]
            loss_sum, count = torch.where(finite, loss_sum, 0), torch.where(finite, count, 0)
            counts = True
        else:  # a sync, as the loss is read in each step anyway
            loss, weight = float(sum(one.item() for one in losses)), float(divisor.item())
            step.known = [loss / weight if weight else math.nan, norm.item()]
            counts = all(map(math.isfinite, step.known))
            loss_sum, count = loss, weight
        if counts:  # else fused SGD would begin its momentum with memory that nothing was written to
            self._clip(gradients, norm, step)
            self._update()
        self.scaler.update()
        for parameter in self.learning:
            parameter.grad = None
        if counts:
            self._count(loss_sum, count)

    @torch.no_grad()
    def _step_by_hand(self, head: HeadSteps, batch: Batch) -> bool:
        """Take a step over one batch of stored features. Returns False where it can't be done by hand."""
        features, history = batch.inputs.get("features"), self.history
        if features is None or self.micro_batches.rows(batch) < len(batch):
            return False
        try:
            loss, count = head.find(features, _targets(batch))
            norm = head.shorten(self.train.clip_norm)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return False
        history.steps, history.batches = history.steps + 1, history.batches + 1
        known = [loss / count if count else math.nan, norm]
        step = Step(history.steps, [batch.rows], self.rate, known=known, by_hand=True)
        if not all(map(math.isfinite, known)):
            self.unread, self.wants_reading = [*self.unread, step], True
            return True
        self.unread, self.wants_reading, history.skipped_in_a_row = [step], False, 0
        head.hand_over()
        self._update()
        for parameter in self.learning:
            parameter.grad = None
        self._count(loss, count)
        return True

    def _count(self, loss_sum: float | Tensor, count: float | Tensor) -> None:
        """Go on to the next step after an update."""
        self.schedule.step()
        if self.average is not None:
            self.average.update()
        self.loss_sum, self.count_sum = self.loss_sum + loss_sum, self.count_sum + count

    def _clip(self, gradients: list[Tensor], norm: Tensor, step: Step) -> None:
        """Shorten the gradients to the norm that the spec allows, as `torch.nn.utils.clip_grad_norm_` does."""
        limit = self.train.clip_norm
        if not limit or (step.known is not None and step.known[1] < 0.99 * limit - 1e-6):  # the factor would be 1
            return
        torch._foreach_mul_(gradients, torch.clamp(limit / (norm + 1e-6), max=1.0))

    def read(self) -> tuple[float, float]:
        """Return loss and gradient norm of the last step, and count the steps before it that were not finite.

        This is the only device-to-host sync. On a GPU it comes as often as progress is reported or stored, and not in
        each step.
        """
        if self.by_hand is not None and self.unread[-1].by_hand and self.unread[-1].known:
            self.unread[-1].known[1] = self.by_hand.norm()
        late = [step.numbers for step in self.unread if step.numbers is not None]
        read = iter(torch.stack(late).tolist() if late else [])
        values = [step.known or next(read) for step in self.unread]
        for step, (loss, norm) in zip(self.unread, values, strict=True):
            if math.isfinite(loss) and math.isfinite(norm):
                self.history.skipped_in_a_row = 0
                continue
            if self.reads_late:  # the schedule has counted the step
                self.schedule.last_epoch -= 2
                self.schedule.step()
            # Loss scaling starts too high on purpose and comes down by overflows of its own: those are not faults.
            if not (self.scaler.is_enabled() and math.isfinite(loss) and self.scaler.get_scale() >= 1):
                _copy(self.statistics_before, self.statistics)
                self._count_skipped(step, loss, norm)
        self.unread.clear()
        _copy(self.statistics, self.statistics_before)
        return values[-1][0], values[-1][1]

    def _update(self) -> None:
        try:
            if self.quick is not None:
                self.quick.step()
            else:
                self.scaler.step(self.optimizer)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise TrainingError(
                f"out of memory in the optimizer's step {self.history.steps}: {self.train.optimizer!r} has no room "
                "for its state",
                hint="Set tuning.method = 'lora' or 'partial', or train.optimizer = 'adafactor' or 'sgd'.",
            ) from error

    def _gradients(self, group: list[Batch]) -> tuple[list[Tensor], Tensor]:
        """Compute the gradients of a group's mean loss; returns the loss of each part and what they are divided by.

        When memory runs out, the group passes again in smaller parts, which add up to the same gradient.
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
            pieces = [piece for batch in group for piece in self.micro_batches.split(batch)]
            self.micro_batches.halve(max(pieces, key=lambda piece: len(piece) * piece.width), "training on")

    def _accumulate(self, group: list[Batch]) -> tuple[list[Tensor], Tensor]:
        counts = [self.criterion.count(_targets(batch)) for batch in group]
        count = counts[0] if len(counts) == 1 else torch.stack(counts).sum()
        # Divided by the whole group's count, so that accumulation gives the gradient of one large batch.
        share = self.scaler.scale(self.one) / count
        losses = []
        for batch in group:
            for piece in self.micro_batches.split(batch):
                if self.only_layer is not None and "features" in piece.inputs:
                    loss = self._learn_from_features(self.only_layer, piece, share)
                else:
                    with self.compute.autocast():
                        outputs = _forward(self.forward, piece)
                    loss = self.criterion.sum(outputs, _targets(piece))
                    loss.backward(share)
                losses.append(loss.detach())
        return losses, count

    def _learn_from_features(self, layer: ScaledLinear, piece: Batch, share: Tensor) -> Tensor:
        """Return the loss of a piece; a graph of all of it would take longer than the layer does."""
        features = piece.inputs["features"]
        with torch.no_grad():
            outputs = layer.forward(features)
        loss = self.criterion.sum(outputs.requires_grad_(), _targets(piece))
        (gradient,) = torch.autograd.grad(loss, outputs, share)
        layer.add_gradients(features, gradient)
        return loss

    def _on_less_memory(self, text: str) -> None:
        self.history.at_once = self.micro_batches.max_units
        self.warn(f"{text}, accumulated to the same effective batch size")

    def _count_skipped(self, step: Step, loss: float, norm: float) -> None:
        history = self.history
        history.skipped += 1
        history.skipped_in_epoch += 1
        history.skipped_in_a_row += 1
        what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient norm is {norm}"
        rows = [row for batch in step.rows for row in batch.tolist()]
        listed = ", ".join(map(str, rows[:8])) + (" …" if len(rows) > 8 else "")
        place = f"at step {step.number} (epoch {history.epoch}, {self._rate_text(step.rate)}, rows {listed})"
        whole_epoch = history.skipped_in_epoch == self.per_epoch
        if history.skipped_in_a_row >= MAX_SKIPPED or whole_epoch:
            many = "every step of an epoch" if whole_epoch else f"{history.skipped_in_a_row} steps in a row"
            raise TrainingError(
                f"{what} {place}, and was not finite in {many}",
                hint="Lower train.learning_rate, set train.precision = 'fp32', or look at those rows.",
            )
        self.warn(f"{what} {place}: the step was skipped")

    def require_finite_weights(self) -> None:
        """Raise TrainingError when a weight is not finite."""
        if all(bool(torch.isfinite(tensor).all()) for tensor in self.model.tuned_state().values()):
            return
        raise TrainingError(
            f"the weights are no longer finite after step {self.history.steps} (epoch {self.history.epoch}, "
            f"{self._rate_text(self.rate)})",
            hint="Lower train.learning_rate or set train.precision = 'fp32'. The earlier checkpoints are intact.",
        )

    def state_dict(self) -> TrainState:
        """Return optimizer, schedule, loss scaling and mean loss, and what the model's own state folds together."""
        optimizer = train_state.optimizer_state_dict(self.optimizer)
        exact = {f"exact.{name}": value for name, value in self.model.exact_state().items()}
        sums = {
            f"sum.{name}": torch.as_tensor(value, dtype=torch.float64)
            for name, value in (("loss", self.loss_sum), ("count", self.count_sum))
        }
        average = state_of(self.average, self.soup)
        values = {
            "optimizer": optimizer.values,
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            **average.values,
        }
        return TrainState({**optimizer.tensors, **exact, **sums, **average.tensors}, values)

    def load_state_dict(self, state: TrainState) -> None:
        """Continue from a state; the history is loaded before."""
        tensors, values = state.tensors, state.values
        self.micro_batches.max_units = self.history.at_once
        exact = {name.removeprefix("exact."): t for name, t in tensors.items() if name.startswith("exact.")}
        self.model.load_exact_state(exact)
        train_state.load_optimizer_state_dict(self.optimizer, TrainState(tensors, values["optimizer"]))
        if self.quick is not None:
            self.quick.forget()
        self.schedule.load_state_dict(values["schedule"])
        self.scaler.load_state_dict(values["scaler"])
        for average in (self.average, self.soup):
            if average is not None:
                average.load_state_dict(state)
        # Not in place: the sums may be one zero.
        self.loss_sum = self._zero() + tensors["sum.loss"].item()
        self.count_sum = self._zero() + tensors["sum.count"].item()


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
