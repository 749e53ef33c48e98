"""The stored model, and the proof that it is the one that was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from deeptune import __version__
from deeptune.checkpoint import load_checkpoint, save_checkpoint
from deeptune.engine.history import Best
from deeptune.engine.loaders import split_loader
from deeptune.engine.prepare import Prepared
from deeptune.engine.reload_comparison import logits_in_parts, require_same
from deeptune.engine.setup import Setup
from deeptune.engine.train_state import TrainState, rng_state_kept
from deeptune.engine.trained_model import rebuild_model
from deeptune.engine.versions import versions
from deeptune.model.build import TunedModel
from deeptune.model.lora import adapters
from deeptune.spec import RunSpec

CHECK_ROWS = 8


def check_inputs_of(ready: Prepared) -> dict[str, torch.Tensor]:
    """Return inputs of a few training rows, through the whole preprocessing, on the device."""
    batch = next(iter(split_loader(ready, "train", shuffle=False)))
    return {name: value[:CHECK_ROWS].to(ready.compute.device) for name, value in batch.inputs.items()}


def save_model(ready: Prepared, folder: Path, best: Best, train_state: TrainState | None = None) -> None:
    """Store the model as it is; with `train_state`, so that training can continue from it."""
    save_checkpoint(
        folder,
        ready.model.tuned_state(),
        {**manifest_of(ready, best), **({"training": train_state.values} if train_state else {})},
        method=ready.spec.tuning.method,
        training=train_state.tensors if train_state else None,
        # The best one of the time of `last` is kept until `last` knows the new one.
        keep="newest" if train_state else "oldest",
    )


def manifest_of(ready: Prepared, best: Best) -> dict[str, Any]:
    """Build the manifest that describes the model of a checkpoint."""
    spec, model = ready.spec, ready.model
    weights = [part.weights for part in spec.backbone.members.values()]
    return {
        "deeptune": __version__,
        "task": spec.task,
        "outputs": ready.plan.outputs,
        "backbone": {
            **spec.backbone.model_dump(exclude_none=True),
            "fingerprint": ready.backbone.fingerprint,
            **({"seed": spec.train.seed} if "random" in weights else {}),
        },
        "head": spec.head.model_dump(),
        "lora": _lora(spec, model),
        "unfreeze": spec.tuning.unfreeze,
        "preprocessing": ready.preprocessing_record,
        "precision": ready.compute.precision,
        "versions": versions(),
        "best": best.record(),
    }


def _lora(spec: RunSpec, model: TunedModel) -> dict[str, Any] | None:
    """Return the adapters' settings, with the full names of the layers that have one and PEFT's name of the adapter."""
    if spec.tuning.method != "lora":
        return None
    names = [name for name, _ in adapters(model.backbone.net)]
    return {**spec.tuning.lora.model_dump(), "targets": names, "adapter": "default"}


def verify(setup: Setup, check_inputs: dict[str, torch.Tensor]) -> tuple[TunedModel, torch.Tensor]:
    """Load `best` into a model built from nothing and compare it with the trained one, bit by bit.

    Returns the loaded model and the logits of `check_inputs`. Raises CheckpointError when the models differ.
    """
    run, ready = setup.run, setup.ready
    with rng_state_kept():
        stored, _ = rebuild_model(ready.spec, run.best, config_dir=run.backbone, device=setup.compute.device)
        logits = logits_in_parts(check_inputs, setup.compute, setup.micro_batches)
        found, unsteady = require_same(
            ready.model, stored, logits, precision=setup.compute.precision, place=str(run.best)
        )
    if unsteady:
        setup.logger.warn(unsteady)
    return stored, found


def verified_best(setup: Setup, check_inputs: dict[str, torch.Tensor]) -> tuple[TunedModel, torch.Tensor]:
    """Return the model that is scored and that embeds: `best` as it is on the disk. Also its logits of `check_inputs`.

    The model in memory is set to the same tensors first, so that the comparison is with what was trained.
    """
    setup.model.load_tuned_state(load_checkpoint(setup.run.best).state)
    return verify(setup, check_inputs)
