"""The section of a report on how far predictions can be trusted: calibration, expected errors, sets, intervals."""

from __future__ import annotations

from typing import Any

import numpy as np

from deeptune.formatting import visible
from deeptune.report import confidence_plots as plots
from deeptune.report.cross_validation import MEANT, calibration_rows, out_of_fold
from deeptune.report.finished_run import FinishedRun
from deeptune.report.sections import Figure, ReportSection, Table
from deeptune.report.tables import UNDEFINED, share_text, significant, value_text
from deeptune.tasks.confidence.calibrators import calibrated_by
from deeptune.tasks.confidence.expected_error import MIN_BIN_ROWS, ExpectedError
from deeptune.tasks.confidence.of_classes import ClassConfidence, risk_curve

SHARES_KEPT = (1.0, 0.9, 0.8, 0.7, 0.5)
MAX_SIZES_SHOWN = 40  # classes up to which the sizes of sets have a picture
MAX_TARGETS = 8  # targets that have a picture, at most


def confidence_section(run: FinishedRun) -> ReportSection | None:
    """Compare the confidence that was fitted on val with the report's rows; None where nothing was fitted."""
    metrics = run.metrics.get(run.split, {})
    found = metrics.get("confidence")
    if not isinstance(found, dict):
        return None
    make = {"classes": _of_classes, "labels": _of_labels, "numbers": _of_numbers, "targets": _of_targets}
    return make[run.task.view](run, metrics, found)


def _section(
    found: dict[str, Any],
    metrics: dict[str, Any],
    paragraphs: list[str],
    tables: list[Table],
    figures: list[Figure],
    **more: Any,
) -> ReportSection:
    data = {"confidence": found, **{name: metrics[name] for name in ("uncalibrated",) if name in metrics}, **more}
    return ReportSection("confidence", "How far predictions can be trusted", paragraphs, tables, figures, data)


def _of_classes(run: FinishedRun, metrics: dict[str, Any], found: dict[str, Any]) -> ReportSection:
    own = _confidence_of(run)
    paragraphs = [_calibrated(run, metrics, found, "log_loss", "ece"), _sets(run, found), *_caveats(run, found)]
    tables, figures = [], [_reliability(found, metrics)]
    more = {}
    scored = run.predictions if run.split == "test" else None
    if scored is not None and scored.probabilities is not None and len(scored.truth):
        sure, correct = scored.probabilities.max(axis=1), scored.prediction == scored.truth
        share, risk = risk_curve(sure, correct)
        figures.append(_risk(share, risk, found["aurc"]))
        more = {"expected_error": _error_counts(own.errors, sure, correct), "kept": _kept(sure, correct)}
        tables += [_error_table(more["expected_error"], run.split, calibration_rows(run)), _kept_table(more["kept"])]
        figures.append(_errors(own.errors, sure, correct, run))
    figures += _sizes(found, "classes")
    return _section(found, metrics, paragraphs, tables, figures, **more)


def _of_labels(run: FinishedRun, metrics: dict[str, Any], found: dict[str, Any]) -> ReportSection:
    before, own = metrics["uncalibrated"], _confidence_of(run)
    paragraphs = [
        _calibrated(run, metrics | {name: found[name] for name in ("log_loss", "ece")}, found, "log_loss", "ece")
        + " Both are over all labels together.",
        _sets(run, found) if "covered" in found else "This run is of an earlier version, and has no conformal sets.",
        *_caveats(run, found),
    ]
    caption = (
        "Share of rows that have a label, against its probability, before and after calibration. Expected calibration "
        f"error {value_text('ece', before['ece'])} before, {value_text('ece', found['ece'])} after."
    )
    picture = plots.reliability_before_and_after(
        found["reliability"], found["reliability_uncalibrated"], of="Share that have it"
    )
    table = Table(
        ("Confidence", "Labels fitted to", "Wrong of them", "Expected error"),
        [
            (
                f"{one.low:.3f} to {one.high:.3f}",
                f"{one.rows:,}",
                share_text(one.errors, one.rows),
                f"{one.expected:.3f}",
            )
            for one in own.errors.bins
        ],
        f"Expected error of a label by the confidence of its decision, fitted to {calibration_rows(run)}.",
    )
    figures = [Figure(picture, caption), *_sizes(found, "labels")]
    return _section(found, metrics, paragraphs, [table], figures, expected_error=own.errors.to_json())


