"""ConvNeXt (Liu et al. 2022, https://arxiv.org/abs/2201.03545)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deeptune.families.family import Family, table

if TYPE_CHECKING:
    from torch import Tensor


class ConvNeXt(Family):
    """Convolutions that are trained as a transformer is; most weights are in linear layers."""

    name = "convnext"
    kind = "transformer"
    classifier = "classifier"
    lora_targets = ("block.3", "block.5")
    min_size = 32
    variants = table(
        # name, parameters, width, input size, LoRA parameters per rank, outputs of the adapted layers,
        # MB of activations, weight file
        ("convnext_tiny", 27_820_128, 768, 224, 66_240, 33_120, 109, "convnext_tiny-983f1562.pth"),
        ("convnext_small", 49_454_688, 768, 224, 135_360, 67_680, 174, "convnext_small-0c510722.pth"),
        ("convnext_base", 87_566_464, 1024, 224, 180_480, 90_240, 232, "convnext_base-6075fbad.pth"),
        ("convnext_large", 196_230_336, 1536, 224, 270_720, 135_360, 348, "convnext_large-ea097f82.pth"),
    )  # fmt: skip

    def blocks(self, net: Any) -> list[str]:
        """Name the residual blocks."""
        from torchvision.models.convnext import CNBlock

        return [name for name, module in net.named_modules() if isinstance(module, CNBlock)]

    def remove_classifier(self, net: Any, pooling: str) -> int:
        """Keep the pretrained norm of the pooled features, which the classifier begins with."""
        width: int = net.classifier[-1].in_features
        net.classifier = net.classifier[:-1]
        return width

    def ignored_keys(self, pooling: str) -> tuple[str, ...]:
        return ("classifier.2.",)

    def pool(self, net: Any, features: Tensor, pooling: str) -> Tensor:
        pooled: Tensor = net.classifier(super().pool(net, features, pooling)[:, :, None, None])
        return pooled


FAMILY = ConvNeXt()
