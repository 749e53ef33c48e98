"""Pools features to one vector per sample. Padding never takes part. Importing this imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

# What a spec may ask for. `fc` (VGG) and `head` (timm) are what the pretrained classifier itself reads.
Pooling = Literal["auto", "mean", "max", "cls", "pooler", "last", "fc", "head"]
MAP_POOLING = ("mean", "max")
TOKEN_POOLING = (*MAP_POOLING, "cls", "last")


def pool_map(features: Tensor, how: str) -> Tensor:
    """Reduce a feature map (B, C, H, W) to (B, C) by global average (`mean`) or maximum (`max`)."""
    if how == "mean":
        from torch.nn.functional import adaptive_avg_pool2d

        return adaptive_avg_pool2d(features, 1).flatten(1)
    if how == "max":
        return features.amax((2, 3))
    raise ValueError(f"a feature map has no {how!r} pooling")


def pool_tokens(features: Tensor, how: str, mask: Tensor) -> Tensor:
    """Reduce tokens (B, T, D) to (B, D); `mask` (B, T) is 1 where a token counts, at least once in each row.

    `mean` and `max` run over the counted tokens, `cls` is the first token, `last` the last counted one.
    """
    from torch import arange, finfo

    if how == "mean":
        weight = mask.unsqueeze(-1).to(features.dtype)
        return (features * weight).sum(1) / weight.sum(1)
    if how == "max":
        return features.masked_fill(mask.unsqueeze(-1) == 0, finfo(features.dtype).min).amax(1)
    if how == "cls":
        return features[:, 0]
    if how == "last":
        positions = arange(mask.shape[1], device=mask.device)
        last = (mask.long() * positions).argmax(1)
        return features[arange(len(features), device=mask.device), last]
    raise ValueError(f"tokens have no {how!r} pooling")
