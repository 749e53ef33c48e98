"""Build a backbone of any library from its spec."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from deeptune.backbones.base import Backbone
from deeptune.spec.backbone_info import backbone_info
from deeptune.spec.modalities import MODALITIES
from deeptune.spec.run_spec import BackboneSpec, TextBackboneSpec


def load_backbone(
    spec: BackboneSpec | TextBackboneSpec,
    *,
    seed: int = 0,
    device: str = "cpu",
    config_dir: Path | None = None,
    load_weights: bool = True,
    preprocessing: Mapping[str, Any] | None = None,
) -> Backbone:
    """Build a backbone and load its weights; of a spec with two, build both as one.

    `seed` governs random weights and nothing else: the same bits each time. `config_dir` is a folder that
    `Backbone.save_config` wrote: configuration and tokenizer then come from there. `load_weights=False` builds
    the architecture only, for weights that a checkpoint will bring. `preprocessing` is what a run stored: it replaces
    what the installed library says of images, and the tokenizer has to give the ids that it gave then.
    `device="meta"` builds without memory and without weights; a text backbone's `preprocessing` is then None if its
    tokenizer is not at hand.

    Raises WeightsError for an unknown backbone, for weights that cannot be found, read or fitted, and for a network
    that gives no vectors of its input; SpecError for an option that the backbone does not have; CheckpointError for a
    stored preprocessing that does not fit.
    """
    info = backbone_info(spec)
    MODALITIES[info.modality].refuse_foreign("backbone", spec)
    module, _, function = info.loader.partition(":")
    load = getattr(importlib.import_module(module), function)
    on_meta = device == "meta"
    backbone: Backbone = load(
        info, spec, seed=seed, on_meta=on_meta, config_dir=config_dir, load_weights=load_weights and not on_meta
    )
    if preprocessing is not None and backbone.preprocessing is not None:
        backbone.use_preprocessing(backbone.preprocessing.restored(preprocessing))
    if not on_meta and (load_weights or spec.weights == "random"):
        backbone.fingerprint = backbone.weights_fingerprint()
    if not on_meta:
        backbone.find_behaviour()
    if not torch.backends.mps.is_available():
        backbone.arrange(backbone.usual_format)
    return backbone.to(device).eval()
