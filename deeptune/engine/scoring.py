"""What the best model says of the splits: metrics, predictions and embeddings."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np

from deeptune.data.plan import DataPlan
from deeptune.engine import inference
from deeptune.engine.inference import MeanLoss, Outputs
from deeptune.engine.loss import Criterion
from deeptune.engine.micro_batch import MicroBatcher
from deeptune.engine.prepare import Prepared
from deeptune.engine.row_order import windows
from deeptune.engine.run_logger import RunLogger
from deeptune.engine.run_metadata import headline
from deeptune.engine.writers import embedding_file, prediction_file
from deeptune.model.build import TunedModel
from deeptune.runs import RunDirectory, write_json
from deeptune.runs.events import MetricsEvent
from deeptune.spec.model import Split
from deeptune.tasks import Task

DOUBTS = {"duplicates": "are identical to a training row", "outliers": "have a label far outside the others"}


def score_splits(
    ready: Prepared,
    run: RunDirectory,
    model: TunedModel,
    scored: dict[Any, Any],
    criterion: Criterion,
    logger: RunLogger,
    limit: MicroBatcher,
) -> dict[str, Any]:
    """Write metrics.json of val and test, predictions.parquet of test, and the embeddings of both that are asked for;
    returns the metrics."""
    metrics: dict[str, Any] = {}
    plan = ready.plan
    splits: tuple[Split, ...] = ("val", "test")
    for split in splits:
        loss, kept = MeanLoss(criterion), list[Outputs]()
        _pass_split(ready, run, model, scored[split], split, logger, limit, loss=loss, kept=kept)
        outputs = inference.joined(kept, model)
        if len(outputs):
            truth = split_truth(plan, split, outputs.rows)
            metrics[split] = inference.score(outputs, truth, plan.task, loss.value)
            metrics[split]["baseline"] = plan.task.baseline(truth, plan.splits["train"].targets)
            metrics[split] |= scores_without(plan, split, outputs)
            metrics[split]["notes"] += [*plan.limits.get(split, []), *without_notes(metrics[split], plan.task)]
            for note in without_notes(metrics[split], plan.task):
                logger.message(f"{split}: {note}")
            logger.events.write(MetricsEvent(split, headline(metrics[split])))
    logger.keep(lambda: write_json(run.metrics, metrics))
    with prediction_file(
        run.predictions, plan.task, truth=plan.truth("test"), errors=plan.errors("test"), keep=logger.keep
    ) as write:
        for window in windows([outputs], plan.all_rows("test"), model):
            write(window)
    return metrics


def scores_without(plan: DataPlan, split: str, outputs: Outputs) -> dict[str, Any]:
    """The metrics of a split without its doubtful rows: `without_duplicates` and `without_outliers`."""
    found = {}
    for reason, rows in plan.doubtful(split).items():
        kept = outputs.at(np.flatnonzero(~np.isin(outputs.rows, rows)))
        scores = inference.score(kept, split_truth(plan, split, kept.rows), plan.task)
        found[f"without_{reason}"] = {"left_out": len(outputs) - len(kept), **headline(scores)}
    return found


def without_notes(metrics: dict[str, Any], task: Task) -> list[str]:
    """The same in sentences."""
    texts = []
    for reason, what in DOUBTS.items():
        scores = metrics.get(f"without_{reason}")
        if scores is None:
            continue
        count = f"{scores['left_out']:,} of {metrics['n']:,} rows"
        told = [
            f"{name} {metrics[name]:.4g} becomes {scores[name]:.4g}" for name in task.info.compared if name in scores
        ]
        rest = f"without them (n = {scores['n']:,}) {' and '.join(told)}" if told else "no other row is left to score"
        texts.append(f"{count} {what}: {rest}")
    return texts


def embed_splits(
    ready: Prepared,
    run: RunDirectory,
    model: TunedModel,
    scored: dict[Any, Any],
    logger: RunLogger,
    limit: MicroBatcher,
) -> None:
    """embeddings/<split>.parquet of the splits that were asked for and that `score_splits` did not pass."""
    if "train" in ready.spec.embed.splits:
        _pass_split(ready, run, model, scored["train"], "train", logger, limit)


def _pass_split(
    ready: Prepared,
    run: RunDirectory,
    model: TunedModel,
    batches: Any,
    split: Split,
    logger: RunLogger,
    limit: MicroBatcher,
    *,
    loss: MeanLoss | None = None,
    kept: list[Outputs] | None = None,
) -> None:
    """Pass a split once: its embeddings go to their file, if they are asked for, and the other outputs to `kept`."""
    plan = ready.plan
    data = plan.splits[split]
    embed = split in ready.spec.embed.splits and len(data.rows) > 0
    found = inference.outputs(
        model,
        batches,
        ready.compute,
        embed=embed,
        loss=loss,
        limit=limit,
        total=len(data.rows),
        progress=logger.progress,
    )
    with ExitStack() as stack:
        write = None
        if embed:
            write = stack.enter_context(
                embedding_file(
                    run.embeddings(split),
                    data.source,
                    label=plan.label,
                    input=plan.input,
                    relabel=plan.relabelling(split),
                    errors=plan.errors(split),
                    keep=logger.keep,
                )
            )
        for window in windows(found, plan.all_rows(split), model, embed=embed):
            if write is not None:
                write(window)
            if kept is not None:
                kept.append(window.outputs.without_embeddings())


def split_truth(plan: DataPlan, split: str, rows: np.ndarray) -> np.ndarray:
    """The targets of some rows of a split."""
    data = plan.splits[split]
    return data.targets[np.searchsorted(data.rows, rows)]
