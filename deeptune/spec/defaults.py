"""The meaning of `"auto"`: one rule for each value, chosen by method and kind of backbone.

The numbers were measured on real data; `docs/results.md` shows what they give.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Literal

from deeptune.catalog import BackboneInfo
from deeptune.environment import require_utf8, user_path
from deeptune.spec.backbone_info import backbone_info
from deeptune.spec.run_spec import DataSpec, EmbedSpec, Paths, RunSpec, TrainSpec, TuningSpec
from deeptune.spec.tasks import TASKS


@dataclass(frozen=True)
class Recipe:
    """Training values for one method and kind of backbone."""

    epochs: int
    patience: int
    batch_size: int
    learning_rate: float
    head_learning_rate: float
    weight_decay: float  # for `partial`, the most: see `weight_decay`


# Training rows up to which a head has the recipe's weight decay. Beyond, it gets less in proportion, as with a fixed C
# of logistic regression: docs/numerics.md, "The head learns in the scale of its features".
DECAY_ROWS = 750
CPU_TOKENS = 2048  # tokens of texts that pass at once on a CPU: see `deeptune.engine.device.tokens_at_once`

# (method, kind): a frozen backbone makes epochs nearly free, since its features are computed once.
_RECIPES: dict[tuple[str, str], Recipe] = {
    ("partial", "any"): Recipe(100, 20, 64, 1e-3, 1e-3, 8.0),
    ("full", "cnn"): Recipe(10, 3, 32, 3e-4, 1e-3, 0.01),
    ("full", "transformer"): Recipe(3, 2, 32, 5e-5, 1e-3, 0.01),
    ("lora", "cnn"): Recipe(10, 3, 32, 2e-3, 2e-3, 0.01),
    ("lora", "transformer"): Recipe(3, 2, 32, 5e-4, 1e-3, 0.01),
}


def recipe(spec: RunSpec, *, cnn: bool) -> Recipe:
    """Return the recipe of a method. Blocks that learn beside the head are trained as in `full`."""
    if spec.tuning.frozen:
        return _RECIPES["partial", "any"]
    method = "full" if spec.tuning.unfreeze else spec.tuning.method
    return _RECIPES[method, "cnn" if cnn else "transformer"]


MAX_FEW_TEXTS = 1000  # training rows up to which texts are few
FEW_TEXTS_BATCH = 16  # rows of a step where texts are few: more and noisier steps


def batch_size(spec: RunSpec, info: BackboneInfo, chosen: Recipe, rows: int) -> int:
    """Choose the rows of a step: half the recipe's where few texts fine-tune a backbone (docs/results.md)."""
    few_texts = info.modality == "text" and not spec.tuning.frozen and rows <= MAX_FEW_TEXTS
    return min(chosen.batch_size, FEW_TEXTS_BATCH) if few_texts else chosen.batch_size


MAX_EPOCHS = 10  # of fine-tuning, however few the training rows are
MIN_PASSED = 3500  # training rows that pass in all epochs of fine-tuning, where MAX_EPOCHS reach that


def epochs(spec: RunSpec, chosen: Recipe, rows: int) -> int:
    """Choose how often the training rows pass: the recipe's epochs, and more where few rows fine-tune a backbone.

    Three epochs of 350 texts are 66 steps, too few (Mosbach et al. 2021, https://arxiv.org/abs/2006.04884). With ten,
    val ends the training where it is over before (docs/results.md).
    """
    if spec.tuning.frozen or chosen.epochs >= MAX_EPOCHS:
        return chosen.epochs
    return max(chosen.epochs, min(MAX_EPOCHS, math.ceil(MIN_PASSED / max(1, rows))))


