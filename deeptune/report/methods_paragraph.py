"""Describe a finished run: its training, and a paragraph for a methods section."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deeptune import __version__
from deeptune.catalog import CATALOG
from deeptune.formatting import mean_text, visible
from deeptune.report.cross_validation import (
    calibration_rows,
    decay_words,
    exact_penalty,
    methods_sentence,
    out_of_fold,
    penalty_sentence,
)
from deeptune.report.data_description import data_files, how_split, kept_together
from deeptune.report.doubts import part_of_val
from deeptune.report.finished_run import FinishedRun
from deeptune.report.intervals import LEVEL, MetricIntervals
from deeptune.report.tables import (
    MINIMISED_LOSS,
    interval_text,
    sentence_title,
    share_text,
    significant,
    value_text,
)
from deeptune.report.task_views import view_of
from deeptune.report.test_looks import looks_said, twins_said
from deeptune.report.training_description import augmented, clipping, learning_rate, loss_extras, mixes, number
from deeptune.runs.files import read_json_object
from deeptune.spec.backbone_info import backbone_info
from deeptune.spec.metrics import lower_is_better
from deeptune.spec.modalities import MODALITIES, ModalityInfo, columns_of
from deeptune.spec.optimizers import OPTIMIZERS
from deeptune.spec.run_spec import BackboneSpec, TextBackboneSpec
from deeptune.spec.tasks import LOSSES
from deeptune.tasks.confidence.calibrators import calibrated_by

VARIANTS = {"lora": "LoRA", "rslora": "rank-stabilised LoRA", "dora": "DoRA"}

Facts = list[tuple[str, str]]


def backbone_name(run: FinishedRun) -> str:
    """Return the backbone's name, or the names of both backbones."""
    return " with ".join(_name(run, section, part) for section, part in run.spec.backbone.members.items())


def _name(run: FinishedRun, section: str, part: BackboneSpec | TextBackboneSpec) -> str:
    """Name a backbone; of a model in a folder that folder, and its architecture where the run has it."""
    prefix, _, place = part.name.partition(":")
    if prefix != "hf" or not Path(place).is_absolute():
        return part.name
    folder = run.files.backbone / section.removeprefix("backbone").removeprefix(".")
    architectures = read_json_object(folder / "config.json").get("architectures") or []
    known = f", {architectures[0]}" if architectures else ""
    return f"{Path(place).name} (Hugging Face{known})"


def loss_words(run: FinishedRun) -> str:
    """Name the loss of the training, with its weights and smoothing."""
    name = run.spec.train.loss
    return (LOSSES[name].title if name in LOSSES else name) + loss_extras(run)


def loss_differs(run: FinishedRun) -> bool:
    """Return whether the loss differs from log loss."""
    return bool(loss_extras(run))


def loss_title(run: FinishedRun) -> str:
    """Return the title of the loss beside other metrics."""
    return f"{MINIMISED_LOSS} ({loss_words(run)})"


def effective_batch(run: FinishedRun) -> str:
    """Return the rows of an optimizer step, at most all training rows."""
    train, rows = run.spec.train, run.rows.get("train", 0)
    if not isinstance(train.batch_size, int):
        return str(train.batch_size)
    asked = train.batch_size * train.accumulation
    return f"{rows:,}, all training rows" if 0 < rows < asked else f"{asked:,}"


def modality(run: FinishedRun) -> ModalityInfo:
    """Return the modality of the samples, also if it was inferred."""
    return MODALITIES[run.spec.data.modality or backbone_info(run.spec.backbone).modality]


def best_epoch(run: FinishedRun) -> int | None:
    """Return the best epoch of a run, if it had one."""
    best = (run.result.get("best") or {}).get("epoch")
    return best if isinstance(best, int) else next((epoch.epoch for epoch in reversed(run.epochs) if epoch.best), None)


def skipped(run: FinishedRun) -> list[str]:
    """List the bad samples, one line each."""
    return [visible(_skipped(sample)) for sample in run.result.get("skipped") or []]


def _skipped(sample: Any) -> str:
    if not isinstance(sample, dict):
        return str(sample)
    place = f"{sample['split']}, " if sample.get("split") else ""
    return f"{place}row {sample.get('row', '?')}: {sample.get('reason', '')}"


def _fate(run: FinishedRun) -> str:
    return "replaced by an empty sample" if run.spec.data.on_bad_sample == "blank" else "left out"


