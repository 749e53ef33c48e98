"""MaxViT (Tu et al. 2022, https://arxiv.org/abs/2204.01697)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deeptune.families.family import Family, require_multiple, table

if TYPE_CHECKING:
    from torch import Tensor

SMALLEST = 224  # pixels: windows of 7 × 7 on maps of a 32nd of the image


class MaxViT(Family):
    """MaxViT: convolutions with attention in blocks and grids."""

    name = "maxvit"
    kind = "transformer"
    classifier = "classifier"
    lora_targets = ("to_qkv", "merge", "mlp_layer.1", "mlp_layer.3")
    min_size = SMALLEST
    variants = table(
        # name, parameters, width, input size, LoRA parameters per rank, outputs of the adapted layers,
        # MB of activations, weight file
        ("maxvit_t", 30_144_968, 512, 224, 86_016, 48_384, 308, "maxvit_t-bc5ab103.pth"),
    )  # fmt: skip

    def options(self, size: int) -> dict[str, Any]:
        return {"input_size": (size, size)}

    def check_size(self, name: str, size: int) -> None:
        require_multiple(name, size, SMALLEST, f"divides images of {SMALLEST} pixels, or a multiple, into windows")

    def blocks(self, net: Any) -> list[str]:
        """Name the layers, each of a convolution, window attention and grid attention."""
        from torchvision.models.maxvit import MaxVitLayer

        return [name for name, module in net.named_modules() if isinstance(module, MaxVitLayer)]

    def remove_classifier(self, net: Any, pooling: str) -> int:
        """Keep the pretrained norm of the pooled features, which the classifier begins with."""
        net.classifier = net.classifier[:3]
        width: int = net.classifier[2].normalized_shape[0]
        return width

    def ignored_keys(self, pooling: str) -> tuple[str, ...]:
        return ("classifier.3.", "classifier.5.")

    def pool(self, net: Any, features: Tensor, pooling: str) -> Tensor:
        pooled: Tensor = net.classifier(super().pool(net, features, pooling)[:, :, None, None])
        return pooled

    def features(self, net: Any, x: Tensor) -> Tensor:
        x = net.stem(x)
        for block in net.blocks:
            x = block(x)
        return x


FAMILY = MaxViT()
