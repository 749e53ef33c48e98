"""EfficientNet (Tan and Le 2019, https://arxiv.org/abs/1905.11946)."""

from __future__ import annotations

from typing import Any

from deeptune.families.family import Family, table


class EfficientNet(Family):
    """EfficientNet and its second version: inverted bottlenecks."""

    name = "efficientnet"
    kind = "cnn"
    classifier = "classifier"
    variants = table(
        # name, parameters, width, input size, LoRA parameters per rank, outputs of the adapted layers,
        # MB of activations, weight file
        ("efficientnet_b0", 4_007_548, 1280, 224, 41_523, 21_388, 88, "efficientnet_b0_rwightman-7f5810bc.pth"),
        ("efficientnet_b1", 6_513_184, 1280, 240, 61_947, 31_600, 143, "efficientnet_b1-c27df63c.pth"),
        ("efficientnet_b2", 7_700_994, 1408, 288, 67_439, 34_410, 213, "efficientnet_b2_rwightman-c35c1473.pth"),
        ("efficientnet_b3", 10_696_232, 1536, 300, 87_419, 44_464, 312, "efficientnet_b3_rwightman-b3899882.pth"),
        ("efficientnet_b4", 17_548_616, 1792, 380, 125_787, 63_776, 653, "efficientnet_b4_rwightman-23ab8bcd.pth"),
        ("efficientnet_b5", 28_340_784, 2048, 456, 173_979, 88_000, 1_309, "efficientnet_b5_lukemelas-1a07897c.pth"),
        ("efficientnet_b6", 40_735_704, 2304, 528, 226_411, 114_344, 2_216, "efficientnet_b6_lukemelas-24a108a5.pth"),
        ("efficientnet_b7", 63_786_960, 2560, 600, 314_107, 158_320, 3_849, "efficientnet_b7_lukemelas-c5b4e57e.pth"),
    )  # fmt: skip

    def blocks(self, net: Any) -> list[str]:
        """Name the stages."""
        return [f"features.{stage}" for stage in range(1, len(net.features) - 1)]


FAMILY = EfficientNet()
