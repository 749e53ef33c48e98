"""Maps of an image that say which places support an output."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deeptune.backbones.base import Backbone, CannotCut, Cut
from deeptune.errors import SpecError
from deeptune.explain.outputs import chosen_output
from deeptune.explain.parts import Explainable
from deeptune.pooling import MAP_POOLING


def image_maps(model: Explainable, inputs: dict[str, Tensor], outputs: Tensor) -> Tensor:
    """Return maps float32 (B, h, w) of the output with index `outputs` (int64 (B,)) of each image.

    -1 is the sum of all.
    Activation times gradient, summed over channels (HiResCAM, Draelos and Carin 2020, https://arxiv.org/abs/2011.08891).
    The activations are those before pooling, where it reads every place: with an average and a linear head that is the
    class activation map of Zhou et al. 2016. Otherwise, as with the class token of ViT, they are those before the last
    block, through whose attention the gradient comes. Positive values support the output.

    Of Swin the activations are those before its last stage, and a map is less its mean: what each place adds is small
    beside what all have in common, so a map without this is bright everywhere, or nowhere.

    Raises SpecError where the network can't be cut before its last block.
    """
    backbone, cut = model.backbone, _cut(model, inputs)
    with torch.enable_grad():
        if cut is None:
            with torch.no_grad():
                given = backbone.features(inputs)
            activations = given.detach().requires_grad_()
            features = activations
        else:
            with torch.no_grad():
                given = cut.prefix(inputs)
            activations = given.detach().requires_grad_()
            features = cut.suffix(activations, inputs)
        logits = model.head(backbone.pool(features, inputs).float())
        (gradient,) = torch.autograd.grad(chosen_output(logits, outputs).sum(), activations)
    maps = _places((gradient * activations).detach().float())
    return maps - maps.mean((1, 2), keepdim=True) if _in_windows(backbone) else maps


def _cut(model: Explainable, inputs: dict[str, Tensor]) -> Cut | None:
    """Return the backbone in two, where the activations are; None where those before pooling serve."""
    backbone = model.backbone
    if not _in_windows(backbone) and _pools_all_places(backbone, inputs):
        return None
    try:
        blocks = backbone.blocks()
        if not blocks:
            return None
        cut = backbone.cut_at(blocks, _stage_start(blocks) if _in_windows(backbone) else len(blocks) - 1)
        cut.check()
    except CannotCut as error:
        if _pools_all_places(backbone, inputs):
            return None
        raise SpecError(
            f"{backbone.info.name} can't be explained with pooling {backbone.pooling!r}, because {error}",
            hint='Train with backbone.pooling = "mean".',
        ) from error
    return cut


def _pools_all_places(backbone: Backbone, inputs: dict[str, Tensor]) -> bool:
    if backbone.pooling in MAP_POOLING or backbone.info.is_cnn:
        return True
    with torch.no_grad():
        return backbone.features(inputs).ndim == 4  # what timm's own pooling does with a map


def _in_windows(backbone: Backbone) -> bool:
    return "swin" in type(backbone.net).__name__.lower()


def _stage_start(blocks: list[str]) -> int:
    """Return the place of the first block of the last stage, whose attention mixes all places."""
    stage = blocks[-1].rpartition(".")[0]
    return next(place for place, name in enumerate(blocks) if name.rpartition(".")[0] == stage)


def _places(values: Tensor) -> Tensor:
    """Sum over channels and give each image its map: of (B, C, H, W), (B, H, W, C) or tokens (B, T, D)."""
    if values.ndim == 4:
        last = values.shape[1] == values.shape[2] != values.shape[3]
        return values.sum(3 if last else 1)
    tokens = values.sum(2)
    side = math.isqrt(tokens.shape[1])
    return tokens[:, tokens.shape[1] - side * side :].reshape(len(tokens), side, side)  # the class token comes first
