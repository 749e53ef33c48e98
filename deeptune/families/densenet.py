"""DenseNet (Huang et al. 2017, https://arxiv.org/abs/1608.06993)."""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from deeptune.families.family import Family, table

if TYPE_CHECKING:
    from torch import Tensor


class DenseNet(Family):
    """DenseNet (Huang et al. 2017): dense blocks and transitions."""

    name = "densenet"
    kind = "cnn"
    classifier = "classifier"
    min_size = 32  # smaller images leave nothing after the last pooling
    variants = table(
        # name, parameters, width, input size, LoRA parameters per rank, outputs of the adapted layers,
        # MB of activations, weight file
        ("densenet121", 6_953_856, 1024, 224, 110_515, 10_240, 130, "densenet121-a639ec97.pth"),
        ("densenet161", 26_472_000, 2208, 224, 248_067, 20_448, 243, "densenet161-8d451a50.pth"),
        ("densenet169", 12_484_480, 1664, 224, 175_795, 14_208, 157, "densenet169-b2777c0a.pth"),
        ("densenet201", 18_092_928, 1920, 224, 230_067, 17_024, 203, "densenet201-c1103571.pth"),
    )  # fmt: skip

    def blocks(self, net: Any) -> list[str]:
        """Name the dense blocks and the transitions between them."""
        return [f"features.{name}" for name, _ in net.features.named_children() if "block" in name or "trans" in name]

    def remove_classifier(self, net: Any, pooling: str) -> int:
        from torch import nn

        width = super().remove_classifier(net, pooling)
        net.relu = nn.ReLU(inplace=True)  # which torchvision's forward calls as a function
        return width

    def adjust_state(self, net: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rename `norm.1` in torchvision's files to `norm1`, as its modules are called."""
        old = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
        return OrderedDict((old.sub(r"\1\2", name), tensor) for name, tensor in state.items())

    def features(self, net: Any, x: Tensor) -> Tensor:
        features: Tensor = net.relu(net.features(x))
        return features


FAMILY = DenseNet()
