"""One run from spec to result: read, build, fit, verify, score, embed."""

from __future__ import annotations

import os
import platform
import socket
import sys
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from deeptune import __version__
from deeptune.checkpoint import load_checkpoint, save_checkpoint
from deeptune.data.loader import Loader
from deeptune.data.plan import DataPlan, SplitData
from deeptune.engine import evaluate
from deeptune.engine.device import memory_in_use, seed_everything
from deeptune.engine.features import FeatureLoader, can_store, compute_features
from deeptune.engine.journal import Journal
from deeptune.engine.loop import Batches, Best, History, Hooks, fit
from deeptune.engine.optim import Criterion
from deeptune.engine.prepare import SPLITS, Prepared, make_criterion, prepare, split_loader
from deeptune.engine.restore import rebuild_model
from deeptune.engine.tables import embedding_table, prediction_table, write_table
from deeptune.errors import CheckpointError, DeepTuneError, RunStopped
from deeptune.model.build import TunedModel
from deeptune.report import write_report
from deeptune.runs import RunDirectory, write_json, write_text
from deeptune.spec import RunSpec, dump_spec
from deeptune.spec.model import Split

PROBE_ROWS = 8
SCALE_ROWS = 2048  # rows that the scale of the features is estimated from


def execute(
    spec: RunSpec,
    run: RunDirectory,
    *,
    journal: Journal | None = None,
    force: bool = False,
    argv: list[str] | None = None,
) -> dict[str, Any]:
    """Do the whole run in `run`, an empty run directory, and return the content of result.json.

    Whatever happens is in the directory: events, status and, at the end, result.json with `state` `done` or
    `failed`. Errors are re-raised after they were recorded.
    """
    started = time.time()
    own = journal is None
    journal = journal or Journal(run)
    journal.events.write("run", id=run.id, started=started, pid=os.getpid())
    try:
        result = _execute(spec, run, journal, started, argv or sys.argv)
    except BaseException as error:
        _record_end(run, journal, error, started)
        raise
    finally:
        if own:
            journal.events.close()
    return result


def _record_end(run: RunDirectory, journal: Journal, error: BaseException, started: float) -> None:
    known = isinstance(error, DeepTuneError)
    state = "stopped" if isinstance(error, (KeyboardInterrupt, RunStopped)) else "failed"
    message = str(error) if known else f"{type(error).__name__}: {error}"
    told = {"title": error.title, "message": error.message, "hint": error.hint} if known else None
    with suppress(CheckpointError):  # a disk that can't be written must not hide the error that ended the run
        journal.events.write("end", state=state, message=message)
        journal.status.update(state=state, message=message, force=True)
        seconds = round(time.time() - started, 3)
        write_json(run.result, {"state": state, "message": message, "error": told, "seconds": seconds})


