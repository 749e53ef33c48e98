"""The head of a frozen backbone by cross-validation: its weight decay and number of epochs, and what is said of val.

Each fold of train and val is predicted by heads that were trained on the other folds. What predicts them best decides
how the run's own head is trained, on all of these rows. Their predictions take the place of val.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn

from deeptune.data.splits.folds import draw_folds
from deeptune.data.splits.plan import DataPlan
from deeptune.data.splits.split_data import SplitData
from deeptune.engine import inference
from deeptune.engine.device import seed_everything
from deeptune.engine.exact_head import ExactHead
from deeptune.engine.history import Best
from deeptune.engine.inference import Inference, MeanLoss, Outputs
from deeptune.engine.linear_minimum import one_thread
from deeptune.engine.loaders import split_loader, split_targets
from deeptune.engine.loop import Hooks, Trainer
from deeptune.engine.optimizer_step import Learner
from deeptune.engine.prepare import Prepared
from deeptune.engine.run_metadata import headline
from deeptune.engine.scoring import PassedSplit
from deeptune.engine.setup import Setup, SplitLoaders, scale_places
from deeptune.engine.table_files import write_table
from deeptune.engine.train_state import rng_state_kept
from deeptune.errors import RunStopped, TrainingError
from deeptune.formatting import duration
from deeptune.model.build import TunedModel
from deeptune.model.head import Head
from deeptune.runs import RunDirectory
from deeptune.spec.defaults import weight_decays
from deeptune.spec.metrics import lower_is_better
from deeptune.spec.tasks import LOSSES, TASKS

METADATA = b"deeptune"


@dataclass(frozen=True)
class WeightDecayScore:
    """A weight decay, the epoch that is best with it, and the metric there."""

    weight_decay: float
    epoch: int
    value: float | None


@dataclass(frozen=True)
class CrossValidation:
    """The result of cross-validation, and the outputs of each training row by a head that has not seen it.

    `value` is the mean over the folds of `metric`, which weighs a fold by its rows. The setting that predicts a fold
    was chosen by the scores of the other folds. This is not nested cross-validation: the heads that gave those scores
    had learned from the fold.
    """

    weight_decay: float
    epoch: int
    metric: str
    value: float
    folds: int
    compared: list[WeightDecayScore]
    fold: np.ndarray  # int64 (N,), of each training row
    outputs: Outputs

    def record(self) -> dict[str, Any]:
        """Return what metrics.json says of it."""
        names = ("weight_decay", "epoch", "metric", "value", "folds")
        return {**{name: getattr(self, name) for name in names}, "compared": [asdict(one) for one in self.compared]}

    def save(self, run: RunDirectory) -> None:
        """Write it as one file: row, fold and outputs, with the choice as metadata."""
        logits = self.outputs.logits
        flat = pa.array(logits.reshape(-1))
        columns = {
            "row": pa.array(self.outputs.rows, pa.int64()),
            "fold": pa.array(self.fold, pa.int64()),
            "output": pa.FixedSizeListArray.from_arrays(flat, logits.shape[1]),
        }
        write_table(pa.table(columns).replace_schema_metadata({METADATA: json.dumps(self.record())}), run.out_of_fold)

    @classmethod
    def read(cls, run: RunDirectory) -> CrossValidation | None:
        """Read what an earlier attempt wrote; None where there is nothing, or nothing that can be read."""
        try:
            table = pq.read_table(run.out_of_fold)
            record = json.loads((table.schema.metadata or {})[METADATA])
            outputs = table["output"].combine_chunks()
            logits = outputs.flatten().to_numpy().reshape(len(table), outputs.type.list_size)
        except (OSError, KeyError, ValueError, pa.ArrowException):
            return None
        compared = [WeightDecayScore(**one) for one in record.pop("compared")]
        passed = Outputs(table["row"].to_numpy(), logits)
        return cls(**record, compared=compared, fold=table["fold"].to_numpy(), outputs=passed)

    @property
    def note(self) -> str:
        """A sentence that says what val is."""
        return (
            f"val is out-of-fold: each of the {len(self.outputs):,} rows of train and val was predicted by a head that "
            f"was trained on the other {self.folds - 1} of {self.folds} folds; the run's own head was trained on all"
        )

    def apply_to(self, ready: Prepared) -> Prepared:
        """Return the run with the weight decay and the number of steps that were chosen."""
        spec = ready.spec
        train = spec.train.model_copy(update={"weight_decay": self.weight_decay})
        steps = ready.steps // int(spec.train.epochs) * self.epoch
        return replace(ready, spec=spec.model_copy(update={"train": train}), steps=steps)

    def setup_for_scoring(self, setup: Setup) -> Setup:
        """Return the run as it is scored: its val are the training rows."""
        plan = setup.ready.plan
        train = plan.splits["train"]
        changed: DataPlan = replace(
            plan,
            splits={**plan.splits, "val": train},
            # Identical rows are in one fold, so none was predicted by a head that had seen its twin.
            duplicate_sets={**plan.duplicate_sets, "val": np.zeros(len(train), np.int64)}
            if plan.duplicate_sets
            else {},
            outliers={**plan.outliers, "val": plan.outliers.get("train", np.zeros(0, np.int64))},
            split_notes={**plan.split_notes, "val": [self.note]},
        )
        return replace(setup, ready=replace(setup.ready, plan=changed))

    def val_outputs(self, setup: Setup) -> PassedSplit:
        """Return its outputs for val, with the mean loss."""
        criterion, ready = setup.criterion.on_cpu(), setup.ready
        targets = torch.from_numpy(split_targets(ready, ready.plan.splits["train"]))
        targets = targets if LOSSES[criterion.loss].of_classes else targets.float()
        loss = MeanLoss(criterion)
        loss.add(torch.from_numpy(self.outputs.logits.copy()), targets)
        return PassedSplit(self.outputs, loss.value, self.record())


def cross_validated(setup: Setup, loaders: SplitLoaders, *, resumed: bool) -> CrossValidation:
    """Cross-validate the head of a run, or read what an earlier attempt found; the random state stays what it was.

    Raises RunStopped when the run was asked to stop: a resumed run begins it again.
    """
    if resumed and (result := CrossValidation.read(setup.run)) is not None:
        return result
    if "train" not in loaders.stored.splits:
        raise TrainingError(
            "train.val = 'cv' trains many heads on stored features, and neither disk nor memory has room for them",
            hint="Make room for the cache (deeptune cache), or set train.val = 'split'.",
        )
    setup.logger.phase("folds")
    try:
        with rng_state_kept():
            began = time.monotonic()
            exact = setup.ready.spec.train.solver == "exact"
            result = _exactly(setup, loaders) if exact else _SteppedFolds(setup, loaders).cross_validate()
    except RunStopped:
        raise RunStopped(
            f"the run was stopped ({setup.logger.stop.reason}) during cross-validation; `deeptune resume` starts it "
            "again"
        ) from None
    setup.logger.keep(lambda: result.save(setup.run))
    compared = ", ".join(f"{one.weight_decay:g}" for one in result.compared)
    setup.logger.message(
        f"cross-validation on {len(result.outputs):,} rows of train and val chose weight decay {result.weight_decay:g} "
        f"(of {compared}) and {result.epoch} epochs: {result.metric.replace('val/', 'out-of-fold ')} "
        f"{result.value:.4g}, in {duration(time.monotonic() - began)}; the head is now trained on all of them"
    )
    return result


def _exactly(setup: Setup, loaders: SplitLoaders) -> CrossValidation:
    """Cross-validate the penalties of a head that is found as an exact minimum; an epoch is a penalty."""
    with one_thread():
        head = ExactHead(setup, loaders)
        folds = head.choose(scales=False)  # the run's head is given the penalty alone
    if folds is None:
        raise TrainingError(
            "train.val = 'cv' compares penalties on folds, and there is one penalty, or one fold",
            hint="Leave train.weight_decay out, bring other rows, or set train.val = 'split'.",
        )
    means, outputs = folds.means, head.out_of_fold
    assert outputs is not None
    return CrossValidation(
        weight_decay=folds.penalties[folds.best],
        epoch=folds.best + 1,
        metric="val/loss",
        value=float(means[folds.best]),
        folds=len(folds.weights),
        compared=[WeightDecayScore(penalty, at + 1, float(means[at])) for at, penalty in enumerate(folds.penalties)],
        fold=folds.codes,
        outputs=outputs,
    )


class _SteppedFolds:
    """The folds of the training rows, and heads that are trained on all but one."""

    def __init__(self, setup: Setup, loaders: SplitLoaders) -> None:
        self.setup, self.loaders = setup, loaders
        ready = setup.ready
        data, train = ready.plan.splits["train"], ready.spec.train
        self.metric = str(train.early_stopping.metric)
        self.codes = draw_folds(data.targets, ready.plan.task, groups=data.groups, hashes=data.hashes, seed=train.seed)
        self.count = int(self.codes.max()) + 1
        if self.count < 2:
            raise TrainingError(
                "train.val = 'cv': all rows of train and val are one sample or of one group, so there is one fold",
                hint="Bring other rows, or set train.val = 'split'.",
            )

    def cross_validate(self) -> CrossValidation:
        data, train = self.setup.ready.plan.splits["train"], self.setup.ready.spec.train
        decays = weight_decays(self.setup.ready.spec, len(data.rows))
        grid = np.full((len(decays), int(train.epochs), self.count), np.nan)
        weights = np.ones(self.count)
        for place, decay in enumerate(decays):
            weights = self._compare(decay, grid[place])
            self.setup.logger.progress(place + 1, len(decays) + 1)
        place, epoch, value = _best(grid, weights, self.metric)
        logits = np.zeros((len(data.rows), self.setup.ready.plan.outputs), np.float32)
        for fold in range(self.count):
            others = np.arange(self.count) != fold
            own_place, own_epoch, _ = _best(grid[:, :, others], weights[others], self.metric)
            inside = self.codes == fold
            logits[inside] = self._outputs(fold, decays[own_place], own_epoch)
        self.setup.logger.progress(len(decays) + 1, len(decays) + 1)
        compared = []
        for at, decay in enumerate(decays):
            _, at_epoch, at_value = _best(grid[at : at + 1], weights, self.metric, required=False)
            compared.append(WeightDecayScore(decay, at_epoch, at_value if np.isfinite(at_value) else None))
        return CrossValidation(
            weight_decay=decays[place],
            epoch=epoch,
            metric=self.metric,
            value=value,
            folds=self.count,
            compared=compared,
            fold=self.codes,
            outputs=Outputs(data.rows, logits),
        )

    def _compare(self, decay: float, values: np.ndarray) -> np.ndarray:
        """Train a head for each fold side by side, until no epoch gets better: fills `values` (epochs, folds).

        Returns what each fold counts.
        """
        heads = [_FoldHead(self, fold, decay) for fold in range(self.count)]
        weights = np.array([head.weight for head in heads])
        patience, best = int(self.setup.ready.spec.train.early_stopping.patience), Best(self.metric)
        for epoch in range(len(values)):
            for fold, head in enumerate(heads):
                values[epoch, fold] = head.pass_epoch()
            best.offer(epoch + 1, float(_means(values[epoch], weights)))
            if patience and best.since >= patience:
                break
        return weights

    def _outputs(self, fold: int, decay: float, epochs: int) -> np.ndarray:
        """Return the outputs of the rows of a fold by a head that was trained on the others for some epochs."""
        head = _FoldHead(self, fold, decay)
        for _ in range(epochs):
            head.pass_epoch()
        return head.logits


class _FoldHead:
    """A head that learns from all folds but one, and is scored on that one after each epoch."""

    def __init__(self, folds: _SteppedFolds, fold: int, decay: float) -> None:
        self.setup = setup = folds.setup
        ready, stored = setup.ready, folds.loaders.stored
        spec, self.metric = ready.spec, folds.metric.removeprefix("val/")
        data, inside = ready.plan.splits["train"], folds.codes == fold
        learned, self.held_out = _rows(data, ~inside), _rows(data, inside)
        seed_everything(spec.train.seed + fold)
        head = Head(spec.head, ready.backbone.width, ready.plan.outputs, ordered=TASKS[spec.task].ordered)
        # Features are stored, so nothing stands where the backbone is: to set its mode would take longer than a step.
        self.model = TunedModel(nn.Identity(), head, "partial").to(setup.compute.device)  # type: ignore[arg-type]
        if spec.head.standardise:
            picked = learned.rows[scale_places(len(learned))]
            head.standardise(torch.from_numpy(stored.splits["train"].take(picked)))
        self.batches = split_loader(ready, "train", shuffle=False, data=self.held_out, stored=stored)
        self.weight = self._counted()
        self.logits = np.zeros((0, ready.plan.outputs), np.float32)
        self.value = np.nan
        self.trainer = Trainer(
            Learner(self.model, setup.criterion, setup.compute),
            spec.train.model_copy(update={"weight_decay": decay, "layer_decay": 1.0}),
            split_loader(ready, "train", shuffle=True, data=learned, stored=stored),
            Hooks(check=setup.logger.stop.check, warn=setup.logger.warn, validate=self._validate),
        )

    def pass_epoch(self) -> float:
        """Train for an epoch; returns the metric of the fold that is held out, NaN where it is undefined."""
        self.trainer.pass_epoch()
        return self.value

    def _validate(self) -> dict[str, Any]:
        loss = MeanLoss(self.setup.criterion)
        found = Inference(self.model, self.setup.compute, self.setup.micro_batches).outputs(self.batches, loss=loss)
        outputs = inference.joined(list(found), self.model)
        self.logits = outputs.logits
        self.value = np.nan
        if np.isfinite(outputs.logits).all():
            value = loss.value if self.metric == "loss" else self._scores(outputs).get(self.metric)
            self.value = np.nan if value is None else float(value)
        return {"loss": loss.value, self.metric: self.value}

    def _scores(self, outputs: Outputs) -> dict[str, Any]:
        task = self.setup.ready.plan.task
        truth = self.held_out.targets
        return headline(inference.score(outputs, truth, task.with_thresholds(outputs.logits, truth)))

    def _counted(self) -> float:
        """Return what the fold counts in the mean over all: as much as in the loss."""
        targets = self.batches.dataset.targets
        if self.metric != "loss" or targets is None:
            return float(len(self.held_out))
        return float(self.setup.criterion.on_cpu().count(targets))


def _rows(data: SplitData, mask: np.ndarray) -> SplitData:
    return SplitData(data.source, data.rows[mask], data.targets[mask])


def _means(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the mean over the folds (…, folds) where the metric is defined; NaN where it is in none."""
    known = np.isfinite(values)
    total = (known * weights).sum(axis=-1)
    sums = np.where(known, values * weights, 0).sum(axis=-1)
    return np.divide(sums, total, out=np.full(total.shape, np.nan), where=total > 0)


def _best(grid: np.ndarray, weights: np.ndarray, metric: str, *, required: bool = True) -> tuple[int, int, float]:
    """Return the place of the best weight decay in a grid (decays, epochs, folds), its best epoch, and the value."""
    means = _means(grid, weights)
    signed = np.where(np.isfinite(means), means if lower_is_better(metric) else -means, np.inf)
    if required and not np.isfinite(signed).any():
        raise TrainingError(
            f"{metric} was undefined in every epoch of every fold, so nothing can be chosen by it",
            hint="Choose another train.early_stopping.metric, or set train.val = 'split'.",
        )
    place, epoch = np.unravel_index(int(signed.argmin()), signed.shape)
    return int(place), int(epoch) + 1, float(means[place, epoch])
