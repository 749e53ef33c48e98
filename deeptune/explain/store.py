"""Explanations in a folder: `explanations.json`, and for images a PNG of each row beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deeptune.data.images.preview import png
from deeptune.explain.drawing import beside
from deeptune.explain.explanations import Explained, Explanation
from deeptune.explain.faithfulness import SHARES, Curves
from deeptune.runs.files import replacing, storage_errors, write_json

FILE = "explanations.json"


def write_explanations(explained: Explained, folder: Path, *, source: str, of: str | None) -> None:
    """Write all explanations into a folder, in the place of those that were there. Raises CheckpointError.

    Other files of the folder stay: it may be a person's own.
    """
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for file in (folder / FILE, *folder.glob("row-*.png")):
            file.unlink(missing_ok=True)
    rows = []
    for each in explained.explanations:
        row = _row(each)
        if each.map is not None:
            row["picture"] = f"row-{each.row}.png"
            with replacing(folder / row["picture"]) as part:
                part.write_bytes(png(beside(each)))
        rows.append(row)
    write_json(
        folder / FILE,
        {
            "source": source,
            "of": of,
            "verdict": _verdict(explained),
            "shares": SHARES.tolist(),
            "rows": rows,
            "left_out": {str(row): reason for row, reason in explained.left_out.items()},
        },
    )


def _verdict(explained: Explained) -> dict[str, Any]:
    """Return the judgement of the set; of an image with a text that of each in `kinds`."""
    each: dict[str, Any] = {
        kind: {
            "text": judged.text,
            "better_than_random": judged.better,
            "gain": judged.gain,
            "interval": judged.interval,
            "shuffled_gain": judged.shuffled_gain,
            "similarity": judged.similarity,
        }
        for kind, judged in explained.verdicts.items()
    }
    return next(iter(each.values())) if len(each) == 1 else {"text": explained.text, "kinds": each}


def _row(each: Explanation) -> dict[str, Any]:
    row: dict[str, Any] = {
        "row": each.row,
        "kind": each.kind,
        "prediction": each.prediction,
        "gain": each.test.gain,
        "similarity": each.test.similarity,
        "curves": {
            "explanation": _curves(each.test.explained),
            "random": _curves(each.test.random),
            "shuffled": _curves(each.test.shuffled),
        },
    }
    if each.tokens is not None and each.scores is not None:
        row |= {"tokens": each.tokens, "scores": [round(float(score), 6) for score in each.scores]}
    return row


def _curves(curves: Curves) -> dict[str, list[float]]:
    return {"deletion": curves.deletion.round(6).tolist(), "insertion": curves.insertion.round(6).tolist()}
