"""A comparison of runs for the interface; as a process, one of runs on a file, as JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from deeptune.report.paired_tests import Difference
from deeptune.report.run_pair import Pair

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deeptune.report.comparing import Comparison

MAX_FLIPPED = 4  # rows of a pair that are listed


@dataclass(frozen=True)
class Flipped:
    """A row that one of two runs has right and the other wrong: its label and both predictions, as text."""

    row: int
    truth: str
    first: str
    second: str


@dataclass(frozen=True)
class ShownComparison:
    """Runs compared on the same n rows: their pairs, and the first rows of each pair that flipped.

    `decisions` has two sentences on each pair: one on the second run less the first, one the other way round. `source`
    is the file of the rows where they are not the runs' own test rows; then `learned` counts by run those that are in
    its train or val.
    """

    ids: list[str]
    n: int
    pairs: list[Pair]
    decisions: list[list[str]]
    flipped: list[list[Flipped]]
    notes: list[str] = field(default_factory=list)
    source: str = ""
    learned: dict[str, int | None] = field(default_factory=dict)

    @classmethod
    def of(cls, found: Comparison) -> ShownComparison:
        """Take from a comparison what is shown."""
        from deeptune.report.comparing import decision_of

        return cls(
            found.ids,
            found.n,
            found.pairs,
            [[decision_of(found, one) for one in (pair, pair.reversed())] for pair in found.pairs],
            [_flipped(found, pair) for pair in found.pairs],
            found.notes,
            found.source,
            found.learned,
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ShownComparison:
        found = json.loads(text)
        pairs = [_pair(one) for one in found.pop("pairs")]
        flipped = [[Flipped(**row) for row in rows] for rows in found.pop("flipped")]
        return cls(pairs=pairs, flipped=flipped, **found)

    def against(self, reference: int) -> list[tuple[Pair, str, list[Flipped]]]:
        """List each other run less this one, with the sentence on both and the rows that flipped."""
        found = []
        for pair, decision, rows in zip(self.pairs, self.decisions, self.flipped, strict=True):
            if pair.first == reference:
                found.append((pair, decision[0], rows))
            elif pair.second == reference:
                turned = [Flipped(one.row, one.truth, one.second, one.first) for one in rows]
                found.append((pair.reversed(), decision[1], turned))
        return found


def _flipped(found: Comparison, pair: Pair) -> list[Flipped]:
    from deeptune.report.comparing import row_text

    rows = []
    for row in pair.flipped[:MAX_FLIPPED]:
        truth, (first, second) = row_text(found, pair, row)
        rows.append(Flipped(row, truth, first, second))
    return rows


def _pair(found: dict[str, Any]) -> Pair:
    targets = {target: _differences(metrics) for target, metrics in found["targets"].items()}
    return Pair(**{**found, "metrics": _differences(found["metrics"]), "targets": targets})


def _differences(found: dict[str, Any]) -> dict[str, Difference]:
    return {name: Difference(**{key: _pairwise(value) for key, value in one.items()}) for name, one in found.items()}


def _pairwise(value: Any) -> Any:
    """Make tuples of values and intervals again."""
    return tuple(value) if isinstance(value, list) else value


def main(arguments: Sequence[str]) -> int:
    """Compare runs on a labelled file: `FILE RUN RUN …`. Sentences and errors go to stderr."""
    from pathlib import Path

    from deeptune.api.compare import compare_on
    from deeptune.errors import DeepTuneError
    from deeptune.report import refresh_report
    from deeptune.runs import RunDirectory

    file, *runs = arguments
    directories = [RunDirectory(Path(run)) for run in runs]

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    try:
        print(ShownComparison.of(compare_on(directories, file, say)).to_json())
        for run in directories:
            refresh_report(run)  # a look at test rows is in the report
    except DeepTuneError as error:
        say(error.message if not error.hint else f"{error.message}\n{error.hint}")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