def training_facts(run: FinishedRun) -> Facts:
    """List the facts of the training: model, data and settings."""
    spec, train = run.spec, run.spec.train
    facts: Facts = [
        ("Task", view_of(run.task).task_words(run)),
        ("Backbone", backbone_name(run)),
        ("Weights to start from", _weights(run)),
        ("Input, pooling", "; ".join(_inputs(run))),
        ("Tuning method", _method(run)),
        ("Head", _head(run)),
    ]
    if parameters := _parameters(run):
        facts.append(("Parameters", parameters))
    facts += [
        ("Data", ", ".join(data_files(run))),
        ("Columns", f"{' + '.join(columns_of(spec.data.input or modality(run).input))} → {spec.data.label}"),
        ("Rows", ", ".join(f"{split} {count:,}" for split, count in run.rows.items()) or "not recorded"),
        ("Bad samples", f"{len(skipped(run)):,}" + (f" ({_fate(run)})" if skipped(run) else "")),
    ]
    if together := kept_together(run):
        facts.append(("Kept together", " and ".join(together)))
    size = f"{train.batch_size} × {train.accumulation} accumulated" if train.accumulation > 1 else str(train.batch_size)
    if effective_batch(run) != size:
        size += f"; rows of a step: {effective_batch(run)}"
    decay = f"weight decay {decay_words(run)}, {clipping(train.clip_norm)}"
    steps = [
        ("Epochs", _epochs(run)),
        ("Optimizer", f"{OPTIMIZERS[train.optimizer].title}, {decay}"),
        ("Learning rate", learning_rate(run)),
        ("Batch size", size),
    ]
    penalty = exact_penalty(run)
    facts += steps if penalty is None else [("Weights", f"the minimum of the loss with L2 penalty {penalty:g}")]
    facts.append(("Loss", loss_words(run)))
    if modality(run).augmented:
        facts.append(("Augmentation", ", ".join([train.augmentation, *mixes(run)])))
    if train.batch_norm == "frozen" and not run.spec.tuning.frozen:
        facts.append(("Batch normalisation", "pretrained statistics"))
    facts += [
        ("Precision, device", f"{train.precision}, {_device(run)}"),
        ("Seed", str(train.seed)),
    ]
    if isinstance(seconds := run.result.get("seconds"), (int, float)):
        facts.append(("Time", _duration(seconds)))
    return [(term, visible(text)) for term, text in facts]


def methods_paragraph(
    run: FinishedRun,
    metric_intervals: MetricIntervals,
    baseline: dict[str, Any],
    looks: Mapping[str, Any] | None = None,
) -> str:
    """Write a paragraph for a paper about the training and its results. Every number comes from the run's files.

    `looks` are those at the test rows, as `test_looks` returns them.
    """
    sentences = list(_sentences(run, metric_intervals, baseline))
    if looks is not None and run.split == "test":
        sentences += looks_said(run, looks)
    return visible(" ".join(sentences))