def _sizes(found: dict[str, Any], what: str) -> list[Figure]:
    """Draw how many classes or labels the sets hold, where there are sets, and not too many sizes."""
    if "set_sizes" not in found or len(found["set_sizes"]) > MAX_SIZES_SHOWN + 1:
        return []
    caption = f"How many {what} a set holds: {found['mean_set_size']:.2f} on average. Small sets mean a sure model."
    return [Figure(plots.set_sizes(found["set_sizes"], what), caption)]


def _of_numbers(run: FinishedRun, metrics: dict[str, Any], found: dict[str, Any]) -> ReportSection:
    figures = (
        [Figure(plots.interval_calibration(found["curve"], run.split), _curve_caption())] if found["curve"] else []
    )
    return _section(found, metrics, [_intervals(run, found), *_caveats(run, found)], [], figures)


def _of_targets(run: FinishedRun, metrics: dict[str, Any], found: dict[str, Any]) -> ReportSection:
    targets = found["per_target"]
    rows = [
        (visible(one["target"]), f"{one['coverage']:.0%}", value_text("accuracy", one["covered"]), _width(one))
        for one in targets
    ]
    table = Table(
        ("Target", "Coverage asked for", f"Covered in {run.split}", "Mean width"), rows, "Intervals of each target."
    )
    figures = [
        Figure(plots.interval_calibration(one["curve"], run.split), f"{visible(one['target'])}: {_curve_caption()}")
        for one in targets[:MAX_TARGETS]
        if one["curve"]
    ]
    notes = [f"{visible(one['target'])}: {note}." for one in targets for note in one["notes"]]
    paragraphs = ["Coverage is that of each target by itself, not of all targets of a row together.", *notes]
    return _section(found, metrics, [*paragraphs, _guarantee(run)], [table], figures)


# Sentences


def _calibrated(run: FinishedRun, metrics: dict[str, Any], found: dict[str, Any], loss: str, error: str) -> str:
    before = metrics["uncalibrated"]
    if found["calibrator"] == "none":
        return "The probabilities are the model's own: no calibrator was fitted, or none was better on held-out rows."
    return (
        f"The probabilities were calibrated on {calibration_rows(run)} by {calibrated_by(found)}. In {run.split}, log "
        f"loss was {value_text('log_loss', before['log_loss'])} before calibration and "
        f"{value_text('log_loss', metrics[loss])} after it; the expected calibration error was "
        f"{value_text('ece', before['ece'])} and {value_text('ece', metrics[error])}."
    )


def _sets(run: FinishedRun, found: dict[str, Any]) -> str:
    """Return what the conformal sets cover, with Wilson's interval where rows are independent."""
    rows = run.metrics[run.split]["n"]
    true, what = ("all labels", "labels") if run.task.view == "labels" else ("the true class", "classes")
    return (
        f"Conformal sets are built to contain {true} in {found['coverage']:.0%} of rows. In {run.split} they do in "
        f"{found['covered']:.1%}{_between(run, found['covered'], rows)}, with {found['mean_set_size']:.2f} {what} on "
        "average."
    )


def _intervals(run: FinishedRun, found: dict[str, Any]) -> str:
    rows = run.metrics[run.split]["n"]
    return (
        f"Intervals are built to contain the true number in {found['coverage']:.0%} of rows. In {run.split} they do in "
        f"{found['covered']:.1%}{_between(run, found['covered'], rows)}; their mean width is {_width(found)}. They are "
        "wider where errors on val are larger at the predicted number."
    )


def _between(run: FinishedRun, covered: float, rows: int) -> str:
    if run.spec.data.group:
        return ""
    from scipy.stats import binomtest

    low, high = binomtest(round(covered * rows), rows).proportion_ci(0.95, method="wilson")
    return f" (95% interval {low:.1%} to {high:.1%})"


def _width(found: dict[str, Any]) -> str:
    width = found["mean_width"]
    return "without bound" if width is None else significant(width)


def _caveats(run: FinishedRun, found: dict[str, Any]) -> list[str]:
    return [*(f"{note[0].upper()}{note[1:]}." for note in found["notes"]), _guarantee(run)]


def _guarantee(run: FinishedRun) -> str:
    own = " These rows are val itself, so this says little." if run.split != "test" else ""
    if out_of_fold(run):
        own += f" {MEANT}"
    exact = run.spec.train.early_stopping.metric == "val/out_of_fold_loss"
    chose = "" if exact else ", which also chose the epoch, so it is slightly optimistic"
    return (
        f"All this is fitted to {calibration_rows(run)}{chose}. Coverage is an average over rows. It applies to new "
        "rows from the same distribution, and not to another scanner, another hospital or another time."
        f"{own}"
    )


