"""A frozen network on a CPU with its normalisation and activations folded into the convolutions, by TorchScript.

It gives the features of the network itself but for rounding, in 0.6 to 0.9 of the time. The choice is made by the
network and the number of rows alone, never by a clock, and is part of the name under which features are stored.
"""

from __future__ import annotations

import platform
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from deeptune.backbones.base import Backbone
from deeptune.backbones.image_backbone import ImageBackbone
from deeptune.engine.device import Compute

FAMILIES = ("resnet",)  # it pays for RegNet and MobileNetV3 at times, and never for EfficientNet and ConvNeXt
# Pixels of all rows from which on it pays: 910 rows at 96 px. Making it takes as long as some hundred rows.
MIN_PIXELS = 2**23
MAX_DIFFERENCE = 5e-6  # largest difference of the features, relative to the greatest feature
Forward = Callable[[dict[str, Tensor]], Tensor]


def pays_to_fold(backbone: Backbone, compute: Compute, rows: int) -> bool:
    """Check whether so many rows should pass a folded network."""
    return (
        compute.device.type == "cpu"
        and compute.autocast_dtype is None
        and isinstance(backbone, ImageBackbone)
        and backbone.info.family in FAMILIES
        and platform.machine() in ("x86_64", "AMD64")
        and torch.backends.mkldnn.is_available()
        and rows * backbone.sample()["images"].shape[-1] ** 2 >= MIN_PIXELS
    )


def folded(backbone: Backbone, images: Tensor) -> Forward | None:
    """Return the folded network.

    None where PyTorch cannot make it, or where it gives other features of some real images.
    """
    backbone.eval()
    some = images[: max(1, len(images) // 2)]  # another number of rows must pass, too
    try:
        # PyTorch says that TorchScript will go some day: then nothing is folded.
        with warnings.catch_warnings(action="ignore"), torch.no_grad():
            traced = torch.jit.trace(_OfImages(backbone).eval(), (images[:2],), check_trace=False)
            network = torch.jit.optimize_for_inference(torch.jit.freeze(traced))
        forward = _forward_of(network)
        with torch.inference_mode():
            pairs = [(forward({"images": part}), backbone({"images": part})) for part in (images, some)]
    except (RuntimeError, AttributeError, NotImplementedError, TypeError, ValueError):
        return None
    return forward if all(_same(*pair) for pair in pairs) else None


def _forward_of(network: Callable[[Tensor], Tensor]) -> Forward:
    def forward(inputs: dict[str, Tensor]) -> Tensor:
        # It is optimised already: the executor would profile the first passes of each size, and change the graph again.
        with torch.jit.optimized_execution(False):
            return network(inputs["images"])

    return forward


def _same(found: Tensor, expected: Tensor) -> bool:
    # False for what is not finite.
    return bool((found - expected).abs().max() <= MAX_DIFFERENCE * expected.abs().max())


class _OfImages(nn.Module):
    """A backbone that takes a tensor, as TorchScript's tracer wants it."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        return self.backbone({"images": images})