def _sentences(run: FinishedRun, metric_intervals: MetricIntervals, baseline: dict[str, Any]) -> Iterator[str]:
    spec, train = run.spec, run.spec.train
    what = modality(run).plural
    goal = view_of(run.task).goal(run, what)
    versions = run.run.get("versions")
    versions = versions if isinstance(versions, dict) else {}
    torch = f", PyTorch {versions['torch']}" if versions.get("torch") else ""
    version = versions.get("deeptune", __version__)
    yield f"We trained {_backbones(run)} to {goal} (DeepTune {version}{torch})."
    parameters = f" ({_parameters(run)})" if _parameters(run) else ""
    if spec.tuning.unfreeze:
        but = f"but for its last {_blocks(run)}, fine-tuned together with {_head(run)}"
        yield f"The backbone was frozen {but}{parameters}."
    elif spec.tuning.method == "partial":
        were, its = ("backbones were", "their") if spec.backbone.text else ("backbone was", "its")
        yield f"The {were} frozen and {_head(run)} was trained on {its} pooled features{parameters}."
    elif spec.tuning.method == "full":
        yield f"All weights were fine-tuned together with {_head(run)}{parameters}."
    else:
        were = "backbones were" if spec.backbone.text else "backbone was"
        yield f"The {were} adapted with {_lora(run)} and trained together with {_head(run)}{parameters}."
    if "head" in run.metrics:
        yield "The head was first fitted alone on the frozen backbone's features, and fine-tuning started from it."
    if run.rows:
        counts = ", ".join(f"{count:,} for {split}" for split, count in run.rows.items() if count)
        yield f"The rows were split into {counts}{how_split(run)}."
    if bad := len(skipped(run)):
        yield f"Samples that could not be read: {bad:,} ({_fate(run)})."
    penalty = exact_penalty(run)
    if penalty is not None:
        yield (
            f"We found the exact minimum of the sum of {loss_words(run)} with L2 penalty {penalty:g} "
            f"(half of it times the squared weights; seed {train.seed})."
        )
        yield from penalty_sentence(run)
        yield from _refitted(run)
        yield from _findings(run, metric_intervals, baseline)
        return
    yield (
        f"We minimised {loss_words(run)} with {OPTIMIZERS[train.optimizer].title} "
        f"(learning rate {learning_rate(run)}; weight decay {decay_words(run)}; "
        f"effective batch size {effective_batch(run)}; {clipping(train.clip_norm)}; seed {train.seed})"
        + augmented(run)
        + "."
    )
    if folds := out_of_fold(run):
        yield methods_sentence(folds, sentence_title(train.early_stopping.metric.removeprefix("val/")))
        yield from _findings(run, metric_intervals, baseline)
        return
    if run.epochs and not any(epoch.val for epoch in run.epochs):
        yield f"There was no validation split; the weights after epoch {len(run.trained)} were kept."
        yield from _findings(run, metric_intervals, baseline)
        return
    yield _kept_weights(run)
    yield from _refitted(run)
    yield from _findings(run, metric_intervals, baseline)


def _kept_weights(run: FinishedRun) -> str:
    """Say which weights were kept, where val chose them."""
    metric, best, trained = run.spec.train.early_stopping.metric, best_epoch(run), len(run.trained)
    if best == 0:
        tested = "p" in (run.metrics.get("head") or {})
        by = " by half a standard error of the paired difference" if tested else ""
        return f"The head before fine-tuning was kept: on the validation split, fine-tuning was not better{by}."
    lowest = f"{'lowest' if lower_is_better(metric) else 'highest'} {_metric_words(metric)}"
    if mean := mean_text(run.result.get("best") or {}):
        return f"The weights are {mean} of {trained}, those with the {lowest} (Wortsman et al. 2022)."
    epoch = f", epoch {best} of {trained}," if best and run.epochs else ""
    return f"The weights of the epoch with the {lowest}{epoch} were kept."


def _refitted(run: FinishedRun) -> Iterator[str]:
    """Say that the scored head was fitted to val too, where it was."""
    if "val" in (run.result.get("learned") or ()):
        rows = run.rows.get("train", 0) + run.rows.get("val", 0)
        chosen = "this penalty" if exact_penalty(run) is not None else "a penalty that 5-fold cross-validation chose"
        yield (
            f"With {chosen}, the head was then fitted to the rows of the training and validation splits together "
            f"({rows:,})" + ("; that head was scored on the test split." if run.split == "test" else ".")
        )


def _findings(run: FinishedRun, metric_intervals: MetricIntervals, baseline: dict[str, Any]) -> Iterator[str]:
    metrics, intervals = run.metrics.get(run.split, {}), metric_intervals.intervals
    confidence = metrics.get("confidence") or {}
    if confidence.get("calibrator", "none") != "none":
        yield f"Probabilities were calibrated on {calibration_rows(run)} by {calibrated_by(confidence)}."
    found = []
    for name in run.task.info.headline:
        if metrics.get(name) is None:
            continue
        inside = [f"95% CI {interval_text(name, intervals[name])}"] if name in intervals else []
        if baseline.get(name) is not None:
            inside.append(f"baseline {value_text(name, baseline[name])}")
        said = f"{sentence_title(name)} was {value_text(name, metrics[name])}"
        found.append(f"{said} ({'; '.join(inside)})" if inside else said)
    if found:
        where = "In cross-validation" if run.split == "val" and out_of_fold(run) else f"On the {run.split} split"
        yield f"{where} (n = {metrics['n']:,}), " + " and ".join(found) + "."
    if found and run.split == "val" and best_epoch(run) is not None:
        part = part_of_val(metrics, run.result.get("best"))
        yield f"There was no test split: {part}, so these values are optimistic."
    yield from twins_said(run, metrics)
    if intervals:
        # What follows is of log loss and calibration error, which this paragraph does not report.
        yield f"Intervals are {LEVEL:.0%} {metric_intervals.method.partition(';')[0]}."
    yield from metric_intervals.reasons
    if baseline:
        yield view_of(run.task).baseline_sentence(run)


