"""Sections of a report: the metrics of subgroups of rows, and those of units of several rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from deeptune.formatting import counted, visible
from deeptune.report.finished_run import FinishedRun, Predictions
from deeptune.report.intervals import MetricIntervals
from deeptune.report.section import ReportSection, Table
from deeptune.report.tables import TITLES, interval_text, value_text
from deeptune.report.task_views import view_of
from deeptune.report.units import units_scored
from deeptune.spec.metrics import METRICS, shown_metrics
from deeptune.spec.report_spec import crossed

MISSING = "(missing)"


def metrics_of(run: FinishedRun, scored: Predictions) -> tuple[dict[str, float], MetricIntervals]:
    """Compute the metrics of some rows, those that are defined on them, and their intervals."""
    view = view_of(run.task)
    if not len(scored.truth):
        return {}, MetricIntervals()
    values = {name: one.value for name, one in view.estimates(run, scored).items()}
    return {name: values[name] for name in shown_metrics(values)}, view.metric_intervals(run.task, scored)


def subgroups_section(run: FinishedRun) -> ReportSection | None:
    """Make the section on the subgroups that `report.by` names."""
    if not run.spec.report.by or run.predictions is None or not run.columns:
        return None
    tables, data, paragraphs = [], {}, []
    for name in run.spec.report.by:
        columns = crossed(name, list(run.columns))
        found = [_subgroup(run, title, rows) for title, rows in _members([run.columns[one] for one in columns])]
        data[name] = {"subgroups": found, "gaps": _gaps(found)}
        tables.append(_table(run, name, found))
        paragraphs += _sentences(run, name, found)
    paragraphs.append(
        "Intervals are those of each subgroup alone. A subgroup without one has too few rows or groups to be judged. "
        "With many subgroups, the best and the worst differ by chance too: confirm a gap on other data."
    )
    return ReportSection("subgroups", "Subgroups", paragraphs, tables, data=data)


def _members(columns: Sequence[list[str | None]]) -> list[tuple[str, np.ndarray]]:
    """Return the title and the places of the rows of each subgroup, by title."""
    titles = [
        " · ".join(MISSING if value is None else value for value in values) for values in zip(*columns, strict=True)
    ]
    found: dict[str, list[int]] = {}
    for place, title in enumerate(titles):
        found.setdefault(title, []).append(place)
    return [(title, np.array(found[title])) for title in sorted(found)]


def _subgroup(run: FinishedRun, title: str, rows: np.ndarray) -> dict[str, Any]:
    assert run.predictions is not None
    values, metric_intervals = metrics_of(run, run.predictions.at(rows))
    return {
        "subgroup": title,
        "n": len(rows),
        "metrics": {
            name: {"value": value, "interval": metric_intervals.intervals.get(name)} for name, value in values.items()
        },
        "too_small": not metric_intervals.intervals,
        "reasons": list(metric_intervals.reasons),
    }


def _gaps(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the largest difference of each metric between subgroups that can be judged by it.

    Without an interval it can't: where a class has no rows, for example, its F1 of 0 would pass for a worse model.
    """
    gaps = {}
    for name, metric in METRICS.items():
        known = [
            (one["metrics"][name]["value"], one["subgroup"])
            for one in found
            if name in one["metrics"] and one["metrics"][name]["interval"] is not None
        ]
        if len(known) > 1:
            low, high = min(known), max(known)
            worst, best = (low, high) if metric.higher_is_better else (high, low)
            gaps[name] = {"gap": high[0] - low[0], "worst": worst[1], "best": best[1]}
    return gaps


def _table(run: FinishedRun, name: str, found: list[dict[str, Any]]) -> Table:
    """Show the headline metrics of each subgroup, and all rows for comparison."""
    names = list(dict.fromkeys([*run.task.info.headline, *run.task.info.summary]))
    names = [one for one in names if any(one in each["metrics"] for each in found)]
    header = [name.replace(":", " · "), "Rows", *(cell for one in names for cell in (TITLES[one], "95% interval"))]
    rows = []
    for each in found:
        cells = []
        for one in names:
            known = each["metrics"].get(one)
            cells += (
                ["n/a", ""]
                if known is None
                else [value_text(one, known["value"]), interval_text(one, known["interval"]) or "too few to judge"]
            )
        rows.append((visible(each["subgroup"]), f"{each['n']:,}", *cells))
    return Table(header, rows)


def _sentences(run: FinishedRun, name: str, found: list[dict[str, Any]]) -> list[str]:
    gaps = _gaps(found)
    small = [f"{each['subgroup']} ({counted(each['n'], 'row')})" for each in found if each["too_small"]]
    said = []
    for one in run.task.info.headline[:1]:
        if one in gaps:
            gap = gaps[one]
            said.append(
                f"By {name}, the largest difference in {TITLES[one]} is {value_text(one, gap['gap'])}: {gap['worst']} "
                f"against {gap['best']}."
            )
    if small:
        said.append(f"Too small to judge: {', '.join(small)}.")
    return [visible(text) for text in said]


def units_section(run: FinishedRun) -> ReportSection | None:
    """Make the section on units such as patients, scored beside rows."""
    scored = units_scored(run)
    if scored is None:
        return None
    values, metric_intervals = metrics_of(run, scored.predictions)
    assert run.predictions is not None
    rows, of_rows = metrics_of(run, run.predictions)
    header = ("Metric", "Units", "95% interval", "Rows", "95% interval")
    body = [
        (
            TITLES[name],
            value_text(name, value),
            interval_text(name, metric_intervals.intervals.get(name)),
            value_text(name, rows.get(name)),
            interval_text(name, of_rows.intervals.get(name)),
        )
        for name, value in values.items()
    ]
    unit, rule = run.spec.report.unit, run.spec.report.unit_rule
    words = {
        "mean": "the mean of its rows",
        "max": "the highest of its rows",
        "vote": "the share of its rows that are predicted so",
    }[rule]
    count = len(scored.predictions.truth)
    paragraphs = [
        f"{counted(count, 'unit')}, one for each value of {unit}.",
        f"The prediction of a unit is {words}.",
        *scored.notes,
        *metric_intervals.reasons,
    ]
    data = {
        "unit": unit,
        "rule": rule,
        "n": count,
        "left_out": scored.left_out,
        "metrics": {
            name: {"value": value, "interval": metric_intervals.intervals.get(name)} for name, value in values.items()
        },
    }
    return ReportSection(
        "units", f"Scores by {unit}", [visible(text) for text in paragraphs], [Table(header, body)], data=data
    )