def _execute(spec: RunSpec, run: RunDirectory, journal: Journal, started: float, argv: list[str]) -> dict[str, Any]:
    write_text(run.spec, dump_spec(spec))
    write_json(run.run, _provenance(argv, started))
    torch.use_deterministic_algorithms(spec.train.device == "cpu" or not torch.cuda.is_available(), warn_only=True)

    ready = prepare(spec, journal=journal)
    spec, plan, compute = ready.spec, ready.plan, ready.compute
    model = ready.model.to(compute.device)
    trainable, total = model.counts()
    for warning in plan.warnings:
        journal.warn(warning)
    _write_inputs(run, ready, argv, started)
    journal.events.write(
        "start",
        task=spec.task,
        backbone=spec.backbone.name,
        weights=spec.backbone.weights,
        method=spec.tuning.method,
        device=str(compute.device),
        device_reason=compute.reason,
        rows={split: len(plan.splits[split].rows) for split in SPLITS},
        parameters={"trainable": trainable, "total": total},
        steps=ready.steps,
        epochs=int(spec.train.epochs),
        metric=spec.train.early_stopping.metric,
        patience=int(spec.train.early_stopping.patience),
    )
    # The data is known now: what the head starts from must not depend on how it was read.
    seed_everything(spec.train.seed)
    loaders = {split: split_loader(ready, split, shuffle=False) for split in SPLITS}
    _warn_truncation(loaders, ready, journal)
    criterion = make_criterion(ready)

    scored: dict[Any, Any] = dict(loaders)
    tables: dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = {}
    train_batches: Batches
    if can_store(spec, sum(len(plan.splits[split].rows) for split in SPLITS), ready.backbone.width):
        journal.phase("features")
        batch_size, seed = int(spec.train.batch_size), spec.train.seed
        passed, total_rows = 0, sum(len(loaders[split].rows) for split in SPLITS)
        for split in SPLITS:
            tables[split] = compute_features(
                ready.backbone, loaders[split], compute, progress=journal.progress, before=passed, total=total_rows
            )
            passed += len(loaders[split].rows)
            scored[split] = FeatureLoader(*tables[split], batch_size=max(batch_size, 512), shuffle=False, seed=seed)
        train_batches = FeatureLoader(*tables["train"], batch_size=batch_size, shuffle=True, seed=seed)
        journal.message("the frozen backbone was passed once; the head trains on its stored features")
    else:
        train_batches = split_loader(ready, "train", shuffle=True)

    journal.phase("train")
    if spec.head.standardise:
        model.head.standardise(_sampled_features(ready, tables["train"][0] if tables else None))
    probe = _probe(ready)
    history = _fit(ready, run, journal, model, train_batches, scored["val"], criterion, probe)
    if history.stopped_early:
        journal.message(f"no better {history.best.metric} for {history.best.since} epochs: stopped early")

    journal.phase("verify")
    model = verified_best(ready, run, probe)

    journal.phase("test")
    metrics, outputs = _score_splits(ready, model, scored, criterion, journal)
    write_json(run.metrics, metrics)
    write_table(_split_predictions(ready, outputs["test"], "test"), run.predictions)

    if spec.embed.splits:
        journal.phase("embed")
        _embed_splits(ready, run, model, scored, outputs, journal)

    result = _result(ready, run, history, metrics, model, started, journal)
    write_json(run.result, result)
    journal.phase("report")
    try:
        write_report(run.path)
    except Exception as error:  # every result is on the disk by now: a picture of them must not cost the run
        journal.warn(f"report.html could not be written: {type(error).__name__}: {error}")
    journal.events.write("end", state="done", test=_headline(metrics.get("test", {})))
    journal.status.update(state="done", phase="done", force=True)
    return result


def _fit(
    ready: Prepared,
    run: RunDirectory,
    journal: Journal,
    model: TunedModel,
    batches: Batches,
    val: Any,
    criterion: Criterion,
    probe: dict[str, torch.Tensor],
) -> History:
    spec, plan = ready.spec, ready.plan
    started = time.monotonic()
    verified = False

    def on_step(report: dict[str, Any]) -> None:
        done = report["step"] / max(ready.steps, 1)
        elapsed = time.monotonic() - started
        memory = memory_in_use(ready.compute.device)
        journal.events.write("step", **report, memory=memory)
        journal.status.update(**report, steps=ready.steps, memory=memory, eta=round(elapsed / done - elapsed, 1))

    def on_epoch(report: dict[str, Any]) -> None:
        journal.events.write("epoch", **report)

    def on_best(best: Best) -> None:
        nonlocal verified
        _save(ready, run.best, model, best)
        if not verified:  # a checkpoint that can't be read back is known after the first epoch, not the last
            _verify(ready, run, model, probe)
            verified = True
        journal.events.write("checkpoint", which="best", epoch=best.epoch, metric=best.metric, value=best.value)
        journal.status.update(best={"epoch": best.epoch, "metric": best.metric, "value": best.value})

    def on_last(best: Best) -> None:
        _save(ready, run.last, model, best)

    def validate() -> dict[str, Any]:
        outputs = evaluate.run(model, val, ready.compute, criterion=criterion)
        scores = evaluate.score(outputs, _truth(plan, "val", outputs.rows), plan.labels)
        return {name: value for name, value in scores.items() if isinstance(value, (int, float)) or value is None}

    return fit(
        model,
        spec.train,
        batches,
        criterion,
        ready.compute,
        validate if len(plan.splits["val"].rows) else None,
        Hooks(on_step, on_epoch, on_best, on_last),
    )


