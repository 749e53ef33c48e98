"""A backbone of images, which normalises them on the device they are on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deeptune.backbones.base import Backbone, Cut
from deeptune.backbones.cut import ChainCut
from deeptune.catalog import BackboneInfo
from deeptune.data.loading.preprocessing import ImagePreprocessing, Preprocessing


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
