"""The report's pictures, as SVG that takes its text colour and its two inks from the page.

No text from data enters a picture: axis words only. The inks are blue and vermilion of Okabe and Ito
(2008), told apart in every common form of colour vision, and line style and marker differ as well.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from deeptune.tasks.metric_functions import ECE_BINS, calibration_bins

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Stand-ins that `svg_of` turns into the page's CSS variables, so that one picture suits light and dark.
TEXT, QUIET, BLUE, VERMILION = "#010203", "#020304", "#0072b2", "#d55e00"
_CSS = {TEXT: "currentColor", QUIET: "var(--line)", BLUE: "var(--blue)", VERMILION: "var(--vermilion)"}

MAX_POINTS = 2000


class Line(NamedTuple):
    """The style of a curve."""

    label: str
    color: str
    style: str
    marker: str


TRAIN = Line("train", VERMILION, "--", "s")
VAL = Line("val", BLUE, "-", "o")
Values = Sequence[float | None]


def loss_curves(epochs: Sequence[int], train: Values, val: Values, best: int | None) -> str:
    """Draw loss on train and val against the epoch, with the best epoch marked."""

    def draw(figure: Figure) -> None:
        axes = axes_on(figure, "Epoch", "Loss")
        _curve(axes, epochs, train, TRAIN)
        _curve(axes, epochs, val, VAL)
        _mark_best(axes, epochs, val, best)
        axes.legend(frameon=False)

    return svg_of("loss", draw)


def metric_curve(epochs: Sequence[int], values: Values, best: int | None, title: str) -> str:
    """Plot a metric on val against the epoch, with the best epoch marked."""

    def draw(figure: Figure) -> None:
        axes = axes_on(figure, "Epoch", title)
        _curve(axes, epochs, values, VAL)
        _mark_best(axes, epochs, values, best)

    return svg_of("metric", draw)


def reliability(confidence: np.ndarray, correct: np.ndarray) -> str:
    """Draw accuracy against confidence in equal-width bins, and how many rows each bin holds."""

    def draw(figure: Figure) -> None:
        count, mean_confidence, accuracy = calibration_bins(confidence, correct)
        filled = count > 0
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        dress(upper, "", "Accuracy")
        dress(lower, "Confidence", "Rows")
        upper.plot([0, 1], [0, 1], color=TEXT, linewidth=1, linestyle=":", label="as sure as right")
        upper.plot(
            mean_confidence[filled],
            accuracy[filled],
            color=BLUE,
            marker="o",
            markersize=4,
            linewidth=1.5,
            label="this model",
        )
        upper.set(xlim=(0, 1), ylim=(0, 1.03))
        upper.legend(frameon=False)
        lower.bar((np.arange(ECE_BINS) + 0.5) / ECE_BINS, count, width=0.9 / ECE_BINS, color=BLUE)

    return svg_of("reliability", draw, height=3.7)


def predicted_against_true(truth: np.ndarray, prediction: np.ndarray, seed: int) -> str:
    """Scatter of at most `MAX_POINTS` rows, with the line on which prediction equals truth."""

    def draw(figure: Figure) -> None:
        axes = axes_on(figure, "True", "Predicted")
        rows = np.arange(len(truth))
        if len(rows) > MAX_POINTS:
            rows = np.random.default_rng(seed).choice(rows, MAX_POINTS, replace=False)
        ends = [min(truth.min(), prediction.min()), max(truth.max(), prediction.max())]
        axes.plot(ends, ends, color=TEXT, linewidth=1, linestyle=":", label="prediction = truth")
        axes.plot(truth[rows], prediction[rows], "o", color=BLUE, markersize=3, alpha=0.45, markeredgewidth=0)
        axes.legend(frameon=False)

    return svg_of("scatter", draw, height=3.7)


def residual_histogram(residuals: np.ndarray) -> str:
    """Plot how often each size of residual (predicted minus true) occurs."""

    def draw(figure: Figure) -> None:
        axes = axes_on(figure, "Predicted − true", "Rows")
        width_rule = np.histogram_bin_edges(residuals, bins="auto")
        edges = width_rule if len(width_rule) <= 61 else 60
        axes.hist(residuals, bins=edges, color=BLUE, rwidth=0.92)
        axes.axvline(0, color=TEXT, linewidth=1, linestyle=":")

    return svg_of("residuals", draw, height=3.7)


def curves(
    name: str,
    titles: tuple[str, str],
    x: np.ndarray,
    lines: Sequence[tuple[Line, np.ndarray]],
    band: np.ndarray | None,
    limits: tuple[float, float] | None = None,
) -> str:
    """Draw lines (N,) over x (N,), the first with a band (2, N) around it; `titles` are those of the axes.

    `limits` are the ends of the vertical axis, where not everything is to be seen.
    """

    def draw(figure: Figure) -> None:
        axes = axes_on(figure, *titles)
        if band is not None:
            axes.fill_between(x, band[0], band[1], color=lines[0][0].color, alpha=0.18, linewidth=0)
        for line, values in lines:
            axes.plot(x, values, color=line.color, linestyle=line.style, linewidth=1.6, label=line.label)
        if limits is not None:
            axes.set_ylim(limits)
        axes.legend(frameon=False)

    return svg_of(name, draw, height=3.7)


def _curve(axes: Any, epochs: Sequence[int], values: Values, line: Line) -> None:
    numbers = [np.nan if value is None else value for value in values]
    axes.plot(
        epochs, numbers, color=line.color, linestyle=line.style, linewidth=1.6, label=line.label,
        marker=line.marker if len(epochs) <= 25 else None, markersize=3.5,
    )  # fmt: skip


def _mark_best(axes: Any, epochs: Sequence[int], values: Values, best: int | None) -> None:
    if best is None or best not in epochs:
        return
    axes.axvline(best, color=TEXT, linewidth=1, linestyle=":")
    value = values[list(epochs).index(best)]
    if value is not None:
        axes.plot([best], [value], "o", markersize=9, markerfacecolor="none", markeredgecolor=TEXT, markeredgewidth=1.4)


def axes_on(figure: Figure, x: str, y: str) -> Any:
    """Add the axes of a picture of one part, with their words."""
    axes = figure.subplots()
    dress(axes, x, y)
    if x == "Epoch":
        axes.locator_params(axis="x", integer=True)
    return axes


def dress(axes: Any, x: str, y: str) -> None:
    """Give axes the look of the report, and their words."""
    axes.set(xlabel=x, ylabel=y)
    axes.patch.set_visible(False)


def svg_of(name: str, draw: Callable[[Figure], None], *, width: float = 4.6, height: float = 3.1) -> str:
    """Draw on a new figure (inches) and return an `<svg>` element for use inside a page."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "svg.fonttype": "none",  # text stays text: it can be read aloud, searched and copied
        "svg.hashsalt": name,  # the same run gives the same bytes, and pictures share no ids
        "font.size": 10,
        "axes.edgecolor": TEXT,
        "axes.grid": True,  # set here: asked for afterwards, each tick is made twice
        "axes.axisbelow": True,
        "grid.color": QUIET,
        "grid.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), TEXT),
    }
    buffer = io.StringIO()
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.patch.set_visible(False)
        draw(figure)
        # `savefig` draws twice: once for the layout, which this way of drawing makes as well.
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family: [^;]*; ", "", re.sub(r'<g id="[^"]*"', "<g", svg))  # the page has a font
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    return re.sub("|".join(_CSS), lambda match: _CSS[match.group()], svg)
