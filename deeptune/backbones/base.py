"""What every backbone is to the rest: inputs in, one vector per sample out, and its own preprocessing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deeptune.backbones.cut import ChainCut, Cut
from deeptune.backbones.preprocessing import ImagePreprocessing, Preprocessing, TextPreprocessing
from deeptune.backbones.weights import fingerprint
from deeptune.catalog import BackboneInfo
from deeptune.errors import SpecError
from deeptune.spec.modalities import Input

__all__ = ["Backbone", "ImageBackbone", "ImagePreprocessing", "TextPreprocessing", "resolve_pooling"]


class Backbone(nn.Module, ABC):
    """A feature extractor: `forward` maps inputs to (B, `width`) float32, `features` stops before pooling.

    `fingerprint` identifies the weights as loaded, before any tuning or adapter; it is None when no weights
    were loaded (meta device, or `load_weights=False`).
    """

    net: Any  # the library's own module: each has parts of its own
    usual_format = "contiguous"  # the memory format that CPUs and NVIDIA's GPUs are fastest in

    def __init__(
        self,
        info: BackboneInfo,
        net: nn.Module,
        *,
        width: int,
        pooling: str,
        preprocessing: Preprocessing | None,
    ) -> None:
        super().__init__()
        self.info = info
        self.net = net
        self.width = width
        self.pooling = pooling
        self.preprocessing = preprocessing
        self.fingerprint: str | None = None
        self.memory_format = "contiguous"
        self.notes: list[str] = []
        self.idle: frozenset[str] | None = None  # layers that can't take an adapter, where these were looked for

    @property
    def members(self) -> dict[str, Backbone]:
        """The backbones that this one is made of, by the beginning of their modules' names in `net`: itself."""
        return {"": self}

    def weights_fingerprint(self) -> str | None:
        """The fingerprint of the weights as they are."""
        return fingerprint(self.net)

    def use_preprocessing(self, preprocessing: Preprocessing) -> None:
        """Take another preprocessing than the library's own: that of a stored run."""
        self.preprocessing = preprocessing

    def check_columns(self, input: Input) -> None:
        """Add to `notes` what a person should know of the input columns. Raises SpecError where they do not fit."""
        if self.preprocessing is not None:
            self.notes += self.preprocessing.notes_on(input)

    def arrange(self, memory_format: str) -> None:
        """Lay the weights out for maps that are `contiguous` or `channels_last`; outputs differ by rounding."""
        self.memory_format = memory_format
        laid = torch.channels_last if memory_format == "channels_last" else torch.contiguous_format
        self.to(memory_format=laid)  # type: ignore[call-overload]
        for module in self.modules():
            if getattr(module, "lora_magnitude_vector", None):  # DoRA: PEFT takes views of these, as they are flat
                for parameter in (*module.lora_A.parameters(), *module.lora_B.parameters()):  # type: ignore[operator, union-attr]
                    parameter.data = parameter.data.contiguous()

    @property
    def padding_reaches(self) -> bool:
        """Whether the padding after a text changes its vectors; `features` then passes texts without any."""
        return False

    def probe(self) -> None:
        """Find out by a small pass what no configuration says of the network; `notes` are what a person should know."""

    @abstractmethod
    def features(self, inputs: dict[str, Tensor]) -> Tensor:
        """Unpooled features: a map (B, C, H, W) or tokens (B, T, D)."""

    @abstractmethod
    def pool(self, features: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """Reduce `features` to (B, width)."""

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        return self.pool(self.features(inputs), inputs).float()

    @abstractmethod
    def blocks(self) -> list[str]:
        """Names in `net` of the modules at which its blocks begin, in the order in which they compute."""

    @abstractmethod
    def cut_at(self, blocks: list[str], place: int) -> Cut:
        """The backbone in two, before `blocks[place]`."""

    @abstractmethod
    def sample(self) -> dict[str, Tensor]:
        """Inputs of no meaning, always the same, to try the forward pass with."""

    def last_blocks(self, count: int) -> Cut:
        """The last `count` blocks and what comes after them. Raises SpecError when there are not so many."""
        blocks = self.blocks()
        if not blocks:
            raise SpecError(
                f"tuning.unfreeze: where the blocks of {self.info.name} begin is not known.",
                hint="Set tuning.method = 'full' or 'lora' instead.",
            )
        if count > len(blocks):
            raise SpecError(
                f"tuning.unfreeze: {self.info.name} has {len(blocks)} blocks, and {count} were to learn.",
                hint=f"Set it to {len(blocks)} or less, or tuning.method = 'full' to train every weight.",
            )
        return self.cut_at(blocks, len(blocks) - count)

    def save_config(self, folder: Path) -> None:
        """Write what `load_backbone(config_dir=folder)` needs besides the spec: nothing for images."""


class ImageBackbone(Backbone):
    """A backbone for {"images": uint8 (B, 3, S, S)}; images are normalised on the device they are on."""

    usual_format = "channels_last"
    mean: Tensor
    std: Tensor

    def __init__(
        self, info: BackboneInfo, net: nn.Module, *, width: int, pooling: str, preprocessing: ImagePreprocessing
    ) -> None:
        super().__init__(info, net, width=width, pooling=pooling, preprocessing=preprocessing)
        # Not persistent: they belong to the preprocessing, not to the weights.
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(1, 3, 1, 1), persistent=False)

    def use_preprocessing(self, preprocessing: Preprocessing) -> None:
        assert isinstance(preprocessing, ImagePreprocessing)
        super().use_preprocessing(preprocessing)
        for name in ("mean", "std"):
            getattr(self, name).copy_(torch.tensor(getattr(preprocessing, name)).view(1, 3, 1, 1))

    def cut_at(self, blocks: list[str], place: int) -> Cut:
        return ChainCut(self, blocks[place])

    def sample(self) -> dict[str, Tensor]:
        assert isinstance(self.preprocessing, ImagePreprocessing)
        size = self.preprocessing.image_size
        numbers = torch.Generator().manual_seed(0)
        return {"images": torch.randint(0, 256, (1, 3, size, size), dtype=torch.uint8, generator=numbers)}

    def normalised(self, inputs: dict[str, Tensor]) -> Tensor:
        return (inputs["images"].float() / 255 - self.mean) / self.std


def resolve_pooling(info: BackboneInfo, asked: str, default: str, allowed: Iterable[str]) -> str:
    """`asked`, or `default` for "auto"; raises SpecError for a pooling that the backbone does not have."""
    if asked in ("auto", default):
        return default
    if asked not in (allowed := tuple(allowed)):
        raise SpecError(
            f"backbone.pooling: {info.name} has no pooling {asked!r}.",
            hint="Choose one of: " + ", ".join(dict.fromkeys(("auto", *allowed))) + ".",
        )
    return asked
