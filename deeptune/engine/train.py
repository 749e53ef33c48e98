"""One run from spec to result: read, build, fit, verify, score, embed."""

from __future__ import annotations

import functools
import math
import platform
import sys
import time
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deeptune import __version__
from deeptune.checkpoint import Checkpoint, drop_previous, load_checkpoint, read_manifest, save_checkpoint
from deeptune.data.cache import FeatureCache, Table
from deeptune.data.loader import Loader
from deeptune.data.plan import DataPlan, SplitData
from deeptune.engine import evaluate
from deeptune.engine.device import memory_in_use, seed_everything
from deeptune.engine.features import FeatureLoader, Stored, pooled, store_features
from deeptune.engine.journal import Journal
from deeptune.engine.loop import Batches, Best, History, Hooks, Snapshot, fit
from deeptune.engine.memory import RowLimit, is_out_of_memory
from deeptune.engine.optim import Criterion
from deeptune.engine.prepare import SPLITS, Prepared, make_criterion, prepare, split_loader, split_targets
from deeptune.engine.restore import rebuild_model
from deeptune.engine.resume import Earlier, earlier_seconds, find_checkpoint, snapshot_of
from deeptune.engine.snapshot import generators_left_alone
from deeptune.engine.tables import embedding_table, prediction_table, write_table
from deeptune.errors import CheckpointError, DeepTuneError, RunStopped, TrainingError
from deeptune.model.build import TunedModel
from deeptune.report import write_report
from deeptune.runs import RunDirectory, write_json, write_text
from deeptune.runs.process import ProcessIdentity
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
    """Do the whole run in `run`, or the rest of it, and return the content of result.json.

    `run` is an empty run directory, or that of a run which did not come to its end. Whatever happens is in the
    directory: events, status and, at the end, result.json with `state` `done`, `stopped` or `failed`. Errors are
    re-raised after they were recorded. `force` goes on though spec, data or backbone changed.
    """
    own = journal is None
    journal = journal or Journal(run)
    clock = Clock(earlier_seconds(journal.events.earlier))
    try:
        with FeatureCache(journal.message, journal.stop.check) as cache:
            result = _execute(spec, run, journal, clock, force, argv or sys.argv, cache)
    except BaseException as error:
        told = _told(error)
        _record_end(run, journal, told, clock)
        if told is error:
            raise
        raise told from error
    finally:
        if own:
            journal.events.close()
    return result


class Clock:
    """When this attempt started, and how long the run has taken with those before it; the system's clock may jump."""

    def __init__(self, before: float = 0.0) -> None:
        self.started = time.time()
        self._began, self._before = time.monotonic(), before

    @property
    def seconds(self) -> float:
        return round(self._before + time.monotonic() - self._began, 3)


def _told(error: BaseException) -> BaseException:
    """The error to tell: want of memory, wherever it struck, is nothing that a traceback helps with."""
    if not is_out_of_memory(error):
        return error
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return TrainingError(
        f"out of memory: {first}",
        hint="Free some memory, or choose a smaller train.batch_size, backbone or backbone.image_size.",
    )


def _record_end(run: RunDirectory, journal: Journal, error: BaseException, clock: Clock) -> None:
    state = "stopped" if isinstance(error, (KeyboardInterrupt, RunStopped)) else "failed"
    message, told = f"{type(error).__name__}: {error}".rstrip(": "), None
    if isinstance(error, DeepTuneError):
        message, told = str(error), {"title": error.title, "message": error.message, "hint": error.hint}
    with suppress(CheckpointError):  # a disk that can't be written must not hide the error that ended the run
        journal.events.write("end", state=state, message=message)
        journal.status.update(state=state, message=message, force=True)
        write_json(run.result, {"state": state, "message": message, "error": told, "seconds": clock.seconds})


