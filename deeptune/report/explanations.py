"""The report's section on explanations of predictions, from the files that `deeptune explain` wrote."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deeptune.errors import CheckpointError
from deeptune.report.finished_run import FinishedRun
from deeptune.report.plots import BLUE, TEXT, VERMILION, axes_on, svg_of
from deeptune.report.section import Figure, ReportSection
from deeptune.runs.files import read_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

FILE = "explanations.json"
OPACITY = 0.65
PLUS, MINUS = (0, 114, 178), (213, 94, 0)  # Okabe and Ito: blue supports the output, vermilion counts against it
ORDERS = (("explanation", BLUE, "-"), ("random", TEXT, ":"), ("shuffled", VERMILION, "--"))


def explanation_section(run: FinishedRun) -> ReportSection | None:
    """Show the stored explanations of a run, or nothing where there are none."""
    folder = run.files.explanations
    if not (folder / FILE).is_file():
        return None
    try:
        stored: dict[str, Any] = read_json(folder / FILE)
        rows = stored["rows"]
        figures = [Figure(_shown(folder, row), _caption(row)) for row in rows]
        for name, some in by_kind(rows).items():
            said_of = f"Of the {name}s: " if len(by_kind(rows)) > 1 else ""
            figures.append(Figure(curves_svg(stored["shares"], some, name), said_of + _CURVES))
        said = [stored["verdict"]["text"], _meaning(rows)]
    except (CheckpointError, KeyError, TypeError, OSError):  # half of an older folder costs no report
        return None
    return ReportSection(
        "explanations", "Explanations of predictions", paragraphs=said, figures=figures, data=stored, folded=False
    )


_CURVES = (
    "The output as parts are put into a blank sample (rising) or taken from the whole one (falling), in the order of "
    "the explanation (solid), in random order (dotted), and in that of a model with shuffled weights (dashed). The "
    "larger the area between the two curves of a kind, the more the parts that come first carry the output."
)


def by_kind(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Split stored explanations into those of images and those of texts, whichever there are."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault("text" if "tokens" in row else "image", []).append(row)
    return found


def _meaning(rows: Sequence[dict[str, Any]]) -> str:
    kinds = by_kind(rows)
    words = "Blue words support the prediction, vermilion ones count against it (integrated gradients)."
    maps = (
        "Left the image as the model sees it; right where the prediction comes from, the brighter the more (HiResCAM)."
    )
    return " ".join(said for kind, said in (("image", maps), ("text", words)) if kind in kinds or not kinds)


def _caption(row: dict[str, Any]) -> str:
    part = f" ({row['kind']})" if "kind" in row else ""
    return f"Row {row['row']:,}{part}, predicted {row['prediction']}; gain over random orders {row['gain']:.2f}"


def _shown(folder: Path, row: dict[str, Any]) -> str:
    if "tokens" in row:
        return f"<p>{tokens_html(row['tokens'], row['scores'])}</p>"
    data = base64.b64encode((folder / Path(row["picture"]).name).read_bytes()).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{html.escape(_caption(row))}" style="max-width: 100%">'


def tokens_html(tokens: Sequence[str], scores: Sequence[float]) -> str:
    """Write a text with each token on a ground of its colour, as HTML."""
    largest = max([abs(score) for score in scores], default=0.0) or 1.0
    parts = []
    for token, score in zip(tokens, scores, strict=True):
        red, green, blue = PLUS if score > 0 else MINUS
        ground = f"rgba({red}, {green}, {blue}, {abs(score) / largest * OPACITY:.2f})"
        parts.append(f'<span style="background: {ground}" title="{score:+.4f}">{html.escape(token)}</span>')
    return "".join(parts).strip()


def curves_svg(shares: Sequence[float], rows: Sequence[dict[str, Any]], kind: str = "") -> str:
    """Draw the mean insertion and deletion curves of a set of explanations."""

    def draw(figure: Drawing) -> None:
        axes = axes_on(figure, "Share of the sample", "Output (0 blank, 1 or −1 whole)")
        for order, color, style in ORDERS:
            for curve in ("insertion", "deletion"):
                mean = np.mean([row["curves"][order][curve] for row in rows], axis=0)
                label = order if curve == "insertion" else None
                axes.plot(shares, mean, color=color, linestyle=style, linewidth=1.5, label=label)
        axes.legend(frameon=False)

    return svg_of(f"explanations {kind}", draw)
