"""report.html: one self-contained file with the results of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from deeptune.formatting import visible
from deeptune.report import methods_paragraph, plots, tables
from deeptune.report.checklists import checklists_section
from deeptune.report.commands import next_commands
from deeptune.report.data import report_data
from deeptune.report.doubts import part_of_val
from deeptune.report.finished_run import FinishedRun, read_run
from deeptune.report.provenance import provenance
from deeptune.report.section import ReportSection
from deeptune.report.sections import sections_of
from deeptune.report.task_views import view_of
from deeptune.report.verdict import Verdict, verdict
from deeptune.runs.files import read_json_object, write_json, write_text
from deeptune.spec.metrics import shown_metrics
from deeptune.templates import render_template

# With more classes the picture of a confusion matrix can't be read; the table of the most frequent confusions can.
MAX_CLASSES_SHOWN = 40
MAX_LINES = 50
METRIC_HEADER = ("Metric", "Value", "95% interval", "Baseline")
# Scores of the same split without doubtful rows, which a run stores where there are such rows.
WITHOUT = {"without_duplicates": "Without duplicates", "without_outliers": "Without outliers"}


def write_report(directory: Path, samples: bool | None = None) -> Path:
    """Write `report.html` and `report.json` into a run directory; see `deeptune.report.write_report`."""
    run = read_run(directory)
    if samples is None:
        samples = read_json_object(run.files.report_data).get("samples", run.spec.report.samples) is True
    run = replace(run, samples=samples)
    judged = verdict(run)
    content = _content(run, judged)
    write_json(run.files.report_data, report_data(run, judged, content["sections"]))
    write_text(run.files.report, _render(content))
    return run.files.report


def _render(content: dict[str, Any]) -> str:
    """Render the report as one HTML document. Every text is escaped; only our own pictures enter as markup."""
    return render_template(Path(__file__).with_name("report.html.j2"), content, picture=_picture)


def _picture(svg: str, caption: str) -> Markup:
    """Give a plot its caption as alternative text: a screen reader then reads that, not the numbers at its axes."""
    if not svg.startswith("<svg"):
        return Markup(svg)
    return Markup(f'<svg role="img" aria-label="{escape(caption)}"{svg[4:]}')


def _content(run: FinishedRun, judged: Verdict) -> dict[str, Any]:
    content = _facts(run, judged)
    sections = sections_of(run)
    places = _places(content, sections)
    sections.append(checklists_section(run, places))
    return {**content, "sections": sections, "places": _places(content, sections)}


def _places(content: dict[str, Any], sections: list[ReportSection]) -> dict[str, str]:
    """Return the title of each part of the page by its anchor, in the order of the page."""
    before = {
        "warnings": "Warnings" if content["notes"] else "",
        "metrics": f"Metrics on {content['split']}",
        "training": "Training" if content["curves"] else "",
        "details": f"{content['class_title']}, worst first" if content["class_rows"] else "",
        "confusion_matrix": "Confusion matrix" if content["confusion"] else "",
        "confusions": "Most frequent confusions" if content["confusions"] else "",
        "pictures": content["picture_heading"] if content["pictures"] else "",
    }
    after = {"trained": "What was trained", "next": "Use it next", "paper": "For a paper"}
    found = {**before, **{section.name: section.title for section in sections}, **after}
    return {anchor: title for anchor, title in found.items() if title}


def _facts(run: FinishedRun, judged: Verdict) -> dict[str, Any]:
    """Return what the page has beside its sections."""
    metrics = run.metrics.get(run.split, {})
    intervals, baseline = judged.intervals, judged.baseline
    without = {title: metrics[name] for name, title in WITHOUT.items() if (metrics.get(name) or {}).get("n")}
    rows = [
        (
            methods_paragraph.loss_title(run) if name == "loss" else tables.TITLES[name],
            tables.value_text(name, metrics[name]),
            tables.interval_text(name, intervals.get(name)),
            tables.value_text(name, baseline[name]) if name in baseline else "",
            *(tables.value_text(name, scores[name]) if name in scores else "" for scores in without.values()),
        )
        for name in shown_metrics(metrics)
    ]
    metric_header = (*METRIC_HEADER, *without)
    details, detail_header, classes = tables.details(metrics)
    headlines = [
        {
            "title": tables.TITLES[name],
            "value": tables.value_text(name, metrics.get(name)),
            "interval": tables.interval_text(name, intervals.get(name)),
            "baseline": tables.value_text(name, baseline[name]) if name in baseline else "",
            "without": [
                f"{title[0].lower()}{title[1:]} {tables.value_text(name, scores.get(name))} (n = {scores['n']:,})"
                for title, scores in without.items()
            ],
        }
        for name in run.task.info.headline
    ]
    skipped = methods_paragraph.skipped(run)
    state = str(run.result.get("state", "unfinished"))
    return {
        "id": visible(run.files.path.resolve().name),
        "state": visible(state),
        "task": run.spec.task,
        "picture_heading": view_of(run.task).heading,
        "split": run.split,
        "chosen_by": "" if run.split == "test" else f" ({part_of_val(metrics, run.result.get('best'))})",
        "headlines": headlines,
        "doubts": judged.doubts,
        "metric_header": metric_header,
        "metric_rows": rows,
        "remarks": judged.remarks,
        "curves": _curves(run),
        "pictures": _pictures(run, metrics),
        "class_title": details,
        "class_header": detail_header,
        "class_rows": classes,
        "unjudged": sum(not row["support"] for row in metrics.get("per_class", [])),
        "confusion": _confusion(metrics),
        "confusions": tables.worst_confusions(metrics) if len(classes) > 2 else [],
        "facts": methods_paragraph.training_facts(run),
        "provenance": provenance(run),
        "notes": [
            visible(note)
            for note in [*run.warnings, *metrics.get("notes", [])]
            if note != run.result.get("worse_than_constant")  # which comes first
        ],
        "skipped": skipped[:MAX_LINES],
        "skipped_more": max(0, len(skipped) - MAX_LINES),
        "commands": next_commands(run.files.path),
        "methods": judged.methods,
        "paste": [
            (f"{title}, {kind}", write(header, body))
            for title, header, body in (("Metrics", metric_header, rows), (details, detail_header, classes))
            for kind, write in (("Markdown", tables.markdown_table), ("LaTeX", tables.latex_table))
            if body
        ],
    }


def _curves(run: FinishedRun) -> list[dict[str, Any]]:
    if not run.epochs:
        return []
    numbers = [epoch.epoch for epoch in run.epochs]
    best = methods_paragraph.best_epoch(run)

    def series(split: str, name: str) -> list[float | None]:
        scores = [epoch.train if split == "train" else epoch.val or {} for epoch in run.epochs]
        return [_number(one.get(name)) for one in scores]

    marked = f" The ring marks the best epoch, {best}." if best in numbers else ""
    if 0 in numbers:
        marked = f" Epoch 0 is the head that fine-tuning started from.{marked}"
    figures = []
    train, val = series("train", "loss"), series("val", "loss")
    if any(value is not None for value in [*train, *val]):
        svg = plots.loss_curves(numbers, train, val, best)
        figures.append(_figure(svg, f"Loss on train and val in each epoch.{marked}"))
    chosen = run.spec.train.early_stopping.metric.rpartition("/")[2]
    # Where loss chooses the epoch, the second picture shows what people ask about first.
    shown = chosen if chosen != "loss" else run.task.info.curve
    values = series("val", shown)
    if any(value is not None for value in values):
        title = tables.TITLES[shown]
        by = "the metric that chooses the best epoch" if shown == chosen else "the best epoch is chosen by the loss"
        svg = plots.metric_curve(numbers, values, best, title)
        of = "of the training rows" if shown == "out_of_fold_loss" else "on val"
        figures.append(_figure(svg, f"{title} {of} in each epoch; {by}.{marked}"))
    return figures


def _pictures(run: FinishedRun, metrics: dict[str, Any]) -> list[dict[str, Any]]:
    scored = run.predictions
    if scored is None or not len(scored.truth):
        return []
    return [_figure(svg, caption) for svg, caption in view_of(run.task).pictures(run, scored, metrics)]


def _figure(svg: str, caption: str) -> dict[str, Any]:
    return {"svg": svg, "caption": caption}


def _confusion(metrics: dict[str, Any]) -> dict[str, Any] | None:
    counts = np.asarray(metrics.get("confusion_matrix", []))
    if not 0 < len(counts) <= MAX_CLASSES_SHOWN:
        return None
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    titles = tables.class_titles(metrics["per_class"])
    return {
        "titles": titles,
        "rows": [
            (title, [(int(count), round(float(share), 3)) for count, share in zip(line, part, strict=True)])
            for title, line, part in zip(titles, counts, shares, strict=True)
        ],
    }


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