def _execute(
    spec: RunSpec,
    run: RunDirectory,
    journal: Journal,
    clock: Clock,
    force: bool,
    argv: list[str],
    cache: FeatureCache,
) -> dict[str, Any]:
    torch.use_deterministic_algorithms(spec.train.device == "cpu" or not torch.cuda.is_available(), warn_only=True)
    earlier = Earlier.read(run, journal, force=force)
    if earlier is None:
        write_text(run.spec, dump_spec(spec))
        write_json(run.run, _provenance(argv, clock))

    ready = prepare(spec, journal=journal, earlier=earlier)
    spec, plan, compute = ready.spec, ready.plan, ready.compute
    model = ready.model.to(compute.device)
    trainable, total = model.counts()
    for warning in plan.warnings:
        journal.warn(warning)
    checkpoint = find_checkpoint(run, journal) if earlier else None
    _write_inputs(run, ready, argv, clock, earlier, checkpoint)
    journal.status.update(task=spec.task, backbone=spec.backbone.name, method=spec.tuning.method, steps=ready.steps)
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
    if earlier:
        history = checkpoint.manifest["training"]["history"] if checkpoint else {"steps": 0, "epoch": 1}
        journal.events.write("resume", step=history["steps"], epoch=history["epoch"])
    # The data is known now: what the head starts from must not depend on how it was read.
    seed_everything(spec.train.seed)
    loaders = {split: _loader(ready, split, journal) for split in SPLITS}
    _warn_truncation(loaders, ready, journal)
    criterion = make_criterion(ready)
    limit = RowLimit(journal.warn)

    scored: dict[Any, Any] = dict(loaders)
    stored = store_features(ready, cache, journal, limit)
    batch_size = int(spec.train.batch_size)
    for split, table in stored.splits.items():
        scored[split] = _feature_loader(ready, split, [table], batch_size=max(batch_size, 512))
    train_batches: Batches
    if stored.views:
        train_batches = _feature_loader(ready, "train", stored.views, batch_size=batch_size, shuffle=True)
    else:
        train_batches = _loader(ready, "train", journal, shuffle=True)
    _tell_lengths(loaders["train"], train_batches, ready, journal)

    journal.phase("train")
    if checkpoint is not None:
        model.load_tuned_state(checkpoint.state)
    elif spec.head.standardise:
        model.head.standardise(_sampled_features(ready, stored))
    with generators_left_alone():
        probe = _probe(ready)
    resume = snapshot_of(checkpoint) if checkpoint else None
    history = _fit(ready, run, journal, model, train_batches, scored["val"], criterion, probe, limit, resume)
    if history.stopped_early:
        journal.message(f"no better {history.best.metric} for {history.best.since} epochs: stopped early")

    journal.phase("verify")
    model = verified_best(ready, run, probe)
    history.best = replace(history.best, **read_manifest(run.best)["best"])

    journal.phase("test")
    metrics, outputs = _score_splits(ready, model, scored, criterion, journal, limit)
    journal.keep(lambda: write_json(run.metrics, metrics))
    predictions = _split_predictions(ready, outputs["test"], "test")
    journal.keep(lambda: write_table(predictions, run.predictions))

    if spec.embed.splits:
        journal.phase("embed")
        _embed_splits(ready, run, model, scored, outputs, journal, limit)

    result = _result(ready, run, history, metrics, model, clock, journal)
    journal.keep(lambda: write_json(run.result, result))
    for folder in (run.best, run.last):
        drop_previous(folder)
    journal.phase("report")
    try:
        write_report(run.path)
    except Exception as error:  # every result is on the disk by now: a picture of them must not cost the run
        journal.warn(f"report.html could not be written: {type(error).__name__}: {error}")
    journal.events.write("end", state="done", test=_headline(metrics.get("test", {})))
    journal.status.update(state="done", phase="done", force=True)
    return result


def _loader(ready: Prepared, split: Split, journal: Journal, *, shuffle: bool = False) -> Loader:
    loader = split_loader(ready, split, shuffle=shuffle)
    loader.on_restart = journal.warn
    return loader


