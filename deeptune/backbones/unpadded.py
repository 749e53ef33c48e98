"""Texts of a batch passed by length, for networks in which padding reaches the text beside it."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def attended(inputs: dict[str, Tensor]) -> Tensor:
    """Return the mask (B, T), with one token counted in a row that has none: softmax over nothing is not a number."""
    mask = inputs["attention_mask"]
    first = torch.zeros_like(mask)
    first[:, 0] = 1
    return torch.where(mask.sum(1, keepdim=True) == 0, first, mask)


def by_length(
    function: Callable[[dict[str, Tensor]], Tensor], inputs: dict[str, Tensor], *, shortest: int = 1, pad_id: int = 0
) -> Tensor:
    """Return `function` of right-padded texts (B, T, …), called once for all texts of one length, without padding.

    inputs: tensors (B, T, …), `input_ids` and `attention_mask` among them. A text of fewer than `shortest` tokens is
    padded to as many. What stands beyond a text's end in the result is 0.
    """
    rows, width = inputs["input_ids"].shape
    if width < shortest:
        return by_length(function, _padded(inputs, shortest, pad_id), shortest=shortest)[:, :width]
    lengths = attended(inputs).sum(1).clamp(min=shortest).tolist()
    if min(lengths) == width:
        return function(inputs)
    whole: Tensor | None = None
    for length in sorted(set(lengths)):
        same = torch.tensor([row for row, found in enumerate(lengths) if found == length])
        same = same.to(inputs["input_ids"].device)
        found = function({name: value[same, :length] for name, value in inputs.items()})
        if whole is None:
            whole = found.new_zeros(rows, width, *found.shape[2:])
        whole[same, :length] = found
    assert whole is not None
    return whole


def _padded(inputs: dict[str, Tensor], width: int, pad_id: int) -> dict[str, Tensor]:
    fill = {"input_ids": pad_id}
    return {
        name: F.pad(value, (0, 0) * (value.ndim - 2) + (0, width - value.shape[1]), value=fill.get(name, 0))
        for name, value in inputs.items()
    }
