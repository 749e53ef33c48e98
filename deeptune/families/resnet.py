"""ResNet (He et al. 2016, https://arxiv.org/abs/1512.03385)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deeptune.families.family import Family, table

if TYPE_CHECKING:
    from torch import Tensor


class ResNet(Family):
    """ResNet: residual blocks."""

    name = "resnet"
    kind = "cnn"
    classifier = "fc"
    variants = table(
        # name, parameters, width, input size, LoRA parameters per rank, outputs of the adapted layers,
        # MB of activations, weight file
        ("resnet18", 11_176_512, 512, 224, 35_923, 4_800, 22, "resnet18-f37072fd.pth"),
        ("resnet34", 21_284_672, 512, 224, 73_043, 8_512, 32, "resnet34-b627a593.pth"),
        ("resnet50", 23_508_032, 2048, 224, 79_443, 26_560, 86, "resnet50-11ad3fa6.pth"),
        ("resnet101", 42_500_160, 2048, 224, 166_483, 52_672, 127, "resnet101-cd907fc2.pth"),
        ("resnet152", 58_143_808, 2048, 224, 243_283, 75_712, 177, "resnet152-f82ba261.pth"),
    )  # fmt: skip

    def blocks(self, net: Any) -> list[str]:
        """Name the residual blocks."""
        return [
            f"layer{stage}.{block}"
            for stage in (1, 2, 3, 4)
            for block in range(len(net.get_submodule(f"layer{stage}")))
        ]

    def features(self, net: Any, x: Tensor) -> Tensor:
        x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
        features: Tensor = net.layer4(net.layer3(net.layer2(net.layer1(x))))
        return features


FAMILY = ResNet()
