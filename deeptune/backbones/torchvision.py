"""torchvision's classification networks without their classifier."""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.swin_transformer import SwinTransformerBlock
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

from deeptune.backbones.base import ImageBackbone, ImagePreprocessing, resolve_pooling
from deeptune.backbones.hub import url_file
from deeptune.backbones.pooling import MAP_POOLING, pool_map, pool_tokens
from deeptune.backbones.weights import State, load_state, read_state, seeded
from deeptune.catalog import BackboneInfo, torch_hub_dir
from deeptune.errors import SpecError
from deeptune.spec.model import BackboneSpec

_CLASSIFIER = {
    "resnet": "fc", "densenet": "classifier", "swin": "head", "efficientnet": "classifier", "vgg": "classifier",
    "vit": "heads",
}  # fmt: skip
_SMALLEST = {"densenet": 32, "vgg": 32}  # smaller images leave nothing after the last pooling
_POOLING = {"vit": ("cls", "mean", "max"), "vgg": ("fc", *MAP_POOLING)}


class TorchvisionBackbone(ImageBackbone):
    """`features` is a map (B, C, H, W); of a ViT the class token and the patches (B, 1 + N, D)."""

    def features(self, inputs: dict[str, Tensor]) -> Tensor:
        x, net = self.normalised(inputs), self.net
        match self.info.family:
            case "resnet":
                x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
                return net.layer4(net.layer3(net.layer2(net.layer1(x))))
            case "densenet":
                return net.relu(net.features(x))
            case "swin":
                return net.permute(net.norm(net.features(x)))
            case "vit":
                x = net._process_input(x)
                return net.encoder(torch.cat([net.class_token.expand(len(x), -1, -1), x], dim=1))
            case _:
                return net.features(x)

    def blocks(self) -> list[str]:
        """Residual blocks of a ResNet, dense blocks and transitions, layers of Swin and ViT, stages of EfficientNet,
        and what VGG has between two poolings."""
        net = self.net
        match self.info.family:
            case "resnet":
                return [
                    f"layer{stage}.{i}"
                    for stage in (1, 2, 3, 4)
                    for i in range(len(net.get_submodule(f"layer{stage}")))
                ]
            case "densenet":
                return [
                    f"features.{name}"
                    for name, _ in net.features.named_children()
                    if "block" in name or "trans" in name
                ]
            case "swin":
                return [name for name, module in net.named_modules() if isinstance(module, SwinTransformerBlock)]
            case "efficientnet":
                return [f"features.{i}" for i in range(1, len(net.features) - 1)]
            case "vgg":
                ends = [i for i, layer in enumerate(net.features) if isinstance(layer, nn.MaxPool2d)]
                return [f"features.{start}" for start in (0, *(end + 1 for end in ends[:-1]))]
            case _:
                return [f"encoder.layers.{name}" for name, _ in net.encoder.layers.named_children()]

    def pool(self, features: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        if self.pooling == "fc":
            return self.net.classifier(self.net.avgpool(features).flatten(1))
        if self.pooling == "cls":
            return features[:, 0]
        if self.info.family == "vit":
            patches = features[:, 1:]
            return pool_tokens(patches, self.pooling, patches.new_ones(patches.shape[:2]))
        return pool_map(features, self.pooling)


def load(
    info: BackboneInfo, spec: BackboneSpec, *, seed: int, on_meta: bool, config_dir: Path | None, load_weights: bool
) -> TorchvisionBackbone:
    """The loader of the catalog's torchvision rows; see `load_backbone`."""
    weights = models.get_model_weights(info.source).DEFAULT
    preprocessing = _preprocessing(weights)
    if spec.image_size != "auto":
        preprocessing = preprocessing.at(spec.image_size)
    pooling = resolve_pooling(info, spec.pooling, info.pooling, _POOLING.get(info.family, MAP_POOLING))
    patch = int(info.source.rpartition("_")[2]) if info.family == "vit" else None
    _check_size(info, preprocessing.image_size, patch)

    options = {"image_size": preprocessing.image_size} if patch else {}
    random = spec.weights == "random"
    # Random values take seconds in a large network: none are drawn where others are loaded over all of them.
    with torch.device("cpu" if random and not on_meta else "meta"), seeded(seed):
        net = models.get_model(info.source, weights=None, **options)
    width = _remove_classifier(info, net, pooling)
    if not random and not on_meta:
        net = net.to_empty(device="cpu")
        for buffer in net.buffers():
            buffer.zero_()  # old files have no counts of batches

    if load_weights and not random:
        if spec.weights == "pretrained":
            path = url_file(weights.url, torch_hub_dir() / "checkpoints" / Path(weights.url).name)
        else:
            path = Path(spec.weights)
        state = _current_names(info, read_state(path))
        if isinstance(net, VisionTransformer):
            state = _at_image_size(net, state)
        load_state(net, state, source=str(path), ignore=(_ignored(info, pooling),))
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


def _check_size(info: BackboneInfo, size: int, patch: int | None) -> None:
    if patch and size % patch:
        below, above = size // patch * patch, -(-size // patch) * patch
        nearest = " or ".join(str(valid) for valid in (below, above) if valid)
        raise SpecError(
            f"backbone.image_size: {info.name} cuts images into patches of {patch} pixels, "
            f"and {size} is no multiple of that.",
            hint=f"The nearest sizes are {nearest}.",
        )
    if size < (smallest := _SMALLEST.get(info.family, 8)):
        raise SpecError(f"backbone.image_size: {info.name} needs at least {smallest} pixels, got {size}.")


def _remove_classifier(info: BackboneInfo, net: Any, pooling: str) -> int:
    """Leave what comes before the classifier, and return its width."""
    name = _CLASSIFIER[info.family]
    classifier = net.get_submodule(name)
    if pooling == "fc":
        net.classifier = classifier[:-1]  # the two pretrained layers stay
        return classifier[-1].in_features
    setattr(net, name, nn.Identity())
    if info.family == "densenet":
        net.relu = nn.ReLU(inplace=True)  # which torchvision's forward calls as a function
    first = next(module for module in classifier.modules() if isinstance(module, nn.Linear))
    return 512 if info.family == "vgg" else first.in_features


def _ignored(info: BackboneInfo, pooling: str) -> str:
    return "classifier.6." if pooling == "fc" else _CLASSIFIER[info.family] + "."


def _current_names(info: BackboneInfo, state: State) -> State:
    """torchvision's DenseNet files say `norm.1` where its modules say `norm1`."""
    if info.family != "densenet":
        return state
    old = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
    return OrderedDict((old.sub(r"\1\2", name), tensor) for name, tensor in state.items())


def _at_image_size(net: VisionTransformer, state: State) -> State:
    """Positions of another image size are interpolated (Dosovitskiy et al. 2021, section 3.2)."""
    positions = state.get("encoder.pos_embedding")
    # Anything else than a square grid and a class token is left for load_state to refuse.
    if positions is None or positions.ndim != 3 or len(positions) != 1:
        return state
    if math.isqrt(positions.shape[1] - 1) ** 2 != positions.shape[1] - 1:
        return state
    state["encoder.pos_embedding"] = positions.float()
    return interpolate_embeddings(net.image_size, net.patch_size, state)
