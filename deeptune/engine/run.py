"""One run from spec to result: read, build, fit, verify, score, embed."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from deeptune.checkpoint import drop_previous, read_manifest
from deeptune.data.cache.entry import Cache
from deeptune.data.features import Features
from deeptune.data.loader import Batch, Loader
from deeptune.data.splits import SplitData
from deeptune.engine import inference
from deeptune.engine.activations import TextActivationLoader
from deeptune.engine.batch_tuning import tune
from deeptune.engine.device import memory_in_use, seed_everything, tokens_at_once
from deeptune.engine.feature_extraction import FeatureLoader, Stored, passed, store_features
from deeptune.engine.inference import MeanLoss
from deeptune.engine.loop import Batches, Best, History, Hooks, TrainState, fit
from deeptune.engine.loss import Criterion
from deeptune.engine.micro_batch import MicroBatcher
from deeptune.engine.prepare import SPLITS, Prepared, make_criterion, prepare, split_loader, split_targets
from deeptune.engine.resume import Earlier, earlier_seconds, find_checkpoint, snapshot_of
from deeptune.engine.run_logger import RunLogger
from deeptune.engine.run_metadata import Clock, headline, provenance, record_end, run_result, told_error, write_inputs
from deeptune.engine.sanity import Constant, changes_with_batch
from deeptune.engine.scoring import embed_splits, score_splits, split_truth
from deeptune.engine.train_state import generators_left_alone
from deeptune.engine.verify import probe_inputs, save_model, verified_best, verify
from deeptune.model.build import TunedModel
from deeptune.model.head import collapsed
from deeptune.report import write_report
from deeptune.runs import RunDirectory, write_json, write_text
from deeptune.runs.events import (
    CheckpointEvent,
    EndEvent,
    EpochEvent,
    Parameters,
    ResumeEvent,
    Rows,
    StartEvent,
    StepEvent,
)
from deeptune.spec import RunSpec, dump_spec
from deeptune.spec.model import Split

SCALE_ROWS = 2048  # rows that the scale of the features is estimated from


def execute(
    spec: RunSpec,
    run: RunDirectory,
    *,
    logger: RunLogger | None = None,
    force: bool = False,
    argv: list[str] | None = None,
) -> dict[str, Any]:
    """Do the whole run in `run`, or the rest of it, and return the content of result.json.

    `run` is an empty run directory, or that of a run which did not come to its end. Whatever happens is in the
    directory: events, status and, at the end, result.json with `state` `done`, `stopped` or `failed`. Errors are
    re-raised after they were recorded. `force` goes on though spec, data or backbone changed.
    """
    own = logger is None
    logger = logger or RunLogger(run)
    clock = Clock(earlier_seconds(logger.events.earlier))
    try:
        with Cache(logger.message, logger.stop.check) as cache:
            result = _execute(spec, run, logger, clock, force, argv or sys.argv, cache)
    except BaseException as error:
        told = told_error(error)
        record_end(run, logger, told, clock)
        if told is error:
            raise
        raise told from error
    finally:
        if own:
            logger.events.close()
    return result


def _execute(
    spec: RunSpec,
    run: RunDirectory,
    logger: RunLogger,
    clock: Clock,
    force: bool,
    argv: list[str],
    cache: Cache,
) -> dict[str, Any]:
    # As use_deterministic_algorithms does, which also imports the compiler, for seconds.
    deterministic = spec.train.device == "cpu" or not torch.cuda.is_available()
    torch.set_deterministic_debug_mode("warn" if deterministic else "default")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # 4% of a pass
    asked = spec
    earlier = Earlier.read(run, logger, force=force)
    if earlier is None:
        write_text(run.spec, dump_spec(spec))
        write_json(run.run, provenance(argv, clock))

    ready = prepare(spec, logger=logger, earlier=earlier, cache=cache)
    model = ready.model.to(ready.compute.device)
    if earlier is None:  # a resumed run has the choice in its spec
        ready = tune(ready, spec, logger)
    spec, plan, compute = ready.spec, ready.plan, ready.compute
    trainable, total = model.counts()
    for note in plan.remarks:
        logger.message(note)
    for warning in plan.warnings:
        logger.warn(warning)
    checkpoint = find_checkpoint(run, logger) if earlier else None
    write_inputs(run, ready, argv, clock, earlier, checkpoint, asked)
    logger.status.update(task=spec.task, backbone=spec.backbone.name, method=spec.tuning.method, steps=ready.steps)
    logger.events.write(
        StartEvent(
            task=spec.task,
            backbone=spec.backbone.name,
            weights=spec.backbone.weights,
            method=spec.tuning.method,
            device=str(compute.device),
            device_reason=compute.reason,
            rows=Rows(*(len(plan.splits[split].rows) for split in SPLITS)),
            parameters=Parameters(trainable, total),
            steps=ready.steps,
            epochs=int(spec.train.epochs),
            metric=spec.train.early_stopping.metric,
            patience=int(spec.train.early_stopping.patience),
        )
    )
    if earlier:
        history = checkpoint.manifest["training"]["history"] if checkpoint else {"steps": 0, "epoch": 1}
        logger.events.write(ResumeEvent(history["steps"], history["epoch"]))
    # The data is known now: what the head starts from must not depend on how it was read.
    seed_everything(spec.train.seed)
    loaders = {split: _loader(ready, split, logger) for split in SPLITS}
    _warn_truncation(loaders, ready, logger)
    criterion = make_criterion(ready)
    limit = MicroBatcher(logger.warn, tokens=tokens_at_once(compute.device))

    scored: dict[Any, Any] = dict(loaders)
    stored = store_features(ready, cache, logger, limit)
    for split, table in stored.splits.items():
        scored[split] = stored_loader(ready, stored, split, [table])
    train_batches: Loader | FeatureLoader | TextActivationLoader
    if stored.views:
        train_batches = stored_loader(ready, stored, "train", stored.views, shuffle=True)
    else:
        train_batches = _loader(ready, "train", logger, shuffle=True)
    _tell_lengths(loaders["train"], train_batches, ready, logger)

    logger.phase("train")
    if checkpoint is not None:
        model.load_tuned_state(checkpoint.state)
    elif spec.head.standardise:
        features = _sampled_features(ready, stored, limit)
        if useless := collapsed(features):
            logger.warn(useless)
        model.head.standardise(features)
    with generators_left_alone():
        probe = probe_inputs(ready)
    resume = snapshot_of(checkpoint) if checkpoint else None
    history = _fit(ready, run, logger, model, train_batches, scored["val"], criterion, probe, limit, resume)
    if history.stopped_early:
        logger.message(f"no better {history.best.metric} for {history.best.since} epochs: stopped early")

    logger.phase("verify")
    model, logits = verified_best(ready, run, probe)
    if unstable := changes_with_batch(ready, model, probe, logits):
        logger.warn(unstable)
    history.best = replace(history.best, **read_manifest(run.best)["best"])

    logger.phase("test")
    metrics = score_splits(ready, run, model, scored, criterion, logger, limit)

    if spec.embed.splits:
        logger.phase("embed")
        embed_splits(ready, run, model, scored, logger, limit)

    result = run_result(ready, run, history, metrics, model, clock, logger)
    if worse := _worse_than_constant(ready, criterion, metrics):
        logger.warn(worse)
        result |= {"worse_than_constant": worse, "warnings": logger.warnings}
    logger.keep(lambda: write_json(run.result, result))
    for folder in (run.best, run.last):
        drop_previous(folder)
    logger.phase("report")
    try:
        write_report(run.path)
    except Exception as error:  # every result is on the disk by now: a picture of them must not cost the run
        logger.warn(f"report.html could not be written: {type(error).__name__}: {error}")
    logger.events.write(EndEvent("done", test=headline(metrics.get("test", {}))))
    logger.status.update(state="done", phase="done", force=True)
    return result


def _loader(ready: Prepared, split: Split, logger: RunLogger, *, shuffle: bool = False) -> Loader:
    loader = split_loader(ready, split, shuffle=shuffle)
    loader.warn = logger.warn
    return loader


def _fit(
    ready: Prepared,
    run: RunDirectory,
    logger: RunLogger,
    model: TunedModel,
    batches: Batches,
    val: Any,
    criterion: Criterion,
    probe: dict[str, torch.Tensor],
    limit: MicroBatcher,
    resume: TrainState | None,
) -> History:
    spec, plan = ready.spec, ready.plan
    started = told = time.monotonic()
    first_step = resume.values["history"]["steps"] if resume else 0
    if resume and (best := resume.values["history"]["best"])["epoch"]:
        logger.status.update(best={name: best[name] for name in ("epoch", "metric", "value")})
    verified, constant, diverged = False, Constant(ready, criterion), False

    def on_step(event: StepEvent) -> None:
        nonlocal told
        now = time.monotonic()
        elapsed = now - started
        left = elapsed * (ready.steps - event.step) / max(event.step - first_step, 1)
        event = replace(event, memory=memory_in_use(ready.compute.device))
        logger.status.update(**event.content(), steps=ready.steps, eta=round(left, 1))
        # A log of a day stays short enough to be read in a second.
        if event.epoch_step == event.epoch_steps or now - told >= min(5.0, elapsed / 1000):
            told = now
            logger.events.write(event)

    def on_epoch(event: EpochEvent) -> None:
        logger.events.write(event)

    def on_best(best: Best) -> None:
        nonlocal verified
        logger.keep(lambda: save_model(ready, run.best, model, best))
        if not verified:  # a checkpoint that can't be read back is known after the first epoch, not the last
            verify(ready, run, model, probe)
            verified = True
        logger.events.write(CheckpointEvent("best", best.epoch, metric=best.metric, value=best.value))
        logger.status.update(best={"epoch": best.epoch, "metric": best.metric, "value": best.value})

    def store(taken: TrainState, history: History) -> None:
        logger.keep(lambda: save_model(ready, run.last, model, history.best, taken))
        drop_previous(run.best)  # the best one is now known to the last one
        logger.events.write(CheckpointEvent("last", history.epoch, step=history.steps))
        # Also the step: a stop may come between two reports, and is told by what was stored.
        logger.status.update(step=history.steps, checkpoint={"step": history.steps, "at": round(time.time(), 3)})

    def validate() -> dict[str, Any]:
        nonlocal diverged
        loss = MeanLoss(criterion)
        found = inference.outputs(
            model, val, ready.compute, loss=loss, limit=limit, progress=lambda done, total: logger.stop.check()
        )
        outputs = inference.joined(list(found), model)
        if not np.isfinite(outputs.logits).all():
            broken = int((~np.isfinite(outputs.logits).all(axis=1)).sum())
            logger.warn(f"the model's outputs for {broken:,} val rows are not finite: this epoch can't be the best")
            return {"loss": math.nan}
        if not diverged and loss.value is not None and (warning := constant.diverged("val", loss.value)):
            logger.warn(warning)
            diverged = True
        scores = inference.score(outputs, split_truth(plan, "val", outputs.rows), plan.task, loss.value)
        undefined = {name: value for name, value in scores.items() if value is None}
        return {**headline(scores), **undefined}

    return fit(
        model,
        spec.train,
        batches,
        criterion,
        ready.compute,
        validate if len(plan.splits["val"].rows) else None,
        Hooks(on_step, on_epoch, on_best, store, logger.stop.check, logger.warn),
        resume=resume,
    )


def stored_loader(
    ready: Prepared,
    stored: Stored,
    split: Split,
    tables: list[Features],
    *,
    shuffle: bool = False,
    data: SplitData | None = None,
) -> FeatureLoader | TextActivationLoader:
    """The batches of a split, or of some of its rows (`data`), from what is stored of them."""
    data, boundary = data or ready.plan.splits[split], stored.boundary
    if boundary is not None and boundary.of_tokens:
        return TextActivationLoader(split_loader(ready, split, shuffle=shuffle, data=data), tables[0], boundary)
    batch_size, seed = int(ready.spec.train.batch_size), ready.spec.train.seed
    if boundary is None and not shuffle:  # the head alone is passed
        batch_size = max(batch_size, 512)
    return FeatureLoader(
        tables,
        split_targets(ready, data),
        data.rows,
        batch_size=batch_size,
        shuffle=shuffle,
        seed=seed,
        boundary=boundary,
    )


def _sampled_features(ready: Prepared, stored: Stored, limit: MicroBatcher) -> torch.Tensor:
    """Pooled features (n, width) of evenly spaced training rows, before training: the scale that the head starts in."""
    data = ready.plan.splits["train"]
    picked = np.unique(np.linspace(0, len(data.rows) - 1, min(len(data.rows), SCALE_ROWS)).round().astype(np.int64))
    table = stored.splits.get("train")
    if table is not None and stored.boundary is None:
        return torch.from_numpy(table.take(data.rows[picked])).to(ready.compute.device)
    part = SplitData(data.source, data.rows[picked], data.targets[picked])
    batches: Iterable[Batch]
    if table is None:
        batches = split_loader(ready, "train", shuffle=False, data=part)
    else:
        batches = stored_loader(ready, stored, "train", [table], data=part)
    features = torch.cat(list(passed(ready.backbone, ready.model.pooled, batches, ready.compute, limit)))
    return features.to(ready.compute.device)


def _worse_than_constant(ready: Prepared, criterion: Criterion, metrics: dict[str, Any]) -> str | None:
    """A sentence when the model is worse on test, or on val where there is no test, than one prediction for all."""
    split: Split = "test" if "test" in metrics else "val"
    return Constant(ready, criterion).not_beaten(split, metrics[split]) if split in metrics else None


def _warn_truncation(loaders: dict[Split, Loader], ready: Prepared, logger: RunLogger) -> None:
    for split, loader in loaders.items():
        if loader.truncated:
            logger.warn(
                f"{loader.truncated:,} of {len(loader.rows):,} {split} texts are longer than "
                f"{ready.spec.backbone.max_length} tokens and were cut (backbone.max_length)"
            )


def _tell_lengths(
    loader: Loader, batches: Loader | FeatureLoader | TextActivationLoader, ready: Prepared, logger: RunLogger
) -> None:
    """How long the training texts are, and how much of their batches is padding."""
    if loader.lengths is None:
        return
    middle, high, longest = np.percentile(loader.lengths, [50, 95, 100]).round().astype(int)
    padding = ""
    if not isinstance(batches, FeatureLoader) and not ready.backbone.padding_reaches:  # else nothing is padded
        padding = f", and {batches.padded_share():.1%} of the tokens in training batches are padding"
    logger.message(
        f"a training text has {middle:,} tokens (median), {high:,} (95th percentile), {longest:,} (longest); "
        f"{loader.truncated:,} of {len(loader.rows):,} were cut at {int(ready.spec.backbone.max_length):,}{padding}"
    )
