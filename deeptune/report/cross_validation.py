"""The report's words for a cross-validated head: what was chosen, and what takes the place of val."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from deeptune.data.splits.folds import FOLDS
from deeptune.report.finished_run import FinishedRun
from deeptune.report.section import ReportSection, Table
from deeptune.report.tables import TITLES, sentence_title, value_text

MEANT = "Val means the out-of-fold predictions of the training rows here: no row of val was left out of training."


def out_of_fold(run: FinishedRun) -> dict[str, Any] | None:
    """Read what cross-validation chose; None where val was a split of its own."""
    found: dict[str, Any] | None = run.metrics.get("val", {}).get("out_of_fold")
    return found


def calibration_rows(run: FinishedRun) -> str:
    """Return the rows that the model's confidence was fitted to, in words."""
    if out_of_fold(run):
        return "out-of-fold predictions of the training rows"
    count = run.metrics.get("val", {}).get("out_of_fold_rows")
    if count is None:
        return "the validation split"
    return f"the validation split and out-of-fold predictions of the {count:,} training rows"


def exact_penalty(run: FinishedRun) -> float | None:
    """Return the penalty of a head that is an exact minimum; None of one that took steps."""
    if run.spec.train.solver != "exact" or not run.epochs:
        return None
    chosen = (run.result.get("best") or {}).get("epoch") or run.epochs[-1].epoch
    return next((epoch.train.get("penalty") for epoch in run.epochs if epoch.epoch == chosen), None)


def _penalty_folds(run: FinishedRun) -> int:
    """Return the number of folds that compared the penalties of an exact minimum; 0 where there were none."""
    count = run.epochs[-1].train.get("folds")
    return FOLDS if count is None else int(count)  # a run of before does not tell


def decay_words(run: FinishedRun) -> str:
    """Return the weight decay that the run's model was trained with."""
    found = out_of_fold(run)
    return str(run.spec.train.weight_decay) if found is None else f"{found['weight_decay']:g}"


def methods_sentence(found: dict[str, Any], metric: str, *, exact: bool = False) -> str:
    """Say for a methods section how weight decay and epochs were chosen by `metric`."""
    if exact:
        return (
            f"The penalty ({found['weight_decay']:g}) was chosen by {metric} in {found['folds']}-fold cross-validation "
            "on the training rows, and the head is the minimum on all of them; there was no validation split."
        )
    chosen = "weight decay and number of epochs" if len(found["compared"]) > 1 else "number of epochs"
    return (
        f"The {chosen} ({found['epoch']}) were chosen by {metric} in {found['folds']}-fold cross-validation on the "
        "training rows, and the head was then trained on all of them; there was no validation split."
    )


def penalty_sentence(run: FinishedRun) -> Iterator[str]:
    """Say for a methods section how the penalty of an exact minimum was chosen; nothing where the spec names it."""
    metric = str(run.spec.train.early_stopping.metric)
    if folds := out_of_fold(run):
        yield methods_sentence(folds, sentence_title(metric.removeprefix("val/")), exact=True)
    elif run.spec.train.weight_decay == "auto" and (count := _penalty_folds(run)) and metric == "val/out_of_fold_loss":
        yield (
            f"The penalty was the one with the lowest loss in {count}-fold cross-validation on the training rows; no "
            "row of the validation split had a part in it."
        )
    elif run.spec.train.weight_decay == "auto":
        by = "loss" if metric == "val/out_of_fold_loss" else sentence_title(metric.removeprefix("val/"))
        yield f"The penalty was chosen by {by} on the validation split."


def cross_validation_section(run: FinishedRun) -> ReportSection | None:
    """Return the weight decays that were compared; None where val was a split of its own."""
    found = out_of_fold(run)
    if found is None:
        return None
    name = found["metric"].removeprefix("val/")
    exact = run.spec.train.solver == "exact"
    what, epoch = ("penalty", "place") if exact else ("weight decay", "best epoch")
    rows = [
        [
            f"{one['weight_decay']:g}" + (" (chosen)" if one["weight_decay"] == found["weight_decay"] else ""),
            f"{one['epoch']:,}",
            value_text(name, one["value"]),
        ]
        for one in found["compared"]
    ]
    said = (
        f"Each row of train and val was predicted by heads that were trained on the other {found['folds'] - 1} of "
        f"{found['folds']} folds. The {'penalty' if exact else 'weight decay and the epoch'} with the best mean over "
        f"the folds {'was' if exact else 'were'} taken, and the run's head was trained on all "
        f"{run.metrics['val']['n']:,} rows with {'it' if exact else 'them'}."
    )
    flattering = (
        "What is called val in this report are these out-of-fold predictions. The setting that predicts a fold was "
        "chosen by the scores of the other folds, whose heads had learned from it: its score may be slightly "
        "optimistic. They also calibrate the probabilities of the run's model, which has seen more rows."
    )
    table = Table(
        (what.capitalize(), epoch.capitalize(), f"{TITLES[name]}, out of fold"), rows, "Settings that were compared."
    )
    return ReportSection("cross_validation", "Cross-validation", [said, flattering], [table], data=found)
