"""The section of a report on how predicted numbers agree with the true ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deeptune.formatting import visible
from deeptune.report.finished_run import FinishedRun
from deeptune.report.intervals import too_few
from deeptune.report.plots import BLUE, MAX_POINTS, TEXT, VERMILION, axes_on, svg_of
from deeptune.report.section import Figure, ReportSection, Table
from deeptune.report.tables import significant
from deeptune.runs.files import finite
from deeptune.tasks.confidence.held_out import units_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

MAX_BINS = 5  # bins of the true values, at most
MIN_BIN_ROWS = 10
MAX_TARGETS = 8  # targets that have a section of their own, at most
LIMIT = 1.96  # standard deviations, as Bland and Altman have it: 95% of a normal distribution lies between

Interval = tuple[float, float]


@dataclass(frozen=True)
class Estimated:
    """A number and its 95% interval, None where there is none."""

    value: float
    interval: Interval | None = None

    @property
    def text(self) -> str:
        if self.interval is None:
            return significant(self.value)
        low, high = map(significant, self.interval)
        return f"{significant(self.value)} (95% CI {low} to {high})"

    def record(self) -> dict[str, Any]:
        return {"value": self.value, "interval": None if self.interval is None else list(self.interval)}


@dataclass(frozen=True)
class Limits:
    """Bland and Altman's bias and limits of agreement, of prediction less truth, in the unit of the label."""

    bias: Estimated
    lower: Estimated
    upper: Estimated


def limits_of_agreement(truth: np.ndarray, prediction: np.ndarray, unit: np.ndarray, *, grouped: bool) -> Limits:
    """Compute bias and limits of agreement (Bland and Altman 1999, section 2) of float64 (N,) truth and prediction.

    `unit` numbers the independent unit of each row. Limits have no interval where rows are `grouped`: the one of the
    paper is for independent rows.
    """
    from scipy import stats

    difference = prediction - truth
    rows, deviation = len(difference), float(difference.std(ddof=1))
    bias = float(difference.mean())
    constant = np.ones((rows, 1))
    covariance, freedom = _robust_covariance(constant, difference - bias, unit)
    half = float(stats.t.ppf(0.975, freedom)) * math.sqrt(covariance[0, 0])
    limit_half = None
    if not grouped:
        limit_error = deviation * math.sqrt(1 / rows + LIMIT**2 / (2 * (rows - 1)))
        limit_half = float(stats.t.ppf(0.975, rows - 1)) * limit_error

    def limit(sign: int) -> Estimated:
        value = bias + sign * LIMIT * deviation
        return Estimated(value, None if limit_half is None else (value - limit_half, value + limit_half))

    return Limits(Estimated(bias, (bias - half, bias + half)), limit(-1), limit(1))


def calibration_line(truth: np.ndarray, prediction: np.ndarray, unit: np.ndarray) -> tuple[Estimated, Estimated] | None:
    """Fit the truth as a line of the prediction. Returns intercept and slope; None where all predictions are equal.

    Perfect predictions have 0 and 1. A slope below 1 means that they spread more than the truth does, as those of an
    overfitted model. Errors are robust to unequal spread and to dependent rows (the sandwich estimator with
    statsmodels' correction for small samples).
    """
    from scipy import stats

    if np.ptp(prediction) == 0:
        return None
    # Around the means, as predictions may be large beside their spread, such as years or coordinates.
    middle, mean = float(prediction.mean()), float(truth.mean())
    design = np.column_stack([np.ones(len(prediction)), prediction - middle])
    centred, *_ = np.linalg.lstsq(design, truth - mean, rcond=None)
    covariance, freedom = _robust_covariance(design, truth - mean - design @ centred, unit)
    back = np.array([[1.0, -middle], [0.0, 1.0]])
    found = back @ centred + [mean, 0]
    half = float(stats.t.ppf(0.975, freedom)) * np.sqrt(np.diag(back @ covariance @ back.T))
    intercept, slope = (
        Estimated(float(value), (float(value - each), float(value + each)))
        for value, each in zip(found, half, strict=True)
    )
    return intercept, slope


def _robust_covariance(design: np.ndarray, residuals: np.ndarray, unit: np.ndarray) -> tuple[np.ndarray, int]:
    """Compute the covariance (K, K) of least squares with dependent rows, and its degrees of freedom."""
    rows, terms = design.shape
    units = int(unit.max()) + 1
    bread = np.linalg.pinv(design.T @ design)
    scores = np.zeros((units, terms))
    np.add.at(scores, unit, design * residuals[:, None])
    correction = units / (units - 1) * (rows - 1) / (rows - terms)
    return correction * bread @ (scores.T @ scores) @ bread, units - 1


