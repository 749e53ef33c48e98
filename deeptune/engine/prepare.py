"""A spec resolved against its data, backbone and machine: all that is known before the first step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from deeptune.auditing.starting import start_warnings
from deeptune.backbones import load_backbone
from deeptune.backbones.base import Backbone
from deeptune.backbones.weights import require_weights
from deeptune.data.cache.entry import Cache
from deeptune.data.images.bit_depth import Range
from deeptune.data.loading.image_samples import Images, decoding_workers
from deeptune.data.loading.open_samples import open_samples
from deeptune.data.loading.preprocessing import Preprocessing
from deeptune.data.loading.samples import Samples
from deeptune.data.modalities.base import Need
from deeptune.data.sources.source import Source
from deeptune.data.splits.plan import DataPlan
from deeptune.data.splits.planner import PlanDraft, draft_plan, plan_data, planned
from deeptune.data.splits.split_files import open_sources, sources_fingerprint
from deeptune.engine.device import (
    Compute,
    choose_compute,
    choose_kernels,
    driver_gpu,
    seed_everything,
    tokens_at_once,
)
from deeptune.engine.loop import steps_per_epoch
from deeptune.engine.loss import Criterion
from deeptune.engine.resume import EarlierAttempt
from deeptune.engine.run_logger import Log
from deeptune.fetching import weights_to_fetch
from deeptune.model.build import TunedModel, build_model
from deeptune.model.lora import main_kind, resolve_rank
from deeptune.spec import RunSpec
from deeptune.spec.backbone_info import backbone_info, require_fitting
from deeptune.spec.defaults import HeadSize, average, batch_norm, refits, resolve
from deeptune.spec.estimate import batch_count
from deeptune.spec.modalities import MODALITIES
from deeptune.spec.run_spec import BackboneSpec


@dataclass
class Prepared:
    """Everything that is known before training: also what `--dry-run` shows."""

    spec: RunSpec
    plan: DataPlan
    backbone: Backbone
    model: TunedModel
    compute: Compute
    steps: int
    samples: Mapping[Source, Samples]  # none where only sizes are asked for
    batch_tuning: dict[str, Any] | None = None  # what was measured (`engine/batch_tuning.py`)

    @property
    def preprocessing(self) -> Preprocessing:
        """How samples are prepared; unknown only where sizes alone are asked for."""
        assert self.backbone.preprocessing is not None
        return self.backbone.preprocessing

    @cached_property
    def preprocessing_record(self) -> dict[str, Any]:
        """How samples are prepared, as JSON. Made once: to hash a tokenizer takes a tenth of a second."""
        return self.preprocessing.record() | MODALITIES[self.plan.modality].recorded(self.spec.data)


def prepare(
    spec: RunSpec,
    *,
    meta: bool = False,
    logger: Log | None = None,
    earlier: EarlierAttempt | None = None,
    cache: Cache | None = None,
) -> Prepared:
    """Resolve a spec against its data and backbone. With `meta`, no weights are loaded: sizes only.

    With `earlier`, what a run is made of must be what it was then. Samples are kept in `cache`. Raises DataError,
    WeightsError or SpecError with what has to change.
    """
    info = backbone_info(spec.backbone)
    for part in spec.backbone.members.values():
        if part.weights not in ("pretrained", "random"):
            require_weights(part.weights)  # before the data is checked, which may take long
    compute = choose_compute(spec.train.device, spec.train.precision)
    choose_kernels(compute.device, deterministic=spec.train.deterministic)
    if logger:
        logger.gpu = driver_gpu(compute.device)
        for fetch in weights_to_fetch(spec.backbone):
            logger.message(f"{fetch.text}. {fetch.way}")
        logger.phase("data")
    sources = open_sources(spec)
    if earlier:
        spec = earlier.with_earlier_defaults(spec)
        earlier.require_data(sources_fingerprint(sources))  # before every sample is checked
    draft = draft_plan(spec, sources=sources)
    require_fitting(spec.backbone, info, draft.modality, draft.input)
    MODALITIES[draft.modality].refuse_foreign("train", spec.train)
    samples: Mapping[Source, Samples] = {}
    if meta:
        plan = plan_data(spec, sources=sources)
        backbone = load_backbone(spec.backbone, seed=spec.train.seed, device="meta")
    else:
        if logger:
            logger.phase("backbone")
        seed_everything(spec.train.seed)
        backbone = load_backbone(
            spec.backbone,
            seed=spec.train.seed,
            config_dir=earlier.run.backbone if earlier and earlier.run.backbone.is_dir() else None,
            preprocessing=earlier.preprocessing if earlier else None,
        )
        if earlier:
            earlier.require_backbone(backbone.fingerprint)
        if logger:
            logger.phase("data")  # what a sample becomes is known now
        plan, samples = planned(draft, lambda known: _open_samples(spec, draft, backbone, cache, logger, known))
    backbone.check_columns(draft.input)
    plan = replace(plan, warnings=[*plan.warnings, *start_warnings(plan)])
    resolved = _resolve(spec, backbone, plan, compute, samples)
    if earlier:
        earlier.require_spec(resolved)
    model = build_model(resolved, backbone, plan.outputs)
    for note in backbone.notes if logger else ():
        logger.message(note)  # type: ignore[union-attr]
    return Prepared(resolved, plan, backbone, model, compute, count_steps(resolved, plan), samples)


def count_steps(spec: RunSpec, plan: DataPlan) -> int:
    """Count the optimizer steps of all epochs of a resolved spec."""
    batches = batch_count(len(plan.splits["train"].rows), int(spec.train.batch_size))
    return steps_per_epoch(batches, spec.train.accumulation) * int(spec.train.epochs)


def _open_samples(
    spec: RunSpec,
    draft: PlanDraft,
    backbone: Backbone,
    cache: Cache | None,
    logger: Log | None,
    value_range: Range | None,
) -> Mapping[Source, Samples]:
    """Open every sample of a run's sources, decoded or tokenised once."""
    assert backbone.preprocessing is not None
    need = Need(augmented=spec.train.augmentation != "none", value_range=value_range)
    return {
        source: open_samples(
            source,
            draft.input,
            backbone.preprocessing,
            cache=cache,
            need=need,
            progress=step,
        )
        for source, step in draft.sources(logger.progress if logger else None)
    }


