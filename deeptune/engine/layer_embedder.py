"""Embeddings from within a network: what a named layer gives, pooled to one vector for each sample."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from deeptune.data.loading.preprocessing import ImagePreprocessing
from deeptune.errors import SpecError, did_you_mean, listed

PROBE_TOKENS = 4


class NoOutputs(nn.Module):
    """The last layer of a model that only embeds: no logits."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_features, self.out_features = width, 0

    def forward(self, embedding: Tensor) -> Tensor:
        """Give (B, 0) for embeddings (B, width)."""
        return embedding[:, :0]


class LayerEmbedder(nn.Module):
    """A model whose embedding is what the layer `name` gives: (B, width).

    A map is averaged over its places, tokens over those that are not padding. `name` is that of a module of `model`, as
    `named_modules` spells it. Raises SpecError for another name, and for a layer without a vector for each sample.
    """

    def __init__(self, model: nn.Module, name: str, preprocessing: Any) -> None:
        super().__init__()
        self.model, self.name = model, name
        modules = dict(model.named_modules())
        if name not in modules or not name:
            known = [each for each in modules if each]
            raise SpecError(
                f"there is no layer {name!r}. {did_you_mean(name, known)}".rstrip(), hint=f"Layers: {listed(known)}."
            )
        self._layer = [modules[name]]  # in a list, or it would be registered twice
        device = next(model.parameters()).device
        self.last_layer = NoOutputs(self.embed(_check_inputs(preprocessing, device)).shape[1])

    @torch.inference_mode()
    def embed(self, inputs: dict[str, Tensor]) -> Tensor:
        """Give the layer's vectors, (B, width)."""
        given: list[Any] = []
        self.eval()
        hook = self._layer[0].register_forward_hook(lambda _module, _inputs, output: given.append(output))
        try:
            self.model.embed(inputs)  # type: ignore[operator]
        finally:
            hook.remove()  # the model may serve others too
        found = _tensor(given[0]) if given else None
        if found is None or found.ndim not in (2, 3, 4) or len(found) != len(next(iter(inputs.values()))):
            shape = "nothing" if found is None else f"a tensor of shape {tuple(found.shape)}"
            raise SpecError(
                f"layer {self.name!r} gives {shape}, not a vector for each sample",
                hint="Name a whole block of the network.",
            )
        return _pooled(found, inputs.get("attention_mask"))


def _tensor(output: Any) -> Tensor | None:
    """Return the first tensor of what a module gives."""
    if isinstance(output, Tensor):
        return output
    values = output.values() if isinstance(output, dict) else output if isinstance(output, (tuple, list)) else ()
    return next((found for value in values if (found := _tensor(value)) is not None), None)


def _pooled(found: Tensor, mask: Tensor | None) -> Tensor:
    if found.ndim == 4:
        # Images are square, so the sides of a map are equal; Swin has its channels last.
        last = found.shape[1] == found.shape[2] != found.shape[3]
        return found.mean((1, 2) if last else (2, 3))
    if found.ndim == 2:
        return found
    if mask is None or mask.shape[1] != found.shape[1]:
        return found.mean(1)
    weights = mask.to(found.dtype).unsqueeze(-1)
    return (found * weights).sum(1) / weights.sum(1).clamp(min=1)


def _check_inputs(preprocessing: Any, device: torch.device) -> dict[str, Tensor]:
    """Return the inputs of one small sample."""
    if isinstance(preprocessing, ImagePreprocessing):
        size = preprocessing.image_size
        return {"images": torch.zeros(1, 3, size, size, dtype=torch.uint8, device=device)}
    ones = torch.ones(1, PROBE_TOKENS, dtype=torch.int64, device=device)
    return {"input_ids": ones, "attention_mask": ones}
