"""Compare runs on a file that none of them needs to have been tested on, for the command line and for Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from deeptune.arrow import keys_of
from deeptune.errors import DataError

if TYPE_CHECKING:
    from deeptune.data.sources.source import Source
    from deeptune.report.comparing import Comparison
    from deeptune.report.reading import FinishedRun, Predictions
    from deeptune.runs import RunDirectory


def compare_on(
    runs: Sequence[RunDirectory], data: str, notify: Callable[[str], None], *, device: str = "auto"
) -> Comparison:
    """Score finished runs on a labelled file and compare them there. Rows of one group (`data.group`) vary together.

    Raises DataError for rows that can't be scored, for a file without the group column of a run, and for runs of other
    tasks, labels or classes. `notify` gets sentences, such as that rows are test or training
    rows of a run.
    """
    from deeptune.data.sources.source import Source
    from deeptune.engine.predict import ApplyOptions, Predictor
    from deeptune.report.comparing import compare_scored
    from deeptune.report.reading import predictions_of, read_run
    from deeptune.runs.looks import count_learnt

    found = [read_run(run.path) for run in runs]
    scored, learnt = [], {}
    for run, read in zip(runs, found, strict=True):
        predictor = Predictor(run, device=device)
        source = Source.open(data, key="--data", root=predictor.spec.data.root)
        table, hashes = predictor.scored(source, ApplyOptions(on_bad_sample="error", notify=notify))
        learnt[run.id] = count_learnt(run, hashes)
        if known := learnt[run.id]:
            notify(
                f"warning: {known:,} of {len(hashes):,} rows are in train or val of {run.id}, so its scores here are "
                "too good, and the comparison may be unfair"
            )
        scored.append(_grouped(predictions_of(table, read.task, Path(data)), read, source))
    return replace(compare_scored(found, scored, source=source.describe()), learnt=learnt)


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
