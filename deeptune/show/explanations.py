"""The explanations that `deeptune explain` has written into a run, for viewers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from deeptune.errors import CheckpointError
from deeptune.runs import RunDirectory
from deeptune.runs.files import read_json

FILE = "explanations.json"
STRONG, WEAK = 0.5, 0.15  # shares of the largest score


@dataclass(frozen=True)
class StoredExplanation:
    """The explanation of a test row: its gain over random orders, and what is said of the set that it is part of.

    It has a picture (the image beside its map), or tokens with scores from -1 to 1. Of an image with a text it has
    both; then `gain` is that of the image, and `text_gain` that of the text.
    """

    gain: float
    verdict: str
    picture: Path | None = None
    tokens: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    text_gain: float | None = None

    @property
    def gains(self) -> str:
        """The gain, or both, in words."""
        if self.text_gain is None:
            return f"gain over random orders {self.gain:.2f}"
        return f"gain over random orders {self.gain:.2f} for the image, {self.text_gain:.2f} for the text"


def read_explanations(run: RunDirectory) -> dict[int, StoredExplanation]:
    """Return the explanations of a run by test row; none where the files are missing or damaged."""
    try:
        stored = read_json(run.explanations / FILE)
        verdict = str(stored["verdict"]["text"])
        found: dict[int, StoredExplanation] = {}
        for row in stored["rows"]:
            scores = [float(score) for score in row.get("scores", ())]
            largest = max([abs(score) for score in scores] + [1e-12])
            one = StoredExplanation(
                float(row["gain"]),
                verdict,
                run.explanations / Path(row["picture"]).name if "picture" in row else None,
                tuple(map(str, row.get("tokens", ()))),
                tuple(score / largest for score in scores),
            )
            of_image = found.get(int(row["row"]))  # which is written before the text of its row
            if of_image is not None:
                one = replace(of_image, tokens=one.tokens, scores=one.scores, text_gain=one.gain)
            found[int(row["row"])] = one
    except (CheckpointError, KeyError, TypeError, ValueError, AttributeError):
        return {}
    return found