def error_by_truth(truth: np.ndarray, prediction: np.ndarray) -> list[dict[str, Any]]:
    """Compute the errors within quantiles of the truth; fewer than `MAX_BINS` where there are few rows or values."""
    bins = max(1, min(MAX_BINS, len(truth) // MIN_BIN_ROWS))
    edges = np.unique(np.quantile(truth, np.linspace(0, 1, bins + 1)))
    place = np.clip(np.searchsorted(edges, truth, side="right") - 1, 0, max(len(edges) - 2, 0))
    found = []
    for each in np.unique(place):
        inside = place == each
        error = prediction[inside] - truth[inside]
        found.append(
            {
                "from": float(truth[inside].min()),
                "to": float(truth[inside].max()),
                "n": int(inside.sum()),
                "bias": float(error.mean()),
                "mae": float(np.abs(error).mean()),
                "rmse": float(np.sqrt((error**2).mean())),
            }
        )
    return found


def agreement_section(run: FinishedRun) -> ReportSection | None:
    """Show how predicted numbers agree with the true ones; None for classes, and where there are too few rows."""
    scored = run.predictions if run.split == "test" else None
    if run.task.view not in ("numbers", "targets") or scored is None or not len(scored.truth):
        return None
    if run.spec.data.group and scored.groups is None:
        return None  # which rows depend on one another is not known, so nothing has an interval
    names = list(getattr(run.task, "names", ())) or [""]
    truth, prediction = (each.reshape(len(each), -1) for each in (scored.truth, scored.prediction))
    paragraphs, tables, figures, data = [], [], [], {}
    for place, name in enumerate(names[:MAX_TARGETS]):
        there = np.isfinite(truth[:, place]) & np.isfinite(prediction[:, place])
        groups = None if scored.groups is None else scored.groups[there]
        t, p = truth[there, place], prediction[there, place]
        unit = units_of(groups, len(t))
        if not len(t) or too_few(len(unit), groups):
            continue
        grouped = groups is not None
        limits, line = limits_of_agreement(t, p, unit, grouped=grouped), calibration_line(t, p, unit)
        quantiles = error_by_truth(t, p)
        title = f"{visible(name)}: " if len(names) > 1 else ""
        paragraphs.append(title + _said(limits, line, grouped=grouped))
        tables.append(_quantile_table(title, quantiles))
        figures.append(
            Figure(
                bland_altman(t, p, limits, run.spec.train.seed),
                f"{title}Bland–Altman plot: prediction less truth against their mean, with bias (solid) and limits of "
                "agreement (dashed). A funnel means that errors grow with the size. A falling slope is expected: good "
                "predictions vary less than the truth.",
            )
        )
        data[name or "value"] = {
            "bias": limits.bias.record(),
            "limits_of_agreement": [limits.lower.record(), limits.upper.record()],
            "calibration": None if line is None else {"intercept": line[0].record(), "slope": line[1].record()},
            "by_truth": quantiles,
        }
    if not data:
        return None
    return ReportSection("agreement", "Agreement with the truth", paragraphs, tables, figures, finite(data))


def _said(limits: Limits, line: tuple[Estimated, Estimated] | None, *, grouped: bool) -> str:
    said = (
        f"Predictions are off by {limits.bias.text} on average (prediction less truth). The limits of agreement, "
        f"between which about 95% of the differences lie if they are normal, are {limits.lower.text} and "
        f"{limits.upper.text}."
    )
    if grouped:
        said += " The limits have no intervals, as rows of one group depend on one another."
    if line is None:
        return said + " All predictions are equal, so there is no calibration line."
    intercept, slope = line
    return said + (
        f" The line of the truth on the prediction has the intercept {intercept.text} and the slope {slope.text}; "
        "perfect predictions have 0 and 1. A slope below 1 means that predictions spread too much, as those of an "
        "overfitted model do."
    )


def _quantile_table(title: str, quantiles: list[dict[str, Any]]) -> Table:
    rows = [
        (
            _span(each["from"], each["to"]),
            f"{each['n']:,}",
            *(significant(each[name]) for name in ("bias", "mae", "rmse")),
        )
        for each in quantiles
    ]
    caption = (
        f"{title}Errors by quantile of the truth. A bias that falls from the first row to the last is regression to "
        "the mean. Every model with errors shows some of it, also a calibrated one; the slope above judges calibration."
    )
    return Table(("Truth", "Rows", "Bias", "MAE", "RMSE"), rows, caption)


def bland_altman(truth: np.ndarray, prediction: np.ndarray, limits: Limits, seed: int) -> str:
    """Draw the difference against the mean of at most `MAX_POINTS` rows, with bias and limits."""

    def draw(figure: Canvas) -> None:
        axes = axes_on(figure, "Mean of truth and prediction", "Predicted − true")
        rows = np.arange(len(truth))
        if len(rows) > MAX_POINTS:
            rows = np.random.default_rng(seed).choice(rows, MAX_POINTS, replace=False)
        mean, difference = (truth[rows] + prediction[rows]) / 2, prediction[rows] - truth[rows]
        axes.plot(mean, difference, "o", color=BLUE, markersize=3, alpha=0.45, markeredgewidth=0)
        axes.axhline(0, color=TEXT, linewidth=1, linestyle=":")
        axes.axhline(limits.bias.value, color=VERMILION, linewidth=1.4)
        for limit in (limits.lower, limits.upper):
            axes.axhline(limit.value, color=VERMILION, linewidth=1.2, linestyle="--")

    return svg_of("bland-altman", draw, height=3.7)


def _span(low: float, high: float) -> str:
    """Write from where to where truths go: `-1.850 to 0.3333`, and counts as `0`, `3 to 4`."""
    whole = low.is_integer() and high.is_integer()
    texts = [f"{one:,.0f}" if whole and abs(one) < 1e9 else significant(one) for one in (low, high)]
    return " to ".join(dict.fromkeys(texts))
