"""Swin Transformer (Liu et al. 2021, https://arxiv.org/abs/2103.14030)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deeptune.families.family import Family, table

if TYPE_CHECKING:
    from torch import Tensor


class Swin(Family):
    """Swin and Swin V2: attention in shifted windows."""

    name = "swin"
    kind = "transformer"
    classifier = "head"
    lora_targets = ("qkv", "proj", "mlp.0", "mlp.3")
    variants = table(
        # name, parameters, width, input size, LoRA parameters per rank, outputs of the adapted layers,
        # MB of activations, weight file
        ("swin_t", 27_519_354, 768, 224, 70_656, 39_744, 106, "swin_t-704ceda3.pth"),
        ("swin_s", 48_837_258, 768, 224, 144_384, 81_216, 170, "swin_s-5e29d889.pth"),
        ("swin_b", 86_743_224, 1024, 224, 192_512, 108_288, 226, "swin_b-68c6b09e.pth"),
    )  # fmt: skip

    def blocks(self, net: Any) -> list[str]:
        """Name the layers."""
        from torchvision.models.swin_transformer import SwinTransformerBlock

        return [name for name, module in net.named_modules() if isinstance(module, SwinTransformerBlock)]

    def features(self, net: Any, x: Tensor) -> Tensor:
        features: Tensor = net.permute(net.norm(net.features(x)))
        return features


FAMILY = Swin()
