"""Mixes of training images and of their classes: mixup and CutMix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from deeptune.data.loading.dataset import Batch
from deeptune.spec.run_spec import TrainSpec

Mix = Callable[[Batch], Batch]


def make_mix(train: TrainSpec, *, classes: int) -> Mix:
    """Return what mixes a batch: mixup, CutMix, one of the two at random, or nothing.

    Mixup is of Zhang et al. 2018 (https://arxiv.org/abs/1710.09412), CutMix of Yun et al. 2019
    (https://arxiv.org/abs/1905.04899).

    A mixed batch has float32 images (B, 3, S, S) from 0 to 255, and float32 shares of classes (B, C) as targets. The
    draws are those of PyTorch's global generator, whose state is stored with the training.
    """
    if not train.mixup and not train.cutmix:
        return lambda batch: batch
    from torchvision.transforms import v2

    ways = [v2.MixUp(alpha=train.mixup, num_classes=classes)] if train.mixup else []
    ways += [v2.CutMix(alpha=train.cutmix, num_classes=classes)] if train.cutmix else []
    mix = ways[0] if len(ways) == 1 else v2.RandomChoice(ways)

    def mixed(batch: Batch) -> Batch:
        images, targets = mix(batch.inputs["images"].float(), batch.targets)
        return replace(batch, inputs={**batch.inputs, "images": images}, targets=targets.float())

    return mixed
