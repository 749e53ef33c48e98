"""Low-rank adapters through PEFT, for every backbone.

Hu et al. 2021 (https://arxiv.org/abs/2106.09685); rank-stabilised scale: Kalajdzievski 2023
(https://arxiv.org/abs/2312.03732); weight decomposition: Liu et al. 2024 (https://arxiv.org/abs/2402.09353).
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING

from torch import nn

from deeptune.backbones.base import Backbone
from deeptune.errors import SpecError, listed
from deeptune.spec.model import LoraSpec

if TYPE_CHECKING:
    from peft.tuners.tuners_utils import BaseTunerLayer

# A transformer's adapters stay under this share of its parameters, a CNN's under the second.
LARGEST_SHARE = {"linear": 0.05, "convolution": 0.10}


def inject_lora(backbone: Backbone, spec: LoraSpec) -> list[str]:
    """Freeze the backbone, put trainable adapters beside its target layers, and return the targets' names.

    Fused attention is rewritten first, so that adapters on its projections act. The adapters' initial
    values come from torch's CPU generator. Raises SpecError if the targets match nothing that can be adapted.
    """
    from peft import LoraConfig, inject_adapter_in_model  # takes seconds: only runs with adapters wait for it

    from deeptune.model.unfuse import unfuse_attention

    unfuse_attention(backbone.net)
    names = find_targets(backbone, spec.targets)
    rank, alpha = resolve_rank(backbone, spec)
    backbone.requires_grad_(False)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # the scale is a quotient: any number will do
        lora_dropout=spec.dropout,
        target_modules="|".join(re.escape(name) for name in names),
        use_rslora=spec.variant == "rslora",
        use_dora=spec.variant == "dora",
    )
    on_meta = any(parameter.is_meta for parameter in backbone.net.parameters())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*fan_in_fan_out.*")  # PEFT sets it right for Conv1D itself
        inject_adapter_in_model(config, backbone.net, low_cpu_mem_usage=on_meta)
    return names


def find_targets(backbone: Backbone, targets: list[str] | str) -> list[str]:
    """Full names of the layers to adapt, for name endings or "auto"; the attention must be unfused already.

    "auto" is the catalog's choice for the family, or else the layers of the kind (linear or convolution) that
    holds most of the weights. Grouped convolutions are left out.
    """
    layers = _adaptable(backbone.net)
    if targets == "auto":
        if backbone.info.lora_targets is None:
            kinds = {_kind(layers[name]) for name in layers} if backbone.info.family == "vgg" else {main_kind(backbone)}
            return [name for name, layer in layers.items() if _kind(layer) in kinds]
        targets = list(backbone.info.lora_targets)
    names = [name for name in layers if _ends_with(name, targets)]
    if not names:
        left_out = [
            name
            for name, module in backbone.net.named_modules()
            if isinstance(module, nn.Conv2d) and module.groups > 1 and _ends_with(name, targets)
        ]
        why = f"only grouped convolutions, which are left out ({listed(left_out, most=3)})" if left_out else "no layer"
        raise SpecError(
            f"tuning.lora.targets: {listed(targets)} matches {why} of {backbone.info.name}.",
            hint="Name endings that can be adapted: " + listed(_endings(layers), most=24) + ".",
        )
    return names


def resolve_rank(backbone: Backbone, spec: LoraSpec) -> tuple[int, float]:
    """Rank and alpha with every "auto" replaced.

    The catalog's families have a rank of their own. For other models it starts at 16 for linear layers, 4 for
    convolutions, and is halved until the adapters are a small share of the model's parameters.
    """
    if spec.rank != "auto":
        rank = spec.rank
    elif backbone.info.parameters is not None:
        rank = backbone.info.lora_rank
    else:
        kind = main_kind(backbone)
        rank = 16 if kind == "linear" else 4
        layers = _adaptable(backbone.net)
        per_rank = sum(_size_per_rank(layers[name]) for name in find_targets(backbone, spec.targets))
        total = sum(parameter.numel() for parameter in backbone.net.parameters())
        while rank > 1 and rank * per_rank > LARGEST_SHARE[kind] * total:
            rank //= 2
    return rank, float(2 * rank if spec.alpha == "auto" else spec.alpha)


def main_kind(backbone: Backbone) -> str:
    """ "linear" or "convolution": whichever kind of adaptable layer holds more of the weights."""
    held = {"linear": 0, "convolution": 0}
    for layer in _adaptable(backbone.net).values():
        held[_kind(layer)] += layer.weight.numel()  # type: ignore[union-attr, operator]
    return "linear" if held["linear"] >= held["convolution"] else "convolution"


def adapters(net: nn.Module) -> Iterable[tuple[str, BaseTunerLayer]]:
    """Name and layer of every adapted layer."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [(name, module) for name, module in net.named_modules() if isinstance(module, BaseTunerLayer)]


def is_adapter_key(name: str) -> bool:
    """Whether a key of a state dict belongs to an adapter."""
    return any(part.startswith("lora_") for part in name.split("."))


def merge_lora(net: nn.Module) -> None:
    """Add every adapter to the weight beside it and put the plain layer back in its place."""
    for name, layer in adapters(net):
        layer.merge()
        net.set_submodule(name, layer.get_base_layer())


def _adaptable(net: nn.Module) -> dict[str, nn.Module]:
    """Layers that PEFT can adapt and that are called as modules, by name."""
    fused = {
        id(child) for module in net.modules() if isinstance(module, nn.MultiheadAttention) for child in module.modules()
    }
    # GPT-2's own linear layer: whoever built one has imported its module.
    transformers = sys.modules.get("transformers.pytorch_utils")
    linear = (nn.Linear, transformers.Conv1D) if transformers else (nn.Linear,)
    return {
        name: module
        for name, module in net.named_modules()
        if id(module) not in fused
        and (isinstance(module, linear) or (isinstance(module, nn.Conv2d) and module.groups == 1))
    }


def _kind(layer: nn.Module) -> str:
    return "convolution" if isinstance(layer, nn.Conv2d) else "linear"


def _size_per_rank(layer: nn.Module) -> int:
    if isinstance(layer, nn.Conv2d):
        height, width = layer.kernel_size
        return layer.in_channels * height * width + layer.out_channels
    rows, columns = layer.weight.shape  # type: ignore[union-attr, misc]
    return int(rows + columns)


def _ends_with(name: str, endings: Iterable[str]) -> bool:
    return any(name == ending or name.endswith(f".{ending}") for ending in endings)


def _endings(layers: Iterable[str]) -> list[str]:
    """The last part of each name; with the part before it where that is a bare number."""
    endings: dict[str, None] = {}
    for name in layers:
        parts = name.split(".")
        endings[".".join(parts[-2:] if parts[-1].isdigit() else parts[-1:])] = None
    return list(endings)