def weight_decay(spec: RunSpec, chosen: Recipe, rows: int) -> float:
    """Choose the weight decay of a run.

    A head on frozen features is a linear model. Its penalty is fixed relative to the sum of the losses, as the C of
    logistic regression is, so its share in their mean falls with the number of training rows.
    """
    if not spec.tuning.frozen:
        return chosen.weight_decay
    return min(chosen.weight_decay, round(chosen.weight_decay * DECAY_ROWS / rows, 4))


# The L2 penalties that an exact minimum is found at, from the strongest on. A penalty stands beside the sum of the
# losses, on features in their scale.
PENALTIES = tuple(round(10 ** (4 - step / 2), 6) for step in range(13))
MIN_FOLD_ROWS = 10  # rows below which no penalty is chosen
MAX_EXACT = 3e7  # rows × width × outputs up to which an exact minimum takes less time than steps
MAX_EXACT_SHAPE = 1e7  # rows × width up to which an exact head keeps its features in memory, as float64
# Keys of the steps: a run that sets one takes steps.
_STEP_KEYS = (
    "epochs", "batch_size", "accumulation", "learning_rate", "head_learning_rate", "optimizer", "schedule", "warmup",
    "weight_decay", "clip_norm", "augmentation", "views", "early_stopping", "compile", "tune",
)  # fmt: skip


@dataclass(frozen=True)
class HeadSize:
    """The training rows of a head, the width of its features, and its outputs."""

    rows: int
    width: int
    outputs: int

    @property
    def solvable(self) -> bool:
        """Whether its exact minimum takes seconds, for enough rows to choose a penalty."""
        cells = self.rows * self.width
        return self.rows >= MIN_FOLD_ROWS and cells <= MAX_EXACT_SHAPE and cells * self.outputs <= MAX_EXACT


def solver(spec: RunSpec, size: HeadSize | None) -> str:
    """Choose how a head is found: as the exact minimum where it has one, within seconds, and nothing asks for steps."""
    train, head = spec.train, spec.head
    if train.solver != "auto":
        return train.solver
    plain = TrainSpec()  # type: ignore[call-arg]
    linear = spec.tuning.frozen and head.layers == 1 and not head.dropout and not TASKS[spec.task].ordered
    untouched = all(getattr(train, key) == getattr(plain, key) for key in _STEP_KEYS)
    untouched = untouched and train.average in ("auto", "none")
    return "exact" if linear and untouched and size is not None and size.solvable else "steps"


def stepped(spec: RunSpec, rows: int) -> RunSpec:
    """Return a resolved spec whose head takes steps, where its features can't be stored for an exact minimum."""
    chosen = recipe(spec, cnn=False)
    train = spec.train.model_copy(update={"solver": "steps", "epochs": chosen.epochs})
    spec = spec.model_copy(update={"train": train})
    stopping = train.early_stopping.model_copy(update={"metric": default_metric(spec)})
    changes = {"early_stopping": stopping, "weight_decay": weight_decay(spec, chosen, rows)}
    return spec.model_copy(update={"train": train.model_copy(update=changes)})


def refits(spec: RunSpec, *, given: bool) -> Literal["yes", "no"]:
    """Choose whether an exact head learns from val too in the end: not from a val that the data bring (`given`)."""
    if spec.train.refit != "auto":
        return spec.train.refit
    return "yes" if spec.data.val is None and not given else "no"


def penalties(spec: RunSpec) -> list[float]:
    """List the penalties that an exact minimum is found at, from the strongest on: all, or the one that is set."""
    if spec.train.weight_decay != "auto":
        return [float(spec.train.weight_decay)]
    return list(PENALTIES)


# What cross-validation compares, as shares of the recipe's weight decay: docs/numerics.md, "Cross-validation in place
# of val".
DECAY_SHARES = (1 / 16, 1 / 4, 1.0, 4.0)


def weight_decays(spec: RunSpec, rows: int) -> list[float]:
    """List the weight decays that cross-validation compares: that of the recipe and others, or the one that is set."""
    if spec.train.weight_decay != "auto":
        return [float(spec.train.weight_decay)]
    middle = weight_decay(spec, recipe(spec, cnn=False), rows)
    return [round(share * middle, 6) for share in DECAY_SHARES]


