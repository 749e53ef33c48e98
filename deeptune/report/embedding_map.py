"""The section of a report that shows the embeddings of test in two dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deeptune.errors import DataError
from deeptune.formatting import visible
from deeptune.report.embedding_points import Points, read_points
from deeptune.report.finished_run import FinishedRun
from deeptune.report.plots import BLUE, TEXT, VERMILION, axes_on, svg_of
from deeptune.report.section import Figure, ReportSection, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

MAX_DRAWN = 800  # rows that are drawn, at most
# Inks of Okabe and Ito (2008) that stand out from white and from black, each with a marker of its own.
LOOKS = ((BLUE, "o"), (VERMILION, "s"), ("#009e73", "^"), ("#b86b9c", "D"), ("#b07d00", "v"), ("#3b9bd0", "P"))
OTHERS = (TEXT, "x")
RAMP = ("#0072b2", "#2f86ad", "#5e97a0", "#8f9f86", "#b88a4e", "#d55e00")  # from low to high numbers


def embedding_section(run: FinishedRun) -> ReportSection | None:
    """Draw the embeddings of test by their principal components; None where there are none of them."""
    if run.split != "test" or not run.files.embeddings("test").is_file():
        return None
    try:
        points = read_points(run.files, "test")
    except DataError:  # a run of other hands, or half of a file: the numbers of the report don't need them
        return None
    places = np.arange(len(points.rows))
    if len(places) > MAX_DRAWN:
        places = np.sort(np.random.default_rng(run.spec.train.seed).choice(places, MAX_DRAWN, replace=False))
    kinds = _kinds(points)
    wrong = _wrong(run, points)
    first, second = points.explained
    caption = (
        f"Embeddings of {len(places):,} of {points.total:,} test rows by their first two principal components, which "
        f"hold {first:.0%} and {second:.0%} of the variance."
        + (" Wrong predictions have a ring." if wrong is not None else "")
    )
    said = (
        "An embedding is what the last layer of the head reads. Rows that lie together look alike to the model. Two "
        "components show only part of it: classes that overlap here may be apart in the other dimensions, and nothing "
        "is tested here."
    )
    figure = Figure(_drawn(points, places, kinds, wrong), caption)
    table = _counts(points, wrong)
    data = {
        "rows": int(points.total),
        "explained_variance": [first, second],
        "groups": [visible(name) for name in points.names],
    }
    return ReportSection("embeddings", "Embeddings in two dimensions", [said], [table], [figure], data)


def _kinds(points: Points) -> list[tuple[list[int], tuple[str, str]]]:
    """Return the groups that share a look: each of a few ranges or classes its own, and all further classes one."""
    counts = np.bincount(points.group, minlength=len(points.names))
    there = [int(at) for at in np.flatnonzero(counts)]
    if points.ordered:
        return [([at], (RAMP[min(at, len(RAMP) - 1)], LOOKS[min(at, len(LOOKS) - 1)][1])) for at in there]
    if len(there) > len(LOOKS):
        there = sorted(sorted(there, key=lambda at: -counts[at])[: len(LOOKS) - 1])
    own = [([at], look) for at, look in zip(there, LOOKS, strict=False)]
    rest = [int(at) for at in np.flatnonzero(counts) if int(at) not in there]
    return own + ([(rest, OTHERS)] if rest else [])


def _wrong(run: FinishedRun, points: Points) -> np.ndarray | None:
    """Return which rows (bool (N,)) are predicted wrongly; None for numbers, and where it is not known."""
    scored = run.predictions
    if scored is None or run.task.view not in ("classes", "labels"):
        return None
    right = scored.truth == scored.prediction
    wrong = scored.row[~(right if right.ndim == 1 else right.all(axis=1))]
    return np.isin(points.rows, wrong)


def _drawn(
    points: Points, places: np.ndarray, kinds: list[tuple[list[int], tuple[str, str]]], wrong: np.ndarray | None
) -> str:
    def draw(figure: Canvas) -> None:
        axes = axes_on(figure, "First component", "Second component")
        for number, (groups, (color, marker)) in enumerate(kinds, start=1):
            inside = places[np.isin(points.group[places], groups)]
            axes.plot(*points.xy[inside].T, marker, color=color, markersize=4, alpha=0.75, markeredgewidth=0.8,
                      markeredgecolor=color, label=str(number))  # fmt: skip
        if wrong is not None:
            axes.plot(*points.xy[places[wrong[places]]].T, "o", markersize=9, markerfacecolor="none",
                      markeredgecolor=TEXT, markeredgewidth=0.8)  # fmt: skip
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))

    return svg_of("embeddings", draw, width=5.2, height=3.9)


def _counts(points: Points, wrong: np.ndarray | None) -> Table:
    """Return the legend: no text from data enters a picture, so that groups have numbers there."""
    rows = []
    for number, (groups, _) in enumerate(_kinds(points), start=1):
        inside = np.isin(points.group, groups)
        name = visible(points.names[groups[0]]) if len(groups) == 1 else f"{len(groups):,} further classes"
        more = [] if wrong is None else [f"{int(wrong[inside].sum()):,}"]
        rows.append((f"{number}", name, f"{int(inside.sum()):,}", *more))
    header = ("In the picture", "Label", "Rows", *([] if wrong is None else ["Wrong"]))
    return Table(header, rows, "Numbers in the picture's legend.", "words")
