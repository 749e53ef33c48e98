"""What a run would do, resolved without training: the content of `deeptune run --dry-run`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from deeptune.engine.prepare import prepare
from deeptune.fetching import weights_to_fetch
from deeptune.spec import RunSpec, dump_spec
from deeptune.spec.defaults import fits_head_first
from deeptune.spec.modalities import MODALITIES
from deeptune.spec.run_spec import SPLITS


def describe(spec: RunSpec) -> dict[str, Any]:
    """Everything that can be known before training, as JSON values. Loads no weights.

    Raises the errors that the run itself would raise before its first step, except those of missing weights.
    """
    ready = prepare(spec, meta=True)
    spec, plan, model = ready.spec, ready.plan, ready.model
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
            "name": spec.backbone.name,
            "weights": spec.backbone.weights,
            "fetch": asdict(fetch) | {"text": fetch.text} if (fetch := weights_to_fetch(spec.backbone)) else None,
            "pooling": spec.backbone.pooling,
            "input_size": MODALITIES[plan.modality].size_of(spec.backbone),
        },
        "head": shape,
        "method": spec.tuning.method,
        "head_first": fits_head_first(spec),
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
        "notes": plan.remarks,
        "spec": dump_spec(spec),
    }
