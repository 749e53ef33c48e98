"""The interface of a backbone: inputs in, one vector per sample out; and a backbone cut in two."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deeptune.backbones.weights import fingerprint
from deeptune.catalog import BackboneInfo
from deeptune.data.loading.preprocessing import Preprocessing
from deeptune.errors import SpecError
from deeptune.spec.modalities import Input


class Backbone(nn.Module, ABC):
    """A feature extractor: `forward` maps inputs to (B, `width`) float32, `features` stops before pooling.

    `fingerprint` identifies the weights as loaded, before any tuning or adapter; it is None when no weights
    were loaded (meta device, or `load_weights=False`).
    """

    net: Any  # the library's own module: each has parts of its own
    usual_format = "contiguous"  # the memory format that CPUs and NVIDIA's GPUs are fastest in

    def __init__(
        self,
        info: BackboneInfo,
        net: nn.Module,
        *,
        width: int,
        pooling: str,
        preprocessing: Preprocessing | None,
    ) -> None:
        super().__init__()
        self.info = info
        self.net = net
        self.width = width
        self.pooling = pooling
        self.preprocessing = preprocessing
        self.fingerprint: str | None = None
        self.memory_format = "contiguous"
        self.notes: list[str] = []
        self.idle: frozenset[str] | None = None  # layers that can't take an adapter, where these were looked for

    @property
    def members(self) -> dict[str, Backbone]:
        """The backbones that this one is made of, by the beginning of their modules' names in `net`: itself."""
        return {"": self}

    def weights_fingerprint(self) -> str | None:
        """Return the fingerprint of the weights as they are."""
        return fingerprint(self.net)

    def use_preprocessing(self, preprocessing: Preprocessing) -> None:
        """Take another preprocessing than the library's own: that of a stored run."""
        self.preprocessing = preprocessing

    def check_columns(self, input: Input) -> None:
        """Add to `notes` what a person should know of the input columns. Raises SpecError where they do not fit."""
        if self.preprocessing is not None:
            self.notes += self.preprocessing.notes_on(input)

    def arrange(self, memory_format: str) -> None:
        """Lay the weights out for maps that are `contiguous` or `channels_last`; outputs differ by rounding."""
        self.memory_format = memory_format
        laid = torch.channels_last if memory_format == "channels_last" else torch.contiguous_format
        self.to(memory_format=laid)  # type: ignore[call-overload]
        for module in self.modules():
            if getattr(module, "lora_magnitude_vector", None):  # DoRA: PEFT takes views of these, as they are flat
                for parameter in (*module.lora_A.parameters(), *module.lora_B.parameters()):  # type: ignore[operator, union-attr]
                    parameter.data = parameter.data.contiguous()

    @property
    def padding_reaches(self) -> bool:
        """Whether the padding after a text changes its vectors; `features` then passes texts without any."""
        return False

    def find_behaviour(self) -> None:
        """Find out by a small pass what no configuration says of the network; `notes` are what a person should know."""

    @abstractmethod
    def features(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return unpooled features: a map (B, C, H, W) or tokens (B, T, D)."""

    @abstractmethod
    def pool(self, features: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """Reduce `features` to (B, width)."""

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        return self.pool(self.features(inputs), inputs).float()

    @abstractmethod
    def blocks(self) -> list[str]:
        """Name the modules in `net` at which its blocks begin, in the order in which they compute."""

    @abstractmethod
    def cut_at(self, blocks: list[str], place: int) -> Cut:
        """Return the backbone in two, before `blocks[place]`."""

    @abstractmethod
    def sample(self) -> dict[str, Tensor]:
        """Return inputs of no meaning, always the same, to try the forward pass with."""

    def last_blocks(self, count: int) -> Cut:
        """Return the last `count` blocks and what comes after them. Raises SpecError when there are not so many."""
        blocks = self.blocks()
        if not blocks:
            raise SpecError(
                f"tuning.unfreeze: where the blocks of {self.info.name} begin is not known.",
                hint="Set tuning.method = 'full' or 'lora' instead.",
            )
        if count > len(blocks):
            raise SpecError(
                f"tuning.unfreeze: {self.info.name} has {len(blocks)} blocks, and {count} were to learn.",
                hint=f"Set it to {len(blocks)} or less, or tuning.method = 'full' to train every weight.",
            )
        return self.cut_at(blocks, len(blocks) - count)

    def save_config(self, folder: Path) -> None:
        """Write what `load_backbone(config_dir=folder)` needs besides the spec: nothing for images."""


class CannotCut(Exception):
    """The reason why features at the boundary don't suffice, in words that continue "because"."""


class _Reached(Exception):
    """Ends a forward pass at the boundary."""

    def __init__(self, boundary: Tensor) -> None:
        self.boundary = boundary


class Cut(ABC):
    """The part of a backbone from the block `name` on, and the two halves of its forward pass.

    `prefix` gives the boundary, which is the input of that block; `suffix` makes unpooled features of it. What was
    built before that block, in the order in which the network lists its modules, belongs to the prefix; whatever
    comes after (the blocks that follow, a final norm, a convolution before the pooling) to the suffix.

    `modules` are those of the suffix, `keys` the names in the net's state dict of its weights and statistics.
    """

    def __init__(self, backbone: Backbone, name: str) -> None:
        net = backbone.net
        named = list(net.named_modules())
        start = [module_name for module_name, _ in named].index(name)
        self.backbone, self.name, self.first = backbone, name, net.get_submodule(name)
        self.modules = [module for _, module in named[start:]]
        inside = {module_name for module_name, _ in named[start:]}
        self.keys = {key for key in net.state_dict() if key.rpartition(".")[0] in inside}

    def prefix(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return the boundary: a map (B, C, H, W) or (B, H, W, C), or tokens (B, T, D)."""

        def stop(_module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
            raise _Reached(hidden_states(given, named))

        handle = self.first.register_forward_pre_hook(stop, with_kwargs=True)
        try:
            self.backbone.features(inputs)
        except _Reached as reached:
            return reached.boundary
        finally:
            handle.remove()
        raise AssertionError(f"the forward pass went past {self.name}")

    @abstractmethod
    def suffix(self, boundary: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """Compute the features from the activations at the boundary. Raises CannotCut where `check` would."""

    @abstractmethod
    def check(self) -> None:
        """Raise CannotCut unless `suffix` gives what the whole pass gives, on a small input."""

    def _require_equal(self, found: Tensor, expected: Tensor) -> None:
        scale = float(expected.abs().max()) or 1.0
        if found.shape != expected.shape or not torch.allclose(found, expected, rtol=0, atol=1e-5 * scale):
            raise CannotCut(f"{self.backbone.info.name} computes more than its blocks one after the other")


def hidden_states(given: tuple[Any, ...], named: dict[str, Any]) -> Tensor:
    """Return the one tensor that a block was given. Raises CannotCut where it was given something else."""
    hidden = given[0] if given else named.get("hidden_states")
    if not isinstance(hidden, Tensor):
        raise CannotCut("its blocks are given something else than one tensor")
    return hidden


def resolve_pooling(info: BackboneInfo, asked: str, default: str, allowed: Iterable[str]) -> str:
    """Return `asked`, or `default` for "auto". Raises SpecError for a pooling that the backbone does not have."""
    if asked in ("auto", default):
        return default
    if asked not in (allowed := tuple(allowed)):
        raise SpecError(
            f"backbone.pooling: {info.name} has no pooling {asked!r}.",
            hint="Choose one of: " + ", ".join(dict.fromkeys(("auto", *allowed))) + ".",
        )
    return asked