def _sampled_features(ready: Prepared, stored: torch.Tensor | None) -> torch.Tensor:
    """Pooled features (n, width) of evenly spaced training rows, before training: the scale that the head starts in."""
    data = ready.plan.splits["train"]
    picked = np.unique(np.linspace(0, len(data.rows) - 1, min(len(data.rows), SCALE_ROWS)).round().astype(np.int64))
    if stored is not None:
        return stored[torch.from_numpy(picked)].to(ready.compute.device)
    part = SplitData(data.source, data.rows[picked], data.targets[picked])
    features, _, _ = compute_features(
        ready.backbone, split_loader(ready, "train", shuffle=False, data=part), ready.compute
    )
    return features.to(ready.compute.device)


def _truth(plan: DataPlan, split: str, rows: np.ndarray) -> np.ndarray:
    data = plan.splits[split]
    return data.targets[np.searchsorted(data.rows, rows)]


def _probe(ready: Prepared) -> dict[str, torch.Tensor]:
    """Inputs of a few training rows, through the whole preprocessing, on the device."""
    batch = next(iter(split_loader(ready, "train", shuffle=False)))
    return {name: value[:PROBE_ROWS].to(ready.compute.device) for name, value in batch.inputs.items()}


def _save(ready: Prepared, folder: Path, model: TunedModel, best: Best) -> None:
    spec = ready.spec
    manifest = {
        "deeptune": __version__,
        "task": spec.task,
        "outputs": ready.plan.outputs,
        "backbone": {
            **spec.backbone.model_dump(),
            "fingerprint": ready.backbone.fingerprint,
            **({"seed": spec.train.seed} if spec.backbone.weights == "random" else {}),
        },
        "head": spec.head.model_dump(),
        "lora": spec.tuning.lora.model_dump() if spec.tuning.method == "lora" else None,
        "best": {"epoch": best.epoch, "metric": best.metric, "value": best.value},
    }
    save_checkpoint(folder, model.tuned_state(), manifest, method=spec.tuning.method)


def _logits(ready: Prepared, model: TunedModel, probe: dict[str, torch.Tensor]) -> torch.Tensor:
    was_training = model.training
    model.eval()
    with torch.inference_mode(), ready.compute.autocast():
        logits = model(probe)
    model.train(was_training)
    return logits


def _rebuild(ready: Prepared, run: RunDirectory) -> TunedModel:
    model, _ = rebuild_model(ready.spec, run.best, config_dir=run.backbone, device=ready.compute.device)
    return model


def _verify(ready: Prepared, run: RunDirectory, model: TunedModel, probe: dict[str, torch.Tensor]) -> TunedModel:
    """Load `best` into a model built from nothing and compare logits with the one in memory, bit by bit."""
    stored = _rebuild(ready, run)
    expected, found = _logits(ready, model, probe), _logits(ready, stored, probe)
    if not torch.equal(expected, found):
        difference = (expected.float() - found.float()).abs().max().item()
        raise CheckpointError(
            f"the stored model is not the trained one: after loading {run.best} the logits of {len(expected)} rows "
            f"differ by up to {difference:.3g}",
            hint="The run is stopped rather than reported with weights that are not its own.",
        )
    return stored


def verified_best(ready: Prepared, run: RunDirectory, probe: dict[str, torch.Tensor]) -> TunedModel:
    """The model that is scored, embedded and handed over: `best` as it is on disk.

    The model in memory is set to the same tensors first, so that the comparison is with what was trained.
    """
    ready.model.load_tuned_state(load_checkpoint(run.best).state)
    return _verify(ready, run, ready.model, probe)


def _score_splits(
    ready: Prepared, model: TunedModel, scored: dict[str, Any], criterion: Criterion, journal: Journal
) -> tuple[dict[str, Any], dict[str, evaluate.Outputs]]:
    """Metrics of val and test, and the outputs of every split that was passed (embeddings with them)."""
    metrics: dict[str, Any] = {}
    outputs: dict[str, evaluate.Outputs] = {}
    for split in ("val", "test"):
        rows = ready.plan.splits[split].rows
        embed = split in ready.spec.embed.splits
        outputs[split] = evaluate.run(
            model,
            scored[split],
            ready.compute,
            criterion=criterion,
            embed=embed,
            total=len(rows),
            progress=journal.progress,
        )
        if len(rows):
            metrics[split] = evaluate.score(
                outputs[split], _truth(ready.plan, split, outputs[split].rows), ready.plan.labels
            )
            journal.events.write("metrics", split=split, metrics=_headline(metrics[split]))
    return metrics, outputs


