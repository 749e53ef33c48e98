"""Resolves a run without training: the content of `deeptune run --dry-run`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from deeptune.catalog import find
from deeptune.data.splits.folds import FOLDS
from deeptune.engine.prepare import prepare
from deeptune.fetching import fetch_of
from deeptune.spec import RunSpec, dump_spec
from deeptune.spec.defaults import fits_head_first
from deeptune.spec.modalities import MODALITIES, ModalityInfo
from deeptune.spec.run_spec import SPLITS, BackboneSpec, TextBackboneSpec


def describe(spec: RunSpec) -> dict[str, Any]:
    """Return everything that can be known before training, as JSON values. Loads no weights.

    Raises the errors that the run itself would raise before its first step, except those of missing weights.
    """
    ready = prepare(spec, meta=True)
    spec, plan, model = ready.spec, ready.plan, ready.model
    kinds = MODALITIES[plan.modality].members
    backbones = [_backbone(*one) for one in zip(spec.backbone.members.values(), kinds, strict=True)]
    trainable, total = model.counts()
    shape = [ready.backbone.width, *([spec.head.embedding_size] if spec.head.layers == 2 else []), plan.outputs]
    return {
        "name": spec.name,
        "task": spec.task,
        "modality": plan.modality,
        "columns": {"input": plan.input, "label": plan.label, "group": plan.group},
        "rows": {split: len(plan.splits[split].rows) for split in SPLITS},
        "bad_samples": len(plan.bad_samples),
        "labels": plan.task.summary({split: plan.splits[split].targets for split in SPLITS}),
        "backbone": {
            **backbones[0],
            **({"text": backbones[1]} if backbones[1:] else {}),
        },
        "head": shape,
        "method": spec.tuning.method,
        "head_first": fits_head_first(spec),
        "folds": FOLDS if spec.train.val == "cv" else None,
        "parameters": {"trainable": trainable, "total": total},
        "device": {
            "name": str(ready.compute.device),
            "precision": ready.compute.precision,
            "reason": ready.compute.reason,
        },
        "epochs": spec.train.epochs,
        "effective_batch_size": min(
            int(spec.train.batch_size) * spec.train.accumulation, len(plan.splits["train"].rows)
        ),
        "steps": ready.steps,
        "warnings": plan.warnings,
        "notes": plan.all_notes,
        "spec": dump_spec(spec),
    }


def _backbone(part: BackboneSpec | TextBackboneSpec, kind: ModalityInfo) -> dict[str, Any]:
    """Describe a backbone alone."""
    fetch = fetch_of(find(part.name)) if part.weights == "pretrained" else None
    return {
        "name": part.name,
        "weights": part.weights,
        "fetch": asdict(fetch) | {"text": fetch.text} if fetch else None,
        "pooling": part.pooling,
        "input_size": kind.size_of(part),
    }
