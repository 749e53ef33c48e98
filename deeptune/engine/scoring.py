"""Scores the best model on the splits: metrics, predictions and embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from deeptune.data.splits.plan import DataPlan
from deeptune.engine import inference
from deeptune.engine.inference import MeanLoss, Outputs
from deeptune.engine.row_order import Window, windows
from deeptune.engine.run_metadata import headline
from deeptune.engine.setup import Setup, SplitLoaders
from deeptune.engine.writers import PredictionColumns, Roles, embedding_file, prediction_file
from deeptune.report.tables import sentence_title, value_text
from deeptune.runs import write_json
from deeptune.runs.events import MetricsEvent
from deeptune.runs.looks import record_look, write_test_hashes
from deeptune.spec.run_spec import Split
from deeptune.tasks import Task
from deeptune.tasks.confidence.held_out import HeldOut
from deeptune.tasks.temperature_prior import prior_after
from deeptune.tasks.thresholds import operating_points

DOUBTS = {  # of one row, and of several
    "duplicates": (
        "is identical to a row that the model learned from",
        "are identical to a row that the model learned from",
    ),
    "outliers": ("has a label far outside the others", "have a label far outside the others"),
}


SCORED: tuple[Split, ...] = ("val", "test")


@dataclass(frozen=True)
class PassedSplit:
    """A model's outputs for a split, and its mean loss; None where the split has no row.

    `out_of_fold` says how the models of cross-validation came about, where they said it. `beside` are out-of-fold
    outputs of training rows, which confidence is fitted to beside those of val. `fine_tuned` says that the backbone
    learned, too.
    """

    outputs: Outputs
    loss: float | None
    out_of_fold: dict[str, Any] | None = None
    beside: Outputs | None = None
    fine_tuned: bool = False


def pass_splits(setup: Setup, loaders: SplitLoaders, splits: tuple[Split, ...] = SCORED) -> dict[Split, PassedSplit]:
    """Pass val and test, or `splits`, through the model, and write their embeddings that are asked for."""
    passed = {}
    for split in splits:
        loss = MeanLoss(setup.criterion)
        outputs = inference.joined(list(_passed(setup, loaders, split, loss)), setup.model)
        passed[split] = PassedSplit(outputs, loss.value)
    return passed


def of_fine_tuning(passed: Mapping[Split, PassedSplit]) -> dict[Split, PassedSplit]:
    """Return splits as passed through a model whose backbone learned, too."""
    return {split: replace(one, fine_tuned=True) for split, one in passed.items()}


def _confident_plan(setup: Setup, val: PassedSplit, held_out: HeldOut | None) -> DataPlan:
    """Return the plan with thresholds and confidence fitted to the held-out rows."""
    plan = setup.ready.plan
    return plan if held_out is None else replace(plan, task=_with_confidence(setup, val, held_out))


def headlines(setup: Setup, passed: Mapping[Split, PassedSplit]) -> dict[str, dict[str, Any]]:
    """Return the headline metrics of the splits that have rows."""
    val = passed["val"]
    plan = _confident_plan(setup, val, _held_out(setup, val))
    return {
        split: headline(inference.score(one.outputs, split_truth(plan, split, one.outputs.rows), plan.task, one.loss))
        for split, one in passed.items()
        if len(one.outputs)
    }


def write_scores(setup: Setup, passed: Mapping[Split, PassedSplit], more: Mapping[str, Any]) -> dict[str, Any]:
    """Score what was passed: metrics.json, with `more` beside the splits, and predictions.parquet of test.

    Returns the content of metrics.json.
    """
    metrics: dict[str, Any] = {}
    run, logger, held_out = setup.run, setup.logger, _held_out(setup, passed["val"])
    plan = _confident_plan(setup, passed["val"], held_out)
    for note in plan.task.confidence_notes:
        logger.message(note)
    for split, one in passed.items():
        if len(one.outputs):
            metrics[split] = _scores(plan, split, one.outputs, one.loss)
            if split == "val" and held_out is not None:
                metrics[split] |= _operating_points(setup, plan.task, held_out)
            if one.out_of_fold is not None:
                metrics[split]["out_of_fold"] = one.out_of_fold
            if one.beside is not None:
                metrics[split]["out_of_fold_rows"] = len(one.beside)
            for note in without_notes(metrics[split], plan.task):
                logger.message(f"{split}: {note}")
            logger.events.write(MetricsEvent(split, headline(metrics[split])))
    metrics |= more
    logger.keep(lambda: write_json(run.labels, plan.task.to_json()))  # with what was chosen on val
    logger.keep(lambda: write_json(run.metrics, metrics))
    with prediction_file(
        run.predictions,
        PredictionColumns(plan.task),
        truth=plan.truth("test"),
        errors=plan.errors("test"),
        keep=logger.keep,
    ) as write:
        for window in windows([passed["test"].outputs], plan.all_rows("test"), setup.model):
            write(window)
    if len(passed["test"].outputs):
        logger.keep(lambda: _record_look(setup, len(passed["test"].outputs)))
    return metrics


def _record_look(setup: Setup, rows: int) -> None:
    """Record that the test rows were scored, with the hashes by which later commands recognise them."""
    known = {split: data.hashes for split, data in setup.ready.plan.splits.items() if data.hashes is not None}
    if "test" in known:
        others = [hashes for split, hashes in known.items() if split != "test"]
        write_test_hashes(setup.run, known["test"], np.concatenate(others))
    record_look(setup.run, "run", rows)


def _with_confidence(setup: Setup, val: PassedSplit, held_out: HeldOut) -> Task:
    """Return the task with what the outputs of val choose and show: thresholds, calibration, expected errors, sets."""
    plan, spec, logits = setup.ready.plan, setup.ready.spec, val.outputs.logits
    task = plan.task.with_thresholds(logits, split_truth(plan, "val", val.outputs.rows))
    if not np.isfinite(logits).all():  # which scoring reports
        return task
    return task.with_confidence(held_out, spec.calibration)


def _held_out(setup: Setup, val: PassedSplit) -> HeldOut | None:
    """Return the rows that confidence is fitted to: those of val, and training rows that other folds predicted.

    None where val has no row.
    """
    if not len(val.outputs):
        return None
    plan, seed = setup.ready.plan, setup.ready.spec.train.seed
    passed: dict[Split, Outputs] = {"val": val.outputs}
    if val.beside is not None:
        passed["train"] = val.beside
    truths, groups, count = [], [], 0
    for split, outputs in passed.items():
        truths.append(split_truth(plan, split, outputs.rows))
        data = plan.splits[split]
        if data.groups is not None:
            _, codes = np.unique(data.groups[np.searchsorted(data.rows, outputs.rows)], return_inverse=True)
            groups.append(codes + count)  # no group is in both splits
            count += int(codes.max(initial=-1)) + 1
    return HeldOut(
        np.concatenate([outputs.logits for outputs in passed.values()]),
        np.concatenate(truths),
        np.concatenate(groups) if len(groups) == len(passed) else None,
        seed,
        "val" if len(passed) == 1 else "train and val",
        prior_after(int(setup.ready.spec.train.epochs)) if val.fine_tuned else None,
    )


def _operating_points(setup: Setup, task: Task, rows: HeldOut) -> dict[str, Any]:
    """Return the thresholds that `report.operating_point` chooses, for metrics.json; empty for numbers.

    The rows are those that confidence is fitted to: few rows of val say little of a sensitivity.
    """
    if task.view not in ("classes", "labels"):
        return {}
    points = operating_points(task, setup.ready.spec.report, task.comparable(rows.logits), rows.truth)
    return {"operating_points": points}


def _scores(plan: DataPlan, split: str, outputs: Outputs, loss: float | None) -> dict[str, Any]:
    """Return the metrics of a split with its baseline, the scores without doubtful rows, and notes."""
    truth = split_truth(plan, split, outputs.rows)
    metrics = inference.score(outputs, truth, plan.task, loss)
    metrics["baseline"] = plan.task.baseline(truth, plan.splits["train"].targets)
    metrics |= scores_without(plan, split, outputs)
    metrics["notes"] += [*plan.split_notes.get(split, []), *without_notes(metrics, plan.task)]
    return metrics


def scores_without(plan: DataPlan, split: str, outputs: Outputs) -> dict[str, Any]:
    """Return the metrics of a split without its doubtful rows: `without_duplicates` and `without_outliers`."""
    without = {}
    for reason, rows in plan.doubtful(split).items():
        kept = outputs.at(np.flatnonzero(~np.isin(outputs.rows, rows)))
        scores = inference.score(kept, split_truth(plan, split, kept.rows), plan.task)
        without[f"without_{reason}"] = {"left_out": len(outputs) - len(kept), **headline(scores)}
    return without


def without_notes(metrics: dict[str, Any], task: Task) -> list[str]:
    """Describe the scores without doubtful rows, one sentence for each reason."""
    texts = []
    for reason, (of_one, of_several) in DOUBTS.items():
        scores = metrics.get(f"without_{reason}")
        if scores is None:
            continue
        what = of_one if scores["left_out"] == 1 else of_several
        count = f"{scores['left_out']:,} of {metrics['n']:,} rows"
        changes = [
            f"{sentence_title(name)} {value_text(name, metrics[name])} becomes {value_text(name, scores[name])}"
            for name in task.info.compared
            if name in scores
        ]
        rest = (
            f"without them (n = {scores['n']:,}) {' and '.join(changes)}"
            if changes
            else "no other row is left to score"
        )
        texts.append(f"{count} {what}: {rest}")
    return texts


def embed_splits(setup: Setup, loaders: SplitLoaders) -> None:
    """Write embeddings/<split>.parquet of the splits that are asked for and that `pass_splits` did not pass."""
    if "train" in setup.ready.spec.embed.splits:
        for _ in _passed(setup, loaders, "train"):
            pass


def _passed(setup: Setup, loaders: SplitLoaders, split: Split, loss: MeanLoss | None = None) -> Iterator[Outputs]:
    """Pass a split once: its embeddings go to their file, if they are asked for; yields the other outputs."""
    plan = setup.ready.plan
    data = plan.splits[split]
    embed = split in setup.ready.spec.embed.splits and len(data.rows) > 0
    outputs = setup.inference.outputs(
        loaders.scoring(split), embed=embed, loss=loss, total=len(data.rows), progress=setup.logger.progress
    )
    with ExitStack() as stack:
        write = stack.enter_context(_embedding_file(setup, split)) if embed else None
        for window in windows(outputs, plan.all_rows(split), setup.model, embed=embed):
            if write is not None:
                write(window)
            yield window.outputs.without_embeddings()


def _embedding_file(setup: Setup, split: Split) -> AbstractContextManager[Callable[[Window], None]]:
    plan = setup.ready.plan
    return embedding_file(
        setup.run.embeddings(split),
        plan.splits[split].source,
        Roles(plan.input, plan.label, plan.relabelling(split)),
        errors=plan.errors(split),
        keep=setup.logger.keep,
    )


def split_truth(plan: DataPlan, split: str, rows: np.ndarray) -> np.ndarray:
    """Return the targets of some rows of a split."""
    data = plan.splits[split]
    return data.targets[np.searchsorted(data.rows, rows)]
