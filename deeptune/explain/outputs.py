"""The number that is explained."""

from __future__ import annotations

from torch import Tensor


def chosen_output(logits: Tensor, outputs: Tensor) -> Tensor:
    """Give the output (B,) with an index (int64 (B,)) of each row of logits (B, outputs); -1 is the sum of all."""
    picked = logits.gather(1, outputs.clamp(min=0).unsqueeze(1)).squeeze(1)
    return picked.where(outputs >= 0, logits.sum(1))
