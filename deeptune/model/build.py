"""RunSpec + Backbone → one module that is trained, evaluated and stored."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from deeptune.backbones.base import Backbone, Cut
from deeptune.backbones.weights import seeded
from deeptune.errors import CheckpointError, listed
from deeptune.model.head import Head, ScaledLinear
from deeptune.model.lora import inject_lora, is_adapter_key, merge_lora
from deeptune.spec.run_spec import Method, RunSpec
from deeptune.spec.tasks import TASKS

_OWN_SPEC = "The checkpoint belongs to another spec: use the spec.toml of its own run."


class TunedModel(nn.Module):
    """A backbone and a head, of which `method` says what learns; with `partial` also the backbone's part behind `cut`.

    Inputs are those of the backbone, or {"features": float32 (B, width)}, already pooled: then the backbone
    is not run; or {"boundary": what `cut.prefix` gives, with a text's own inputs}: then its frozen part is not run.
    Logits are (B, outputs).
    """

    frozen_statistics = False  # of batch normalisation, where the backbone learns

    def __init__(self, backbone: Backbone, head: Head, method: Method, cut: Cut | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.method: Method = method
        self.cut = cut
        self.train(self.training)

    @property
    def last_layer(self) -> nn.Linear:
        return self.head.last_layer

    def embed(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return (B, E): exactly what the last layer consumes in eval mode."""
        return self.head.embed(self.pooled(inputs))

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        return self.head(self.pooled(inputs))

    def pooled(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return (B, width): what the head consumes."""
        if "features" in inputs:
            return inputs["features"]
        if "boundary" in inputs:
            assert self.cut is not None
            return self.backbone.pool(self.cut.suffix(inputs["boundary"], inputs), inputs).float()
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return self.backbone(inputs)

    @property
    def frozen(self) -> bool:
        """Say whether nothing of the backbone learns."""
        return self.method == "partial" and self.cut is None

    def train(self, mode: bool = True) -> TunedModel:
        """Set train mode for what learns. What is frozen stays in eval mode, and so do its statistics."""
        super().train(mode)
        if self.method == "partial":
            self.backbone.eval()
            for module in self.cut.modules if self.cut else ():
                module.training = mode
        if self.method == "lora" or self.frozen_statistics:
            for module in self.backbone.modules():
                if isinstance(module, _NormBase) or hasattr(module, "running_var"):
                    module.eval()
        return self

    def tuned_state(self) -> dict[str, Tensor]:
        """Return the tensors that a checkpoint holds.

        These are all for `full`, the head and the part of the backbone that learns for `partial`, head and adapters for
        `lora`.
        """
        return {name: tensor for name, tensor in self.state_dict().items() if self._is_tuned(name)}

    def load_tuned_state(self, state: Mapping[str, Tensor]) -> None:
        """Load what `tuned_state` gave. Raises CheckpointError unless names and shapes are exactly those."""
        own = self.tuned_state()
        problems = [
            f"{kind}: {listed(sorted(names), most=5)}"
            for kind, names in (
                ("missing", own.keys() - state.keys()),
                ("unexpected", state.keys() - own.keys()),
                ("of another shape", {n for n in own.keys() & state.keys() if own[n].shape != state[n].shape}),
            )
            if names
        ]
        if problems:
            raise CheckpointError(
                "The checkpoint does not fit the model. Keys " + "; ".join(problems) + ".", hint=_OWN_SPEC
            )
        self.load_state_dict(dict(state), strict=False)

    def exact_state(self) -> dict[str, Tensor]:
        """Return the parameters and scales that a tuned state folds together, so that training continues bit by bit."""
        return {
            f"{name}.{part}": getattr(module, part)
            for name, module in self.named_modules()
            if isinstance(module, ScaledLinear)
            for part in ("weight", "bias", "shift", "scale")
        }

    def load_exact_state(self, state: Mapping[str, Tensor]) -> None:
        """Load what `exact_state` gave. Raises CheckpointError unless the names are exactly those."""
        own = self.exact_state()
        if own.keys() != state.keys():
            raise CheckpointError(
                "The checkpoint does not fit the model: it was trained with another head.", hint=_OWN_SPEC
            )
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(state[name])

    def merge(self) -> None:
        """Fold the adapters into the weights beside them, in place; the outputs stay what they were.

        The model is then one of method `full`, without adapters.
        """
        merge_lora(self.backbone.net)
        self.method = "full"

    def counts(self) -> tuple[int, int]:
        """Count the trainable parameters and all parameters."""
        sizes = [(parameter.numel(), parameter.requires_grad) for parameter in self.parameters()]
        return sum(size for size, trainable in sizes if trainable), sum(size for size, _ in sizes)

    def _is_tuned(self, name: str) -> bool:
        if self.method == "full" or name.startswith("head."):
            return True
        if self.method == "lora":
            return is_adapter_key(name)
        return self.cut is not None and name.removeprefix("backbone.net.") in self.cut.keys


def build_model(spec: RunSpec, backbone: Backbone, outputs: int, *, adapted: list[str] | None = None) -> TunedModel:
    """Put a head on a backbone and set what learns; `adapted` names the layers that a stored model has adapters at.

    `spec.train.seed` governs the initial values of the head and then of the adapters. Raises SpecError if
    the LoRA targets match nothing, or if the backbone has not as many blocks as are to learn.
    """
    method = spec.tuning.method
    cut = backbone.last_blocks(spec.tuning.unfreeze) if spec.tuning.unfreeze else None
    backbone.requires_grad_(method == "full")
    if cut is not None:
        for name, parameter in backbone.net.named_parameters():
            parameter.requires_grad_(name in cut.keys)
    with seeded(spec.train.seed):
        head = Head(spec.head, backbone.width, outputs, ordered=TASKS[spec.task].ordered)
        if method == "lora":
            inject_lora(backbone, spec.tuning.lora, adapted)
    if spec.train.memory_format != "auto":
        backbone.arrange(spec.train.memory_format)  # with its adapters
    model = TunedModel(backbone, head.to(next(backbone.net.parameters()).device), method, cut)
    model.frozen_statistics = spec.train.batch_norm == "frozen"
    return model