def batch_norm(spec: RunSpec, *, statistics: bool) -> str:
    """Choose whether the statistics of batch normalisation stay what they were; `statistics`: whether there are any.

    The head was fitted on the pretrained ones, and a training does better with them, on 150 images and on 3,000
    (docs/results.md). Random weights have none to keep.
    """
    if not statistics:
        return "train"
    if spec.train.batch_norm != "auto":
        return spec.train.batch_norm
    return "train" if spec.backbone.weights == "random" else "frozen"


MAX_SOUP = 3  # epochs that are averaged, at most


def soup_size(epochs: int) -> int:
    """Choose how many of the best epochs are averaged: no more than half, as the first are of little use."""
    return min(MAX_SOUP, (epochs + 1) // 2)


def average(spec: RunSpec, *, val_rows: int) -> str:
    """Choose which weights a run averages: those of the best epochs where the backbone learns and val ranks epochs."""
    if spec.train.average not in ("auto", "soup"):
        return spec.train.average
    asked = spec.train.average == "soup" or not spec.tuning.frozen
    return "soup" if asked and val_rows else "none"


def default_metric(spec: RunSpec) -> str:
    """Choose the metric that chooses the best epoch: a proper score of the task, on val.

    A fine-tuned backbone soon grows overconfident: its loss on val rises while its classes still get better. One
    temperature mends that, so its loss is taken after one was fitted on val.
    """
    if spec.train.solver == "exact" and spec.train.val == "split" and spec.train.weight_decay == "auto":
        return "val/out_of_fold_loss"
    return "val/loss" if spec.tuning.frozen else f"val/{TASKS[spec.task].tuned_metric}"


# What a person sets of `train` that the head before fine-tuning has as well; the rest is its own recipe's.
_HEAD_KEYS = (
    "loss", "class_weights", "label_smoothing", "token_budget", "precision", "memory_format", "device", "workers",
    "seed", "refit",
)  # fmt: skip


def train_start(spec: RunSpec) -> str:
    """Choose what fine-tuning starts from. The features of random weights are not a place worth staying near."""
    if spec.train.start != "auto":
        return spec.train.start
    return "random" if all(part.weights == "random" for part in spec.backbone.members.values()) else "head"


def fits_head_first(spec: RunSpec) -> bool:
    """Say whether a run fits its head on the frozen backbone's features before the backbone learns."""
    return train_start(spec) == "head" and not spec.tuning.frozen


def head_spec(spec: RunSpec) -> RunSpec:
    """Return the spec of the head that fine-tuning starts from: a `partial` run on the same data, still with `"auto"`.

    It minimises the same loss, and has neither augmentation nor a setting of the fine-tuning.
    """
    train = TrainSpec(**{key: getattr(spec.train, key) for key in _HEAD_KEYS})
    return spec.model_copy(
        update={"tuning": TuningSpec(method="partial", unfreeze=0), "train": train, "embed": EmbedSpec(splits=[])}
    )


def run_name(spec: RunSpec) -> str:
    """Return the start of a run's id: its name, or backbone and method."""
    names = [part.name.rstrip("/").rpartition(":")[2].rpartition("/")[2] for part in spec.backbone.members.values()]
    short = re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(names)).strip("-._")
    return spec.name or f"{short or 'run'}-{spec.tuning.method}"[:64]


