"""MobileNetV3 (Howard et al. 2019, https://arxiv.org/abs/1905.02244)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deeptune.families.family import Family, table
from deeptune.pooling import MAP_POOLING

if TYPE_CHECKING:
    from torch import Tensor


class MobileNetV3(Family):
    """MobileNetV3: small networks of inverted bottlenecks."""

    name = "mobilenetv3"
    kind = "cnn"
    classifier = "classifier"
    poolings = (*MAP_POOLING, "fc")
    variants = table(
        # name, parameters, width, input size, LoRA parameters per rank, outputs of the adapted layers,
        # MB of activations, weight file
        ("mobilenet_v3_small", 927_008, 576, 224, 12_427, 6_488, 16, "mobilenet_v3_small-047dcff4.pth"),
        ("mobilenet_v3_large", 2_971_952, 960, 224, 23_595, 12_264, 44, "mobilenet_v3_large-5c1a4163.pth"),
    )  # fmt: skip

    def blocks(self, net: Any) -> list[str]:
        """Name the inverted residual blocks."""
        return [f"features.{block}" for block in range(1, len(net.features) - 1)]

    def remove_classifier(self, net: Any, pooling: str) -> int:
        """Keep the classifier's wide pretrained layer with `fc`; any other pooling is of the map before it."""
        if pooling != "fc":
            return super().remove_classifier(net, pooling)
        width: int = net.classifier[-1].in_features
        net.classifier = net.classifier[:-1]
        return width

    def ignored_keys(self, pooling: str) -> tuple[str, ...]:
        return ("classifier.3.",) if pooling == "fc" else ("classifier.",)

    def pool(self, net: Any, features: Tensor, pooling: str) -> Tensor:
        if pooling != "fc":
            return super().pool(net, features, pooling)
        pooled: Tensor = net.classifier(super().pool(net, features, "mean"))
        return pooled


FAMILY = MobileNetV3()
