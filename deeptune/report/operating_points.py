"""The section on operating points: sensitivity and its like at thresholds fixed on val, and curves over all of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deeptune.formatting import visible
from deeptune.report import plots
from deeptune.report.cross_validation import out_of_fold
from deeptune.report.finished_run import FinishedRun
from deeptune.report.influence import Estimate, variance
from deeptune.report.interval_methods import QUANTILE
from deeptune.report.intervals import Bounded, too_few
from deeptune.report.resampling import Curve, all_positive, decision_band, precision_recall_band, roc_band
from deeptune.report.section import Figure, ReportSection, Table
from deeptune.report.tables import significant
from deeptune.tasks.confidence.held_out import units_of

SHARES = {
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ppv": "PPV",
    "npv": "NPV",
}
RATIOS = {"lr_positive": "LR+", "lr_negative": "LR−"}
MAX_DRAWN = 2  # classes that have curves, at most
MAX_CLASSES = 40  # classes that have a row, at most

Rate = dict[str, Any]  # value and interval


def operating_points_section(run: FinishedRun) -> ReportSection | None:
    """Make the section; None for numbers, and for runs that fixed no threshold on val."""
    points = run.metrics.get("val", {}).get("operating_points") or []
    scored = run.predictions
    if scored is None or scored.probabilities is None or not points or not len(scored.truth):
        return None
    prevalence = run.spec.report.prevalence
    unit = units_of(scored.groups, len(scored.truth))
    grouped = scored.groups is not None
    reason = too_few(len(unit), scored.groups)
    rows, data, figures = [], [], []
    for point in points[:MAX_CLASSES]:
        index, threshold = int(point["class"]), float(point["threshold"])
        positive = scored.truth[:, index] > 0 if run.task.view == "labels" else scored.truth == index
        chance = scored.probabilities[:, index]
        found = rates(positive, chance >= threshold, unit, grouped=grouped)
        if prevalence is not None:
            found |= at_prevalence(found, prevalence)
        if reason:
            found = {name: {**one, "interval": None} for name, one in found.items()}
        title = run.task.class_names[index]
        rows.append((visible(title), f"{threshold:.3f}", *(_cell(name, found[name]) for name in _shown(prevalence))))
        record = {**point, "title": title, "prevalence": float(positive.mean()), "test": found}
        if len(points) <= MAX_DRAWN and positive.any() and not positive.all():
            curves = _curves(positive, chance, unit, run.spec.train.seed)
            figures += _figures(title, positive, curves)
            record["curves"] = {name: curve.record() for name, curve in curves.items()}
        data.append(record)
    header = (
        "Positive class",
        "Threshold",
        *(_title(name, prevalence) for name in _shown(prevalence)),
    )
    return ReportSection(
        "operating_points", "Operating points", _paragraphs(run, points, reason), [Table(header, rows)], figures,
        data={"points": data, "prevalence": prevalence},
    )  # fmt: skip


def _paragraphs(run: FinishedRun, points: list[dict[str, Any]], reason: str) -> list[str]:
    rule = points[0]["rule"]
    found = [
        "A row is positive where the probability of the class reaches its threshold. Thresholds were fixed by the rule "
        f"{rule} on {_chosen_on(run, points[0].get('n', 0))}, and are applied here to test as they are."
        if isinstance(rule, str)
        else "A row is positive where the probability of the class reaches the threshold, which was given."
    ]
    low = [one for one in points if one["sensitivity"] is None or one["specificity"] is None]
    if low and isinstance(rule, str):
        found.append(
            "For some classes these rows are all positive or all negative, so no threshold can be chosen: it is 0.5."
        )
    if len(points) > MAX_CLASSES:
        found.append(f"The first {MAX_CLASSES} of {len(points):,} classes are shown.")
    method = "Wilson's" if run.predictions is None or run.predictions.groups is None else "Wilson's over groups"
    found.append(
        reason
        or f"95% intervals are {method} for shares and those of the log method for likelihood ratios (Simel et "
        "al. 1991). PPV and NPV apply at the prevalence of this test split."
    )
    return [visible(text) for text in found]


def _chosen_on(run: FinishedRun, n: int) -> str:
    """Name the n rows that thresholds were chosen on."""
    if out_of_fold(run):
        return f"the {n:,} rows of val (out-of-fold predictions of the training rows)"
    val = run.metrics["val"]
    beside = val.get("out_of_fold_rows") or 0
    if n != val.get("n", 0) + beside:  # as in a run of an earlier version
        beside = 0
    said = f"the {n - beside:,} rows of val"
    return f"{said} and out-of-fold predictions of {beside:,} training rows" if beside else said


def _shown(prevalence: float | None) -> list[str]:
    return [*SHARES, *RATIOS, *(["ppv_at", "npv_at"] if prevalence is not None else [])]


def _title(name: str, prevalence: float | None) -> str:
    titles = {**SHARES, **RATIOS}
    return titles[name] if name in titles else f"{titles[name[:3]]} at {prevalence:g}"


def _cell(name: str, rate: Rate) -> str:
    """Write `0.912 (0.870 to 0.943)`."""
    if rate["value"] is None:
        return "n/a"
    write = (lambda value: significant(value, 3)) if name in RATIOS else (lambda value: f"{value:.3f}")
    ends = rate["interval"]
    return write(rate["value"]) + (f" ({write(ends[0])} to {write(ends[1])})" if ends else "")


# Counts at one threshold.


def rates(positive: np.ndarray, said: np.ndarray, unit: np.ndarray, *, grouped: bool) -> dict[str, Rate]:
    """Compute sensitivity, specificity, PPV, NPV and likelihood ratios with 95% intervals.

    positive, said: bool (N,), the truth and the prediction; `unit` numbers the independent unit of each row. A share of
    no rows is None, and so is a likelihood ratio of a result that no row has. A likelihood ratio of a count of zero is
    that with a half added to each of the four counts; it has no interval where rows are `grouped`.
    """
    inside = {"sensitivity": positive, "specificity": ~positive, "ppv": said, "npv": ~said}
    hit = positive == said
    estimates = {
        name: Estimate(float(hit[rows].mean()), rows * (hit - hit[rows].mean()) * (len(hit) / rows.sum()))
        for name, rows in inside.items()
        if rows.any()
    }
    most = {name: float(rows.sum()) for name, rows in inside.items()}
    intervals = Bounded(unit, hit, grouped=grouped).intervals(estimates, most=most)
    found: dict[str, Rate] = {
        name: {"value": estimates[name].value, "interval": intervals[name], "n": int(inside[name].sum())}
        if name in estimates
        else {"value": None, "interval": None, "n": 0}
        for name in inside
    }
    for name, of in (("lr_positive", said), ("lr_negative", ~said)):
        found[name] = _likelihood_ratio(positive, of, unit, grouped=grouped)
    return found


def _likelihood_ratio(positive: np.ndarray, of: np.ndarray, unit: np.ndarray, *, grouped: bool) -> Rate:
    """Return how many times as often positive rows are `of` a kind as negative ones, with the log method's interval."""
    if not positive.any() or positive.all() or not of.any():
        return {"value": None, "interval": None}
    counts = [float((of & positive).sum()), float((of & ~positive).sum())]
    totals = [float(positive.sum()), float((~positive).sum())]
    if min(counts) == 0 or of.all():  # where all rows are of the kind the ratio is 1, but not known without error
        counts, totals = [count + 0.5 for count in counts], [total + 1 for total in totals]
        if grouped:  # the half that is added stands for independent rows
            return {"value": (counts[0] / totals[0]) / (counts[1] / totals[1]), "interval": None}
        spread = sum(1 / count for count in counts) - sum(1 / total for total in totals)
    else:
        n = len(of)
        influence = np.where(positive, of / counts[0] - 1 / totals[0], 1 / totals[1] - of / counts[1]) * n
        effective = len(np.unique(unit))
        spread = variance(influence, unit)[0] * (effective - 1) / effective
    value = (counts[0] / totals[0]) / (counts[1] / totals[1])
    step = QUANTILE * math.sqrt(spread)
    return {"value": value, "interval": (value * math.exp(-step), value * math.exp(step))}


