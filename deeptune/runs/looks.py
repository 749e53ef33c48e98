"""The looks at the test rows of a run, which the run and later commands record.

A look at rows that chose something makes their score too good. The run writes the hashes of its test samples, by which
later commands recognise these samples in whatever file they come.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, get_args

from deeptune.runs.directory import RunDirectory
from deeptune.runs.files import replacing, storage_errors

if TYPE_CHECKING:
    import numpy as np

By = Literal["run", "evaluate", "compare", "explain"]


@dataclass(frozen=True)
class Look:
    """A time (seconds since 1970) at which a run or a command scored or explained `rows` of the test samples."""

    time: float
    by: By
    rows: int


def write_test_hashes(run: RunDirectory, test: np.ndarray, others: np.ndarray) -> None:
    """Write the hashes (uint64 (N,)) of the test samples, without those that are in train or val as well, and theirs.

    Raises CheckpointError where they can't be written.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    own = np.setdiff1d(test[test != 0], others)  # sorted, each once
    with replacing(run.test_hashes) as path:
        pq.write_table(pa.table({"hash": own}), path)
    with replacing(run.learnt_hashes) as path:
        pq.write_table(pa.table({"hash": np.unique(others[others != 0])}), path)


def count_learned(run: RunDirectory, hashes: np.ndarray) -> int | None:
    """Count the samples of these hashes that are in train or val of the run; None of a run that does not say."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        learned = pq.read_table(run.learnt_hashes)["hash"].to_numpy()
    except (OSError, KeyError, pa.ArrowException):  # a run of an earlier version, or one without test rows
        return None
    return int(np.isin(hashes, learned).sum())


def record_look(run: RunDirectory, by: By, rows: int) -> None:
    """Append a look at `rows` test samples. Raises CheckpointError where it can't be written."""
    # An empty line first: a writer that was killed may have left half of one.
    line = "\n" + json.dumps(asdict(Look(round(time.time(), 3), by, rows))) + "\n"
    with storage_errors(run.test_looks):
        file = os.open(run.test_looks, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(file, line.encode())  # at once, so that lines of two commands never mix
        finally:
            os.close(file)


def record_samples(run: RunDirectory, by: By, hashes: np.ndarray) -> int:
    """Record a look where some of the samples of these hashes are test samples of the run; returns how many are.

    Raises CheckpointError where it can't be written.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        own = pq.read_table(run.test_hashes)["hash"].to_numpy()
    except (OSError, KeyError, pa.ArrowException):  # a run of an earlier version, or one without test rows
        return 0
    seen = int(np.isin(own, hashes).sum())
    if seen:
        record_look(run, by, seen)
    return seen


def read_looks(run: RunDirectory) -> list[Look]:
    """Read the looks, the first one first; none of a run of an earlier version. Damaged lines are left out."""
    try:
        lines = run.test_looks.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [look for line in lines if (look := _look(line)) is not None]


def _look(line: str) -> Look | None:
    try:
        found = json.loads(line)
        look = Look(float(found["time"]), found["by"], int(found["rows"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return look if look.by in get_args(By) and look.rows > 0 else None
