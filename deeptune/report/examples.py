"""The sections of a report that draw test rows: the worst predictions, and the least certain ones."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass
from typing import Any

import numpy as np

from deeptune.data.run_samples import RunSamples
from deeptune.data.shown import ShownSample
from deeptune.errors import DeepTuneError
from deeptune.formatting import visible
from deeptune.report.finished_run import FinishedRun, Predictions
from deeptune.report.section import Figure, ReportSection, Table
from deeptune.report.tables import significant
from deeptune.tasks import Task

PIXELS = 192  # pixels on the longer side of an image
MAX_EXAMPLES = 8  # examples of each kind, at most
MAX_TEXT = 280  # characters of a text
# Kinds of images that browsers show, by their first bytes.
KINDS = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"RIFF": "webp"}


@dataclass(frozen=True)
class Example:
    """A test row: its place in the predictions, and how wrong or unsure the model was, in words."""

    place: int
    how: str


def worst_first(scored: Predictions) -> np.ndarray:
    """Order the rows (int64 (N,)), the worst predictions first: wrong classes by confidence, numbers by distance."""
    return np.argsort(-np.nan_to_num(_badness(scored), nan=-np.inf), kind="stable")


def _badness(scored: Predictions) -> np.ndarray:
    if scored.truth.dtype.kind == "f":
        distance = np.abs(scored.prediction - scored.truth)
        if distance.ndim == 1:
            return distance
        known = np.isfinite(distance)
        return np.where(known.any(axis=1), np.where(known, distance, 0).sum(axis=1) / known.sum(axis=1).clip(1), np.nan)
    if scored.truth.ndim > 1:
        return (scored.prediction != scored.truth).sum(axis=1).astype(np.float64)
    sure = scored.probabilities.max(axis=1) if scored.probabilities is not None else np.ones(len(scored.row))
    return np.where(scored.prediction != scored.truth, sure, sure - 2)  # right ones last, the least certain first


def confidence_of(scored: Predictions) -> np.ndarray | None:
    """Return how sure each prediction is (N,): the highest probability, or that of the least sure label."""
    chances = scored.probabilities
    if chances is None:
        return None
    return np.asarray(np.maximum(chances, 1 - chances).min(axis=1) if scored.truth.ndim > 1 else chances.max(axis=1))


def worst_section(run: FinishedRun) -> ReportSection | None:
    """List the worst predictions of test, and draw their samples where that was asked; None where all are right."""
    scored = _scored(run)
    if scored is None:
        return None
    badness = _badness(scored)
    wrong = badness > 0  # a class that is right is below
    chosen = [place for place in worst_first(scored)[:MAX_EXAMPLES] if wrong[place]]
    examples = [Example(int(place), _how_bad(run, badness, place)) for place in chosen]
    said = {
        "classes": "The wrong predictions that the model was surest of. A wrong label is often among them: look first.",
        "labels": "The rows with the most wrong labels.",
        "numbers": "The rows whose predicted number is farthest from the true one.",
        "targets": "The rows with the largest mean distance of their numbers, in the units of the targets.",
    }[run.task.view]
    return _section(run, scored, "examples", ("Worst predictions", said), examples)


def uncertain_section(run: FinishedRun) -> ReportSection | None:
    """List the least certain predictions of test; None for numbers, which have no confidence."""
    scored = _scored(run)
    sure = None if scored is None else confidence_of(scored)
    if scored is None or sure is None:
        return None
    chosen = np.argsort(sure, kind="stable")[:MAX_EXAMPLES]
    examples = [Example(int(place), f"confidence {sure[place]:.2f}") for place in chosen]
    said = "The predictions that the model was least sure of, right or wrong."
    return _section(run, scored, "uncertain", ("Least certain predictions", said), examples)


def _scored(run: FinishedRun) -> Predictions | None:
    scored = run.predictions
    return scored if run.split == "test" and scored is not None and len(scored.row) else None


def _how_bad(run: FinishedRun, badness: np.ndarray, place: int) -> str:
    if run.task.view == "classes":
        return f"confidence {badness[place]:.2f}"
    if run.task.view == "labels":
        wrong = int(badness[place])
        return "1 label wrong" if wrong == 1 else f"{wrong:,} labels wrong"
    return f"off by {significant(float(badness[place]))}"


def _section(
    run: FinishedRun, scored: Predictions, name: str, words: tuple[str, str], examples: list[Example]
) -> ReportSection | None:
    if not examples:
        return None
    title, said = words
    data: list[dict[str, Any]] = [
        {
            "row": int(scored.row[example.place]),
            "true": target_text(run.task, scored.truth[example.place]),
            "predicted": target_text(run.task, scored.prediction[example.place]),
            "how": example.how,
        }
        for example in examples
    ]
    if not run.samples:
        lines = [(f"{row['row']:,}", str(row["true"]), str(row["predicted"]), str(row["how"])) for row in data]
        table = Table(("Row", "True", "Predicted", "How"), lines, kind="words")
        hint = f"Samples are not drawn, so that the report can be passed on. To draw them: {draw_command(run)}"
        return ReportSection(name, title, [said, hint], [table], data={"rows": data})
    samples = RunSamples(run.files, pixels=PIXELS)
    seconds = run.result.get("seconds")
    gone = samples.changed_since(run.files.started + (seconds if isinstance(seconds, (int, float)) else 0))
    figures = []
    for row in data:
        caption = visible(f"Row {row['row']:,}: true {row['true']}, predicted {row['predicted']}; {row['how']}")
        figures.append(Figure(_drawn("" if gone else samples.read("test", row["row"]), caption), caption, small=True))
    paragraphs = [said, *([f"Their samples are not drawn: {visible(gone)}."] if gone else [])]
    return ReportSection(name, title, paragraphs, figures=figures, data={"rows": data})


def draw_command(run: FinishedRun) -> str:
    """Write the command that draws samples in the report of a run."""
    return visible(f"deeptune report {run.files.path.resolve().name} --samples")


def _drawn(sample: ShownSample | DeepTuneError | str, caption: str) -> str:
    """Write a sample as HTML: an image, a text, both, or why there is neither."""
    if isinstance(sample, str):
        return ""
    if isinstance(sample, DeepTuneError):
        return f'<p class="example">{html.escape(visible(sample.message))}</p>'
    parts = []
    if sample.image is not None:
        kind = next((kind for sign, kind in KINDS.items() if sample.image.startswith(sign)), None)
        if kind is None:
            parts.append('<p class="example">a picture in a format that browsers don\'t show</p>')
        else:
            data = base64.b64encode(sample.image).decode()
            parts.append(f'<img class="example" src="data:image/{kind};base64,{data}" alt="{html.escape(caption)}">')
    if sample.text is not None:
        text = sample.text if len(sample.text) <= MAX_TEXT else sample.text[: MAX_TEXT - 1] + "…"
        parts.append(f'<p class="example">{html.escape(visible(text))}</p>')
    return "".join(parts)


def target_text(task: Task, target: Any) -> str:
    """Write a target of one row as its label: a class, labels joined by commas, or numbers."""
    if task.view == "classes":
        return visible(task.class_names[int(target)])
    found = task.decode(np.asarray(target)[None]).to_pylist()[0]
    if isinstance(found, dict):
        found = list(found.values())
    values = found if isinstance(found, list) else [found]
    texts = [significant(value) if isinstance(value, float) else str(value) for value in values]
    return visible(", ".join(texts)) or "none"
