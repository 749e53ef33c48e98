"""Explanations of a run's predictions, for the command line and for Python."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deeptune.errors import CheckpointError, SpecError

if TYPE_CHECKING:
    from deeptune.explain.explanations import Explained
    from deeptune.progress import Progress
    from deeptune.runs import RunDirectory


@dataclass(frozen=True)
class ExplainOptions:
    """Options of an explanation: `of` is a class instead of the predicted one, `progress(done, total)` counts rows."""

    of: str | None = None
    device: str = "auto"
    progress: Progress | None = None


def explain_rows(
    run: RunDirectory,
    rows: Sequence[int],
    folder: Path,
    *,
    data: str | None = None,
    options: ExplainOptions | None = None,
) -> Explained:
    """Explain rows of a file, by default of the run's own test data, and write them into a folder.

    Where that is the run's own folder of explanations, its report is made again. Raises what `explain` raises.
    """
    from deeptune.data.sources.parquet import open_source
    from deeptune.data.sources.source import Source
    from deeptune.data.splits.split_files import open_sources
    from deeptune.engine.predict import Predictor
    from deeptune.explain.explanations import explain
    from deeptune.explain.store import write_explanations
    from deeptune.report import write_report

    options = options or ExplainOptions()
    predictor = Predictor(run, device=options.device)
    if data is not None:
        source: Source = open_source(data, key="--data", root=predictor.spec.data.root)
    else:
        sources = open_sources(predictor.spec)
        source = sources.get("test", sources["train"])
    explained = explain(predictor, source, rows, of=options.of, progress=options.progress)
    write_explanations(explained, folder, source=source.describe(), of=options.of)
    if folder == run.explanations:
        write_report(run.path)
    return explained


def worst_rows(run: RunDirectory, count: int) -> list[int]:
    """List the test rows on which a run is wrong by most: classes by confidence, numbers by distance.

    Raises CheckpointError where the run has no predictions.
    """
    from deeptune.report.examples import worst_first
    from deeptune.report.finished_run import read_run

    found = read_run(run.path).predictions
    if found is None or not len(found.row):
        raise CheckpointError(
            f"{run.path} has no predictions of test rows",
            hint="Explain rows of a file: --data FILE --rows 0-7 -o X",
        )
    return [int(row) for row in found.row[worst_first(found)[:count]]]


def parse_rows(text: str, most: int) -> list[int]:
    """Read rows such as `3,17,40-45`. Raises SpecError."""
    rows: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", part)
        if match is None:
            raise SpecError(f"--rows: {part.strip()!r} is not a row number", hint="For example --rows 3,17,40-45")
        first, last = int(match[1]), int(match[2] or match[1])
        rows += range(first, min(last, first + most) + 1)
    rows = list(dict.fromkeys(rows))
    if len(rows) > most:
        raise SpecError(f"--rows: at most {most} rows can be explained at once")
    return rows
