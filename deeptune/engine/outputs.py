"""What the best model says of the splits: metrics, predictions and embeddings."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from deeptune.data.plan import DataPlan
from deeptune.engine import evaluate
from deeptune.engine.journal import Journal
from deeptune.engine.memory import RowLimit
from deeptune.engine.optim import Criterion
from deeptune.engine.prepare import Prepared
from deeptune.engine.record import headline
from deeptune.engine.tables import embedding_table, prediction_table, write_table
from deeptune.model.build import TunedModel
from deeptune.runs import RunDirectory


def score_splits(
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
                outputs[split], split_truth(ready.plan, split, outputs[split].rows), ready.plan.labels
            )
            journal.events.write("metrics", split=split, metrics=headline(metrics[split]))
    return metrics, outputs


def write_predictions(ready: Prepared, run: RunDirectory, outputs: evaluate.Outputs, journal: Journal) -> None:
    """predictions.parquet: each test row."""
    plan = ready.plan
    table = prediction_table(
        plan.all_rows("test"), outputs, plan.labels, truth=plan.truth("test"), errors=plan.errors("test")
    )
    journal.keep(lambda: write_table(table, run.predictions))


def embed_splits(
    ready: Prepared,
    run: RunDirectory,
    model: TunedModel,
    scored: dict[str, Any],
    outputs: dict[str, evaluate.Outputs],
    journal: Journal,
    limit: RowLimit,
) -> None:
    """embeddings/<split>.parquet of the splits that were asked for."""
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


def split_truth(plan: DataPlan, split: str, rows: np.ndarray) -> np.ndarray:
    data = plan.splits[split]
    return data.targets[np.searchsorted(data.rows, rows)]