def _fit(
    ready: Prepared,
    run: RunDirectory,
    journal: Journal,
    model: TunedModel,
    batches: Batches,
    val: Any,
    criterion: Criterion,
    probe: dict[str, torch.Tensor],
    limit: RowLimit,
    resume: Snapshot | None,
) -> History:
    spec, plan = ready.spec, ready.plan
    started = told = time.monotonic()
    first_step = resume.values["history"]["steps"] if resume else 0
    if resume and (best := resume.values["history"]["best"])["epoch"]:
        journal.status.update(best={name: best[name] for name in ("epoch", "metric", "value")})
    verified = False

    def on_step(report: dict[str, Any]) -> None:
        nonlocal told
        now = time.monotonic()
        elapsed = now - started
        left = elapsed * (ready.steps - report["step"]) / max(report["step"] - first_step, 1)
        memory = memory_in_use(ready.compute.device)
        journal.status.update(**report, steps=ready.steps, memory=memory, eta=round(left, 1))
        # A log of a day stays short enough to be read in a second.
        if report["epoch_step"] == report["epoch_steps"] or now - told >= min(5.0, elapsed / 1000):
            told = now
            journal.events.write("step", **report, memory=memory)

    def on_epoch(report: dict[str, Any]) -> None:
        journal.events.write("epoch", **report)

    def on_best(best: Best) -> None:
        nonlocal verified
        journal.keep(lambda: _save(ready, run.best, model, best))
        if not verified:  # a checkpoint that can't be read back is known after the first epoch, not the last
            _verify(ready, run, model, probe)
            verified = True
        journal.events.write("checkpoint", which="best", epoch=best.epoch, metric=best.metric, value=best.value)
        journal.status.update(best={"epoch": best.epoch, "metric": best.metric, "value": best.value})

    def store(taken: Snapshot, history: History) -> None:
        journal.keep(lambda: _save(ready, run.last, model, history.best, taken))
        drop_previous(run.best)  # the best one is now known to the last one
        journal.events.write("checkpoint", which="last", epoch=history.epoch, step=history.steps)
        # Also the step: a stop may come between two reports, and is told by what was stored.
        journal.status.update(step=history.steps, checkpoint={"step": history.steps, "at": round(time.time(), 3)})

    def validate() -> dict[str, Any]:
        outputs = evaluate.run(
            model,
            val,
            ready.compute,
            criterion=criterion,
            limit=limit,
            progress=lambda done, total: journal.stop.check(),
        )
        if not np.isfinite(outputs.logits).all():
            broken = int((~np.isfinite(outputs.logits).all(axis=1)).sum())
            journal.warn(f"the model's outputs for {broken:,} val rows are not finite: this epoch can't be the best")
            return {"loss": math.nan}
        scores = evaluate.score(outputs, _truth(plan, "val", outputs.rows), plan.labels)
        return {name: value for name, value in scores.items() if isinstance(value, (int, float)) or value is None}

    return fit(
        model,
        spec.train,
        batches,
        criterion,
        ready.compute,
        validate if len(plan.splits["val"].rows) else None,
        Hooks(on_step, on_epoch, on_best, store, journal.stop.check, journal.warn),
        resume=resume,
    )


def _feature_loader(
    ready: Prepared, split: Split, tables: list[Table], *, batch_size: int, shuffle: bool = False
) -> FeatureLoader:
    data = ready.plan.splits[split]
    targets, seed = split_targets(ready, data), ready.spec.train.seed
    return FeatureLoader(tables, targets, data.rows, batch_size=batch_size, shuffle=shuffle, seed=seed)


def _sampled_features(ready: Prepared, stored: Stored) -> torch.Tensor:
    """Pooled features (n, width) of evenly spaced training rows, before training: the scale that the head starts in."""
    data = ready.plan.splits["train"]
    picked = np.unique(np.linspace(0, len(data.rows) - 1, min(len(data.rows), SCALE_ROWS)).round().astype(np.int64))
    if (table := stored.splits.get("train")) is not None:
        return torch.from_numpy(table.take(data.rows[picked])).to(ready.compute.device)
    part = SplitData(data.source, data.rows[picked], data.targets[picked])
    loader = split_loader(ready, "train", shuffle=False, data=part)
    features = torch.cat(list(pooled(ready.backbone, loader, ready.compute, RowLimit())))
    return features.to(ready.compute.device)


def _truth(plan: DataPlan, split: str, rows: np.ndarray) -> np.ndarray:
    data = plan.splits[split]
    return data.targets[np.searchsorted(data.rows, rows)]


def _probe(ready: Prepared) -> dict[str, torch.Tensor]:
    """Inputs of a few training rows, through the whole preprocessing, on the device."""
    batch = next(iter(split_loader(ready, "train", shuffle=False)))
    return {name: value[:PROBE_ROWS].to(ready.compute.device) for name, value in batch.inputs.items()}


def _save(ready: Prepared, folder: Path, model: TunedModel, best: Best, taken: Snapshot | None = None) -> None:
    """Store the model as it is; with a snapshot, so that training can go on from it."""
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
        **({"training": taken.values} if taken else {}),
    }
    save_checkpoint(
        folder,
        model.tuned_state(),
        manifest,
        method=spec.tuning.method,
        training=taken.tensors if taken else None,
        # The best one of the time of `last` is kept until `last` knows the new one.
        keep="newest" if taken else "oldest",
    )


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
    with generators_left_alone():
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
    ready: Prepared,
    model: TunedModel,
    scored: dict[str, Any],
    criterion: Criterion,
    journal: Journal,
    limit: RowLimit,
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
            limit=limit,
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


