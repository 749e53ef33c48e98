"""Low-rank adapters through PEFT, for every backbone.

Hu et al. 2021 (https://arxiv.org/abs/2106.09685); rank-stabilised scale: Kalajdzievski 2023
(https://arxiv.org/abs/2312.03732); weight decomposition: Liu et al. 2024 (https://arxiv.org/abs/2402.09353).
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from torch import nn

from deeptune.backbones.base import Backbone
from deeptune.backbones.behaviour import idle_layers
from deeptune.errors import SpecError, listed
from deeptune.spec.run_spec import LoraSpec

if TYPE_CHECKING:
    from peft.tuners.tuners_utils import BaseTunerLayer

# A transformer's adapters stay under this share of its parameters, a CNN's under the second.
MAX_SHARE = {"linear": 0.05, "convolution": 0.10}
_OTHER_METHODS = "Set tuning.method = 'partial' (tuning.unfreeze = N lets the last N blocks learn too), or 'full'."
_STATE_SPACE_MODELS = ("falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h")


def inject_lora(backbone: Backbone, spec: LoraSpec, names: list[str] | None = None) -> list[str]:
    """Freeze the backbone, put trainable adapters beside its target layers, and return the targets' names.

    Fused attention is rewritten first, so that adapters on its projections act. `names` are those of a stored model,
    which are not looked for again. The adapters' initial values come from torch's CPU generator. Raises SpecError if
    the targets match nothing that can be adapted.
    """
    from peft import LoraConfig, inject_adapter_in_model  # takes seconds: only runs with adapters wait for it

    if names is None:
        names, idle = find_targets(backbone, spec.targets), _idle(backbone)
        if left_out := [name for name in _matching(backbone, spec.targets) if name in idle]:
            backbone.notes.append(
                f"no adapter is put beside {len(left_out):,} layers of {backbone.info.name}, as it could not learn "
                f"there: {listed(_endings(left_out), most=8)}"
            )
    else:
        _unfuse(backbone)
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
    if spec.variant != "dora":  # whose norms are computed in the type of the input
        _keep_input_types(backbone.net)
    return names


def _keep_input_types(net: nn.Module) -> None:
    """Spare the copy of each adapter's input to fp32, which autocast would round to 16 bits again."""
    from peft.tuners.lora import LoraLayer

    for module in net.modules():
        if isinstance(module, LoraLayer):
            module.cast_input_dtype_enabled = False


def find_targets(backbone: Backbone, targets: list[str] | str) -> list[str]:
    """Return the full names of the layers to adapt, for name endings or "auto".

    "auto" is the catalog's choice for the family, or else the layers of the kind (linear or convolution) that
    holds most of the weights. Grouped convolutions are left out, and layers whose output does not
    reach the network's: an adapter there could not learn. Raises SpecError where nothing is left.
    """
    matching, idle = _matching(backbone, targets), _idle(backbone)
    names = [name for name in matching if name not in idle]
    able = _endings(name for name in _adaptable(backbone.net) if name not in idle)
    hint = f"Name endings that can be adapted: {listed(able, most=24)}." if able else _OTHER_METHODS
    if targets == "auto":
        if not names:
            raise SpecError(f"tuning.method: no layer of {backbone.info.name} can take an adapter.", hint=hint)
        return names
    for target in targets:
        found = [name for name in matching if _ends_with(name, [target])]
        if found and not set(found) - idle:
            raise SpecError(
                f"tuning.lora.targets: {target!r} names layers of {backbone.info.name} whose adapters could not learn "
                f"({listed(found, most=3)}): their weights are read without calling them, or nothing of them reaches "
                "the output.",
                hint=hint,
            )
    if not names:
        left_out = [
            name
            for name, module in backbone.net.named_modules()
            if isinstance(module, nn.Conv2d) and module.groups > 1 and _ends_with(name, targets)
        ]
        why = f"only grouped convolutions, which are left out ({listed(left_out, most=3)})" if left_out else "no layer"
        raise SpecError(f"tuning.lora.targets: {listed(targets)} matches {why} of {backbone.info.name}.", hint=hint)
    return names


def _unfuse(backbone: Backbone) -> None:
    from deeptune.model.unfuse import unfuse_attention  # imports torchvision, for seconds

    for member in backbone.members.values():
        unfuse_attention(member.net)


def _matching(backbone: Backbone, targets: list[str] | str) -> list[str]:
    """Name the adaptable layers that `targets` mean, whether or not adapters could act there."""
    members = backbone.members.items()
    return [prefix + name for prefix, member in members for name in _matching_in(member, targets)]


