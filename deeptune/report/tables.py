"""Metrics as text: one way to write each number, for the terminal, HTML, Markdown and LaTeX alike.

Scores between 0 and 1 are decimals with three places, as papers print them; errors in the label's
unit and losses have four significant digits. Percent is kept for shares of rows and of parameters.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from deeptune.formatting import cut_apart, visible
from deeptune.spec.metrics import METRICS, shown_metrics

TITLES = {metric.name: metric.title for metric in METRICS.values()}
MINIMISED_LOSS = "Minimised loss"  # beside log loss, which has neither class weights nor label smoothing
UNDEFINED = "n/a"
MAX_NAME = 120  # columns of a class in a table
_PEOPLE = ("Matthews", "Poisson", "Spearman")  # whom metrics are named after
TARGET_HEADER = ("Target", "MAE", "RMSE", "R²", "Spearman", "Rows")
CLASS_HEADER = ("Class", "Precision", "Recall", "F1", "ROC AUC", "Rows")


def sentence_title(metric: str) -> str:
    """Write a metric's title as it stands inside a sentence: `macro F1`, `R²`, `Poisson deviance`."""
    if (title := TITLES.get(metric)) is None:
        return metric.replace("_", " ")
    kept = title[1].isupper() or not title[1].isalpha() or title.startswith(_PEOPLE)
    return title if kept else title[0].lower() + title[1:]


def value_text(metric: str, value: float | None) -> str:
    """Write a metric's value; `n/a` for a value that is not defined."""
    if value is None or not math.isfinite(value):
        return UNDEFINED
    row = METRICS.get(metric)
    return f"{value:z.3f}" if row is None or row.unit == "share" else significant(value)


def significant(value: float, digits: int = 4) -> str:
    """Write `value` with this many significant digits, and at least its whole part: 0.01234, 12.35, 12,345."""
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if not -4 <= magnitude < 9:
        return f"{value:.{digits - 1}e}"
    return f"{value:,.{max(0, digits - 1 - magnitude)}f}"


def share_text(part: float, whole: float) -> str:
    """Write a share of rows or parameters in percent: `2.8%`."""
    percent = 100 * part / whole if whole else 0
    return f"{percent:.2g}%" if percent < 10 else f"{percent:.0f}%"


def interval_text(metric: str, interval: tuple[float, float] | None) -> str:
    """Write an interval as `0.882 to 0.941`; empty if there is none."""
    return f"{value_text(metric, interval[0])} to {value_text(metric, interval[1])}" if interval else ""


def metric_rows(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List the single numbers of a split's metrics as (title, value), in a fixed order."""
    titles, before = {**TITLES, "loss": MINIMISED_LOSS}, uncalibrated(metrics)
    rows = []
    for name in shown_metrics(metrics):
        rows.append((titles[name], value_text(name, metrics[name])))
        if name in before:
            rows.append((f"{titles[name]}, uncalibrated", value_text(name, before[name])))
    return rows


def uncalibrated(metrics: Mapping[str, Any]) -> Mapping[str, float]:
    """Return the metrics that a split had before its probabilities were calibrated; empty where they were not."""
    method = (metrics.get("confidence") or {}).get("calibrator", "none")
    return {} if method == "none" else metrics.get("uncalibrated") or {}


def class_titles(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Write each class as its value, with its name if it has one. Long ones are cut, but never to the same text."""
    found = []
    for row in rows:
        value, name = visible(row.get("class")), row.get("name")
        found.append(value if name is None else f"{value} ({visible(name)})")
    return cut_apart(found, MAX_NAME)


def worst_classes(metrics: Mapping[str, Any], n: int | None = None) -> list[dict[str, Any]]:
    """Return the `n` classes (or all) with the lowest F1, worst first.

    One without a row cannot be judged and is left out.
    """
    judged = [row for row in metrics.get("per_class", []) if row["support"]]
    return sorted(judged, key=lambda row: (row["f1"], row["recall"], -row["support"]))[:n]


def class_rows(metrics: Mapping[str, Any], n: int | None = None) -> list[tuple[str, ...]]:
    """List the worst `n` classes (or all) as text under `CLASS_HEADER`, worst first."""
    rows = worst_classes(metrics, n)
    return [
        (
            title,
            *(value_text(name, row[name]) for name in ("precision", "recall", "f1", "roc_auc")),
            f"{row['support']:,}",
        )
        for title, row in zip(class_titles(rows), rows, strict=True)
    ]


def target_rows(metrics: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the text of each target of a regression of several, the lowest R² first, under `TARGET_HEADER`."""
    order = sorted(metrics["per_target"], key=lambda row: math.inf if row["r2"] is None else row["r2"])
    names = ("mae", "rmse", "r2", "spearman")
    return [
        (visible(row["target"]), *(value_text(name, row[name]) for name in names), f"{row['n']:,}") for row in order
    ]


def details(metrics: Mapping[str, Any]) -> tuple[str, tuple[str, ...], list[tuple[str, ...]]]:
    """Return the table of a split's classes, or of its targets: title, header and rows, the worst first."""
    if "per_target" in metrics:
        return "Targets", TARGET_HEADER, target_rows(metrics)
    return "Classes", CLASS_HEADER, class_rows(metrics)


def worst_confusions(metrics: Mapping[str, Any], n: int = 10) -> list[tuple[str, str, int, str]]:
    """List the most frequent errors as (true class, predicted class, rows, share of the true class)."""
    classes = metrics.get("per_class", [])
    titles = class_titles(classes)
    errors = [
        (count, truth, predicted)
        for truth, row in enumerate(metrics.get("confusion_matrix", []))
        for predicted, count in enumerate(row)
        if count and truth != predicted
    ]
    errors.sort(key=lambda error: (-error[0], error[1], error[2]))
    return [
        (titles[truth], titles[predicted], count, share_text(count, classes[truth]["support"]))
        for count, truth, predicted in errors[:n]
    ]


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a GitHub-flavoured Markdown table, its first column aligned left, the others right."""
    ruler = ["---", *["---:"] * (len(header) - 1)]
    lines = [[_markdown(cell) for cell in header], ruler, *([_markdown(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def latex_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a LaTeX tabular in the style of the booktabs package."""
    body = [" & ".join(_latex(cell) for cell in row) + r" \\" for row in rows]
    return "\n".join(
        [
            r"\begin{tabular}{l" + "r" * (len(header) - 1) + "}",
            r"\toprule",
            " & ".join(_latex(cell) for cell in header) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _markdown(text: str) -> str:
    return "".join("\\" + character if character in "\\`*_[]<>|&~$" else character for character in visible(text))


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "²": r"\textsuperscript{2}",
    "−": "$-$",
    **{character: "\\" + character for character in "{}$&#_%"},
}


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in visible(text))
