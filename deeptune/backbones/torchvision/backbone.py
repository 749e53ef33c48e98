"""torchvision's classification networks without their classifier."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torchvision import models

from deeptune.backbones.base import resolve_pooling
from deeptune.backbones.image_backbone import ImageBackbone
from deeptune.backbones.weights import load_state, read_state, seeded
from deeptune.catalog import BackboneInfo, torch_hub_dir
from deeptune.data.loading.preprocessing import ImagePreprocessing
from deeptune.families import FAMILIES
from deeptune.fetching.download import download
from deeptune.spec.run_spec import BackboneSpec


class TorchvisionBackbone(ImageBackbone):
    """A network of torchvision.

    `features` is a map (B, C, H, W); of a ViT the class token and the patches (B, 1 + N, D).
    """

    def features(self, inputs: dict[str, Tensor]) -> Tensor:
        return FAMILIES[self.info.family].features(self.net, self.normalised(inputs))

    def blocks(self) -> list[str]:
        return FAMILIES[self.info.family].blocks(self.net)

    def pool(self, features: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        return FAMILIES[self.info.family].pool(self.net, features, self.pooling)


def load(
    info: BackboneInfo, spec: BackboneSpec, *, seed: int, on_meta: bool, config_dir: Path | None, load_weights: bool
) -> TorchvisionBackbone:
    """Build a torchvision row of the catalog; see `load_backbone`."""
    family = FAMILIES[info.family]
    weights = models.get_model_weights(info.source).DEFAULT
    preprocessing = _preprocessing(weights)
    if spec.image_size != "auto":
        preprocessing = preprocessing.at(spec.image_size)
    pooling = resolve_pooling(info, spec.pooling, family.pooling, family.poolings)
    family.check_size(info.name, preprocessing.image_size)

    random = spec.weights == "random"
    # Random values take seconds in a large network: none are drawn where others are loaded over all of them.
    with torch.device("cpu" if random and not on_meta else "meta"), seeded(seed):
        net = family.build(info.source, family.options(preprocessing.image_size))
    width = family.remove_classifier(net, pooling)
    if not random and not on_meta:
        net = net.to_empty(device="cpu")
        for buffer in net.buffers():
            buffer.zero_()  # old files have no counts of batches

    if load_weights and not random:
        if spec.weights == "pretrained":
            path = download(weights.url, torch_hub_dir() / "checkpoints" / Path(weights.url).name)
        else:
            path = Path(spec.weights)
        state = family.adjust_state(net, read_state(path))
        load_state(net, state, source=str(path), ignore=family.ignored_keys(pooling))
    return TorchvisionBackbone(info, net, width=width, pooling=pooling, preprocessing=preprocessing)


def _preprocessing(weights: models.WeightsEnum) -> ImagePreprocessing:
    preset = weights.transforms()
    return ImagePreprocessing(
        image_size=preset.crop_size[0],
        resize=preset.resize_size[0],
        interpolation=preset.interpolation.value,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
    )
