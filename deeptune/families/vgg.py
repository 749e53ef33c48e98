"""VGG (Simonyan and Zisserman 2015, https://arxiv.org/abs/1409.1556)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deeptune.families.family import Family, table
from deeptune.pooling import MAP_POOLING

if TYPE_CHECKING:
    from torch import Tensor


class VGG(Family):
    """VGG: plain convolutions between poolings."""

    name = "vgg"
    kind = "cnn"
    classifier = "classifier"
    pooling = "fc"
    poolings = ("fc", *MAP_POOLING)
    lora_all_kinds = True
    min_size = 32  # smaller images leave nothing after the last pooling
    variants = table(
        # name, parameters, width, input size, LoRA parameters per rank, outputs of the adapted layers,
        # MB of activations, weight file
        ("vgg11", 128_766_336, 4096, 224, 60_315, 10_944, 49, "vgg11-8a719046.pth"),
        ("vgg11_bn", 128_771_840, 4096, 224, 60_315, 10_944, 79, "vgg11_bn-6002323d.pth"),
        ("vgg13", 128_950_848, 4096, 224, 62_235, 11_136, 68, "vgg13-19584684.pth"),
        ("vgg13_bn", 128_956_736, 4096, 224, 62_235, 11_136, 117, "vgg13_bn-abd245e5.pth"),
        ("vgg16", 134_260_544, 4096, 224, 75_035, 12_416, 73, "vgg16-397923af.pth"),
        ("vgg16_bn", 134_268_992, 4096, 224, 75_035, 12_416, 128, "vgg16_bn-6c64b313.pth"),
        ("vgg19", 139_570_240, 4096, 224, 87_835, 13_696, 79, "vgg19-dcbb9e9d.pth"),
        ("vgg19_bn", 139_581_248, 4096, 224, 87_835, 13_696, 138, "vgg19_bn-c79401a0.pth"),
    )  # fmt: skip

    def blocks(self, net: Any) -> list[str]:
        """Name the first layer after each pooling."""
        from torch import nn

        ends = [index for index, layer in enumerate(net.features) if isinstance(layer, nn.MaxPool2d)]
        return [f"features.{start}" for start in (0, *(end + 1 for end in ends[:-1]))]

    def remove_classifier(self, net: Any, pooling: str) -> int:
        """Keep the two wide pretrained layers with `fc`; any other pooling is of the map of 512 channels."""
        if pooling != "fc":
            super().remove_classifier(net, pooling)
            return 512
        width: int = net.classifier[-1].in_features
        net.classifier = net.classifier[:-1]
        return width

    def ignored_keys(self, pooling: str) -> tuple[str, ...]:
        return ("classifier.6.",) if pooling == "fc" else ("classifier.",)

    def pool(self, net: Any, features: Tensor, pooling: str) -> Tensor:
        if pooling != "fc":
            return super().pool(net, features, pooling)
        pooled: Tensor = net.classifier(net.avgpool(features).flatten(1))
        return pooled


FAMILY = VGG()