def _metric_words(metric: str) -> str:
    split, _, name = metric.rpartition("/")
    return f"{ {'val': 'validation'}.get(split, split) } {sentence_title(name)}".strip()


def _backbones(run: FinishedRun) -> str:
    """Name the backbones: `a resnet50 backbone with pretrained weights`.

    Of two it names both, and says that their features were joined.
    """
    found = []
    members = run.spec.backbone.members
    for (section, part), kind in zip(members.items(), modality(run).members, strict=True):
        weights = {"pretrained": "with pretrained weights", "random": "from random initial weights"}.get(
            part.weights, f"with the weights of {Path(part.weights).name}"
        )
        whose = f" of the {kind.plural}" if len(members) > 1 else ""
        name = _name(run, section, part)
        found.append(f"{'an' if name[0] in 'aeioAEIO' else 'a'} {name} backbone{whose} {weights}")
    joined = ", their pooled features side by side," if len(found) > 1 else ""
    return " and ".join(found) + joined


def _weights(run: FinishedRun) -> str:
    return "; ".join(dict.fromkeys(_weights_of(part) for part in run.spec.backbone.members.values()))


def _weights_of(part: BackboneSpec | TextBackboneSpec) -> str:
    if part.weights == "random":
        return "random (not pretrained)"
    row = CATALOG.get(part.name)
    if part.weights == "pretrained":
        return "pretrained" + (f" ({row.weights_origin})" if row else "")
    return part.weights


def _inputs(run: FinishedRun) -> list[str]:
    """Say how much each backbone takes of a sample, and its pooling."""
    members = zip(run.spec.backbone.members.values(), modality(run).members, strict=True)
    return [f"{kind.size_of(part)} {kind.unit}, {part.pooling}" for part, kind in members]


def _method(run: FinishedRun) -> str:
    method = run.spec.tuning.method
    if run.spec.tuning.unfreeze:
        return f"partial: the head and the backbone's last {_blocks(run)}"
    return {"partial": "partial: the head only", "full": "full: every weight", "lora": f"lora: {_lora(run)}"}[method]


def _blocks(run: FinishedRun) -> str:
    count = run.spec.tuning.unfreeze
    return f"{count} blocks" if count > 1 else "block"


def _lora(run: FinishedRun) -> str:
    lora = run.spec.tuning.lora
    targets = "" if lora.targets == "auto" else f", on {', '.join(lora.targets)}"
    variant = VARIANTS[lora.variant]
    return f"{variant} of rank {lora.rank}, alpha {number(lora.alpha)}, dropout {lora.dropout:g}{targets}"


def _head(run: FinishedRun) -> str:
    head = run.spec.head
    dropout = f" and dropout {head.dropout:g}" if head.dropout else ""
    if head.layers == 1:
        return f"a linear head{' with' + dropout.removeprefix(' and') if dropout else ''}"
    return f"a two-layer head (embedding size {head.embedding_size}, {head.activation}{dropout})"


def _parameters(run: FinishedRun) -> str:
    counts = run.result.get("parameters") or {}
    trainable, total = counts.get("trainable"), counts.get("total")
    if not isinstance(trainable, int) or not isinstance(total, int):
        return ""
    return f"{trainable:,} of {total:,} parameters trained, {share_text(trainable, total)}"


def _epochs(run: FinishedRun) -> str:
    best = best_epoch(run)
    stopping = run.spec.train.early_stopping
    if folds := out_of_fold(run):
        return f"{folds['epoch']} of {run.spec.train.epochs}, by {stopping.metric} out of fold"
    epochs = f"{len(run.trained)} of at most {run.spec.train.epochs}"
    if best == 0:
        return f"{epochs}; the head before the first was kept, by {stopping.metric}"
    mean = mean_text(run.result.get("best") or {})
    return epochs + (f"; {f'{mean} was kept' if mean else f'best was {best}'}, by {stopping.metric}" if best else "")


def _device(run: FinishedRun) -> str:
    device = run.run.get("device") or run.spec.train.device
    return str(device.get("name", run.spec.train.device) if isinstance(device, dict) else device)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{significant(seconds, 2)} s"
