"""RunSpec: everything that can be run, validated and frozen.

Field descriptions are the help that the command line, the JSON Schema and the forms show, so they
are written for the person who fills them in. `"auto"` values are resolved by `spec.defaults`.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from deeptune.catalog import Modality
from deeptune.spec.metrics import METRICS
from deeptune.spec.modalities import Input
from deeptune.spec.optimizers import OptimizerName, optimizers_text
from deeptune.spec.tasks import TASKS

Task = Literal["classification", "multilabel", "ordinal", "regression"]
Method = Literal["partial", "full", "lora"]
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
BadSamplePolicy = Literal["error", "skip", "blank"]
# `fc` (VGG) and `head` (timm) are what the pretrained classifier itself reads.
Pooling = Literal["auto", "mean", "max", "cls", "pooler", "last", "fc", "head"]

Auto = Literal["auto"]
PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Paths = str | list[str]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @field_validator("*")
    @classmethod
    def _of_32_bits(cls, value: object) -> object:
        if type(value) is int and value >= 2**32:  # libraries count in 32 or 64 bits
            raise ValueError("is too large: expected an integer below 4,294,967,296")
        return value


class SplitSpec(_Part):
    """Proportions of the rows for each split."""

    train: Fraction = Field(0.7, description="Share of the rows to train on.")
    val: Fraction = Field(0.1, description="Share of the rows that choose the best epoch.")
    test: Fraction = Field(0.2, description="Share of the rows that the final metrics come from.")

    @model_validator(mode="after")
    def _sums_to_one(self) -> SplitSpec:
        total = self.train + self.val + self.test
        if not math.isclose(total, 1.0, abs_tol=1e-6):
            raise ValueError(
                f"train, val and test must sum to 1, but {self.train:g} + {self.val:g} + {self.test:g} = {total:g}"
            )
        if self.train == 0:
            raise ValueError("train must be more than 0: there is nothing to learn from")
        return self


class DataSpec(_Part):
    """Which rows, which columns, which split."""

    path: Paths | None = Field(
        None,
        description="Parquet file, glob, folder or a list of them; split by `split`. `sample:NAME` is one that ships.",
    )
    train: Paths | None = Field(None, description="Training Parquet, when the splits are files of their own.")
    val: Paths | None = Field(None, description="Validation Parquet; drawn from `train` when left out.")
    test: Paths | None = Field(None, description="Test Parquet; drawn from `train` when left out.")
    modality: Modality | None = Field(None, description="`image` or `text`; inferred from the columns when left out.")
    input: Input | None = Field(
        None,
        description="Input column, by default `images` for images and `text` for text; or two columns of texts that "
        "are read as a pair.",
    )
    root: str | None = Field(
        None,
        description="Folder at which the names of image files start; by default that of the Parquet file.",
    )
    value_range: list[float] | Literal["auto", "none"] = Field(
        "auto",
        description="Values of images of more than 8 bits that become black and white, [low, high]; `auto` is the "
        "fewest bits that hold the training rows, `none` takes no such image.",
    )
    label: Input = Field(
        "labels",
        description="Label column; or several, of 0 and 1 for `multilabel`, or of numbers for `regression`.",
    )
    label_order: list[str] | None = Field(
        None, description="The classes from the lowest to the highest, for `ordinal`; numbers have their own order."
    )
    many_classes: bool = Field(
        False, description="Accept a label column without class names that has almost as many classes as rows."
    )
    group: str | None = Field(None, description="Column whose equal values stay in one split, such as a patient.")
    duplicates: Literal["keep", "group"] = Field(
        "keep",
        description="Identical samples: leave each where it is drawn (`keep`), or keep them in one split (`group`).",
    )
    split: SplitSpec = Field(default_factory=SplitSpec, description="Proportions of train, val and test.")  # type: ignore[arg-type]
    on_bad_sample: BadSamplePolicy = Field(
        "error",
        description="A sample that cannot be used: stop (`error`), leave it out (`skip`), use an empty one (`blank`).",
    )

    @field_validator("path", "train", "val", "test")
    @classmethod
    def _not_empty(cls, value: Paths | None) -> Paths | None:
        if value is not None and (not value or "" in ([value] if isinstance(value, str) else value)):
            raise ValueError("is empty: give a Parquet file, a glob or a folder")
        return value

    @field_validator("input", "label")
    @classmethod
    def _several_columns(cls, value: Input | None) -> Input | None:
        if isinstance(value, list):
            if not value:
                raise ValueError("is empty: name a column")
            if len(set(value)) < len(value):
                raise ValueError(f"names a column twice: {value!r}")
            return value[0] if len(value) == 1 else value
        return value

    @field_validator("value_range")
    @classmethod
    def _low_and_high(cls, value: list[float] | str) -> list[float] | str:
        if isinstance(value, list) and not (len(value) == 2 and all(map(math.isfinite, value)) and value[0] < value[1]):
            raise ValueError(f"expected two numbers [low, high], the lower first, got {value!r}")
        return value

    @model_validator(mode="after")
    def _one_way_to_name_the_data(self) -> DataSpec:
        apart = self.train or self.val or self.test
        if self.path and apart:
            raise ValueError("give either `path` or `train` (with `val` and `test`), not both")
        if not self.path and not self.train:
            raise ValueError("no data named: set `path`, or `train` (with `val` and `test` if you have them)")
        return self


class BackboneSpec(_Part):
    """The pretrained feature extractor."""

    name: str = Field(
        description="A catalog name (`deeptune backbones`), `timm:NAME`, `hf:NAME_OR_FOLDER`, or the address of a "
        "model's page on the Hugging Face hub."
    )
    weights: str = Field(
        "pretrained", description="`pretrained`, `random`, or a path to .safetensors, .pth or a folder."
    )
    pooling: Pooling = Field("auto", description="How features become one vector; `auto` is the family's usual way.")
    image_size: Annotated[int, Field(ge=8, le=4096)] | Auto = Field(
        "auto", description="Pixels on a side; `auto` is what the weights were trained at."
    )
    max_length: Annotated[int, Field(ge=2, le=1_000_000)] | Auto = Field(
        "auto",
        description="Tokens kept of a text; `auto` is the longest text, up to the backbone's limit, a sentence "
        "encoder's own length, and 512.",
    )


class HeadSpec(_Part):
    """The layers added after pooling."""

    layers: Literal[1, 2] = Field(1, description="1: a linear layer. 2: embedding layer, activation, linear layer.")
    embedding_size: PositiveInt = Field(256, description="Width of the embedding when there are two layers.")
    activation: Literal["relu", "gelu", "silu", "tanh"] = Field("relu", description="Between the two layers.")
    dropout: Dropout = Field(0.0, description="Dropout before the last layer, during training.")

    standardise: bool = Field(
        True, description="Learn the first layer in the scale of the features, and fold that into its weights."
    )

    @field_validator("layers", mode="before")
    @classmethod
    def _an_integer(cls, value: object) -> object:
        if type(value) is not int:  # Python says that True == 1, and 1.0 too
            raise ValueError(f"expected 1 or 2, got {value!r}")
        return value


class LoraSpec(_Part):
    """Low-rank adapters (Hu et al. 2021, https://arxiv.org/abs/2106.09685)."""

    rank: PositiveInt | Auto = Field(
        "auto", description="Rank of each adapter; `auto` is 16 for transformers, 4 for CNNs."
    )
    alpha: PositiveFloat | Auto = Field("auto", description="Scale of the adapters; `auto` is twice the rank.")
    dropout: Dropout = Field(0.1, description="Dropout on the adapter's input, during training.")
    targets: list[str] | Auto = Field(
        "auto",
        description="Module name endings to adapt; `auto` is the family's projections, where adapters can learn.",
    )
    variant: Literal["lora", "rslora", "dora"] = Field(
        "lora", description="Plain, rank-stabilised or weight-decomposed LoRA."
    )


class TuningSpec(_Part):
    """Which weights learn."""

    method: Method = Field(
        "partial", description="`partial`: the head only. `full`: every weight. `lora`: adapters and head."
    )
    unfreeze: Annotated[int, Field(ge=0)] = Field(
        0, description="Blocks at the backbone's end that learn with the head, when method is `partial`."
    )
    lora: LoraSpec = Field(default_factory=LoraSpec, description="Adapter settings, used when method is `lora`.")  # type: ignore[arg-type]

    @model_validator(mode="after")
    def _blocks_of_a_frozen_backbone(self) -> TuningSpec:
        if self.unfreeze and self.method != "partial":
            trained = "trains every block already" if self.method == "full" else "trains adapters in every block"
            raise ValueError(
                f"unfreeze = {self.unfreeze} is for method = 'partial', and '{self.method}' {trained}: leave it out"
            )
        return self

    @property
    def frozen(self) -> bool:
        """Whether nothing of the backbone learns."""
        return self.method == "partial" and not self.unfreeze


class EarlyStoppingSpec(_Part):
    """Which epoch is the best one, and when to stop looking for a better one."""

    metric: str = Field(
        "auto",
        description="Metric on val that chooses the best epoch, such as `val/loss`; `auto` is `val/macro_f1` for "
        "classes when the backbone learns too, else `val/loss`.",
    )
    patience: Annotated[int, Field(ge=0)] | Auto = Field(
        "auto", description="Epochs without a better value before stopping; 0 never stops early."
    )


class TrainSpec(_Part):
    """How the weights learn."""

    epochs: PositiveInt | Auto = Field(
        "auto", description="Passes over the training split; `auto` is chosen per method."
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
        "with the same gradient. 0 is no limit.",
    )
    learning_rate: PositiveFloat | Auto = Field(
        "auto", description="Peak learning rate of what is fine-tuned; `auto` is chosen per method and family."
    )
    head_learning_rate: PositiveFloat | Auto = Field(
        "auto", description="Peak learning rate of the head, when the backbone learns too."
    )
    optimizer: OptimizerName = Field("adamw", description=f"Optimizer. {optimizers_text()}.")
    schedule: Literal["cosine", "linear", "constant"] = Field("cosine", description="Learning rate after warmup.")
    warmup: Fraction = Field(0.1, description="Share of the steps in which the learning rate rises.")
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] | Auto = Field(
        "auto", description="Weight decay, an L2 penalty with some optimizers; norms and biases are left out."
    )
    clip_norm: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        1.0, description="Maximum gradient norm; 0 turns clipping off."
    )
    loss: Literal["auto", "cross_entropy", "mse", "huber", "bce", "cumulative_link"] = Field(
        "auto",
        description="What is minimised; `auto` is the task's own: `cross_entropy`, `bce`, `cumulative_link` or `mse`.",
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
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
            raise ValueError("expected 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'")
        return value


def _all_splits() -> list[Split]:
    return ["train", "val", "test"]


class EmbedSpec(_Part):
    """Which embeddings are written when training is done."""

    splits: list[Split] = Field(default_factory=_all_splits, description="Splits to embed; [] for none.")


class RunSpec(_Part):
    """One run: what to learn, from which data, with which backbone and how."""

    name: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="Start of the run's id; letters, digits, `.`, `_` and `-`.",
    )
    task: Task = Field(
        "classification",
        description="`classification` (classes), `multilabel` (any number of labels), `ordinal` (ordered classes) "
        "or `regression` (one or several numbers).",
    )
    data: DataSpec
    backbone: BackboneSpec
    head: HeadSpec = Field(default_factory=HeadSpec)  # type: ignore[arg-type]
    tuning: TuningSpec = Field(default_factory=TuningSpec)  # type: ignore[arg-type]
    train: TrainSpec = Field(default_factory=TrainSpec)  # type: ignore[arg-type]
    embed: EmbedSpec = Field(default_factory=EmbedSpec)

    @model_validator(mode="after")
    def _parts_fit_the_task(self) -> RunSpec:
        problems = []
        info, train = TASKS[self.task], self.train
        known = [f"val/{name}" for name in ("loss", *info.metrics) if METRICS[name].chooses]
        metric = train.early_stopping.metric
        if metric != "auto" and metric not in known:
            problems.append(
                f"train.early_stopping.metric: {metric!r} is not a metric of {self.task}; choose one of "
                + ", ".join(known)
            )
        if train.loss != "auto" and train.loss not in info.losses:
            needs = next(other.description for other in TASKS.values() if train.loss in other.losses)
            takes = " or ".join(map(repr, info.losses))
            problems.append(f"train.loss: {train.loss!r} needs {needs}; {self.task} takes {takes}")
        if train.class_weights != "none" and not info.class_weights:
            problems.append(f"train.class_weights: {self.task} has no classes; leave it out")
        if train.label_smoothing and not info.label_smoothing:
            problems.append(f"train.label_smoothing: {self.task} has no classes; leave it out")
        if self.data.label_order is not None and not info.ordered:
            problems.append(f"data.label_order: the classes of {self.task} have no order; leave it out")
        if isinstance(self.data.label, list) and not info.several_columns:
            problems.append(f"data.label: {self.task} takes one column, got {self.data.label!r}")
        if problems:
            raise ValueError("\n".join(problems))
        return self
