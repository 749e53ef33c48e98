"""ViT (Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from deeptune.families.family import Family, require_multiple, table
from deeptune.pooling import MAP_POOLING, pool_tokens

if TYPE_CHECKING:
    from torch import Tensor


class ViT(Family):
    """ViT: attention over patches."""

    name = "vit"
    kind = "transformer"
    classifier = "heads"
    pooling = "cls"
    poolings = ("cls", *MAP_POOLING)
    lora_targets = ("qkv", "proj", "mlp.0", "mlp.3")
    variants = table(
        # name, parameters, width, input size, LoRA parameters per rank, outputs of the adapted layers,
        # MB of activations, weight file
        ("vit_b_16", 85_798_656, 768, 224, 147_456, 82_944, 154, "vit_b_16-c867db91.pth"),
        ("vit_b_32", 87_455_232, 768, 224, 147_456, 82_944, 35, "vit_b_32-d86f8d99.pth"),
        ("vit_l_16", 303_301_632, 1024, 224, 393_216, 221_184, 410, "vit_l_16-852ce7e3.pth"),
        ("vit_l_32", 305_510_400, 1024, 224, 393_216, 221_184, 93, "vit_l_32-c7638314.pth"),
        ("vit_h_14", 632_189_440, 1280, 518, 655_360, 368_640, 7_895, "vit_h_14_swag-80465313.pth"),
    )  # fmt: skip

    def blocks(self, net: Any) -> list[str]:
        """Name the layers."""
        return [f"encoder.layers.{name}" for name, _ in net.encoder.layers.named_children()]

    def patch(self, name: str) -> int:
        return int(name.rpartition("_")[2])

    def options(self, size: int) -> dict[str, Any]:
        return {"image_size": size}

    def check_size(self, name: str, size: int) -> None:
        patch = self.patch(name)
        require_multiple(name, size, patch, f"cuts images into patches of {patch} pixels")
        super().check_size(name, size)

    def adjust_state(self, net: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Interpolate the positions of another image size (Dosovitskiy et al. 2021, section 3.2)."""
        from torchvision.models.vision_transformer import interpolate_embeddings

        positions = state.get("encoder.pos_embedding")
        # Anything else than a square grid and a class token is left for `load_state` to refuse.
        if positions is None or positions.ndim != 3 or len(positions) != 1:
            return state
        if math.isqrt(positions.shape[1] - 1) ** 2 != positions.shape[1] - 1:
            return state
        state["encoder.pos_embedding"] = positions.float()
        return interpolate_embeddings(net.image_size, net.patch_size, state)

    def features(self, net: Any, x: Tensor) -> Tensor:
        """Map images to the class token and the patches (B, 1 + N, D)."""
        import torch

        x = net._process_input(x)
        features: Tensor = net.encoder(torch.cat([net.class_token.expand(len(x), -1, -1), x], dim=1))
        return features

    def pool(self, net: Any, features: Tensor, pooling: str) -> Tensor:
        if pooling == "cls":
            return features[:, 0]
        patches = features[:, 1:]
        return pool_tokens(patches, pooling, patches.new_ones(patches.shape[:2]))


FAMILY = ViT()