def _split_predictions(ready: Prepared, outputs: evaluate.Outputs, split: Split) -> Any:
    plan = ready.plan
    return prediction_table(
        plan.all_rows(split), outputs, plan.labels, truth=plan.truth(split), errors=plan.errors(split)
    )


def _embed_splits(
    ready: Prepared,
    run: RunDirectory,
    model: TunedModel,
    scored: dict[str, Any],
    outputs: dict[str, evaluate.Outputs],
    journal: Journal,
    limit: RowLimit,
) -> None:
    plan = ready.plan
    for split in ready.spec.embed.splits:
        data = plan.splits[split]
        if not len(data.rows):
            continue
        if split not in outputs or outputs[split].embeddings is None:
            outputs[split] = evaluate.run(
                model,
                scored[split],
                ready.compute,
                embed=True,
                limit=limit,
                total=len(data.rows),
                progress=journal.progress,
            )
        table = embedding_table(
            plan.all_rows(split),
            outputs[split],
            data.source,
            label=plan.label,
            leave_out={plan.input},
            errors=plan.errors(split),
        )
        journal.keep(functools.partial(write_table, table, run.embeddings(split)))


def _warn_truncation(loaders: dict[Split, Loader], ready: Prepared, journal: Journal) -> None:
    for split, loader in loaders.items():
        if loader.truncated:
            journal.warn(
                f"{loader.truncated:,} of {len(loader.rows):,} {split} texts are longer than "
                f"{ready.spec.backbone.max_length} tokens and were cut (backbone.max_length)"
            )


def _tell_lengths(loader: Loader, batches: Batches, ready: Prepared, journal: Journal) -> None:
    """How long the training texts are, and how much of their batches is padding."""
    if loader.lengths is None:
        return
    middle, high, longest = np.percentile(loader.lengths, [50, 95, 100]).round().astype(int)
    padding = ""
    if isinstance(batches, Loader):  # stored features have no tokens
        padding = f", and {batches.padded_share():.1%} of the tokens in training batches are padding"
    journal.message(
        f"a training text has {middle:,} tokens (median), {high:,} (95th percentile), {longest:,} (longest); "
        f"{loader.truncated:,} of {len(loader.rows):,} were cut at {int(ready.spec.backbone.max_length):,}{padding}"
    )


def _write_inputs(
    run: RunDirectory,
    ready: Prepared,
    argv: list[str],
    clock: Clock,
    earlier: Earlier | None,
    checkpoint: Checkpoint | None,
) -> None:
    """What the run is made of, before the first step: spec, provenance, labels, splits, configuration."""
    spec = ready.spec
    write_text(run.spec, dump_spec(spec, comment=f"DeepTune {__version__}: resolved spec of {run.id}"))
    write_json(run.labels, ready.plan.labels.to_json())
    write_table(ready.plan.splits_table(), run.splits)
    ready.backbone.save_config(run.backbone)
    provenance = _provenance(argv, clock)
    provenance["device"] = {
        "name": str(ready.compute.device),
        "reason": ready.compute.reason,
        "precision": ready.compute.precision,
    }
    provenance["fingerprints"] = {"data": ready.plan.fingerprint, "backbone": ready.backbone.fingerprint}
    provenance["spec"] = spec.model_dump(mode="json")  # to say later which key was changed
    if earlier is not None:
        earlier.warn_of_versions(provenance["versions"])
        step = checkpoint.manifest["training"]["history"]["steps"] if checkpoint else 0
        provenance["attempts"] = [*earlier.record.get("attempts", []), earlier.attempt(provenance, step)]
        provenance["started"] = earlier.record["started"]
    write_json(run.run, provenance)


def _provenance(argv: list[str], clock: Clock) -> dict[str, Any]:
    packages = ("torch", "torchvision", "transformers", "timm", "peft", "pyarrow", "numpy", "scikit-learn")
    return {
        **ProcessIdentity.here().to_json(),
        "started": clock.started,
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
    clock: Clock,
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
        "skipped_steps": history.skipped,
        "test": _headline(metrics.get("test", {})),
        "rows": {split: len(plan.splits[split].rows) for split in SPLITS},
        "skipped": [{"split": bad.split, "row": bad.row, "reason": bad.reason} for bad in plan.bad_samples],
        "on_bad_sample": ready.spec.data.on_bad_sample,
        "parameters": {"trainable": trainable, "total": total},
        "warnings": journal.warnings,
        "artefacts": {name: str(path.relative_to(run.path)) for name, path in artefacts.items()},
        "seconds": clock.seconds,
    }