def _curve_caption() -> str:
    return (
        "How often intervals hold the truth, against how often they were asked to. Points below the line: too narrow."
    )


# Tables and figures


def _confidence_of(run: FinishedRun) -> ClassConfidence:
    own = getattr(run.task, "confidence", None)
    assert isinstance(own, ClassConfidence)  # or there would be no metrics of it
    return own


def _reliability(found: dict[str, Any], metrics: dict[str, Any]) -> Figure:
    svg = plots.reliability_before_and_after(found["reliability"], found["reliability_uncalibrated"])
    before, after = (value_text("ece", one["ece"]) for one in (metrics["uncalibrated"], metrics))
    caption = (
        "Accuracy against confidence before and after calibration: points below the line are surer than right. "
        f"Expected calibration error {before} before, {after} after."
    )
    return Figure(svg, caption)


def _risk(share: np.ndarray, risk: np.ndarray, area: float) -> Figure:
    caption = (
        "Share of wrong predictions among the rows that are kept, when the least sure are left out first. Area under "
        f"the curve (AURC) {area:.3f}."
    )
    return Figure(plots.risk_against_share(share, risk), caption)


def _error_counts(errors: ExpectedError, sure: np.ndarray, correct: np.ndarray) -> list[dict[str, Any]]:
    """Return the bins of expected errors, and in each the rows of the split and how many of these are wrong."""
    place = np.searchsorted([one.high for one in errors.bins[:-1]], sure, side="left")
    found = []
    for at, one in enumerate(errors.to_json()):
        inside = place == at
        found.append({**one, "split_rows": int(inside.sum()), "split_errors": int((~correct[inside]).sum())})
    return found


def _error_table(counts: list[dict[str, Any]], split: str, fitted_to: str) -> Table:
    rows = [
        (
            f"{one['low']:.3f} to {one['high']:.3f}",
            f"{one['rows']:,}",
            share_text(one["errors"], one["rows"]),
            f"{one['expected']:.3f}",
            f"{one['split_rows']:,}",
            share_text(one["split_errors"], one["split_rows"]) if one["split_rows"] else UNDEFINED,
        )
        for one in counts
    ]
    header = (
        "Confidence",
        "Rows fitted to",
        "Wrong of them",
        "Expected error",
        f"Rows in {split}",
        f"Wrong in {split}",
    )
    caption = f"Expected error by confidence, fitted to {fitted_to} in bins of equal numbers of rows."
    return Table(header, rows, caption)


def _kept(sure: np.ndarray, correct: np.ndarray) -> list[dict[str, Any]]:
    """Count the rows from a confidence on, and the wrong ones among them, for some shares of rows that are kept."""
    order = np.sort(sure)[::-1]
    limits = [float(order[max(1, round(share * len(order))) - 1]) for share in SHARES_KEPT]
    kept = [(limit, sure >= limit) for limit in dict.fromkeys(limits)]
    return [
        {
            "confidence": limit,
            "share": float(rows.mean()),
            "rows": int(rows.sum()),
            "errors": int((~correct[rows]).sum()),
        }
        for limit, rows in kept
    ]


def _kept_table(kept: list[dict[str, Any]]) -> Table:
    rows = [
        (
            f"{one['share']:.0%}",
            f"{one['confidence']:.3f}",
            f"{one['rows']:,}",
            share_text(one["errors"], one["rows"]),
        )
        for one in kept
    ]
    caption = "What is left when predict abstains below a confidence (--abstain-below)."
    # Of few rows, or of many of nearly one confidence, several shares keep the same.
    return Table(("Rows kept", "Confidence from", "Rows", "Wrong among them"), list(dict.fromkeys(rows)), caption)


def _errors(errors: ExpectedError, sure: np.ndarray, correct: np.ndarray, run: FinishedRun) -> Figure:
    expected = errors.curve()
    bins = ExpectedError.fit(sure, correct).bins if len(sure) >= MIN_BIN_ROWS else ()
    points = np.array([(one.confidence, one.errors / one.rows) for one in bins]).reshape(-1, 2)
    svg = plots.error_by_confidence(expected, (points[:, 0], points[:, 1]) if len(points) else None, run.split)
    caption = f"Expected error by confidence, fitted to {calibration_rows(run)}, and what was found in {run.split}."
    return Figure(svg, caption)
