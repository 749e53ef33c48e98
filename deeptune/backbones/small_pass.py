"""A pass of inputs of no meaning through a backbone, which shows what no configuration says of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from deeptune.backbones.base import Backbone


@contextmanager
def small_pass(backbone: Backbone) -> Iterator[dict[str, Tensor]]:
    """Give inputs of no meaning for a pass in eval mode, without gradients and in the weights' own precision.

    The modules are afterwards as they were.
    """
    modes = [(module, module.training) for module in backbone.modules()]
    device = next(backbone.parameters()).device
    backbone.eval()
    try:
        plain = nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)
        # Not in inference mode, whose tensors can't be a part of a graph.
        with torch.inference_mode(False), torch.no_grad(), plain:
            yield {name: value.to(device) for name, value in backbone.sample().items()}
    finally:
        for module, mode in modes:
            module.training = mode


def leaves(tensor: Tensor) -> Iterator[Tensor]:
    """Yield the leaves of the autograd graph that a tensor was computed from and that require gradients."""
    waiting, seen = [tensor.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if (leaf := getattr(node, "variable", None)) is not None:
            yield leaf
        waiting += (following for following, _ in node.next_functions)
