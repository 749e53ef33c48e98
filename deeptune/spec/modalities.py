"""Facts about each modality that need no data: names, columns, units, and settings that it does not have.

Pure Python, so that viewers and `deeptune --help` may read it. What is done with samples is in `data/modalities/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from deeptune.catalog import Modality
from deeptune.errors import SpecError

TOKENS = "tokens"
COLUMNS = "columns"  # marks settings that name columns, among those of other words
Input = Annotated[str | list[str], COLUMNS]  # one column, or several that make a sample together


@dataclass(frozen=True)
class Foreign:
    """A setting of another modality: the values that change nothing, and what to say of any other."""

    allowed: tuple[Any, ...]
    reason: str


@dataclass(frozen=True)
class ModalityInfo:
    """One kind of samples.

    `plural` is what several samples are called. `input` is the column that holds them by default, `max_columns` how
    many columns may make a sample together, `expected` the values that such a column may have. `size` is the key of
    `backbone` that sets how much of a sample a backbone takes, in `unit`, or `short_unit` where room is small.
    `augmented` says whether `train.augmentation` changes samples, `legible` whether a person can read the values of a
    column, which may then be labels too. `data_settings` are keys of `data` that decide the preprocessing. `foreign`
    are settings of other modalities, by dotted key. `packages` decide what a backbone gives for a sample.
    `usual_backbone` is proposed where no weights are on this machine. `parts` are the modalities that such a sample is
    made of, a column for each in this order; none where the samples are of one kind.
    """

    name: Modality
    plural: str
    input: Input
    max_columns: int
    expected: str
    size: str
    unit: str
    short_unit: str
    augmented: bool
    legible: bool
    data_settings: tuple[str, ...]
    foreign: Mapping[str, Foreign]
    packages: tuple[str, ...]
    usual_backbone: str
    parts: tuple[str, ...] = ()

    @property
    def members(self) -> tuple[ModalityInfo, ...]:
        """The rows of the parts, or this row alone."""
        return tuple(MODALITIES[name] for name in self.parts) or (self,)

    @property
    def counts_tokens(self) -> bool:
        """Whether the length of a sample is a number of tokens, so that `train.token_budget` limits a batch."""
        return any(member.unit == TOKENS for member in self.members)

    def size_of(self, backbone: Any) -> Any:
        """Read how much of a sample a backbone takes: from the `backbone` section of a spec, or its preprocessing."""
        return getattr(backbone, self.size)

    def recorded(self, data: Any) -> dict[str, Any]:
        """Return the settings of the `data` section that decide the preprocessing, as JSON."""
        return {key: getattr(data, key) for key in self.data_settings}

    def refuse_foreign(self, section: str, values: Any) -> None:
        """Raise SpecError where a section of the spec (`backbone`, `train`) sets what such samples do not have."""
        for key, foreign in self.foreign.items():
            part, _, setting = key.partition(".")
            if part == section and getattr(values, setting, "auto") not in foreign.allowed:
                raise SpecError(f"{key}: {foreign.reason}")


MODALITIES: Mapping[str, ModalityInfo] = {
    "image": ModalityInfo(
        name="image",
        plural="images",
        input="images",
        max_columns=1,
        expected="one image a row: encoded bytes (binary), file names (strings), or a struct of 'bytes' and 'path'",
        size="image_size",
        unit="pixels",
        short_unit="px",
        augmented=True,
        legible=False,
        data_settings=("value_range",),
        foreign={
            "backbone.max_length": Foreign(("auto",), "images have no length in tokens; leave it out."),
            "train.token_budget": Foreign(
                ("auto", 0), "images have no tokens; leave it out, or set train.batch_size."
            ),
        },
        packages=("torch", "torchvision", "pillow", "timm"),
        usual_backbone="resnet50",
    ),
    "text": ModalityInfo(
        name="text",
        plural="texts",
        input="text",
        max_columns=2,
        expected="strings, or bytes that are UTF-8",
        size="max_length",
        unit=TOKENS,
        short_unit=TOKENS,
        augmented=False,
        legible=True,
        data_settings=(),
        foreign={
            "backbone.image_size": Foreign(("auto",), "texts have no size in pixels; leave it out."),
            "train.memory_format": Foreign(("auto", "contiguous"), "'channels_last' is for images; leave it out."),
            "train.mixup": Foreign((0,), "mixes images; leave it out."),
            "train.cutmix": Foreign((0,), "mixes images; leave it out."),
        },
        packages=("torch", "transformers", "tokenizers"),
        usual_backbone="bert-base-multilingual-cased",
    ),
    "image_text": ModalityInfo(
        name="image_text",
        plural="images with texts",
        input=["images", "text"],
        max_columns=2,
        expected="one column of images and one of texts",
        size="image_size",
        unit="pixels",
        short_unit="px",
        augmented=True,
        legible=False,
        data_settings=("value_range",),
        foreign={},
        packages=("torch", "torchvision", "pillow", "timm", "transformers", "tokenizers"),
        usual_backbone="resnet50",
        parts=("image", "text"),
    ),
}  # fmt: skip


# Those whose samples are in one column, or in several of the same kind.
COLUMN_MODALITIES: Mapping[str, ModalityInfo] = {name: one for name, one in MODALITIES.items() if not one.parts}


def columns_of(input: Input) -> list[str]:
    """Return the columns that `data.input` names."""
    return [input] if isinstance(input, str) else list(input)


def input_words(input: Input) -> str:
    """Return `column 'text'`, or `columns 'premise' and 'hypothesis'`."""
    columns = columns_of(input)
    return ("column " if len(columns) == 1 else "columns ") + " and ".join(map(repr, columns))
