"""Loads the model of a stored run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from deeptune.backbones import load_backbone
from deeptune.checkpoint import load_checkpoint, read_manifest
from deeptune.data.images.bit_depth import Range, stored_range
from deeptune.data.loading.preprocessing import stored_preprocessing
from deeptune.engine.device import Compute, choose_compute
from deeptune.engine.versions import changed, that_matter, versions
from deeptune.errors import CheckpointError
from deeptune.model.build import TunedModel, build_model
from deeptune.model.lora import adapted_layers
from deeptune.runs import RunDirectory
from deeptune.runs.files import read_json
from deeptune.runs.labels import read_task
from deeptune.spec import RunSpec, load_spec
from deeptune.tasks import Task


@dataclass(frozen=True)
class TrainedModel:
    """A run that can be used: its resolved spec, its model with the stored weights (on `device`), its task."""

    directory: RunDirectory
    spec: RunSpec
    model: TunedModel
    task: Task
    manifest: dict[str, Any]

    @property
    def value_range(self) -> Range | None:
        """The range from which images of more than 8 bits are scaled; None where the run takes none."""
        return stored_range(self.manifest.get("preprocessing", {}).get("value_range", self.spec.data.value_range))

    def differences(self, compute: Compute) -> list[str]:
        """Say what is other here than when the model was trained."""
        found = []
        if "preprocessing" not in self.manifest:
            found.append(
                "the run was stored without its preprocessing (an older version): the installed libraries decide it"
            )
        then = self.manifest.get("versions") or read_json(self.directory.run).get("versions") or {}
        now = {name: version for name, version in versions().items() if name in that_matter(self.model.backbone.info)}
        if others := changed(then, now):
            found.append(f"other versions than at training ({others}): last digits may differ")
        precision = self.manifest.get("precision", compute.precision)
        if precision != compute.precision:
            found.append(
                f"the run was trained and scored in {precision}, and this is in {compute.precision} on "
                f"{compute.device}: last digits may differ"
            )
        return found


def rebuild_model(
    spec: RunSpec, folder: Path, *, config_dir: Path, device: torch.device
) -> tuple[TunedModel, dict[str, Any]]:
    """Build the model of a resolved spec anew and load the checkpoint in `folder` into it; returns its manifest too.

    Samples are prepared as the manifest says, whatever the installed libraries say. A frozen backbone comes from where
    it came from before, and must have the fingerprint that the manifest records. Raises CheckpointError when it has
    not, or when the tensors do not fit.
    """
    checkpoint = load_checkpoint(folder)
    whole = spec.tuning.method == "full"
    backbone = load_backbone(
        spec.backbone,
        seed=spec.train.seed,
        config_dir=config_dir if config_dir.is_dir() else None,
        load_weights=not whole,
        preprocessing=stored_preprocessing(checkpoint.manifest),
    )
    recorded = checkpoint.manifest["backbone"]["fingerprint"]
    if not whole and backbone.fingerprint != recorded:
        raise CheckpointError(
            f"the backbone {spec.backbone.names!r} ({spec.backbone.origins} weights) is not the one this run was "
            f"trained on: its fingerprint is {str(backbone.fingerprint)[:19]}…, the run recorded {recorded[:19]}…",
            hint="The weights in the cache or folder were changed since. Put the former ones back: "
            "the run's head and adapters fit no others.",
        )
    # Where the adapters are is not looked for again: another version of a library might call other layers.
    adapted = adapted_layers(checkpoint.state) if spec.tuning.method == "lora" else None
    model = build_model(spec, backbone, checkpoint.manifest["outputs"], adapted=adapted)
    model.load_tuned_state(checkpoint.state)
    return model.to(device).eval(), checkpoint.manifest


def compute_of_run(run: RunDirectory, device: str = "auto") -> Compute:
    """Return the device that is asked for, in the run's own precision on a device of the same type.

    Raises SpecError or CheckpointError when the run can't be read.
    """
    precision = read_manifest(run.best).get("precision")  # first: where it is, the spec names the device
    trained_on = torch.device(load_spec(run.spec).train.device).type
    compute = choose_compute(device)
    if trained_on != compute.device.type or precision is None:
        return compute
    same = choose_compute(str(compute.device), precision)
    return replace(same, reason=f"{compute.device}; {precision} as the run was trained in")


def load_run(directory: RunDirectory, *, device: torch.device) -> TrainedModel:
    """Return the run's best model, ready to predict. Raises SpecError or CheckpointError when the run can't be used."""
    spec = load_spec(directory.spec)
    task = read_task(directory.labels)
    model, manifest = rebuild_model(spec, directory.best, config_dir=directory.backbone, device=device)
    return TrainedModel(directory, spec, model, task, manifest)