def at_prevalence(found: dict[str, Rate], prevalence: float) -> dict[str, Rate]:
    """Compute PPV and NPV where another share of rows is positive, from the likelihood ratios (Bayes)."""
    odds = prevalence / (1 - prevalence)

    def share(ratio: float) -> float:
        return odds * ratio / (1 + odds * ratio)

    def changed(rate: Rate, *, negative: bool) -> Rate:
        if rate["value"] is None:
            return {"value": None, "interval": None}
        values = [share(one) for one in (rate["value"], *(rate["interval"] or ()))]
        if negative:
            values = [1 - one for one in values]
        return {"value": values[0], "interval": (min(values[1:]), max(values[1:])) if len(values) > 1 else None}

    return {
        "ppv_at": changed(found["lr_positive"], negative=False),
        "npv_at": changed(found["lr_negative"], negative=True),
    }


# Curves.


def _curves(positive: np.ndarray, chance: np.ndarray, unit: np.ndarray, seed: int) -> dict[str, Curve]:
    return {
        "roc": roc_band(positive, chance, unit, seed),
        "precision_recall": precision_recall_band(positive, chance, unit, seed),
        "net_benefit": decision_band(positive, chance, unit, seed),
    }


def _figures(title: str, positive: np.ndarray, curves: dict[str, Curve]) -> list[Figure]:
    shown = visible(title)
    model = plots.Line("this model", plots.BLUE, "-", "o")
    chance_line = plots.Line("by chance", plots.TEXT, ":", "")
    made = []
    roc = curves["roc"]
    svg = plots.curves(
        "roc", ("1 − specificity", "Sensitivity"), roc.x, [(model, roc.y), (chance_line, roc.x)], roc.band
    )
    made.append(Figure(svg, f"ROC curve of {shown}, with a 95% band at each specificity."))
    recall = curves["precision_recall"]
    share = np.full(len(recall.x), positive.mean())
    lines = [(model, recall.y), (chance_line, share)]
    svg = plots.curves("pr", ("Sensitivity (recall)", "PPV (precision)"), recall.x, lines, recall.band)
    made.append(Figure(svg, f"Precision-recall curve of {shown}, with a 95% band at each recall."))
    benefit = curves["net_benefit"]
    lines = [
        (model, benefit.y),
        (plots.Line("all positive", plots.VERMILION, "--", ""), all_positive(benefit.x, float(positive.mean()))),
        (plots.Line("none positive", plots.TEXT, ":", ""), np.zeros(len(benefit.x))),
    ]
    # Treating all costs more and more at high thresholds: without limits nothing else could be told apart.
    most = max(float(positive.mean()), float(benefit.band[1].max()))
    limits = (-most / 4, most * 1.1)
    titles = ("Threshold probability", "Net benefit")
    svg = plots.curves("decision", titles, benefit.x, lines, benefit.band, limits)
    made.append(
        Figure(
            svg,
            f"Decision curve of {shown} (Vickers & Elkin 2006): net benefit against treating all or none, with a 95% "
            "band. It assumes that probabilities are calibrated.",
        )
    )
    return made
