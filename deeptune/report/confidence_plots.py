"""Pictures of how far predictions can be trusted, in the report's style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from deeptune.report.plots import BLUE, TEXT, VERMILION, axes_on, dress, svg_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Bins = Sequence[Mapping[str, float]]  # rows, mean confidence and accuracy of each


def reliability_before_and_after(after: Bins, before: Bins, *, of: str = "Accuracy") -> str:
    """Plot what came true against what was claimed, before and after calibration, and the rows of each bin."""

    def draw(figure: Figure) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        dress(upper, "", of)
        dress(lower, "Confidence" if of == "Accuracy" else "Probability", "Rows")
        upper.plot([0, 1], [0, 1], color=TEXT, linewidth=1, linestyle=":", label="as sure as right")
        for bins, color, style, marker, label in (
            (before, VERMILION, "--", "s", "before"), (after, BLUE, "-", "o", "after")
        ):  # fmt: skip
            x, y = ([one[name] for one in bins] for name in ("confidence", "accuracy"))
            upper.plot(x, y, color=color, linestyle=style, marker=marker, markersize=4, linewidth=1.5, label=label)
        upper.set(xlim=(0, 1), ylim=(0, 1.03))
        upper.legend(frameon=False)
        lower.bar([one["confidence"] for one in after], [one["rows"] for one in after], width=0.05, color=BLUE)

    return svg_of("before-after", draw, height=3.7)


def error_by_confidence(
    expected: tuple[np.ndarray, np.ndarray], found: tuple[np.ndarray, np.ndarray] | None, split: str
) -> str:
    """Plot the expected error by confidence, and the share that is wrong in bins of `split`."""

    def draw(figure: Figure) -> None:
        axes = axes_on(figure, "Confidence", "Wrong predictions")
        axes.plot(*expected, color=BLUE, linewidth=1.6, marker="o", markersize=3.5, label="expected")
        if found is not None:
            axes.plot(*found, color=VERMILION, linestyle="none", marker="s", markersize=4, label=f"found in {split}")
        axes.set(xlim=(0, 1.02), ylim=(-0.02, 1.02))
        axes.legend(frameon=False)

    return svg_of("expected-error", draw)


def risk_against_share(share: np.ndarray, risk: np.ndarray) -> str:
    """Return the error among the rows that are kept, as the least sure are left out."""

    def draw(figure: Figure) -> None:
        axes = axes_on(figure, "Share of rows kept", "Wrong among those")
        axes.step(share, risk, where="pre", color=BLUE, linewidth=1.6, label="this model")
        axes.plot([0, 1], [risk[-1]] * 2, color=TEXT, linewidth=1, linestyle=":", label="left out at random")
        axes.set(xlim=(0, 1.02), ylim=(0, None))
        axes.legend(frameon=False)

    return svg_of("risk", draw)


def set_sizes(counts: Sequence[int], what: str) -> str:
    """Plot how many rows have sets of each size; `counts[k]` is that of k classes or labels (`what`)."""

    def draw(figure: Figure) -> None:
        axes = axes_on(figure, f"{what.capitalize()} in the set", "Rows")
        first = 0 if counts[0] else 1  # sets of labels may be empty
        axes.bar(np.arange(first, len(counts)), counts[first:], width=0.8, color=BLUE)
        axes.locator_params(axis="x", integer=True)

    return svg_of("set-sizes", draw)


def interval_calibration(curve: Sequence[Sequence[float]], split: str) -> str:
    """Return the share of rows whose interval holds the truth, against the coverage that was asked for."""

    def draw(figure: Figure) -> None:
        axes: Any = axes_on(figure, "Coverage asked for", f"Covered in {split}")
        asked, got = zip(*curve, strict=True)
        axes.plot([0.45, 1], [0.45, 1], color=TEXT, linewidth=1, linestyle=":", label="as asked")
        axes.plot(asked, got, color=BLUE, marker="o", markersize=4, linewidth=1.5, label="this model")
        axes.set(xlim=(0.45, 1.02), ylim=(min(0.45, *got) - 0.02, 1.03))
        axes.legend(frameon=False)

    return svg_of("intervals", draw)
