"""The results of cells: mean scores, and the paired differences of recipes with their intervals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from benchmarks.recipes.cells import Result, pairs
from benchmarks.recipes.scoring import METRICS
from benchmarks.recipes.targets import targets

LEVEL = 0.95
SECONDS = "seconds"


@dataclass(frozen=True)
class Difference:
    """The mean of `count` paired differences, and its t interval, which needs two or more."""

    mean: float
    count: int
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        interval = "" if self.low is None else f" [{self.low:+.3f}, {self.high:+.3f}]"
        return f"{self.mean:+.3f}{interval}"


def difference(values: Sequence[float]) -> Difference:
    """Summarise paired differences; the interval is that of a one-sample t test at 95%."""
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return Difference(mean, count)
    error = float(stats.sem(values))
    if error == 0:
        return Difference(mean, count, mean, mean)
    low, high = stats.t.interval(LEVEL, count - 1, loc=mean, scale=error)
    return Difference(mean, count, float(low), float(high))


def differences(results: Iterable[Result], recipe: str, against: str, metric: str) -> list[float]:
    """Return `recipe` minus `against` in a metric, for each pair that has it."""
    both = pairs(results, recipe, against)
    return [ours.scores[metric] - theirs.scores[metric] for ours, theirs in both if metric in ours.scores]


def report(results: Sequence[Result], against: str) -> str:
    """Draw the tables, in Markdown."""
    done = [result for result in results if result.failed is None]
    failed = sorted({f"- {one.cell.recipe}: {one.failed}" for one in results if one.failed})
    parts = [
        f"{len(done):,} cells are finished.",
        "## Means\n\n" + _table(_mean_rows(done)),
        f"## Differences from `{against}` on the same rows, with 95% t intervals of the mean\n\n"
        + _table(_difference_rows(done, against)),
        "## Targets\n\n" + _table([("what", "target", "measured", "met"), *targets(done)]),
    ]
    if failed:
        parts.append("## Not run\n\n" + "\n".join(failed))
    return "\n\n".join(parts)


def sizes_of(results: Iterable[Result]) -> list[str]:
    """Return the sizes, smallest first."""
    return sorted({one.cell.size for one in results}, key=lambda size: float("inf") if size == "all" else int(size))


def recipes_of(results: Iterable[Result]) -> list[str]:
    """Return the recipes in the order in which they ran first."""
    return list(dict.fromkeys(one.cell.recipe for one in results))


def _mean_rows(results: Sequence[Result]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("rows", "recipe", "cells", *METRICS, SECONDS, "CPU seconds")]
    for size in sizes_of(results):
        for recipe in recipes_of(results):
            found = [one for one in results if (one.cell.size, one.cell.recipe) == (size, recipe)]
            if not found:
                continue
            means = (_mean([one.scores[name] for one in found if name in one.scores]) for name in METRICS)
            times = (np.mean([one.seconds for one in found]), np.mean([one.cpu_seconds for one in found]))
            rows.append((size, recipe, str(len(found)), *means, *(f"{value:.1f}" for value in times)))
    return rows


def _difference_rows(results: Sequence[Result], against: str) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("rows", "recipe", "pairs", *METRICS, "time (ratio)")]
    for size in sizes_of(results):
        for recipe in recipes_of(results):
            here = [one for one in results if one.cell.size == size]
            both = pairs(here, recipe, against) if recipe != against else []
            if not both:
                continue
            found = [differences(here, recipe, against, name) for name in METRICS]
            ratio = stats.gmean([ours.seconds / theirs.seconds for ours, theirs in both])
            shown = (str(difference(values)) if values else "–" for values in found)
            rows.append((size, recipe, str(len(both)), *shown, f"{ratio:.2f}"))
    return rows


def _mean(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f}" if values else "–"


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
