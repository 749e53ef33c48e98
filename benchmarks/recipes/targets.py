"""The targets of fine-tuning's scores, and whether the finished cells meet them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from benchmarks.recipes.cells import Result, pairs
from benchmarks.recipes.peers import PEERS
from benchmarks.recipes.scoring import MAIN

Row = tuple[str, str, str, str]
MAX_TIME = 0.7  # of the best peer's
MAX_ECE = 0.02  # above that of a cross-validated linear model
MAX_SPREAD = 0.5  # of that of the recipe before


def targets(results: Sequence[Result]) -> list[Row]:
    """Return a row for each target: what, target, measured, met."""
    rows = [_against_head(results, recipe) for recipe in ("full", "lora")]
    rows.append(_level(results, "head", "linear"))
    rows += [_best_peer(results, modality) for modality in ("image", "text")]
    rows += [
        _no_worse(results, recipe, "head", name, 0.0) for recipe in ("full", "lora") for name in ("log_loss", "ece")
    ]
    rows.append(_no_worse(results, "head", "linear", "ece", MAX_ECE))
    rows.append(_spread(results))
    return rows


def _main(result: Result) -> float:
    return next(result.scores[name] for name in MAIN.values() if name in result.scores)


def _behind(both: Sequence[tuple[Result, Result]]) -> list[float]:
    """Measure how far the first is ahead in each pair, in standard errors of the second's score on test."""
    return [(_main(ours) - _main(theirs)) / max(theirs.standard_error, 1e-9) for ours, theirs in both]


def _row(what: str, target: str, both: Sequence[object], measure: Callable[[], tuple[str, bool]]) -> Row:
    if not both:
        return what, target, "not measured", "–"
    measured, met = measure()
    return what, target, measured, "yes" if met else "no"


def _against_head(results: Sequence[Result], recipe: str) -> Row:
    both = pairs(results, recipe, "head")

    def measure() -> tuple[str, bool]:
        by_size = defaultdict(list)
        for ours, theirs in both:
            by_size[ours.cell.size].append(_main(ours) - _main(theirs))
        means = {size: float(np.mean(values)) for size, values in by_size.items()}
        worst = min(_behind(both))
        shown = ", ".join(f"{mean:+.3f} at {size}" for size, mean in means.items())
        return f"worst {worst:+.1f} SE; mean {shown}", worst >= -1 and min(means.values()) > 0

    return _row(f"{recipe} against the head", "never behind by over 1 SE, ahead at every size", both, measure)


def _level(results: Sequence[Result], recipe: str, against: str) -> Row:
    both = pairs(results, recipe, against)

    def measure() -> tuple[str, bool]:
        mean, worst = float(np.mean([_main(ours) - _main(theirs) for ours, theirs in both])), min(_behind(both))
        return f"worst {worst:+.1f} SE; mean {mean:+.3f}", worst >= -1 and mean >= 0

    return _row(f"{recipe} against {against}", "level or ahead, worst cell within 1 SE", both, measure)


def _best_peer(results: Sequence[Result], modality: str) -> Row:
    found = {
        name: both
        for name, peer in PEERS.items()
        if peer.modalities == (modality,) and (both := pairs(results, "full", name))
    }

    def measure() -> tuple[str, bool]:
        shown, met = [], True
        for name, both in found.items():
            mean = float(np.mean([_main(ours) - _main(theirs) for ours, theirs in both]))
            ratio = float(stats.gmean([ours.seconds / theirs.seconds for ours, theirs in both]))
            shown.append(f"{name}: {mean:+.3f} in {ratio:.2f} of its time ({len(both)} cells)")
            met = met and mean >= 0 and ratio <= MAX_TIME
        return "; ".join(shown), met

    return _row(
        f"full against peers, {modality}", f"at least the score in {MAX_TIME} of the time", list(found), measure
    )


def _no_worse(results: Sequence[Result], recipe: str, against: str, metric: str, most: float) -> Row:
    both = [(ours, theirs) for ours, theirs in pairs(results, recipe, against) if metric in ours.scores]

    def measure() -> tuple[str, bool]:
        mean = float(np.mean([ours.scores[metric] - theirs.scores[metric] for ours, theirs in both]))
        return f"{mean:+.3f}", mean <= most

    return _row(f"{metric} of {recipe} against {against}", f"at most {most:+.2f}", both, measure)


def _spread(results: Sequence[Result]) -> Row:
    """Return the standard deviation over seeds of `full` on 400 rows, against that of `full-old`."""
    both = [pair for pair in pairs(results, "full", "full-old") if pair[0].cell.size == "400"]

    def deviation(side: int) -> float:
        groups = defaultdict(list)
        for pair in both:
            groups[pair[side].cell.data].append(_main(pair[side]))
        return float(np.mean([np.std(values, ddof=1) for values in groups.values() if len(values) > 1] or [np.nan]))

    def measure() -> tuple[str, bool]:
        ours, theirs = deviation(0), deviation(1)
        return f"{ours:.4f} against {theirs:.4f}", ours <= MAX_SPREAD * theirs

    return _row("spread over seeds, full, 400 rows", f"at most {MAX_SPREAD} of full-old's", both, measure)
