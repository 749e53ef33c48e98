"""Compares runs on their common test rows, or on a file, for the command line and for Python."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from deeptune.arrow import keys_of
from deeptune.errors import DataError, SpecError

if TYPE_CHECKING:
    from deeptune.api.run import Run
    from deeptune.data.sources.source import Source
    from deeptune.report.comparing import Comparison
    from deeptune.report.finished_run import FinishedRun, Predictions
    from deeptune.runs import RunDirectory

log = logging.getLogger("deeptune")


def compare(
    runs: Sequence[Run | str | os.PathLike[str]],
    data: str | os.PathLike[str] | None = None,
    *,
    device: str = "auto",
    root: str | os.PathLike[str] = "runs",
) -> Comparison:
    """Compare finished runs on their common test rows, or on a labelled file `data`.

    `runs` are two or more: a Run, the path of a run's folder, or an id in the folder `root`. Returns a Comparison:
    printed, it is a table of differences (later run − earlier run) with paired intervals and p values, and the sentence
    for a paper; `to_json()` has the numbers.

    Raises SpecError for fewer than two runs or one named twice, DataError where they were not scored on the same rows
    of the same data, and CheckpointError where one of them has no scores.
    """
    from deeptune.api.run import Run
    from deeptune.report.comparing import compare_runs

    if isinstance(runs, (str, os.PathLike)) or len(runs) < 2:
        raise SpecError("runs: expected a list of two runs or more", hint="For example deeptune.compare([a, b])")
    directories = [(run if isinstance(run, Run) else Run(run, root)).directory for run in runs]
    require_different(directories)
    if data is None:
        return compare_runs([run.path for run in directories])
    return compare_on(directories, os.fspath(data), log.warning, device=device)


def require_different(runs: Sequence[RunDirectory]) -> None:
    """Raise SpecError where a run is named twice."""
    places = [run.path.resolve() for run in runs]
    if twice := [run.id for at, run in enumerate(runs) if places[at] in places[:at]]:
        raise SpecError(
            f"compare: the run {twice[0]} is named twice", hint="Name each run once. `deeptune runs` lists them."
        )


def compare_on(
    runs: Sequence[RunDirectory], data: str, notify: Callable[[str], None], *, device: str = "auto"
) -> Comparison:
    """Score finished runs on a labelled file and compare them there. Rows of one group (`data.group`) vary together.

    Raises DataError for rows that can't be scored, for a file without the group column of a run, and for runs of other
    tasks, labels or classes. `notify` gets sentences, such as that rows are test or training
    rows of a run.
    """
    from deeptune.data.sources.parquet import open_source
    from deeptune.engine.predict import ApplyOptions, Predictor
    from deeptune.report.comparing import compare_scored
    from deeptune.report.finished_run import predictions_of, read_run
    from deeptune.runs.looks import count_learned

    found = [read_run(run.path) for run in runs]
    scored, learned = [], {}
    for run, read in zip(runs, found, strict=True):
        predictor = Predictor(run, device=device)
        source = open_source(data, key="--data", root=predictor.spec.data.root)
        table, hashes = predictor.scored(source, ApplyOptions(on_bad_sample="error", notify=notify))
        learned[run.id] = count_learned(run, hashes)
        if known := learned[run.id]:
            notify(
                f"warning: {known:,} of {len(hashes):,} rows are in train or val of {run.id}, so its scores here are "
                "too good, and the comparison may be unfair"
            )
        scored.append(_grouped(predictions_of(table, read.task, Path(data)), read, source))
    return replace(compare_scored(found, scored, source=source.describe()), learned=learned)


def _grouped(scored: Predictions, run: FinishedRun, source: Source) -> Predictions:
    name = run.spec.data.group
    if name is None:
        return scored
    if name not in source.schema.names:
        raise DataError(
            f"--data: {source.describe()} has no column {name!r}, whose equal values depend on one another in the run "
            f"{run.files.id}",
            hint="Without it the intervals would be too narrow.",
        )
    keys = keys_of(source.column(name).combine_chunks())
    codes = pc.dictionary_encode(keys, null_encoding="encode").indices
    return replace(scored, groups=codes.to_numpy(zero_copy_only=False)[scored.row].astype(np.int64))
