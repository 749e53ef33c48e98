"""The interface of a family of torchvision networks. Imports no torch before a network is built."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from deeptune.errors import SpecError
from deeptune.pooling import MAP_POOLING, pool_map

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Variant:
    """A network of a family, by its name in torchvision. A test builds each and compares these numbers.

    `parameters` are without the classifier, `input_size` is pixels on a side. `lora_per_rank` counts the parameters of
    the default adapters for each rank, `lora_outputs` the outputs of the adapted layers. `activation_mb` is what an
    image keeps for the backward pass, in fp32 and at `input_size`.
    """

    name: str
    parameters: int
    width: int
    input_size: int
    lora_per_rank: int
    lora_outputs: int
    activation_mb: int
    weights_file: str


def table(*rows: tuple[str, int, int, int, int, int, int, str]) -> tuple[Variant, ...]:
    """Make variants of rows that hold the fields in their order."""
    return tuple(Variant(*row) for row in rows)


class Family(ABC):
    """A family of networks: its rows in the catalog, and how a network of torchvision becomes a feature extractor.

    `net` is always torchvision's own module, after `remove_classifier`.
    """

    name: ClassVar[str]
    kind: ClassVar[Literal["cnn", "transformer"]]  # decides the recipe and the rank of adapters
    variants: ClassVar[tuple[Variant, ...]]
    classifier: ClassVar[str]  # name of the module in `net`
    pooling: ClassVar[str] = "mean"  # what "auto" means
    poolings: ClassVar[tuple[str, ...]] = MAP_POOLING
    lora_targets: ClassVar[tuple[str, ...] | None] = None  # endings of names; None: the kind that holds most weights
    lora_all_kinds: ClassVar[bool] = False  # adapt linear layers and convolutions alike, where `lora_targets` is None
    min_size: ClassVar[int] = 8  # pixels on a side

    @abstractmethod
    def blocks(self, net: Any) -> list[str]:
        """Name the modules at which the blocks begin, in the order in which they compute."""

    def patch(self, name: str) -> int | None:
        """Return the pixels on a side of a patch that has a learned position of its own, for the network `name`."""
        return None

    def options(self, size: int) -> dict[str, Any]:
        """Return the arguments that torchvision's builder takes for images of `size` pixels."""
        return {}

    def build(self, name: str, options: dict[str, Any]) -> Any:
        """Build the network with torchvision's builder, on the default device."""
        from torchvision import models

        return models.get_model(name, weights=None, **options)

    def check_size(self, name: str, size: int) -> None:
        """Raise SpecError for an image size that the network `name` can't take."""
        if size < self.min_size:
            raise SpecError(f"backbone.image_size: {name} needs at least {self.min_size} pixels, got {size}.")

    def remove_classifier(self, net: Any, pooling: str) -> int:
        """Leave out of `net` what follows the features that are pooled, and return their width."""
        from torch import nn

        classifier = net.get_submodule(self.classifier)
        setattr(net, self.classifier, nn.Identity())
        width: int = next(module for module in classifier.modules() if isinstance(module, nn.Linear)).in_features
        return width

    def ignored_keys(self, pooling: str) -> tuple[str, ...]:
        """Return the prefixes of the weights in torchvision's files that have no place in `net`."""
        return (f"{self.classifier}.",)

    def adjust_state(self, net: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Adjust the weights of a file to `net`: older names, another image size."""
        return state

    def features(self, net: Any, x: Tensor) -> Tensor:
        """Map normalised images (B, 3, S, S) to a map (B, C, H, W), or to tokens (B, T, D)."""
        features: Tensor = net.features(x)
        return features

    def pool(self, net: Any, features: Tensor, pooling: str) -> Tensor:
        """Reduce what `features` returns to (B, width)."""
        return pool_map(features, pooling)


def require_multiple(name: str, size: int, step: int, reason: str) -> None:
    """Raise SpecError, with the nearest sizes, where `size` is not a multiple of `step`."""
    if size % step:
        below, above = size // step * step, -(-size // step) * step
        nearest = " or ".join(str(valid) for valid in (below, above) if valid)
        raise SpecError(
            f"backbone.image_size: {name} {reason}, and {size} is not a multiple of that.",
            hint=f"The nearest sizes are {nearest}.",
        )
