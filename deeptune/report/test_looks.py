"""How often a test set was looked at: the other runs in a folder that scored the same rows."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deeptune.errors import DeepTuneError, SpecError
from deeptune.report.reading import FinishedRun, read_if_there
from deeptune.runs.directory import RunDirectory, runs_in

MAX_RUNS = 1000  # of the folder, the newest, that are looked at


def other_looks(run: FinishedRun) -> list[str]:
    """Return the names of the other runs beside this one that scored exactly its test rows, in order.

    Whoever chooses the best of them by its test score reports a number that is too good. Runs in other folders, and
    files that were given to `deeptune evaluate`, are not known.
    """
    own = _fingerprint(run.run)
    rows = _test_rows(run.files.splits)
    if own is None or rows is None or not len(rows):
        return []
    home = run.files.path.resolve()
    with suppress(SpecError):  # the folder may not be read
        others = [files for files in runs_in(home.parent)[:MAX_RUNS] if files.path != home]
        return sorted(files.id for files in others if _scored(files, own, rows))
    return []


def _scored(files: RunDirectory, fingerprint: str, rows: np.ndarray) -> bool:
    try:
        if not files.result.is_file() or _fingerprint(read_if_there(files.run)) != fingerprint:
            return False
        if not read_if_there(files.metrics).get("test", {}).get("n"):
            return False
        theirs = _test_rows(files.splits)
    except (DeepTuneError, OSError, ValueError):
        return False  # a run that is damaged says nothing
    return theirs is not None and np.array_equal(theirs, rows)


def _fingerprint(record: dict[str, Any]) -> str | None:
    found = record.get("fingerprints")
    value = found.get("data") if isinstance(found, dict) else None
    return value if isinstance(value, str) else None


def _test_rows(path: Path) -> np.ndarray | None:
    if not path.is_file():
        return None
    table = pq.read_table(path, columns=["row", "split"])
    return np.sort(table.filter(pc.equal(table["split"], "test"))["row"].to_numpy())