def _resolve(
    spec: RunSpec, backbone: Backbone, plan: DataPlan, compute: Compute, samples: Mapping[Source, Samples]
) -> RunSpec:
    info = backbone.info
    cnn = info.is_cnn or (info.kind is None and main_kind(backbone) == "convolution")
    rows = len(plan.splits["train"].rows)
    resolved = resolve(spec, info, cnn=cnn, rows=rows, size=HeadSize(rows, backbone.width, plan.outputs))
    lora = resolved.tuning.lora
    if spec.tuning.method == "lora":
        rank, alpha = resolve_rank(backbone, lora)
        lora = lora.model_copy(update={"rank": rank, "alpha": alpha})
    workers = resolved.train.workers
    if workers == "auto":
        workers = decoding_workers_beside(compute, samples.values())
    statistics = any(name.endswith("running_mean") for name, _ in backbone.named_buffers())
    budget, layout = _pass_settings(resolved, backbone, compute, plan.modality)
    return resolved.model_copy(
        update={
            "data": resolved.data.model_copy(
                update={
                    "modality": plan.modality,
                    "input": plan.input,
                    "split_column": plan.split_column or "none",
                    "value_range": "none" if plan.value_range is None else list(plan.value_range),
                }
            ),
            "backbone": _resolved_backbone(resolved.backbone, backbone),
            "tuning": resolved.tuning.model_copy(update={"lora": lora}),
            "train": resolved.train.model_copy(
                update={
                    "device": str(compute.device),
                    "precision": compute.precision,
                    "workers": workers,
                    "token_budget": budget,
                    "memory_format": layout,
                    "average": average(resolved, val_rows=len(plan.splits["val"].rows)),
                    "refit": refits(spec, given=plan.split_column is not None),
                    "batch_norm": batch_norm(spec, statistics=statistics),
                }
            ),
        }
    )


def decoding_workers_beside(compute: Compute, samples: Iterable[Samples]) -> int:
    """Return how many processes decode samples beside a GPU.

    A CPU that computes decodes each batch in threads, on all its cores, before it computes on them.
    """
    parts = [part for one in samples for part in one.parts.values()]
    decoding = [one for one in parts if isinstance(one, Images) and one.decodes]
    return decoding_workers(decoding[0]) if decoding and compute.device.type != "cpu" else 0


def _resolved_backbone(spec: BackboneSpec, backbone: Backbone) -> BackboneSpec:
    """Return the pooling, and how much a backbone takes of a sample; of two backbones for each."""
    settings: list[dict[str, Any]] = []
    for member in backbone.members.values():
        known: dict[str, Any] = {"pooling": member.pooling}
        if member.preprocessing is not None:
            kind = MODALITIES[member.info.modality]
            known[kind.size] = kind.size_of(member.preprocessing)
        settings.append(known)
    if spec.text is None:
        return spec.model_copy(update=settings[0])
    return spec.model_copy(update={**settings[0], "text": spec.text.model_copy(update=settings[1])})


def _pass_settings(spec: RunSpec, backbone: Backbone, compute: Compute, modality: str) -> tuple[int, str]:
    """Return the tokens that pass at once at most (0: no limit), and the memory format."""
    budget, layout = spec.train.token_budget, spec.train.memory_format
    if budget == "auto":
        budget = tokens_at_once(compute.device) or 0 if MODALITIES[modality].counts_tokens else 0
    return int(budget), backbone.memory_format if layout == "auto" else layout


def make_criterion(ready: Prepared) -> Criterion:
    """Return the loss of a run, with its class weights on the device."""
    train, plan = ready.spec.train, ready.plan
    weights = plan.task.class_weights(plan.splits["train"].targets, train.class_weights)
    on_device = None if weights is None else torch.tensor(weights, dtype=torch.float32, device=ready.compute.device)
    return Criterion(str(train.loss), on_device, train.label_smoothing)
