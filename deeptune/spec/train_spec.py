"""The section `train` of a spec: how the weights learn."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from deeptune.spec.optimizers import OptimizerName, optimizers_text
from deeptune.spec.tasks import TASKS, LossName
from deeptune.spec.values import Auto, Fraction, PositiveFloat, PositiveInt, Section

_OWN_LOSSES = ", ".join(f"`{info.default_loss}`" for info in TASKS.values())

MixAlpha = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]


def known_device(value: str) -> str:
    """Return the name of a device. Raises ValueError for another word."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
        raise ValueError("expected 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'")
    return value


class EarlyStoppingSpec(Section):
    """The choice of the best epoch, and the end of the search for a better one."""

    metric: str = Field(
        "auto",
        description="Metric on val that chooses the best epoch, such as `val/macro_f1`; `auto` is `val/loss`, or "
        "`val/tempered_loss` where the backbone learns too and the outputs are probabilities, or, with "
        '`train.solver = "exact"`, `val/out_of_fold_loss` of the training rows.',
    )
    patience: Annotated[int, Field(ge=0)] | Auto = Field(
        "auto", description="Epochs without a better value before stopping; 0 never stops early."
    )


class TrainSpec(Section):
    """Training: optimizer, rates, epochs and batches."""

    start: Literal["auto", "head", "random"] = Field(
        "auto",
        description="What fine-tuning starts from: `head` first fits the head on the frozen backbone's features, and "
        "keeps fine-tuning only where val says that it is better; `random` starts with a new head; `auto` is `random` "
        "for a backbone of random weights, and `head` for all others.",
    )
    val: Literal["split", "cv"] = Field(
        "split",
        description="`split`: the rows of val choose the epoch and fit the calibration (an `exact` head chooses its "
        "penalty on train alone). `cv`, for a head on a frozen backbone: cross-validation on train and val together "
        "chooses weight decay and epochs, and the head is then trained on all of these rows.",
    )
    solver: Literal["auto", "exact", "steps"] = Field(
        "auto",
        description="How weights are found: by `steps` of the optimizer; or, for one linear layer on a frozen "
        "backbone, as the `exact` minimum of loss and L2 penalty, which five folds of the training rows choose. `auto` "
        "is `exact` where that takes seconds and no key of the steps is set.",
    )
    refit: Literal["auto", "yes", "no"] = Field(
        "auto",
        description="Whether an `exact` head learns from the rows of val too, once its penalty is chosen and val is "
        "scored by the head that has not seen them. `auto` is `yes` where val is drawn, and `no` where it is given.",
    )
    epochs: PositiveInt | Auto = Field(
        "auto",
        description="Passes over the training split, at most; `auto` is chosen per method, with more for few rows. "
        'With `train.solver = "exact"`, the penalties that are tried.',
    )
    batch_size: PositiveInt | Auto = Field(
        "auto",
        description="Rows in one forward pass; `auto` is the recipe's, or fewer if memory or speed require it.",
    )
    accumulation: PositiveInt = Field(
        1, description="Batches per optimizer step; effective batch size = batch_size × accumulation."
    )
    token_budget: Annotated[int, Field(ge=0)] | Auto = Field(
        "auto",
        description="Maximum tokens of texts in one forward pass, padding included; a larger batch passes in parts, "
        "with the same gradient. 0 means no limit.",
    )
    learning_rate: PositiveFloat | Auto = Field(
        "auto", description="Peak learning rate of what is fine-tuned; `auto` is chosen per method and family."
    )
    head_learning_rate: PositiveFloat | Auto = Field(
        "auto", description="Peak learning rate of the head, when the backbone learns too."
    )
    layer_decay: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0,
        description="Learning rate of a block of the backbone, as a share of that of the block after it; the last one "
        "has `train.learning_rate`.",
    )
    optimizer: OptimizerName = Field("adamw", description=f"Optimizer. {optimizers_text()}.")
    schedule: Literal["cosine", "linear", "constant"] = Field("cosine", description="Learning rate after warmup.")
    warmup: Fraction = Field(0.1, description="Share of the steps in which the learning rate rises.")
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] | Auto = Field(
        "auto",
        description="Weight decay, an L2 penalty with some optimizers; norms and biases are left out. `auto` is the "
        'recipe\'s; with `train.val = "cv"` or `train.solver = "exact"`, cross-validation chooses it.',
    )
    clip_norm: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        1.0, description="Maximum gradient norm; 0 turns clipping off."
    )
    loss: LossName = Field(
        "auto",
        description=f"What is minimised; `auto` is the task's own: {_OWN_LOSSES}.",
    )
    class_weights: Literal["none", "balanced"] | dict[str, PositiveFloat] = Field(
        "none", description="`balanced` weighs classes by the inverse of their counts; or a table of weights by class."
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="Share of the target spread over all classes."
    )
    augmentation: Literal["none", "light", "randaugment"] = Field(
        "none", description="Random changes to training images."
    )
    mixup: MixAlpha = Field(
        0.0, description="Mix pairs of training images and their classes: alpha of the mixing share; 0 is off."
    )
    cutmix: MixAlpha = Field(
        0.0,
        description="Paste a box of another training image, and mix their classes by its area: alpha of that share; 0 "
        "is off. With `train.mixup`, each batch draws one of the two.",
    )
    batch_norm: Literal["auto", "train", "frozen"] = Field(
        "auto",
        description="Statistics of batch normalisation where the backbone learns: `train` updates them, `frozen` keeps "
        "the pretrained ones, `auto` keeps those of pretrained weights.",
    )
    average: Literal["auto", "none", "soup", "ema"] = Field(
        "auto",
        description="`soup` stores the mean of the weights of the (at most three) epochs that are best on val, `ema` "
        "scores and stores a moving average over the steps, `none` takes the best epoch; `auto` is `soup` where the "
        "backbone learns.",
    )
    views: Annotated[int, Field(ge=0, le=1000)] = Field(
        0,
        description="K augmented views of each training row are cached for a frozen backbone; 0 draws new ones each "
        "epoch.",
    )
    early_stopping: EarlyStoppingSpec = Field(default_factory=EarlyStoppingSpec, description="Best epoch and patience.")  # type: ignore[arg-type]
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field("auto", description="Arithmetic of the forward pass.")
    memory_format: Literal["auto", "contiguous", "channels_last"] = Field(
        "auto", description="Memory layout of image tensors; `auto` is channels last."
    )
    compile: bool = Field(False, description="Compile the training pass with `torch.compile`.")
    deterministic: bool = Field(
        False,
        description="On a GPU, take kernels that repeat bit for bit, where PyTorch has them, in place of the fastest "
        "ones. On a CPU all runs repeat.",
    )
    tune: bool = Field(
        False,
        description="Measure a few steps and choose the fastest precision, memory format, compilation and rows of a "
        "pass.",
    )
    device: str = Field("auto", description="`auto`, `cpu`, `cuda`, `cuda:N` or `mps`.")
    workers: Annotated[int, Field(ge=0)] | Auto = Field("auto", description="Processes that read and decode images.")
    checkpoint_every: str = Field(
        "10 min",
        description="How often a checkpoint is written, besides at the end of epochs: `200 steps`, `30 s`, "
        "`10 min`, `1 h`.",
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(
        42, description="Governs split, initial weights, order, dropout and augmentation."
    )

    @field_validator("checkpoint_every")
    @classmethod
    def _steps_or_time(cls, value: str) -> str:
        if not re.fullmatch(r"[1-9]\d{0,9} ?(steps?|s|min|h)", value):
            raise ValueError(f"expected steps or a time such as '200 steps', '30 s', '10 min' or '1 h', got {value!r}")
        return value

    @field_validator("workers")
    @classmethod
    def _room_for_them(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value > 1024:
            raise ValueError("is too large: expected at most 1,024 processes")
        return value

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        return known_device(value)
