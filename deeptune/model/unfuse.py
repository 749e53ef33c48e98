"""Fused attention, rewritten so that its projections are called as modules.

`nn.MultiheadAttention` and torchvision's `ShiftedWindowAttention` read `qkv.weight` and `proj.weight`
directly, so an adapter that wraps those layers is bypassed without a word. These modules compute the same
with the same parameters, by calling the layers. Only the adapters need them.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.swin_transformer import ShiftedWindowAttention
from torchvision.models.vision_transformer import EncoderBlock


def unfuse_attention(net: nn.Module) -> int:
    """Make the attention of torchvision's ViT and Swin, and of timm's BEiT, EVA and Swin V2, call its projections.

    Works in place, and returns how many modules it changed.
    """
    switched: list[Any] = [module for module in net.modules() if getattr(module, "qkv_bias_separate", None) is False]
    for module in switched:
        module.qkv_bias_separate = True  # timm's own switch: the projection is called, and its bias is added after it
    found: list[tuple[nn.Module, str, nn.Module]] = []
    for parent in net.modules():
        for name, child in parent.named_children():
            if isinstance(parent, EncoderBlock) and isinstance(child, nn.MultiheadAttention):
                found.append((parent, name, SelfAttention(child)))
            elif type(child) is ShiftedWindowAttention:  # Swin V2 scales its logits in another way
                found.append((parent, name, WindowAttention(child)))
    for parent, name, module in found:
        setattr(parent, name, module)
    return len(switched) + len(found)


class SelfAttention(nn.Module):
    """Self-attention over (B, T, D) with the parameters of a batch-first `nn.MultiheadAttention`.

    Called as torchvision's encoder block calls that: query, key and value are one tensor.
    """

    def __init__(self, fused: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads = fused.num_heads
        self.dropout = fused.dropout
        self.qkv = _linear(fused.in_proj_weight, fused.in_proj_bias)
        self.proj = _linear(fused.out_proj.weight, fused.out_proj.bias)
        self.train(fused.training)

    def forward(self, x: Tensor, key: Tensor, value: Tensor, need_weights: bool = False) -> tuple[Tensor, None]:
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0)
        return self.proj(x.transpose(1, 2).reshape(batch, tokens, width)), None


class WindowAttention(nn.Module):
    """Shifted-window attention over (B, H, W, C) with the parameters of torchvision's Swin V1.

    Liu et al. 2021, https://arxiv.org/abs/2103.14030, section 3.2: relative position bias, cyclic shift,
    and a mask that keeps apart what the shift has put side by side.
    """

    relative_position_index: Tensor

    def __init__(self, fused: ShiftedWindowAttention) -> None:
        super().__init__()
        self.window = fused.window_size
        self.shift = fused.shift_size
        self.heads = fused.num_heads
        self.attention_dropout = fused.attention_dropout
        self.dropout = fused.dropout
        self.qkv = fused.qkv
        self.proj = fused.proj
        self.relative_position_bias_table = fused.relative_position_bias_table
        self.register_buffer("relative_position_index", fused.relative_position_index)
        self.train(fused.training)

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        window_h, window_w = self.window
        x = F.pad(x, (0, 0, 0, -width % window_w, 0, -height % window_h))
        padded_h, padded_w = x.shape[1:3]
        rows, columns = padded_h // window_h, padded_w // window_w
        # One window has no neighbour to look at.
        shift_h, shift_w = (0 if n == 1 else s for n, s in zip((rows, columns), self.shift, strict=True))

        x = torch.roll(x, (-shift_h, -shift_w), (1, 2))
        x = x.view(batch, rows, window_h, columns, window_w, channels).transpose(2, 3)
        x = x.reshape(batch * rows * columns, window_h * window_w, channels)

        q, k, v = self.qkv(x).view(*x.shape[:2], 3, self.heads, channels // self.heads).permute(2, 0, 3, 1, 4)
        bias = self._position_bias()
        if shift_h or shift_w:
            apart = self._apart(padded_h, padded_w, shift_h, shift_w, x.device)
            bias = bias + torch.zeros_like(apart, dtype=bias.dtype).masked_fill(apart, -100.0).unsqueeze(1)
            bias = bias.repeat(batch, 1, 1, 1)
        x = F.scaled_dot_product_attention(
            q, k, v, attn_mask=bias.to(q.dtype), dropout_p=self.attention_dropout if self.training else 0.0
        )
        x = self.proj(x.transpose(1, 2).reshape(-1, window_h * window_w, channels))
        x = F.dropout(x, self.dropout, self.training)

        x = x.view(batch, rows, columns, window_h, window_w, channels).transpose(2, 3)
        x = x.reshape(batch, padded_h, padded_w, channels)
        return torch.roll(x, (shift_h, shift_w), (1, 2))[:, :height, :width].contiguous()

    def _position_bias(self) -> Tensor:
        """Return the bias (1, heads, tokens, tokens) for the tokens of one window."""
        tokens = self.window[0] * self.window[1]
        bias = self.relative_position_bias_table[self.relative_position_index]
        return bias.view(tokens, tokens, -1).permute(2, 0, 1).unsqueeze(0)

    def _apart(self, height: int, width: int, shift_h: int, shift_w: int, device: torch.device) -> Tensor:
        """Return a mask (windows, tokens, tokens), True where two tokens of a window come from different regions."""
        window_h, window_w = self.window

        def bands(length: int, window: int, shift: int) -> Tensor:
            position = torch.arange(length, device=device)
            return (position >= length - window).long() + (position >= length - shift).long()

        region = 3 * bands(height, window_h, shift_h).unsqueeze(1) + bands(width, window_w, shift_w)
        region = region.view(height // window_h, window_h, width // window_w, window_w).transpose(1, 2)
        region = region.reshape(-1, window_h * window_w)
        return region.unsqueeze(1) != region.unsqueeze(2)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Make a layer around parameters that exist already. They are shared, not copied."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = weight  # type: ignore[assignment]
    if bias is not None:
        layer.bias = bias  # type: ignore[assignment]
    return layer