def _matching_in(backbone: Backbone, targets: list[str] | str) -> list[str]:
    """Name those of a backbone that has no members but itself."""
    _unfuse(backbone)
    layers = _adaptable(backbone.net)
    if targets == "auto" and backbone.info.lora_targets is None:
        idle = _idle_in(backbone)
        able = {name: layer for name, layer in layers.items() if name not in idle}
        kinds = {_kind(layer) for layer in able.values()} if backbone.info.lora_all_kinds else {_main_kind(able)}
        return [name for name, layer in layers.items() if _kind(layer) in kinds]
    endings = backbone.info.lora_targets if targets == "auto" else targets
    return [name for name in layers if _ends_with(name, endings or ())]


def _idle(backbone: Backbone) -> frozenset[str]:
    """Name the adaptable layers whose adapters could not act."""
    members = backbone.members.items()
    return frozenset(prefix + name for prefix, member in members for name in _idle_in(member))


def _idle_in(backbone: Backbone) -> frozenset[str]:
    """Name those of a backbone that has no members but itself."""
    if backbone.idle is None:
        _unfuse(backbone)
        layers = _adaptable(backbone.net)
        by_kernels = {name for name in layers if _read_by_kernels(backbone.net, name)}
        backbone.idle = frozenset(idle_layers(backbone, layers)) | by_kernels
    return backbone.idle


def _read_by_kernels(net: nn.Module, name: str) -> bool:
    """Say whether state-space kernels read the weight on a GPU: PEFT refuses an adapter there."""
    kind = getattr(getattr(net, "config", None), "model_type", None)
    return kind in _STATE_SPACE_MODELS and name.rpartition(".")[2] in ("out_proj", "conv1d")


def resolve_rank(backbone: Backbone, spec: LoraSpec) -> tuple[int, float]:
    """Return rank and alpha, with every "auto" replaced; of two backbones the smaller rank, which fits both.

    The catalog's families have a rank of their own. For other models it starts at 16 for linear layers, 4 for
    convolutions, and is halved until the adapters are a small share of the model's parameters.
    """
    if spec.rank != "auto":
        rank = spec.rank
    else:
        find_targets(backbone, spec.targets)  # of two backbones, they may be layers of one alone
        rank = min(_own_rank(member, spec) for member in backbone.members.values())
    return rank, float(2 * rank if spec.alpha == "auto" else spec.alpha)


def _own_rank(backbone: Backbone, spec: LoraSpec) -> int:
    if backbone.info.parameters is not None:
        return backbone.info.lora_rank
    kind = main_kind(backbone)
    rank = 16 if kind == "linear" else 4
    layers, idle = _adaptable(backbone.net), _idle_in(backbone)
    adapted = [name for name in _matching_in(backbone, spec.targets) if name not in idle]
    per_rank = sum(_size_per_rank(layers[name]) for name in adapted)
    total = sum(parameter.numel() for parameter in backbone.net.parameters())
    while rank > 1 and rank * per_rank > MAX_SHARE[kind] * total:
        rank //= 2
    return rank


def main_kind(backbone: Backbone) -> str:
    """Say which kind of adaptable layer holds more of the weights: "linear" or "convolution"."""
    return _main_kind(_adaptable(backbone.net))


def _main_kind(layers: Mapping[str, nn.Module]) -> str:
    held = {"linear": 0, "convolution": 0}
    for layer in layers.values():
        held[_kind(layer)] += layer.weight.numel()  # type: ignore[union-attr, operator]
    return "linear" if held["linear"] >= held["convolution"] else "convolution"


def adapters(net: nn.Module) -> Iterable[tuple[str, BaseTunerLayer]]:
    """Return the name and the layer of every adapted layer."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [(name, module) for name, module in net.named_modules() if isinstance(module, BaseTunerLayer)]


def is_adapter_key(name: str) -> bool:
    """Say whether a key of a state dict belongs to an adapter."""
    return any(part.startswith("lora_") for part in name.split("."))


def adapted_layers(keys: Iterable[str]) -> list[str]:
    """Name the layers of the network whose adapters a stored state holds, in the state's order."""
    found = (re.fullmatch(r"backbone\.net\.(.+?)\.lora_A\..+", key) for key in keys)
    return list(dict.fromkeys(match[1] for match in found if match))


def merge_lora(net: nn.Module) -> None:
    """Add every adapter to the weight beside it and put the plain layer back in its place."""
    for name, layer in adapters(net):
        layer.merge()
        net.set_submodule(name, layer.get_base_layer())


def _adaptable(net: nn.Module) -> dict[str, nn.Module]:
    """Return the layers that PEFT can adapt and that are called as modules, by name."""
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
    """Return the last part of each name, with the part before it where that is a bare number."""
    endings: dict[str, None] = {}
    for name in layers:
        parts = name.split(".")
        endings[".".join(parts[-2:] if parts[-1].isdigit() else parts[-1:])] = None
    return list(endings)