def resolve(spec: RunSpec, info: BackboneInfo, *, cnn: bool, rows: int, size: HeadSize | None = None) -> RunSpec:
    """Replace every `"auto"` of `train` by a value, and make every path absolute.

    A weight decay that cross-validation chooses stays `"auto"`, as it does for an exact minimum.

    `cnn` says whether the backbone is mostly convolutions; `rows` is the number of training rows; without
    the `size` of the head, it takes steps. The engine resolves
    the values that depend on the built backbone or the machine (pooling, image size, length, LoRA rank, device,
    precision, workers).
    """
    spec = spec.model_copy(update={"train": spec.train.model_copy(update={"solver": solver(spec, size)})})
    chosen = recipe(spec, cnn=cnn)
    train = spec.train
    exact = train.solver == "exact"
    passes = len(penalties(spec)) if exact else epochs(spec, chosen, rows)
    stopping = train.early_stopping
    learning_rate = chosen.learning_rate if train.learning_rate == "auto" else train.learning_rate
    # With a frozen backbone the head is what learns: one learning rate, whichever key it was set by.
    head_default = learning_rate if spec.tuning.frozen else chosen.head_learning_rate
    updates = {
        "name": run_name(spec),
        "train": train.model_copy(
            update={
                "start": train_start(spec),
                "epochs": passes if exact or train.epochs == "auto" else train.epochs,
                "batch_size": batch_size(spec, info, chosen, rows) if train.batch_size == "auto" else train.batch_size,
                "learning_rate": learning_rate,
                "head_learning_rate": head_default if train.head_learning_rate == "auto" else train.head_learning_rate,
                "weight_decay": weight_decay(spec, chosen, rows)
                if train.weight_decay == "auto" and train.val != "cv" and not exact
                else train.weight_decay,
                "loss": TASKS[spec.task].default_loss if train.loss == "auto" else train.loss,
                "early_stopping": stopping.model_copy(
                    update={
                        "metric": default_metric(spec) if stopping.metric == "auto" else stopping.metric,
                        "patience": chosen.patience if stopping.patience == "auto" else stopping.patience,
                    }
                ),
            }
        ),
    }
    return absolute(spec, info).model_copy(update=updates)


def absolute(spec: RunSpec, info: BackboneInfo | None = None) -> RunSpec:
    """Make every path of the spec absolute, so that it means the same wherever it is read.

    `info` is the backbone's row. Raises WeightsError when there is no such backbone.
    """
    rows = (info or backbone_info(spec.backbone)).members
    updates = [
        {"name": _absolute_backbone(row, key), "weights": _absolute_weights(part.weights, key)}
        for (key, part), row in zip(spec.backbone.members.items(), rows, strict=True)
    ]
    backbone: dict[str, Any] = dict(updates[0])
    if spec.backbone.text is not None:
        backbone["text"] = spec.backbone.text.model_copy(update=updates[1])
    return spec.model_copy(
        update={
            "data": absolute_data(spec.data),
            "backbone": spec.backbone.model_copy(update=backbone),
        }
    )


def absolute_data(data: DataSpec) -> DataSpec:
    """Make the paths of the section `data` absolute."""
    return data.model_copy(update=_absolute_paths(data))


def _absolute_paths(data: DataSpec) -> dict[str, Paths | None]:
    def absolute(key: str, path: str) -> str:
        if path.startswith("sample:"):
            return path
        whole = str(user_path(path, key=f"data.{key}").absolute())
        require_utf8(whole, key=f"data.{key}")
        return whole

    return {
        key: absolute(key, value) if isinstance(value, str) else [absolute(key, path) for path in value]
        for key in ("path", "train", "val", "test", "root")
        if (value := getattr(data, key)) is not None
    }


def _absolute_backbone(info: BackboneInfo, key: str) -> str:
    if info.family == "hf" and (folder := user_path(info.source, key=f"{key}.name")).is_dir():
        require_utf8(folder.absolute(), key=f"{key}.name")
        return f"hf:{folder.absolute()}"
    return info.name


def _absolute_weights(weights: str, key: str) -> str:
    if weights in ("pretrained", "random"):
        return weights
    path = user_path(weights, key=f"{key}.weights").absolute()
    require_utf8(path, key=f"{key}.weights")
    return str(path)
