"""The layers after pooling: one, or two with the embedding between them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deeptune.spec.run_spec import HeadSpec

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


# Shares of the features' size (their root mean square).
MIN_SPREAD = 1e-4  # a smaller spread is little more than the rounding of float32
MIN_SCALE = 1e-3
MIN_SIZE = 1e-6  # features below it come from a network that lets nothing through


def collapsed(features: Tensor) -> str | None:
    """Return a sentence when features (N, width) say next to nothing of their rows."""
    size, spread = _size_and_spread(features.cpu().double())
    if len(features) < 2 or (spread >= MIN_SPREAD * size and size >= MIN_SIZE):
        return None
    found = "features near zero" if size < MIN_SIZE else "nearly the same features"
    return (
        f"the backbone gives {found} for every training row ({size:.2g} ± {spread:.1g}): a head can't learn from "
        "them. Check that the backbone has its pretrained weights and suits these samples"
    )


def _size_and_spread(features: Tensor) -> tuple[float, float]:
    """Return the root mean square of features (N, width), and of their differences from the mean row."""
    spread = features.var(dim=0, correction=0).mean().sqrt()
    return float(features.square().mean().sqrt()), float(spread)


class ScaledLinear(nn.Linear):
    """A linear layer that learns in the scale of its input and is a plain `nn.Linear` to everybody else.

    Its parameters act on `(x - shift) / scale`; `forward` folds that into a plain weight and bias, and the state
    dict holds only these. Until `set_scale` is called, shift is 0 and scale is 1: nothing is folded.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.register_buffer("shift", torch.zeros(in_features), persistent=False)
        self.register_buffer("scale", torch.ones(in_features), persistent=False)

    def set_scale(self, features: Tensor, *, common: bool = False) -> None:
        """Take shift and scale from features (N, in_features).

        The scale is sqrt(var_j + mean(var)): features that hardly vary are not blown up, as they would be by
        their own deviation. With `common` it is sqrt(2 mean(var)), the same for all. It is at least MIN_SCALE of the
        features' size, so that rounding is not blown up. Where the features are below MIN_SIZE it is 1 and nothing is
        shifted.
        """
        features = features.cpu().double()  # not every device has float64
        variance = features.var(dim=0, correction=0)
        size, _ = _size_and_spread(features)
        if size < MIN_SIZE:
            return
        self.shift.copy_(features.mean(dim=0))
        own = variance.mean() if common else variance
        self.scale.copy_((own + variance.mean()).sqrt().clamp(min=MIN_SCALE * size))

    def plain(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the equal plain layer."""
        weight = self.weight / self.scale
        return weight, self.bias - (weight * self.shift).sum(dim=1)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, *self.plain())

    @torch.no_grad()
    def add_gradients(self, input: Tensor, gradient: Tensor) -> None:
        """Add to the parameters' gradients what autograd would, for that of the outputs (B, out_features).

        The operations are autograd's, so the bits are, too; its graph takes longer than they do.
        """
        of_bias = gradient.sum(dim=0)
        of_weight = gradient.t().mm(input)
        of_weight += -of_bias[:, None] * self.shift
        of_weight /= self.scale
        for parameter, found in ((self.weight, of_weight), (self.bias, of_bias)):
            parameter.grad = found if parameter.grad is None else parameter.grad.add_(found)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        for name, value in zip(("weight", "bias"), self.plain(), strict=True):
            destination[prefix + name] = value if keep_vars else value.detach()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        self.shift.zero_()
        self.scale.fill_(1.0)
        super()._load_from_state_dict(state_dict, prefix, *args)


class OrderedLinear(ScaledLinear):
    """One score, and a threshold below each class but the lowest: (B, in_features) to log odds (B, outputs).

    `weight` is (1, in_features). `bias` holds the lowest threshold and then what gives the distance to each next one
    (its softplus), so that thresholds always rise. Both are stored like this.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.weight = nn.Parameter(self.weight[:1].detach().clone())

    def plain(self) -> tuple[Tensor, Tensor]:
        """Weight and thresholds' bias in the scale of the input."""
        weight = self.weight / self.scale
        lowest = self.bias[:1] + (weight * self.shift).sum(dim=1)
        return weight, torch.cat([lowest, self.bias[1:]])

    def forward(self, input: Tensor) -> Tensor:
        weight, bias = self.plain()
        thresholds = torch.cat([bias[:1], F.softplus(bias[1:])]).cumsum(dim=0)
        return F.linear(input, weight) - thresholds


class Head(nn.Module):
    """`Linear`, or `Linear → activation → dropout → Linear`: (B, width) to logits (B, outputs), in float32.

    `embed` gives what the last layer consumes in eval mode: the pooled features themselves with one layer,
    the activated (B, embedding_size) with two. Dropout acts before the last layer, in train mode only.
    """

    def __init__(self, spec: HeadSpec, width: int, outputs: int, *, ordered: bool = False) -> None:
        super().__init__()
        self.embedding: nn.Module = nn.Identity()
        self.embedding_size = width
        if spec.layers == 2:
            self.embedding = nn.Sequential(ScaledLinear(width, spec.embedding_size), _ACTIVATIONS[spec.activation]())
            self.embedding_size = spec.embedding_size
        self.dropout = nn.Dropout(spec.dropout)
        linear = OrderedLinear if ordered else ScaledLinear if spec.layers == 1 else nn.Linear
        self.last_layer: nn.Linear = linear(self.embedding_size, outputs)

    def standardise(self, features: Tensor) -> None:
        """Start the first layer in the scale of features (N, width), seen before training.

        A single layer then starts at zero, as logistic regression does: what it starts from in directions that
        the training rows don't span would stay in it for good.
        """
        first = self.embedding[0] if isinstance(self.embedding, nn.Sequential) else self.last_layer
        assert isinstance(first, ScaledLinear)
        first.set_scale(features)
        if first is self.last_layer:
            nn.init.zeros_(first.weight)
            nn.init.zeros_(first.bias)

    @property
    def only_layer(self) -> ScaledLinear | None:
        """The layer, where the head is nothing but a scaled one: outputs are what it gives of the features."""
        plain = type(self.last_layer) is ScaledLinear and isinstance(self.embedding, nn.Identity)
        return self.last_layer if plain and not self.dropout.p else None  # type: ignore[return-value]

    def embed(self, pooled: Tensor) -> Tensor:
        with torch.autocast(pooled.device.type, enabled=False):  # too small to gain from less precision
            return self.embedding(pooled.float())

    def forward(self, pooled: Tensor) -> Tensor:
        with torch.autocast(pooled.device.type, enabled=False):
            return self.last_layer(self.dropout(self.embedding(pooled.float())))