def _headline(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metrics.items() if isinstance(value, (int, float))}


def _split_predictions(ready: Prepared, outputs: evaluate.Outputs, split: str) -> Any:
    data = ready.plan.splits[split]
    return prediction_table(data.rows, outputs, ready.plan.labels, truth=data.targets)


def _embed_splits(
    ready: Prepared,
    run: RunDirectory,
    model: TunedModel,
    scored: dict[str, Any],
    outputs: dict[str, evaluate.Outputs],
    journal: Journal,
) -> None:
    plan = ready.plan
    for split in ready.spec.embed.splits:
        data = plan.splits[split]
        if not len(data.rows):
            continue
        if split not in outputs or outputs[split].embeddings is None:
            outputs[split] = evaluate.run(
                model, scored[split], ready.compute, embed=True, total=len(data.rows), progress=journal.progress
            )
        table = embedding_table(data.rows, outputs[split], data.source, label=plan.label, leave_out={plan.input})
        write_table(table, run.embeddings(split))


def _warn_truncation(loaders: dict[Split, Loader], ready: Prepared, journal: Journal) -> None:
    for split, loader in loaders.items():
        if loader.truncated:
            journal.warn(
                f"{loader.truncated:,} of {len(loader.rows):,} {split} texts are longer than "
                f"{ready.spec.backbone.max_length} tokens and were cut (backbone.max_length)"
            )


def _write_inputs(run: RunDirectory, ready: Prepared, argv: list[str], started: float) -> None:
    """What the run is made of, before the first step: spec, provenance, labels, splits, configuration."""
    write_text(run.spec, dump_spec(ready.spec, comment=f"DeepTune {__version__}: resolved spec of {run.id}"))
    write_json(run.labels, ready.plan.labels.to_json())
    write_table(ready.plan.splits_table(), run.splits)
    ready.backbone.save_config(run.backbone)
    provenance = _provenance(argv, started)
    provenance["device"] = {
        "name": str(ready.compute.device),
        "reason": ready.compute.reason,
        "precision": ready.compute.precision,
    }
    provenance["fingerprints"] = {"data": ready.plan.fingerprint, "backbone": ready.backbone.fingerprint}
    write_json(run.run, provenance)


def _provenance(argv: list[str], started: float) -> dict[str, Any]:
    boot_id = Path("/proc/sys/kernel/random/boot_id")
    packages = ("torch", "torchvision", "transformers", "timm", "peft", "pyarrow", "numpy", "scikit-learn")
    return {
        "pid": os.getpid(),
        "started": started,
        "process_started": psutil.Process().create_time(),
        "boot_id": boot_id.read_text().strip() if boot_id.exists() else None,
        "host": socket.gethostname(),
        "argv": argv,
        "versions": {"deeptune": __version__, "python": platform.python_version()}
        | {name: version(name) for name in packages},
    }


def _result(
    ready: Prepared,
    run: RunDirectory,
    history: History,
    metrics: dict[str, Any],
    model: TunedModel,
    started: float,
    journal: Journal,
) -> dict[str, Any]:
    trainable, total = model.counts()
    plan = ready.plan
    artefacts = {
        "checkpoint": run.best,
        "predictions": run.predictions,
        "metrics": run.metrics,
        "report": run.report,
        **{f"embeddings_{split}": run.embeddings(split) for split in SPLITS if run.embeddings(split).exists()},
    }
    return {
        "state": "done",
        "best": {"epoch": history.best.epoch, "metric": history.best.metric, "value": history.best.value},
        "epochs": len(history.epochs),
        "stopped_early": history.stopped_early,
        "steps": history.steps,
        "test": _headline(metrics.get("test", {})),
        "rows": {split: len(plan.splits[split].rows) for split in SPLITS},
        "skipped": [{"split": bad.split, "row": bad.row, "reason": bad.reason} for bad in plan.bad_samples],
        "on_bad_sample": ready.spec.data.on_bad_sample,
        "parameters": {"trainable": trainable, "total": total},
        "warnings": journal.warnings,
        "artefacts": {name: str(path.relative_to(run.path)) for name, path in artefacts.items()},
        "seconds": round(time.time() - started, 3),
    }
